//! The sources that are watched for the chain's head, and the node's own ones, which it is asked by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use wemixvisor_chain::{
    Client, Endpoint, HeadWatch, OwnSeal, Pace, ProbeRequest, RpcError, SourceEvent, probe,
};
use wemixvisor_core::engine::port::{Input, ProbeFor};
use wemixvisor_core::head::Height;
use wemixvisor_core::observation::{Answer, Observation};
use wemixvisor_core::settings::Settings;

use crate::handle::Message;
use crate::preparing::{Rpc, said};

/// Heads on their way from the sources to the mailbox.
const HEADS: usize = 16;

const NO_OWN_SOURCE: &str = "there is no source of the node's own";

/// The sources that are watched, and how to ask the node itself.
pub(crate) struct Watching {
    endpoints: Vec<Endpoint>,
    heads: Option<HeadWatch>,
    own: Vec<Arc<Client>>,
    mailbox: mpsc::Sender<Message>,
    failures: Arc<Mutex<Vec<Option<String>>>>,
}

impl Watching {
    pub(crate) fn new(endpoints: Vec<Endpoint>, settings: &Settings, mailbox: mpsc::Sender<Message>) -> Self {
        let failures = Arc::new(Mutex::new(vec![None; endpoints.len()]));
        let local: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.is_local()).cloned().collect();
        let own = local.into_iter().map(|endpoint| Arc::new(Client::new(endpoint))).collect();
        let mut watching = Self { endpoints, heads: None, own, mailbox, failures };
        watching.start(settings);
        watching
    }

    pub(crate) fn start(&mut self, settings: &Settings) {
        let (tell, mut heard) = mpsc::channel(HEADS);
        let heights = &settings.heights;
        let pace = Pace {
            poll_interval: heights.poll_interval,
            answer_limit: heights.answer_limit,
            silent_after: heights.source_silent_after,
            chain_id: settings.expected_chain_id(),
        };
        self.heads = Some(HeadWatch::start(self.endpoints.clone(), pace, tell));
        let mailbox = self.mailbox.clone();
        let failures = self.failures.clone();
        tokio::spawn(async move {
            while let Some(event) = heard.recv().await {
                note(&failures, &event);
                let Some(input) = in_core(event) else { continue };
                if mailbox.send(Message::Happened(input)).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(crate) fn poll_every(&self, every: Duration) {
        if let Some(heads) = &self.heads {
            heads.set_poll_interval(every);
        }
    }

    pub(crate) fn node_up(&self) {
        if let Some(heads) = &self.heads {
            heads.reconnect_now();
        }
    }

    pub(crate) fn node_down(&self) {
        if let Some(heads) = &self.heads {
            heads.node_down();
        }
    }

    /// Where the node answers.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// One look at the node, by the first of its own sources that answers. Seals above `after` are its own.
    pub(crate) fn observe(
        &self,
        what: ProbeFor,
        after: Height,
        limit: Duration,
    ) -> impl Future<Output = Observation> + Send + use<> {
        let clients = self.own.clone();
        async move {
            let mut round = Observation { head: Answer::Failed(NO_OWN_SOURCE.into()), ..Default::default() };
            for client in clients {
                round = ask(&client, what, after, limit).await;
                if !matches!(round.head, Answer::Failed(_)) {
                    break;
                }
            }
            round
        }
    }

    /// Whether the node holds the token that says that it makes the next block (go-wemix).
    pub(crate) fn holds_mining_token(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Answer<bool>> + Send + use<> {
        let client = self.own.first().cloned();
        async move {
            match client {
                Some(client) => match client.holds_mining_token(limit).await {
                    Ok(holds) => Answer::Known(holds),
                    Err(error) => Answer::Failed(said(&error)),
                },
                None => Answer::Failed(NO_OWN_SOURCE.into()),
            }
        }
    }

    /// Whether any source answers; else why not.
    pub(crate) fn reachable(&self) -> Rpc {
        if self.own.is_empty() {
            return Rpc::NotOwn;
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.iter().all(Option::is_some) {
            false => Rpc::Answers,
            true => Rpc::Silent(failures.iter().flatten().cloned().collect::<Vec<_>>().join("; ")),
        }
    }
}

fn note(failures: &Mutex<Vec<Option<String>>>, event: &SourceEvent) {
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    let (source, state) = match event {
        SourceEvent::Failed { source, reason } => (*source, Some(reason.clone())),
        SourceEvent::Recovered { source } | SourceEvent::Head { source, .. } => (*source, None),
        _ => return,
    };
    if let Some(slot) = failures.get_mut(source) {
        *slot = state;
    }
}

fn in_core(event: SourceEvent) -> Option<Input> {
    Some(match event {
        SourceEvent::Head { source, head, .. } => Input::Head { source, head },
        SourceEvent::Failed { source, reason } => Input::SourceFailed { source, reason },
        SourceEvent::Recovered { source } => Input::SourceRecovered { source },
        SourceEvent::WrongChain { source, expected, found } => {
            Input::SourceFailed { source, reason: format!("it runs chain {found}, expected is {expected}") }
        }
        SourceEvent::Following { .. } => return None,
    })
}

async fn ask(client: &Client, what: ProbeFor, after: Height, limit: Duration) -> Observation {
    let address = if what.own_seal { Some(client.node_address(limit).await) } else { None };
    let own_seal = match &address {
        Some(Ok(address)) => Some(OwnSeal { address: address.clone(), after }),
        _ => None,
    };
    let request = ProbeRequest { pinned: what.pinned, want_peers: true, own_seal };
    let mut round = probe(client, &request, limit).await;
    if let Some(Err(RpcError::Unsupported { .. })) = address {
        round.own_seal = Answer::Unsupported;
    }
    round
}
