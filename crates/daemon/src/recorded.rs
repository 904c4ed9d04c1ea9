//! What a home remembers: the store's rows as the core's values, the plan file as plans.
//!
//! Read by the supervisor at its start, and by the command line when no supervisor runs.

use std::path::{Path, PathBuf};

use wemixvisor_core::engine::port::{Facts, HistoryEntry, Pin, PlanEdit};
use wemixvisor_core::exit;
use wemixvisor_core::plan::{Plan, PlanName};
use wemixvisor_core::plan_file;
use wemixvisor_core::time::WallMs;
use wemixvisor_core::upgrade::{Outcome, Record};
use wemixvisor_host::data_lock::DATA_SUPERVISOR_LOCK;
use wemixvisor_host::digest::Digest;
use wemixvisor_host::home::{Home, same_place};
use wemixvisor_host::keeper::{NodeExit, WaitStatus};
use wemixvisor_host::plan_file as plan_bytes;
use wemixvisor_host::store::{Batch, Reader, StoreError};

use crate::handle::RecordedEvent;
use crate::preparing::said;

/// The key of what the engine keeps besides journal, history and pins.
const FACTS: &str = "facts";

/// The key of the data directory that the node last ran with, read from the home.
const DATA_DIR: &str = "data_dir";

/// So many finished upgrades are remembered, so that none of them is run again.
const REMEMBERED: usize = 500;

/// What the store of a home holds.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The records of the upgrade under way, if one is. An error: it cannot be followed.
    pub journal: Result<Vec<(Record, WallMs)>, String>,
    /// Finished upgrades, newest first.
    pub history: Vec<HistoryEntry>,
    /// Pinned versions.
    pub pins: Vec<Pin>,
    /// What else outlives a supervisor.
    pub facts: Facts,
    /// The data directory that the node last ran with.
    pub data_dir: Option<PathBuf>,
}

/// A store that holds what cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry of the history is not one: it would not be known what was carried out already.
    #[error("entry {seq} of the history of upgrades cannot be understood: {source}")]
    History {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Recorded {
    /// Reads all of it.
    ///
    /// # Errors
    /// [`RecordedError`]. A journal that cannot be followed is not one of them: it is a finding.
    pub fn read(store: &Reader) -> Result<Self, RecordedError> {
        Ok(Self {
            journal: journal(store),
            history: history(store, REMEMBERED)?,
            pins: pins(store)?,
            facts: store.fact(FACTS)?.unwrap_or_default(),
            data_dir: store.fact(DATA_DIR)?,
        })
    }

    /// What a home holds that never had a supervisor.
    pub fn nothing() -> Self {
        Self {
            journal: Ok(Vec::new()),
            history: Vec::new(),
            pins: Vec::new(),
            facts: Facts::default(),
            data_dir: None,
        }
    }

    /// The plans that were carried out, to an end or back.
    pub fn finished(&self) -> Vec<(PlanName, u64)> {
        let carried_out =
            self.history.iter().filter(|entry| !matches!(entry.outcome, Outcome::Cancelled { .. }));
        carried_out
            .filter_map(|entry| entry.plan.as_ref().map(|plan| (plan.name.clone(), plan.height)))
            .collect()
    }

    /// The newest upgrade that was committed.
    pub fn last_committed(&self) -> Option<&HistoryEntry> {
        self.history.iter().find(|entry| entry.outcome == Outcome::Committed)
    }
}

/// The newest finished upgrades, newest first, at most `limit`.
///
/// # Errors
/// [`RecordedError`].
pub fn history(store: &Reader, limit: usize) -> Result<Vec<HistoryEntry>, RecordedError> {
    let understood = |row: wemixvisor_host::store::HistoryRow| {
        serde_json::from_value(row.entry).map_err(|source| RecordedError::History { seq: row.seq, source })
    };
    store.history(limit)?.into_iter().map(understood).collect()
}

/// The events after `seq`, oldest first, at most `limit`.
///
/// # Errors
/// The store cannot be read.
pub fn events(store: &Reader, seq: u64, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
    let event = |row: wemixvisor_host::store::EventRow| RecordedEvent {
        seq: row.seq,
        at: row.at,
        topic: row.topic,
        kind: row.kind,
        data: row.data,
    };
    Ok(store.events_since(seq, limit)?.into_iter().map(event).collect())
}

/// Writes down what the engine keeps besides journal, history and pins.
pub(crate) fn set_facts(batch: &mut Batch<'_>, facts: &Facts) -> Result<(), StoreError> {
    batch.set_fact(FACTS, facts)
}

/// Writes down where the node's data lies; below the home as a path from there, so that the home can be moved.
pub(crate) fn set_data_dir(batch: &mut Batch<'_>, home: &Path, data: &Path) -> Result<(), StoreError> {
    batch.set_fact(DATA_DIR, &data.strip_prefix(home).unwrap_or(data))
}

/// Reads the plan file and what it means. An absent file schedules nothing.
///
/// # Errors
/// In words: why the file cannot be used.
pub fn plans(home: &Home) -> Result<Vec<Plan>, String> {
    plans_and_sum(home, no_directory).0
}

/// The same for the supervisor that has the data directory, and the sum of what the file held when it could be read,
/// also where it cannot be used. A disk that is not mounted any more takes back no plan.
pub(crate) fn own_plans(home: &Home) -> (Result<Vec<Plan>, String>, Option<Digest>) {
    plans_and_sum(home, other_directory)
}

fn plans_and_sum(
    home: &Home,
    absence_means_nothing: impl Fn(&Home) -> Option<String>,
) -> (Result<Vec<Plan>, String>, Option<Digest>) {
    match plan_bytes::read(home) {
        Err(error) => (Err(said(&error)), error.digest()),
        Ok(None) => (absence_means_nothing(home).map_or(Ok(Vec::new()), Err), None),
        Ok(Some(content)) => {
            (plan_file::parse(&content.text).map_err(|error| said(&error)), Some(content.digest))
        }
    }
}

fn no_directory(home: &Home) -> Option<String> {
    (!home.data().is_dir()).then(|| format!("the data directory {} is not there", home.data().display()))
}

/// Why the data directory is not the one that this supervisor has taken, if it is not: that one holds its lock.
fn other_directory(home: &Home) -> Option<String> {
    no_directory(home).or_else(|| {
        (!home.data().join(DATA_SUPERVISOR_LOCK).exists()).then(|| {
            format!(
                "{} is not the data directory any more that it was (is a disk not mounted?): it holds neither a plan \
                 file nor the supervisor's lock, and the plans stay as they were. Bring it back; if it is meant to be \
                 another one: wemixvisor restart --supervisor-only",
                home.data().display()
            )
        })
    })
}

/// A word of warning where plans wait in the data directory `usual`, which is not the one of the node: a command that
/// did not know the node's arguments has put them there.
pub(crate) fn plans_elsewhere(home: &Home, usual: &Path) -> Option<String> {
    if same_place(usual, home.data()) {
        return None;
    }
    let there = Home::new(home.root(), Some(home.wemixvisor()), Some(usual), home.name()).ok()?;
    let waiting = plans(&there).ok().filter(|plans| !plans.is_empty())?;
    let names: Vec<_> = waiting.iter().map(|plan| plan.name.as_str()).collect();
    Some(format!(
        "{} schedules {}, but the node's data directory is {}: nothing of that is carried out. Schedule it again and \
         remove that file, and set data_dir to the node's data directory",
        there.plan_file().display(),
        names.join(", "),
        home.data().display()
    ))
}

/// Changes the plan file for the supervisor that has the data directory: a new file in another directory would take
/// the place of all plans. Otherwise as [`edit_plans`].
pub(crate) fn edit_own_plans(home: &Home, edit: &PlanEdit) -> Result<Vec<Plan>, String> {
    match other_directory(home).filter(|_| !home.plan_file().exists()) {
        Some(problem) => Err(problem),
        None => edit_plans(home, edit),
    }
}

/// Changes the plan file; the answer is what it now means. Blocks, for up to 5 s when others edit it.
///
/// # Errors
/// In words: why the file is unchanged.
pub fn edit_plans(home: &Home, edit: &PlanEdit) -> Result<Vec<Plan>, String> {
    let none = || "[]\n".to_owned();
    let content = plan_bytes::edit(home, |text| match edit {
        PlanEdit::Put(plan) => plan_file::schedule(text.as_deref(), plan),
        PlanEdit::Remove(name) => {
            let text = text.unwrap_or_else(none);
            Ok(plan_file::remove(&text, name)?.unwrap_or(text))
        }
        PlanEdit::RemoveFinished { name, height } => {
            let text = text.unwrap_or_else(none);
            Ok(plan_file::remove_finished(&text, name, *height)?.unwrap_or(text))
        }
    });
    let content = content.map_err(|error| said(&error))?;
    plan_file::parse(&content.text).map_err(|error| said(&error))
}

/// The end of a node as the core understands it.
pub fn node_exit(end: &NodeExit) -> exit::NodeExit {
    exit::NodeExit {
        status: match end.status {
            WaitStatus::Exited(code) => exit::WaitStatus::Exited(code),
            WaitStatus::Signaled { signal, .. } => exit::WaitStatus::Signaled(signal),
            WaitStatus::Unknown => exit::WaitStatus::Unknown,
        },
        term_sent: end.term_sent,
        kill_sent: end.kill_sent,
        out_of_memory: end.oom_killed,
        tail: end.last_output.join("\n"),
    }
}

fn journal(store: &Reader) -> Result<Vec<(Record, WallMs)>, String> {
    let rows = store.journal().map_err(|error| said(&error))?;
    let newest = rows.last().map(|row| row.upgrade.clone());
    rows.into_iter()
        .filter(|row| Some(&row.upgrade) == newest.as_ref())
        .map(|row| match serde_json::from_value(row.record) {
            Ok(record) => Ok((record, row.at)),
            Err(error) => Err(format!("record {} of the journal cannot be understood: {error}", row.seq)),
        })
        .collect()
}

fn pins(store: &Reader) -> Result<Vec<Pin>, StoreError> {
    let pin = |pin: wemixvisor_host::store::Pin| {
        Some(Pin { name: pin.name.parse().ok()?, sha256: pin.sha256, reason: pin.reason })
    };
    Ok(store.pins()?.into_iter().filter_map(pin).collect())
}
