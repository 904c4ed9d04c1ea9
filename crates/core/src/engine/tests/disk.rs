//! What outlives the supervisor, and the rules that every write to it keeps.

use crate::engine::LastExit;
use crate::engine::port::{Entry, Event, Facts, HistoryEntry, Pin};
use crate::head::Height;
use crate::plan::{Plan, PlanName};
use crate::target::Target;
use crate::time::WallMs;
use crate::trigger::Why;
use crate::upgrade::{Folded, Outcome, Record, Step, Switchover, Upgrade, fold};

/// Journal, history, pins, facts, the plan file and the link.
#[derive(Debug, Clone)]
pub struct Disk {
    pub journal: Vec<(u64, Record, WallMs)>,
    /// So many records outlive a power failure: those of the downtime are not waited for.
    pub forced: usize,
    pub history: Vec<HistoryEntry>,
    pub pins: Vec<Pin>,
    pub facts: Facts,
    /// The facts as of the last write that had to be durable: a power cut may leave these.
    pub facts_for_sure: Facts,
    pub events: Vec<Event>,
    pub plans: Result<Vec<Plan>, String>,
    pub link: Target,
    /// The link as of the last write that was waited for.
    pub link_for_sure: Target,
    /// What the keeper saw of the last node, and when.
    pub last_exit: Option<(LastExit, u64)>,
}

impl Disk {
    pub fn new(link: Target) -> Self {
        Self {
            journal: Vec::new(),
            forced: 0,
            history: Vec::new(),
            pins: Vec::new(),
            facts: Facts::default(),
            facts_for_sure: Facts::default(),
            events: Vec::new(),
            plans: Ok(Vec::new()),
            link_for_sure: link.clone(),
            link,
            last_exit: None,
        }
    }

    /// The records of the newest upgrade.
    pub fn newest(&self) -> Vec<(Record, WallMs)> {
        let Some((newest, ..)) = self.journal.last() else { return Vec::new() };
        let own = self.journal.iter().filter(|(id, ..)| id == newest);
        own.map(|(_, record, at)| (record.clone(), *at)).collect()
    }

    pub fn folded(&self) -> Option<Folded> {
        let records = self.newest();
        if records.is_empty() {
            return None;
        }
        Some(fold(records.iter().map(|(record, at)| (record, *at))).expect("the journal always folds"))
    }

    /// The upgrade under way.
    pub fn open(&self) -> Option<Upgrade> {
        match self.folded()? {
            Folded::Open(upgrade) => Some(*upgrade),
            Folded::Finished(..) => None,
        }
    }

    pub fn outcomes(&self) -> Vec<&Outcome> {
        self.history.iter().map(|entry| &entry.outcome).collect()
    }

    pub fn finished(&self) -> Vec<(PlanName, Height)> {
        let carried_out = |entry: &&HistoryEntry| !matches!(entry.outcome, Outcome::Cancelled { .. });
        let plans = self.history.iter().filter(carried_out).filter_map(|entry| entry.plan.as_ref());
        plans.map(|plan| (plan.name.clone(), plan.height)).collect()
    }

    pub fn triggered(&self) -> Vec<&Switchover> {
        let records = self.journal.iter();
        records
            .filter_map(|(_, record, _)| match record {
                Record::Triggered(order) => Some(&**order),
                _ => None,
            })
            .collect()
    }

    /// The kinds of all events so far.
    pub fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.kind.as_str()).collect()
    }

    pub fn count(&self, topic: &str, kind: &str) -> usize {
        self.events.iter().filter(|event| event.topic == topic && event.kind == kind).count()
    }

    /// All or nothing.
    pub fn write(&mut self, entries: Vec<Entry>, durable: bool, at: WallMs) {
        let waited_for = !entries.iter().all(is_of_the_downtime);
        let journals = entries.iter().any(|entry| matches!(entry, Entry::Journal { .. } | Entry::History(_)));
        for entry in entries {
            match entry {
                Entry::Journal { upgrade, record } => self.journal_record(upgrade, record, at),
                Entry::History(entry) => {
                    assert!(self.history.iter().all(|old| old.id != entry.id), "finished twice: {entry:?}");
                    self.history.push(*entry);
                }
                Entry::Event(event) => {
                    let message = event.data["message"].as_str().unwrap_or_default();
                    assert!(!message.is_empty(), "an event without words: {event:?}");
                    self.events.push(event);
                }
                Entry::Pin(pin) => {
                    self.pins.retain(|old| old.name != pin.name);
                    self.pins.push(pin);
                }
                Entry::Unpin(name) => self.pins.retain(|pin| pin.name != name),
                Entry::Facts(facts) => self.facts = *facts,
            }
        }
        if durable && waited_for {
            self.forced = self.journal.len();
            self.link_for_sure = self.link.clone();
            self.facts_for_sure = self.facts.clone();
        }
        if !journals {
            return;
        }
        let open = self.open().is_some();
        let newest = self.journal.last().map(|(id, ..)| *id);
        let told = self.history.iter().any(|entry| Some(entry.id) == newest);
        assert!(newest.is_none() || open != told, "the history has what the journal has finished");
    }

    fn journal_record(&mut self, id: u64, record: Record, at: WallMs) {
        if let Record::Triggered(order) = &record {
            assert!(self.open().is_none(), "one upgrade at a time");
            assert!(self.journal.iter().all(|(old, ..)| *old < id), "upgrade ids rise");
            assert_eq!(order.id, id);
            let again = order.plan.as_ref().is_some_and(|plan| {
                self.finished().iter().any(|(name, height)| *name == plan.name && *height == plan.height)
            });
            assert!(!again || order.why == Why::Ordered, "carried out twice: {order:?}");
        } else {
            assert_eq!(
                self.journal.last().map(|(newest, ..)| *newest),
                Some(id),
                "a record of an old upgrade"
            );
        }
        self.journal.push((id, record, at));
    }
}

/// What the supervisor writes between the old node's end and the new one's start, without a forced write.
fn is_of_the_downtime(entry: &Entry) -> bool {
    match entry {
        Entry::Journal { record, .. } => matches!(
            record,
            Record::Done { step: Step::Stop | Step::Switch, .. }
                | Record::Started { step: Step::Switch | Step::Start }
        ),
        Entry::Event(_) | Entry::Facts(_) => true,
        _ => false,
    }
}
