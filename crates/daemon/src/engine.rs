//! The loop: one input at a time, decided by the core, written down, carried out.
//!
//! A decision counts only when its entries are in the store. When they cannot be written, the engine is as it
//! was before, the input is kept and tried again; the node runs on meanwhile. An order is refused instead: whoever gave it
//! is there, and should not find it carried out later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use wemixvisor_core::engine::Engine;
use wemixvisor_core::engine::port::{
    Decision, Effect, Entry, Event, ExitWith, HistoryEntry, Input, Order, RefusalCode, Refused,
};
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot};
use wemixvisor_core::head::Height;
use wemixvisor_core::settings::{Applies, Settings};
use wemixvisor_host::digest::Digest;
use wemixvisor_host::store::{Batch, Store, StoreError};
use wemixvisor_host::trial::crash_point_of;

use crate::clock::Clock;
use crate::effects::{Effects, Standing};
use crate::handle::{HeadMoved, Message, Notice, RecordedEvent, Subscription};
use crate::preparing::said;
use crate::recorded;
use crate::serving::Tcp;
use crate::trial;

/// A decision that could not be written down is tried again so often.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// So many notices wait for a subscriber. The API is the only one, and goes back to the store when it is slower.
const NOTICES: usize = 1024;

type Reply = oneshot::Sender<Result<String, Refused>>;

pub(crate) struct Loop {
    pub(crate) core: Engine,
    pub(crate) store: Store,
    pub(crate) effects: Effects,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) clock: Clock,
    tickets: HashMap<u64, Reply>,
    last_ticket: u64,
    /// What waits to be decided, in order: the first could not be written down.
    waiting: VecDeque<Input>,
    retry_at: Option<tokio::time::Instant>,
    notices: broadcast::Sender<Notice>,
    /// The head that was told last.
    told_head: Option<Height>,
    tcp: Tcp,
}

impl Loop {
    pub(crate) fn new(
        core: Engine,
        store: Store,
        effects: Effects,
        mailbox: mpsc::Receiver<Message>,
        clock: Clock,
        tcp: Tcp,
    ) -> Self {
        Self {
            core,
            store,
            effects,
            mailbox,
            clock,
            tickets: HashMap::new(),
            last_ticket: 0,
            waiting: VecDeque::new(),
            retry_at: None,
            notices: broadcast::Sender::new(NOTICES),
            told_head: None,
            tcp,
        }
    }

    /// Runs until the supervisor is to end. `first` is what was decided at the boot and is already written down.
    pub(crate) async fn run(&mut self, first: Vec<Effect>) -> ExitWith {
        if let Some(other) = self.effects.other_data_dir() {
            tracing::warn!("{other}");
        }
        if let Some(exit) = self.carry_out(first).or_else(|| self.decide_waiting()) {
            return exit;
        }
        loop {
            let wake = self.core.next_wake(self.clock.now()).map(|at| self.clock.instant(at));
            let wake = match (wake, self.retry_at) {
                (_, Some(retry)) => Some(retry),
                (wake, None) => wake,
            };
            let input = tokio::select! {
                biased;
                message = self.mailbox.recv() => match message {
                    Some(message) => self.open(message),
                    None => return ExitWith::Success,
                },
                () = sleep_until(wake) => Some(Input::Tick),
            };
            if let Some(exit) = input.and_then(|input| self.take_in(input)) {
                self.effects.end();
                return exit;
            }
        }
    }

    /// Whether an order to end has come that is not decided any more. Nothing is taken in after this.
    pub(crate) fn told_to_end(&mut self) -> bool {
        self.mailbox.close();
        let mut left = std::iter::from_fn(|| self.mailbox.try_recv().ok());
        left.any(|message| matches!(message, Message::Happened(Input::Shutdown)))
            || self.waiting.contains(&Input::Shutdown)
    }

    /// Answers what can be answered from here; anything else becomes an input.
    fn open(&mut self, message: Message) -> Option<Input> {
        match message {
            Message::Happened(input) => return Some(input),
            Message::Ordered { reply, .. } if self.retry_at.is_some() => {
                // Whoever asked may have gone.
                drop(reply.send(Err(nothing_is_ordered())));
            }
            Message::Ordered { order: Order::RestartNode, reply }
                if let Err(problem) = self.effects.can_start(self.core.target()) =>
            {
                let message = format!("the node was not stopped: {problem}");
                drop(reply.send(Err(Refused { code: RefusalCode::NotReady, message })));
            }
            Message::Ordered { order, reply } => {
                self.last_ticket += 1;
                self.tickets.insert(self.last_ticket, reply);
                return Some(Input::Order { ticket: self.last_ticket, order });
            }
            Message::Settings(read) => {
                self.settings_read(read);
                return Some(Input::Tick);
            }
            // Nothing is looked up for who has gone meanwhile: a flood of such questions costs nothing.
            Message::Snapshot(reply) if reply.is_closed() => {}
            Message::History { reply, .. } if reply.is_closed() => {}
            Message::EventsSince { reply, .. } if reply.is_closed() => {}
            Message::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Message::History { limit, reply } => drop(reply.send(self.history(limit))),
            Message::EventsSince { seq, limit, reply } => drop(reply.send(self.events(seq, limit))),
            Message::Subscribe(reply) => drop(reply.send(self.subscribe())),
        }
        None
    }

    /// The engine's picture, with what only this side of it knows: the node's arguments mean nothing to the engine.
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.core.snapshot(self.clock.now());
        snapshot.alerts.extend(self.effects.other_data_dir().map(|text| ("data_dir".to_owned(), text)));
        snapshot.alerts.extend(self.tcp.problem().map(|text| ("api".to_owned(), text)));
        let node = &mut snapshot.node;
        match self.process_waits() {
            Some(Input::NodeExited { exit, .. }) => {
                (node.pid, node.answering, node.state) = (None, false, NodeState::Waiting);
                node.last_exit = Some(exit.clone());
            }
            Some(Input::NodeUp { pid, .. }) => (node.pid, node.state) = (Some(*pid), NodeState::Running),
            _ => {}
        }
        snapshot
    }

    /// What was last heard of the node's process, where nothing can be decided of it yet because nothing can be written
    /// down.
    fn process_waits(&self) -> Option<&Input> {
        self.waiting.iter().rev().find(|input| is_of_process(input))
    }

    /// Who waits for the answer to an order.
    fn reply_to(&mut self, input: &Input) -> Option<Reply> {
        match input {
            Input::Order { ticket, .. } => self.tickets.remove(ticket),
            _ => None,
        }
    }

    /// A reload changes all of it or nothing; what cannot change in a running supervisor is said.
    fn settings_read(&mut self, read: Result<Box<Settings>, String>) {
        let mut newer = match read {
            Ok(newer) => *newer,
            Err(problem) => {
                tracing::error!("the settings stay as they are: {problem}");
                self.core.settings_refused(Some(&problem));
                return;
            }
        };
        self.core.settings_refused(None);
        let present = self.core.settings();
        let changes = present.changes(&newer);
        for change in &changes {
            match change.applies {
                Applies::Live => tracing::info!("{} is in force from now on", change.key),
                Applies::NodeRestart => {
                    tracing::info!("{} is in force from the node's next start on", change.key)
                }
                Applies::SupervisorRestart => {
                    tracing::warn!(
                        "{} was changed; it takes effect with: wemixvisor restart --supervisor-only",
                        change.key
                    );
                }
            }
        }
        if !changes.is_empty() {
            newer.keep_fixed(present);
            self.tcp.set(&newer.api);
            self.effects.set_settings(newer.clone());
            self.core.set_settings(newer);
        }
    }

    fn take_in(&mut self, input: Input) -> Option<ExitWith> {
        // Only the order to end overtakes what could not be written down.
        if self.retry_at.is_some() && input != Input::Shutdown {
            if input != Input::Tick {
                if matches!(input, Input::NodeExited { .. }) {
                    // What is said of the node is true no more.
                    self.retry_at = Some(tokio::time::Instant::now());
                }
                self.waiting.push_back(input);
                return None;
            }
            self.retry_at = None;
        } else {
            self.waiting.push_back(input);
            if self.waiting.len() > 1 && self.waiting.back() == Some(&Input::Shutdown) {
                self.waiting.rotate_right(1);
            }
        }
        self.decide_waiting()
    }

    fn decide_waiting(&mut self) -> Option<ExitWith> {
        while let Some(input) = self.waiting.pop_front() {
            match self.decide(input) {
                Ok(Some(exit)) => return Some(exit),
                Ok(None) => {}
                Err(input) => {
                    self.waiting.push_front(*input);
                    self.retry_at = Some(tokio::time::Instant::now() + RETRY_EVERY);
                    break;
                }
            }
        }
        None
    }

    fn decide(&mut self, input: Input) -> Result<Option<ExitWith>, Box<Input>> {
        let mut next = self.core.clone();
        let kept = input.clone();
        let Decision { entries, effects } = next.handle(input, self.clock.now());
        if !entries.is_empty()
            && let Err(problem) = self.write_down(&entries)
        {
            let must_be_durable = Decision { entries, effects: Vec::new() }.must_be_durable();
            tracing::error!("{problem}");
            if must_be_durable {
                if let Some(reply) = self.reply_to(&kept) {
                    // Whoever asked may have gone.
                    drop(reply.send(Err(nothing_is_ordered())));
                    return Ok(None);
                }
                let runs = match self.process_waits().or(Some(&kept).filter(|input| is_of_process(input))) {
                    Some(news) => matches!(news, Input::NodeUp { .. }),
                    None => self.core.node_pid().is_some(),
                };
                self.core.store_failed(&problem, runs);
                for (_, reply) in self.tickets.drain() {
                    drop(reply.send(Err(ordered_for_later())));
                }
                return Err(Box::new(kept));
            }
        }
        self.core = next;
        self.tell_head();
        Ok(self.carry_out(effects))
    }

    fn write_down(&mut self, entries: &[Entry]) -> Result<(), String> {
        if !between_stop_and_start(entries) {
            self.effects.force_link().map_err(|error| said(&error))?;
        }
        for event in write(&mut self.store, entries).map_err(|error| said(&error))? {
            // Nobody may be there to hear it.
            let _ = self.notices.send(Notice::Event(Arc::new(event)));
        }
        Ok(())
    }

    fn tell_head(&mut self) {
        let head = self.core.head();
        if head != self.told_head {
            self.told_head = head;
            if let Some(height) = head
                && self.notices.receiver_count() > 0
            {
                let block_time_ms = self.core.block_time_ms();
                let _ = self.notices.send(Notice::Head(HeadMoved { height, block_time_ms }));
            }
        }
    }

    fn subscribe(&self) -> Result<Subscription, String> {
        let range = self.store.event_range().map_err(|error| said(&error))?;
        let last = range.map_or(0, |(_, newest)| newest);
        Ok(Subscription { notices: self.notices.subscribe(), last })
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Option<ExitWith> {
        for effect in effects {
            match effect {
                Effect::Exit(exit) => return Some(exit),
                Effect::Reply { ticket, result } => {
                    if let Some(reply) = self.tickets.remove(&ticket) {
                        // Whoever asked may have gone; the order stands.
                        let _ = reply.send(result);
                    }
                }
                effect => {
                    let asks_node = matches!(effect, Effect::Launch(_) | Effect::Probe(_));
                    let standing = Standing {
                        target: self.core.target().clone(),
                        pid: self.core.node_pid(),
                        head: self.core.head(),
                        store: match effect {
                            Effect::LookAround => self.store.in_place().map_err(|error| said(&error)),
                            _ => Ok(()),
                        },
                    };
                    let place = trial::effect(&effect);
                    crash_point_of(|| format!("{place}.before"));
                    if let Some(input) = self.effects.perform(effect, &standing) {
                        self.waiting.push_back(input);
                    }
                    crash_point_of(|| format!("{place}.after"));
                    if asks_node && let Some(sources) = self.effects.sources_now() {
                        self.core.set_sources(sources);
                    }
                }
            }
        }
        None
    }

    fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>, String> {
        recorded::history(&self.store, limit).map_err(|error| said(&error))
    }

    fn events(&self, seq: u64, limit: usize) -> Result<Vec<RecordedEvent>, String> {
        recorded::events(&self.store, seq, limit).map_err(|error| said(&error))
    }
}

fn ordered_for_later() -> Refused {
    let message = "decisions cannot be written down now; what was ordered goes on when they can be, and how it ends \
                   is not known yet; see: wemixvisor status";
    Refused { code: RefusalCode::Failed, message: message.into() }
}

fn nothing_is_ordered() -> Refused {
    let message = "decisions cannot be written down now, so nothing is ordered; see: wemixvisor status";
    Refused { code: RefusalCode::Failed, message: message.into() }
}

/// Writes a decision's entries down: all or nothing. Then the log hears of its events. The answer is the events.
pub(crate) fn write(store: &mut Store, entries: &[Entry]) -> Result<Vec<RecordedEvent>, StoreError> {
    let fill = |batch: &mut Batch<'_>| {
        let mut recorded = Vec::new();
        for entry in entries {
            recorded.extend(write_one(batch, entry)?);
        }
        crash_point_of(|| trial::batch(entries, "inside"));
        Ok(recorded)
    };
    crash_point_of(|| trial::batch(entries, "before"));
    let recorded =
        if between_stop_and_start(entries) { store.write_unforced(fill)? } else { store.write(fill)? };
    crash_point_of(|| trial::batch(entries, "after"));
    let events = || {
        entries.iter().filter_map(|entry| if let Entry::Event(event) = entry { Some(event) } else { None })
    };
    let message = |event: &Event| {
        event.data.get("message").and_then(serde_json::Value::as_str).unwrap_or(&event.kind).to_owned()
    };
    let alerts: Vec<String> = events().filter(|event| event.topic == "alerts").map(message).collect();
    for event in events() {
        let message = message(event);
        if event.topic == "alerts" {
            tracing::warn!("{message}");
        } else if !alerts.contains(&message) {
            tracing::info!("{message}");
        }
    }
    Ok(recorded)
}

fn is_of_process(input: &Input) -> bool {
    matches!(input, Input::NodeUp { .. } | Input::NodeExited { .. })
}

/// Whether these are records of the downtime, for which no disk is waited for. They outlive a crash of the
/// supervisor as they are. A power failure ends node and supervisor and may take them back: then the upgrade goes
/// on from its stop, finds no node running, and does the switch and the start again. The link is forced before, and
/// these with, the record of the new node being up.
fn between_stop_and_start(entries: &[Entry]) -> bool {
    use wemixvisor_core::upgrade::{Record, Step};
    let mut records = entries.iter().filter_map(|entry| match entry {
        Entry::Journal { record, .. } => Some(record),
        _ => None,
    });
    let others = entries
        .iter()
        .any(|entry| !matches!(entry, Entry::Journal { .. } | Entry::Event(_) | Entry::Facts(_)));
    let waits = |record: &Record| {
        matches!(
            record,
            Record::Done { step: Step::Stop | Step::Switch, .. }
                | Record::Started { step: Step::Switch | Step::Start }
        )
    };
    !others && records.next().is_some_and(waits) && records.all(waits)
}

/// Writes one entry down; an event is given back as it was recorded.
fn write_one(batch: &mut Batch<'_>, entry: &Entry) -> Result<Option<RecordedEvent>, StoreError> {
    match entry {
        Entry::Journal { upgrade, record } => {
            let upgrade = upgrade.to_string();
            batch.journal(&upgrade, record)?;
            if matches!(record, wemixvisor_core::upgrade::Record::Finished(_)) {
                batch.clear_journal(&upgrade)?;
            }
        }
        Entry::History(entry) => drop(batch.history(entry)?),
        Entry::Event(Event { topic, kind, data }) => {
            let seq = batch.event(topic, kind, data)?;
            let (topic, kind, data) = (topic.clone(), kind.clone(), data.clone());
            return Ok(Some(RecordedEvent { seq, at: batch.at(), topic, kind, data }));
        }
        Entry::Pin(pin) => {
            let sha256 = pin.sha256.parse().unwrap_or(Digest([0; 32]));
            batch.pin(pin.name.as_str(), &sha256, &pin.reason)?;
        }
        Entry::Unpin(name) => drop(batch.unpin(name.as_str())?),
        Entry::Facts(facts) => recorded::set_facts(batch, facts)?,
    }
    Ok(None)
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
