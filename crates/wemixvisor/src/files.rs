//! The way to an answer without a running supervisor: from the files of the home.
//!
//! The rules are the supervisor's own. The engine is set up from what is on the disk, exactly as a supervisor
//! would, and asked; but nothing it wants done is done, except the change of the plan file that an order to
//! schedule or to cancel comes down to. No head is known here, so what depends on one is left to the supervisor.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use wemixvisor_core::command_line::CommandLine;
use wemixvisor_core::engine::port::{
    Decision, Effect, Entry, Facts, HistoryEntry, Input, Order, Pin, PlanEdit,
};
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot};
use wemixvisor_core::engine::{Boot, Engine};
use wemixvisor_core::exit;
use wemixvisor_core::plan::{Plan, PlanName};
use wemixvisor_core::plan_file::{self as plans, PlanFileError};
use wemixvisor_core::settings::Settings;
use wemixvisor_core::time::{Now, WallMs};
use wemixvisor_core::upgrade::{Folded, Outcome, Record, Upgrade, fold};
use wemixvisor_daemon::api::wire;
use wemixvisor_host::home::Home;
use wemixvisor_host::lock::SupervisorLock;
use wemixvisor_host::store::{Reader, Store, StoreError};
use wemixvisor_host::{keeper, link, plan_file, process};

use crate::failure::{Failure, said};

/// So many finished upgrades are looked at: what was carried out is not scheduled again.
const REMEMBERED: usize = 500;

/// The ticket of the one order that is given.
const TICKET: u64 = 1;

/// The fact that tells the data directory of the last run, read from the home: the node's own arguments may have
/// set it, and they are not known here.
const DATA_DIR: &str = "data_dir";

/// A home whose supervisor does not run.
#[derive(Debug)]
pub struct Files {
    home: Home,
    engine: Engine,
    /// The upgrade that was interrupted, as its journal left it.
    interrupted: Option<Box<Upgrade>>,
    now: Now,
}

impl Files {
    /// Reads the home.
    ///
    /// # Errors
    /// A home that is not laid out, a link or a state that cannot be understood.
    pub fn read(home: &Home, settings: &Settings) -> Result<Self, Failure> {
        if !home.wemixvisor().is_dir() {
            let root = home.root().display();
            return Err(Failure::failed(format!(
                "there is no home of a node at {root}; lay it out with: wemixvisor init <binary>"
            )));
        }
        let target = link::current(home).map_err(|error| Failure::from_error(&error))?;
        let state = state(home)?;
        let home = of_the_last_run(home, settings, state.as_ref())?;
        let history = history_of(state.as_ref(), REMEMBERED)?;
        let journal = state.as_ref().map_or(Ok(Vec::new()), journal);
        let interrupted = interrupted(&journal);
        let boot = Boot {
            settings: settings.clone(),
            sources: Vec::new(),
            given_line: CommandLine::default(),
            target,
            running: None,
            last_exit: None,
            journal,
            plans: read_plans(&home),
            pins: state.as_ref().map_or(Ok(Vec::new()), pins)?,
            finished: finished(&history),
            last_committed: history.iter().find(|entry| entry.outcome == Outcome::Committed).cloned(),
            last_upgrade: history.into_iter().next(),
            facts: Facts::default(),
            stagger: 0,
        };
        let now = Now { wall: wall_now(), ..Now::default() };
        let (engine, _) = Engine::boot(boot, now);
        Ok(Self { home, engine, interrupted, now })
    }

    /// The same picture as a supervisor gives, as far as files tell.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.engine.snapshot(self.now);
        let dir = self.home.wemixvisor();
        let node = keeper::last_node(dir)
            .filter(|node| node.boot_id == process::boot_id() && process::alive(node.pid, node.start_time));
        // The engine has decided how it would go on; shown is how far it came.
        if let Some((view, left)) = snapshot.upgrade.as_mut().zip(self.interrupted.as_ref()) {
            view.step = left.step;
            view.steps.clone_from(&left.marks);
            view.failure.clone_from(&left.failure);
            view.waiting_for.clear();
            (view.held, view.can_cancel) = (false, false);
        }
        let view = &mut snapshot.node;
        view.state = if node.is_some() { NodeState::Running } else { NodeState::Stopped };
        view.pid = node.as_ref().map(|node| node.pid);
        view.since = node.as_ref().map(|node| WallMs(node.started_at_ms));
        view.starts_at = None;
        view.last_exit = keeper::last_exit(dir).map(|end| exit::NodeExit {
            status: match end.status {
                keeper::WaitStatus::Exited(code) => exit::WaitStatus::Exited(code),
                keeper::WaitStatus::Signaled { signal, .. } => exit::WaitStatus::Signaled(signal),
                keeper::WaitStatus::Unknown => exit::WaitStatus::Unknown,
            },
            term_sent: end.term_sent,
            kill_sent: end.kill_sent,
            out_of_memory: end.oom_killed,
            tail: end.last_output.join("\n"),
        });
        snapshot
    }

    /// The home, with the data directory of the last run.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The same as the wire has it.
    pub fn status(&self) -> wire::Status {
        wire::Status::of(&self.snapshot(), None)
    }

    /// The finished upgrades, newest first.
    ///
    /// # Errors
    /// A state that cannot be read.
    pub fn history(&self, limit: usize) -> Result<wire::History, Failure> {
        let entries = history_of(state(&self.home)?.as_ref(), limit)?;
        Ok(wire::History::new(entries.iter().map(wire::Finished::of).collect()))
    }

    /// Gives an order that only changes the plan file: to schedule or to cancel.
    ///
    /// # Errors
    /// The engine's refusal; what needs a supervisor; a file that cannot be changed.
    pub fn order(&mut self, order: Order) -> Result<(), Failure> {
        let name = match &order {
            Order::Schedule { plan, .. } => &plan.name,
            Order::Cancel(name) => name,
            _ => return Err(needs_supervisor()),
        };
        let plan = self.interrupted.as_ref().and_then(|upgrade| upgrade.switchover.plan.as_ref());
        if plan.is_some_and(|plan| plan.name == *name) {
            return Err(needs_supervisor());
        }
        let Decision { entries, effects } =
            self.engine.handle(Input::Order { ticket: TICKET, order }, self.now);
        let mut edit = None;
        for effect in effects {
            match effect {
                Effect::Reply { ticket: TICKET, result: Err(refused) } => return Err(refused.into()),
                Effect::EditPlans { ticket: Some(TICKET), edit: wanted } => edit = Some(wanted),
                _ => {}
            }
        }
        let mut unpinned = Vec::new();
        for entry in entries {
            match entry {
                Entry::Unpin(name) => unpinned.push(name),
                Entry::Event(_) | Entry::Facts(_) => {}
                Entry::Journal { .. } | Entry::History(_) | Entry::Pin(_) => return Err(needs_supervisor()),
            }
        }
        let edit = edit.ok_or_else(needs_supervisor)?;
        if !unpinned.is_empty() {
            unpin(&self.home, &unpinned)?;
        }
        edit_plans(&self.home, edit)
    }
}

fn needs_supervisor() -> Failure {
    Failure::not_running(
        "an upgrade was interrupted together with its supervisor, and only a supervisor can end it; nothing was \
         changed. To have it carried on: wemixvisor start",
    )
}

#[allow(clippy::disallowed_methods)] // The command line's own clock, for what is shown.
fn wall_now() -> WallMs {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// The state, if there ever was a supervisor.
fn state(home: &Home) -> Result<Option<Reader>, Failure> {
    match Store::open_read_only(&home.state()) {
        Ok(reader) => Ok(Some(reader)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(Failure::from_error(&error)),
    }
}

fn of_the_last_run(home: &Home, settings: &Settings, state: Option<&Reader>) -> Result<Home, Failure> {
    let Some(state) = state.filter(|_| settings.data_dir.is_none()) else { return Ok(home.clone()) };
    let dir: Option<PathBuf> = state.fact(DATA_DIR).map_err(|error| Failure::from_error(&error))?;
    let Some(dir) = dir else { return Ok(home.clone()) };
    let data = home.root().join(dir);
    Home::new(home.root(), Some(home.wemixvisor()), Some(&data), home.name())
        .map_err(|error| Failure::from_error(&error))
}

fn history_of(state: Option<&Reader>, limit: usize) -> Result<Vec<HistoryEntry>, Failure> {
    let Some(state) = state else { return Ok(Vec::new()) };
    let rows = state.history(limit).map_err(|error| Failure::from_error(&error))?;
    rows.into_iter()
        .map(|row| {
            serde_json::from_value(row.entry).map_err(|error| {
                Failure::failed(format!("entry {} of the history cannot be understood: {error}", row.seq))
            })
        })
        .collect()
}

fn finished(history: &[HistoryEntry]) -> Vec<(PlanName, u64)> {
    history
        .iter()
        .filter(|entry| !matches!(entry.outcome, Outcome::Cancelled { .. }))
        .filter_map(|entry| entry.plan.as_ref().map(|plan| (plan.name.clone(), plan.height)))
        .collect()
}

fn journal(state: &Reader) -> Result<Vec<(Record, WallMs)>, String> {
    let rows = state.journal().map_err(|error| said(&error))?;
    let newest = rows.last().map(|row| row.upgrade.clone());
    rows.into_iter()
        .filter(|row| Some(&row.upgrade) == newest.as_ref())
        .map(|row| match serde_json::from_value(row.record) {
            Ok(record) => Ok((record, row.at)),
            Err(error) => Err(format!("record {} of the journal cannot be understood: {error}", row.seq)),
        })
        .collect()
}

fn interrupted(journal: &Result<Vec<(Record, WallMs)>, String>) -> Option<Box<Upgrade>> {
    let records = journal.as_ref().ok()?.iter().map(|(record, at)| (record, *at));
    match fold(records) {
        Ok(Folded::Open(upgrade)) => Some(upgrade),
        _ => None,
    }
}

fn pins(state: &Reader) -> Result<Vec<Pin>, Failure> {
    let pins = state.pins().map_err(|error| Failure::from_error(&error))?;
    let pin = |pin: wemixvisor_host::store::Pin| {
        Some(Pin { name: pin.name.parse().ok()?, sha256: pin.sha256, reason: pin.reason })
    };
    Ok(pins.into_iter().filter_map(pin).collect())
}

fn read_plans(home: &Home) -> Result<Vec<Plan>, String> {
    match plan_file::read(home) {
        Ok(Some(content)) => plans::parse(&content.text).map_err(|error| error.to_string()),
        Ok(None) => Ok(Vec::new()),
        Err(error) => Err(said(&error)),
    }
}

/// With the supervisor's lock: one that starts meanwhile would not see it.
fn unpin(home: &Home, names: &[PlanName]) -> Result<(), Failure> {
    let _lock = SupervisorLock::acquire(home.wemixvisor()).map_err(|error| Failure::from_error(&error))?;
    let mut store = Store::open(&home.state()).map_err(|error| Failure::from_error(&error))?;
    let unpin_all =
        store.write(|batch| names.iter().try_for_each(|name| batch.unpin(name.as_str()).map(drop)));
    unpin_all.map_err(|error| Failure::from_error(&error))
}

fn edit_plans(home: &Home, edit: PlanEdit) -> Result<(), Failure> {
    let changed = plan_file::edit(home, |text| -> Result<String, PlanFileError> {
        match &edit {
            PlanEdit::Put(plan) => plans::schedule(text.as_deref(), plan),
            PlanEdit::Remove(name) => {
                let text = text.unwrap_or_else(|| "[]\n".into());
                Ok(plans::remove(&text, name)?.unwrap_or(text))
            }
            PlanEdit::RemoveFinished { name, height } => {
                let text = text.unwrap_or_else(|| "[]\n".into());
                Ok(plans::remove_finished(&text, name, *height)?.unwrap_or(text))
            }
        }
    });
    match changed {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::from_error(&error)),
    }
}
