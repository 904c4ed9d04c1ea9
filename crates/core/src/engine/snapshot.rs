//! How it stands: the one picture that status, API and page are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::node::{Process, Up};
use super::port::{HistoryEntry, Pin};
use crate::command_line::Word;
use crate::exit::NodeExit;
use crate::head::{BlockHash, Height};
use crate::plan::Plan;
use crate::probation::Verdict;
use crate::readiness::Check;
use crate::time::{MonoMs, Now, WallMs, millis};
use crate::trigger::firing_height;
use crate::upgrade::{Mark, Step};

/// The whole picture at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    pub at: WallMs,
    /// The program that `current` points to.
    pub version: String,
    /// The node.
    pub node: NodeView,
    /// The chain.
    pub chain: ChainView,
    /// The waiting plans, by height.
    pub plans: Vec<PlanView>,
    /// Why the plan file cannot be used, if so.
    pub plan_problem: Option<String>,
    /// The upgrade under way.
    pub upgrade: Option<UpgradeView>,
    /// The last finished upgrade.
    pub last_upgrade: Option<HistoryEntry>,
    /// Versions pinned as bad.
    pub pins: Vec<Pin>,
    /// What a person should know, by kind.
    pub alerts: BTreeMap<String, String>,
    /// Why an upgrade cannot be followed, if so.
    pub stuck: Option<String>,
    /// Upgrades are carried out, not only watched.
    pub upgrades_enabled: bool,
    /// The supervisor is ending.
    pub shutting_down: bool,
}

/// Where the node's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It runs.
    Running,
    /// It is being started.
    Starting,
    /// It is down and will be started (back-off or floor).
    Waiting,
    /// It was told to stop.
    Stopping,
    /// It is down because that was ordered, or between two steps of an upgrade.
    Stopped,
    /// It is down, and the restart budget is used up.
    Failed,
}

/// The node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Where its process is.
    pub state: NodeState,
    /// Its process id.
    pub pid: Option<u32>,
    /// The program that runs.
    pub version: Option<String>,
    /// What it calls itself.
    pub client_version: Option<String>,
    /// Since when it runs.
    pub since: Option<WallMs>,
    /// It has told a head since it was started.
    pub answering: bool,
    /// It ran before this supervisor did.
    pub adopted: bool,
    /// The arguments it is started with.
    pub args: Vec<Word>,
    /// Restarts that count at the moment.
    pub restarts: usize,
    /// How many are allowed.
    pub max_restarts: u32,
    /// When it will be started, if it waits.
    pub starts_at: Option<WallMs>,
    /// How it ended last.
    pub last_exit: Option<NodeExit>,
}

/// The chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainView {
    /// The head, where one is known.
    pub head: Option<Height>,
    /// Its hash.
    pub hash: Option<BlockHash>,
    /// When it was seen.
    pub seen_at: Option<WallMs>,
    /// The highest height seen.
    pub highest: Option<Height>,
    /// How long the head has stood still, in milliseconds.
    pub still_ms: Option<u64>,
    /// How far its block lies behind the wall clock, in milliseconds.
    pub lag_ms: Option<u64>,
    /// The estimated block time in milliseconds.
    pub block_time_ms: Option<u64>,
    /// The chain id.
    pub chain_id: Option<u64>,
    /// The sources, in order.
    pub sources: Vec<SourceView>,
}

/// One source of heights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its address.
    pub address: String,
    /// Its heights are the ones that count.
    pub followed: bool,
    /// Why it does not answer, if so.
    pub failure: Option<String>,
}

/// A waiting plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The plan.
    pub plan: Plan,
    /// The first height at which it fires, if it fires by height.
    pub fires_at: Option<Height>,
    /// How many blocks are left.
    pub blocks_left: Option<u64>,
    /// The expected wall-clock time.
    pub expected_at: Option<WallMs>,
    /// Its last preparation.
    pub readiness: Option<Check>,
    /// Whether it is ready; `None` while it is not known.
    pub ready: Option<bool>,
    /// Why it did not fire although it was due.
    pub blocked: Option<String>,
    /// It came too late and is refused.
    pub refused: bool,
    /// Its program is pinned as bad.
    pub pinned: bool,
}

/// The upgrade under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeView {
    /// What people call it.
    pub label: String,
    /// Its plan, if it has one.
    pub plan: Option<Plan>,
    /// The program before.
    pub from: String,
    /// The program it brings.
    pub to: String,
    /// When it fired.
    pub fired_at: WallMs,
    /// The step under way.
    pub step: Step,
    /// The steps so far.
    pub steps: Vec<Mark>,
    /// Why it goes back, if it does.
    pub failure: Option<String>,
    /// What probation still waits for.
    pub waiting_for: Vec<String>,
    /// It waits for the operator to start the new program.
    pub held: bool,
    /// It can still be called off.
    pub can_cancel: bool,
}

impl Engine {
    /// The picture as of `now`.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            at: now.wall,
            version: self.target.to_string(),
            node: self.node_view(now),
            chain: self.chain_view(now),
            plans: self.plan_views(now),
            plan_problem: self.plans.problem.clone(),
            upgrade: self.upgrade_view(now),
            last_upgrade: self.last_upgrade.as_deref().cloned(),
            pins: self.pins.clone(),
            alerts: self.alerts.iter().map(|(kind, text)| ((*kind).to_owned(), text.clone())).collect(),
            stuck: self.stuck.clone(),
            upgrades_enabled: self.settings.upgrade.enabled,
            shutting_down: self.shutdown,
        }
    }

    fn node_view(&self, now: Now) -> NodeView {
        let wall = |at: MonoMs| {
            if at >= now.mono {
                now.wall.after(at.since(now.mono))
            } else {
                WallMs(now.wall.0.saturating_sub(now.mono.0 - at.0))
            }
        };
        let (state, starts_at) = match &self.node.process {
            Process::Down if self.node_failed.is_some() => (NodeState::Failed, None),
            Process::Down => (NodeState::Stopped, None),
            Process::Waiting { until, .. } => (NodeState::Waiting, Some(wall(*until))),
            Process::Launching(_) => (NodeState::Starting, None),
            Process::Up(_) => (NodeState::Running, None),
            Process::Stopping { .. } => (NodeState::Stopping, None),
        };
        let up: Option<&Up> = self.node.up();
        NodeView {
            state,
            pid: up.map(|up| up.pid),
            version: up.and_then(|up| up.target.as_ref()).map(ToString::to_string),
            client_version: self.reference.client_version.clone().filter(|_| up.is_some()),
            since: up.map(|up| wall(up.since)),
            answering: up.is_some() && self.heights.answered_at().is_some(),
            adopted: up.is_some_and(|up| up.adopted),
            args: self.line.args.clone(),
            restarts: self.restarts.used(),
            max_restarts: self.settings.node.max_restarts,
            starts_at,
            last_exit: self.last_exit.clone(),
        }
    }

    fn chain_view(&self, now: Now) -> ChainView {
        let seen = self.heights.head();
        let sources = self.sources.iter().enumerate().map(|(place, source)| SourceView {
            address: source.address.clone(),
            followed: self.heights.followed() == Some(place),
            failure: self.heights.failures().get(place).cloned().flatten(),
        });
        ChainView {
            head: seen.map(|seen| seen.head.height),
            hash: seen.and_then(|seen| seen.head.hash),
            seen_at: seen.map(|seen| seen.at.wall),
            highest: self.heights.highest(),
            still_ms: self.heights.still_for(now.mono).map(millis),
            lag_ms: self.heights.lag().map(millis).or(self.reference.lag_ms),
            block_time_ms: self.heights.block_time().map(millis),
            chain_id: self.reference.chain_id,
            sources: sources.collect(),
        }
    }

    fn plan_views(&self, now: Now) -> Vec<PlanView> {
        let head = self.heights.head().map(|seen| seen.head.height);
        let view = |scheduled: &super::plans::Scheduled| {
            let fires_at = firing_height(&scheduled.plan, self.stagger);
            PlanView {
                plan: scheduled.plan.clone(),
                fires_at,
                blocks_left: fires_at.zip(head).map(|(fires, head)| fires.saturating_sub(head)),
                expected_at: fires_at.and_then(|height| self.heights.expected_at(height, now)),
                readiness: scheduled.check.clone(),
                ready: scheduled.check.as_ref().map(Check::is_ready),
                blocked: scheduled.blocked.clone(),
                refused: scheduled.refused,
                pinned: self.pins.iter().any(|pin| pin.name == scheduled.plan.name),
            }
        };
        self.plans.scheduled.iter().map(view).collect()
    }

    fn upgrade_view(&self, now: Now) -> Option<UpgradeView> {
        let under_way = self.upgrade.as_ref()?;
        let order = &under_way.upgrade.switchover;
        let waiting_for = match self.probation().map(|probation| probation.verdict(&self.limits(), now.mono))
        {
            Some(Verdict::Pending(missing) | Verdict::Stalled(missing)) => {
                missing.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        Some(UpgradeView {
            label: order.label(),
            plan: order.plan.clone(),
            from: order.from.to_string(),
            to: order.to.to_string(),
            fired_at: order.at,
            step: under_way.step(),
            steps: under_way.upgrade.marks.clone(),
            failure: under_way.upgrade.failure.clone(),
            waiting_for,
            held: under_way.held,
            can_cancel: self.can_cancel(),
        })
    }
}
