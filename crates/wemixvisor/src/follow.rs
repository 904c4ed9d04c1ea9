//! Watching what goes on in the supervisor: an upgrade to its end, a node until it runs.
//!
//! The work is the supervisor's; whoever watches can leave. The picture is asked for again and again: it holds
//! every step so far, so nothing is missed between two questions.

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep};
use wemixvisor_core::engine::snapshot::NodeState;
use wemixvisor_daemon::api::wire::{Finished, Mark, Moment, Status};

use crate::failure::Failure;
use crate::live::Live;
use crate::render::{checklist, harmless, span};
use crate::screen::Screen;

/// How often the supervisor is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How what was watched ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched<T> {
    /// It is over.
    Over(T),
    /// It waits for a person; what to do.
    Waits(String),
    /// Whoever watched has left (Ctrl-C).
    Left,
}

/// Watches the upgrade that is under way, or begins next, to its end. `before` is the number of the last one that
/// had finished before.
///
/// # Errors
/// The supervisor is gone.
pub async fn upgrade(
    live: &Live,
    screen: &Screen,
    before: Option<u64>,
) -> Result<Watched<Finished>, Failure> {
    tokio::select! {
        watched = steps(live, screen, before) => watched,
        _ = tokio::signal::ctrl_c() => Ok(Watched::Left),
    }
}

async fn steps(live: &Live, screen: &Screen, before: Option<u64>) -> Result<Watched<Finished>, Failure> {
    let mut told = Told::default();
    let mut meant = Meant { fired_at: None, before };
    loop {
        let status = ask(live).await?.ok_or_else(supervisor_gone)?;
        if let Some(last) = meant.finished(&status) {
            told.steps(&last.steps, screen);
            return Ok(Watched::Over(last.clone()));
        }
        if let Some(under_way) = &status.upgrade {
            told.steps(&under_way.steps, screen);
            told.waiting_for(&under_way.waiting_for, screen);
            if under_way.held {
                return Ok(Watched::Waits("to start the new program: wemixvisor start".into()));
            }
        }
        sleep(ASK_EVERY).await;
    }
}

/// Which upgrade is watched: the first one that is seen under way. Where none is, the one that is over by now and
/// was not before. So an upgrade that ended just before an order is not taken for the one that the order began.
#[derive(Debug)]
struct Meant {
    fired_at: Option<Moment>,
    before: Option<u64>,
}

impl Meant {
    /// The watched one, if it is over.
    fn finished<'status>(&mut self, status: &'status Status) -> Option<&'status Finished> {
        let under_way = status.upgrade.as_ref().map(|under_way| under_way.fired_at);
        self.fired_at = self.fired_at.or(under_way);
        status.last_upgrade.as_ref().filter(|last| match self.fired_at {
            Some(moment) => last.fired_at == moment,
            None => Some(last.id) != self.before,
        })
    }
}

/// How it stands. A supervisor that ends may break off its last answer: asked again, it is seen to be gone.
async fn ask(live: &Live) -> Result<Option<Status>, Failure> {
    match live.status().await {
        Ok(status) => Ok(status),
        Err(_) => {
            sleep(ASK_EVERY).await;
            live.status().await
        }
    }
}

/// What is said when a supervisor that answered before has ended.
pub fn supervisor_gone() -> Failure {
    Failure::not_running(
        "the supervisor has ended meanwhile. An upgrade that was under way is in its journal and is carried on by \
         the next supervisor: wemixvisor start",
    )
}

/// What has been said already.
#[derive(Debug, Default)]
struct Told {
    begun: usize,
    ended: usize,
    missing: Vec<String>,
}

impl Told {
    fn steps(&mut self, steps: &[Mark], screen: &Screen) {
        let zone = TimeZone::system();
        for (at, mark) in steps.iter().enumerate() {
            if at >= self.begun && mark.ended.is_none() {
                screen.note(&checklist::began(mark, &zone));
            }
            self.begun = self.begun.max(at + 1);
            if at >= self.ended && mark.ended.is_some() {
                screen.note(&checklist::ended(mark, &zone));
                self.ended = at + 1;
            }
        }
    }

    fn waiting_for(&mut self, missing: &[String], screen: &Screen) {
        if !missing.is_empty() && self.missing.len() != missing.len() {
            screen.note(&format!("          still to prove: {}", missing.join(", ")));
        }
        self.missing = missing.to_vec();
    }
}

/// What a node is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It answers.
    Answers,
    /// Another process than this one runs.
    RunsAnew {
        /// The process before.
        before: Option<u32>,
    },
}

/// Waits until the node runs, for at most `limit`; says meanwhile what is going on. `ended` is told whether a
/// supervisor answers and says why there is none to wait for, if so.
///
/// # Errors
/// The node does not run, with the reason and what to do.
pub async fn node(
    live: &Live,
    screen: &Screen,
    until: Until,
    limit: Duration,
    mut ended: impl FnMut(bool) -> Option<Failure>,
) -> Result<Watched<Status>, Failure> {
    let waiting = async {
        let deadline = Instant::now() + limit;
        let mut said = String::new();
        loop {
            let status = ask(live).await?;
            if let Some(failure) = ended(status.is_some()) {
                return Err(failure);
            }
            let text = match &status {
                None => "the supervisor is starting".into(),
                Some(status) => progress(status),
            };
            if let Some(status) = status {
                if runs(&status, until) {
                    return Ok(Watched::Over(status));
                }
                gave_up(&status)?;
                told_to_end(&status)?;
            }
            if text != said {
                screen.note(&text);
                said = text;
            }
            if Instant::now() >= deadline {
                return Err(too_long(&said, limit));
            }
            sleep(ASK_EVERY).await;
        }
    };
    tokio::select! {
        watched = waiting => watched,
        _ = tokio::signal::ctrl_c() => Ok(Watched::Left),
    }
}

fn runs(status: &Status, until: Until) -> bool {
    let node = &status.node;
    if node.state != NodeState::Running {
        return false;
    }
    match until {
        Until::Answers => node.answering,
        Until::RunsAnew { before } => node.pid != before && node.answering,
    }
}

fn gave_up(status: &Status) -> Result<(), Failure> {
    if status.node.state != NodeState::Failed {
        return Ok(());
    }
    let why = status.node.last_exit.as_ref().map(|exit| format!(": it {}", exit.text)).unwrap_or_default();
    Err(Failure::failed(format!(
        "the node does not run and is not started again{why}. The supervisor stays up; see: wemixvisor logs. Mend the \
         cause, then: wemixvisor restart; to give it other arguments: wemixvisor stop, then wemixvisor start with them"
    )))
}

fn told_to_end(status: &Status) -> Result<(), Failure> {
    if !status.shutting_down {
        return Ok(());
    }
    Err(Failure::failed(
        "the supervisor was told to end meanwhile: it stops the node, then itself. See: wemixvisor status; to start \
         them again: wemixvisor start",
    ))
}

fn progress(status: &Status) -> String {
    if let Some(under_way) = &status.upgrade {
        return format!("upgrade {} is under way: {}", under_way.name, under_way.step_text);
    }
    let node = &status.node;
    match node.state {
        NodeState::Starting => "the node is being started".into(),
        NodeState::Stopping => "the node is being stopped".into(),
        NodeState::Stopped => "the node is stopped".into(),
        NodeState::Failed => "the node is down".into(),
        NodeState::Running => {
            let pid = node.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            format!("the node runs{pid}; it is waited for to answer")
        }
        NodeState::Waiting => {
            let why = node.last_exit.as_ref().map(|exit| format!(": it {}", exit.text)).unwrap_or_default();
            harmless(&format!("the node is down and will be started again{why}"))
        }
    }
}

fn too_long(said: &str, limit: Duration) -> Failure {
    let limit = span(limit.as_secs() * 1000);
    Failure::failed(format!(
        "after {limit} still: {said}. It goes on without this command; see: wemixvisor status, wemixvisor logs"
    ))
}
