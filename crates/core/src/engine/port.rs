//! What comes into the engine and what goes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command_line::CommandLine;
use crate::exit::NodeExit;
use crate::head::{Head, Height};
use crate::observation::{Answer, Observation};
use crate::plan::{Plan, PlanName};
use crate::probation::Reference;
use crate::readiness::Check;
use crate::target::Target;
use crate::time::WallMs;
use crate::upgrade::{Hooks, Mark, Outcome, Record, Step};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A moment that was asked for with [`super::Engine::next_wake`] has come.
    Tick,
    /// A source reported a head.
    Head {
        /// Its place in the list of sources.
        source: usize,
        /// The head.
        head: Head,
    },
    /// A source does not answer, or its answers cannot be used.
    SourceFailed {
        /// Its place in the list.
        source: usize,
        /// Why.
        reason: String,
    },
    /// A source answers again.
    SourceRecovered {
        /// Its place in the list.
        source: usize,
    },
    /// The plan file was read again.
    Plans(Result<Vec<Plan>, String>),
    /// A waiting plan was prepared.
    Checked {
        /// Whose.
        name: PlanName,
        /// What was found.
        check: Check,
    },
    /// The program of a due plan was verified once more.
    Verified {
        /// Which.
        target: Target,
        /// Its facts, or why it must not run.
        result: Result<Verified, String>,
    },
    /// The node's process runs.
    NodeUp {
        /// Of this launch.
        launch: u64,
        /// Its process id.
        pid: u32,
    },
    /// The node's process could not be started.
    LaunchFailed {
        /// Of this launch.
        launch: u64,
        /// Why.
        reason: String,
    },
    /// The node's process ended.
    NodeExited {
        /// Of this launch.
        launch: u64,
        /// How.
        exit: NodeExit,
    },
    /// How much the stopping process has worked; `None` when it cannot be read.
    Work(Option<Work>),
    /// A run of a hook ended.
    HookEnded {
        /// Which.
        run: u64,
        /// With what.
        result: Result<String, String>,
    },
    /// The link was switched.
    Switched {
        /// To this.
        target: Target,
        /// Or not.
        result: Result<(), String>,
    },
    /// A round of questions came back.
    Observed {
        /// From the node of this launch.
        launch: u64,
        /// The answers.
        round: Box<Observation>,
    },
    /// Whether this node is the one that seals now.
    Sealing(Answer<bool>),
    /// What others may have changed in the home was looked at.
    Surroundings(Surroundings),
    /// A person wants something.
    Order {
        /// To whom the answer goes.
        ticket: u64,
        /// What.
        order: Order,
    },
    /// The plan file was edited as asked.
    PlansEdited {
        /// Whose order it was.
        ticket: u64,
        /// The plans as they stand now.
        result: Result<Vec<Plan>, String>,
        /// What the orderer is told.
        message: String,
    },
    /// The supervisor is to stop the node and end.
    Shutdown,
}

/// What others may change in the home while the node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Where `current` points, or why that cannot be told.
    pub link: Result<Target, String>,
    /// Why the program of the engine's target could not be started again, if so.
    pub program: Result<(), String>,
    /// Upgrades whose program file is no longer the one that was prepared.
    pub replaced: Vec<PlanName>,
    /// Why what is written down will not be found by the next supervisor, if so.
    pub store: Result<(), String>,
    /// Why the node's log does not keep what is written to it, if so.
    pub log: Result<(), String>,
    /// The process id of the node's keeper, if that is stopped.
    pub keeper_stopped: Option<u32>,
}

/// A source of heights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its address, as people may see it.
    pub address: String,
    /// It is the supervised node itself. Only such a source says how a new program does; another node's heights
    /// go on also when ours stands still.
    pub own: bool,
}

/// What a person can order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Schedule a plan, or replace the one of the same name.
    Schedule {
        /// The plan.
        plan: Box<Plan>,
        /// Even if the version is pinned as bad.
        force: bool,
    },
    /// Take a plan off the schedule.
    Cancel(PlanName),
    /// Carry a plan out now.
    Apply {
        /// Which.
        name: PlanName,
        /// Even if the version is pinned as bad.
        force: bool,
    },
    /// Try an upgrade that was rolled back again, now.
    Retry(PlanName),
    /// Go back to the program that ran before the last upgrade.
    Rollback,
    /// Start the node.
    StartNode,
    /// Stop the node; the supervisor stays.
    StopNode,
    /// Stop the node and start it again.
    RestartNode,
    /// Give the supervisor's place to its program as it is on the disk now; the node runs on.
    ReplaceSupervisor,
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// A stable word for programs.
    pub code: RefusalCode,
    /// What was tried, what is true now, and what to do.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// What was asked for makes no sense.
    Invalid,
    /// No such plan or version.
    NotFound,
    /// The state does not allow it now (an upgrade runs, already there, pinned).
    Conflict,
    /// The new program is not ready.
    NotReady,
    /// It was tried and failed.
    Failed,
}

/// What the new program's last verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The SHA-256 of its file, in hex.
    pub sha256: String,
    /// The version it gives itself, where it could be had beforehand.
    pub version: Option<String>,
    /// The version the present program gives itself, where it could be had.
    pub present_version: Option<String>,
    /// Which hooks exist.
    pub hooks: Hooks,
}

/// How much a process has worked since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Processor time in clock ticks (1/100 s).
    pub cpu_ticks: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// Something to do. Effects are carried out in order, after the decision's entries are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start the node's program.
    Launch(Launch),
    /// Send SIGTERM, if none was sent yet.
    Terminate,
    /// Send SIGKILL.
    Kill,
    /// Say how much the stopping process has worked.
    SampleWork,
    /// Point `current` to this.
    SwitchLink(Target),
    /// Run the hook of this step. One that was ended by [`Effect::EndHook`] and still lives is waited for first.
    RunHook {
        /// A number of this run's own; its end is told with it.
        run: u64,
        /// Which step.
        step: Step,
        /// For which upgrade.
        name: String,
        /// Its height.
        height: u64,
        /// Its description.
        info: String,
        /// The directory in which to look for it.
        target: Target,
    },
    /// End this run of a hook, with all that it has started: its end is not waited for any more.
    EndHook {
        /// Which.
        run: u64,
    },
    /// Ask the node one round of questions.
    Probe(ProbeFor),
    /// Ask whether this node is the one that seals now.
    AskSealing,
    /// Prepare a waiting plan.
    Prepare(Box<Plan>),
    /// Verify the program of a due plan.
    Verify {
        /// Which program.
        target: Target,
        /// For which plan; `None` for an ordered rollback.
        plan: Option<Box<Plan>>,
    },
    /// Look at what others may have changed in the home.
    LookAround,
    /// Edit the plan file: take the plan out, or put it in.
    EditPlans {
        /// Whose order it is; `None` when the plan is finished.
        ticket: Option<u64>,
        /// What to do.
        edit: PlanEdit,
    },
    /// From now on poll so often.
    PollEvery(Duration),
    /// The node has just been started: its sources should be tried at once.
    SourcesUp,
    /// The node is down: its sources cannot answer.
    SourcesDown,
    /// Answer an order.
    Reply {
        /// Which.
        ticket: u64,
        /// With what.
        result: Result<String, Refused>,
    },
    /// End the supervisor.
    Exit(ExitWith),
}

/// With what the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitWith {
    /// It was asked to, and the node went in order.
    Success,
    /// The node's own end.
    Node(crate::exit::WaitStatus),
    /// Nothing ends: the program on the disk goes on as the supervisor, and the node runs on.
    Successor,
}

/// A change of the plan file.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanEdit {
    /// Insert or replace.
    Put(Box<Plan>),
    /// Remove.
    Remove(PlanName),
    /// Remove a plan that was carried out; another one that stands under its name by now stays.
    RemoveFinished {
        /// Its name.
        name: PlanName,
        /// Its height.
        height: Height,
    },
}

impl PlanEdit {
    /// Takes off a plan that was carried out.
    pub fn finished(plan: &Plan) -> Self {
        Self::RemoveFinished { name: plan.name.clone(), height: plan.height }
    }
}

/// What a round of questions is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeFor {
    /// The launch whose node is asked.
    pub launch: u64,
    /// The block whose hash is wanted.
    pub pinned: Option<u64>,
    /// Whether the node's own seal is looked for.
    pub own_seal: bool,
}

/// One start of the node's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Unique and rising.
    pub launch: u64,
    /// Which program.
    pub target: Target,
    /// With what.
    pub line: CommandLine,
    /// The SHA-256 its file must have, where it was verified for this start.
    pub sha256: Option<String>,
}

/// What a decision writes down before anything is done. All or nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A record of an upgrade's journal.
    Journal {
        /// Which upgrade.
        upgrade: u64,
        /// The record.
        record: Record,
    },
    /// A finished upgrade.
    History(Box<HistoryEntry>),
    /// Something that subscribers hear of.
    Event(Event),
    /// A version is pinned as bad.
    Pin(Pin),
    /// A pin is taken off.
    Unpin(PlanName),
    /// What the next supervisor must know.
    Facts(Box<Facts>),
}

/// Something that subscribers hear of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `upgrades`, `node`, `alerts`, `system`.
    pub topic: String,
    /// Its kind, a stable word.
    pub kind: String,
    /// Its particulars; `message` says it in words.
    pub data: Value,
}

/// A version that is not tried again without force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The upgrade's name.
    pub name: PlanName,
    /// The SHA-256 of the program that failed: a mended one under the same name is another program.
    pub sha256: String,
    /// Why.
    pub reason: String,
}

/// A finished upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Which.
    pub id: u64,
    /// Its name, or what it was.
    pub label: String,
    /// Its plan, if it had one.
    pub plan: Option<Plan>,
    /// The program before.
    pub from: Target,
    /// The program it was to bring.
    pub to: Target,
    /// The SHA-256 of that program.
    pub sha256: String,
    /// The command line before.
    pub from_line: CommandLine,
    /// The head when it fired.
    pub head: Option<u64>,
    /// When it fired.
    pub fired_at: WallMs,
    /// When it was over.
    pub finished_at: WallMs,
    /// How long no node ran, in milliseconds: from the old program's end to the next start.
    pub downtime_ms: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Its steps.
    pub steps: Vec<Mark>,
}

/// What outlives the supervisor, besides journal, history and pins.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The last number given to a launch or an upgrade.
    pub last_id: u64,
    /// What the node last said of itself.
    pub reference: Reference,
    /// The estimated block time in milliseconds.
    pub block_time_ms: Option<u64>,
    /// The command line that a plan brought, and the one it replaced.
    pub line: Option<LineOverride>,
    /// The command line that the last supervisor was given for the node.
    pub given: Option<CommandLine>,
    /// The plans as last read: what is found of them again is no news.
    pub plans: Vec<Plan>,
}

/// A plan's arguments, in force as long as the supervisor is given the same ones as then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineOverride {
    /// What the supervisor was given.
    pub given: CommandLine,
    /// What the node runs with.
    pub line: CommandLine,
}

/// A decision: what to write down, then what to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// Durable first, in one piece.
    pub entries: Vec<Entry>,
    /// Then, in order.
    pub effects: Vec<Effect>,
}

impl Decision {
    /// Whether something is written that must not be lost (events and facts alone may be).
    pub fn must_be_durable(&self) -> bool {
        self.entries.iter().any(|entry| {
            matches!(entry, Entry::Journal { .. } | Entry::History(_) | Entry::Pin(_) | Entry::Unpin(_))
        })
    }
}
