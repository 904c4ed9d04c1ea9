//! The way to an answer without a running supervisor: from the files of the home.
//!
//! The rules are the supervisor's own. The engine is set up from what is on the disk, exactly as a supervisor
//! would, and asked; but nothing it wants done is done, except the change of the plan file that an order to
//! schedule or to cancel comes down to. No head is known here, so what depends on one is left to the supervisor.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use wemixvisor_core::command_line::CommandLine;
use wemixvisor_core::engine::port::{Decision, Effect, Entry, Facts, HistoryEntry, Input, Order};
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot};
use wemixvisor_core::engine::{Boot, Engine};
use wemixvisor_core::plan::PlanName;
use wemixvisor_core::settings::Settings;
use wemixvisor_core::time::{Now, WallMs};
use wemixvisor_core::upgrade::{Folded, Record, Upgrade, fold};
use wemixvisor_daemon::RecordedEvent;
use wemixvisor_daemon::api::wire;
use wemixvisor_daemon::recorded::{self, Recorded};
use wemixvisor_host::home::Home;
use wemixvisor_host::lock::SupervisorLock;
use wemixvisor_host::store::{Reader, Store, StoreError};
use wemixvisor_host::{keeper, link, process};

use crate::failure::{Failure, said};

/// The ticket of the one order that is given.
const TICKET: u64 = 1;

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
        let target = link::current(home).map_err(|error| {
            let error = said(&error);
            Failure::failed(format!(
                "it cannot be told which program is to run: {error}. Nothing is guessed; how to mend it by hand: \
                 \"The home\" in docs/operations.md"
            ))
        })?;
        let recorded = match state(home)? {
            Some(state) => Recorded::read(&state).map_err(|error| Failure::from_error(&error))?,
            None => Recorded::nothing(),
        };
        let home = of_the_last_run(home, settings, recorded.data_dir.clone())?;
        let interrupted = interrupted(&recorded.journal);
        let boot = Boot {
            settings: settings.clone(),
            sources: Vec::new(),
            given_line: CommandLine::default(),
            target,
            running: None,
            last_exit: None,
            plans: recorded::plans(&home),
            finished: recorded.finished(),
            last_committed: recorded.last_committed().cloned(),
            last_upgrade: recorded.history.into_iter().next(),
            journal: recorded.journal,
            pins: recorded.pins,
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
        view.last_exit = keeper::last_exit(dir).as_ref().map(recorded::node_exit);
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
        Ok(wire::History::new(self.entries(limit)?.iter().map(wire::Finished::of).collect()))
    }

    /// The same as they were recorded.
    ///
    /// # Errors
    /// A state that cannot be read.
    pub fn entries(&self, limit: usize) -> Result<Vec<HistoryEntry>, Failure> {
        match state(&self.home)? {
            Some(state) => recorded::history(&state, limit).map_err(|error| Failure::from_error(&error)),
            None => Ok(Vec::new()),
        }
    }

    /// The events after `seq`, oldest first.
    ///
    /// # Errors
    /// A state that cannot be read.
    pub fn events_since(&self, seq: u64, limit: usize) -> Result<Vec<RecordedEvent>, Failure> {
        match state(&self.home)? {
            Some(state) => recorded::events(&state, seq, limit).map_err(|error| Failure::from_error(&error)),
            None => Ok(Vec::new()),
        }
    }

    /// The number of the newest event; 0 before the first one.
    ///
    /// # Errors
    /// A state that cannot be read.
    pub fn newest_event(&mut self) -> Result<u64, Failure> {
        let Some(state) = state(&self.home)? else { return Ok(0) };
        let range = state.event_range().map_err(|error| Failure::from_error(&error))?;
        Ok(range.map_or(0, |(_, newest)| newest))
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
        recorded::edit_plans(&self.home, &edit).map(drop).map_err(Failure::failed)
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

/// The home, with the data directory of the last run: the node's own arguments may have set it, and they are not
/// known here.
fn of_the_last_run(home: &Home, settings: &Settings, dir: Option<PathBuf>) -> Result<Home, Failure> {
    let Some(dir) = dir.filter(|_| settings.data_dir.is_none()) else { return Ok(home.clone()) };
    let data = home.root().join(dir);
    Home::new(home.root(), Some(home.wemixvisor()), Some(&data), home.name())
        .map_err(|error| Failure::from_error(&error))
}

fn interrupted(journal: &Result<Vec<(Record, WallMs)>, String>) -> Option<Box<Upgrade>> {
    let records = journal.as_ref().ok()?.iter().map(|(record, at)| (record, *at));
    match fold(records) {
        Ok(Folded::Open(upgrade)) => Some(upgrade),
        _ => None,
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
