//! The way back in: what a starting supervisor finds, and how it goes on from there.

use std::sync::Arc;
use std::time::Duration;

use super::node::{Node, Up};
use super::plans::PlanBook;
use super::port::{Decision, Effect, Facts, HistoryEntry, Pin, Source};
use super::saga::UnderWay;
use super::{Engine, Probe};
use crate::command_line::CommandLine;
use crate::exit::{ExitClass, NodeExit, classify};
use crate::head::Height;
use crate::height::HeightView;
use crate::plan::{Plan, PlanName};
use crate::restart::RestartHistory;
use crate::settings::Settings;
use crate::target::Target;
use crate::time::{MonoMs, Now, WallMs, millis};
use crate::upgrade::{Ended, Folded, Record, Step, Upgrade, fold};

/// Everything a starting supervisor has found.
#[derive(Debug, Clone)]
pub struct Boot {
    /// The settings.
    pub settings: Settings,
    /// The sources, in order.
    pub sources: Vec<Source>,
    /// The command line given for the node.
    pub given_line: CommandLine,
    /// Where `current` points.
    pub target: Target,
    /// The node that runs already, if one does.
    pub running: Option<RunningNode>,
    /// The end of the last node that the keeper saw, if it has seen one.
    pub last_exit: Option<LastExit>,
    /// The records of the newest upgrade; empty when there never was one.
    pub journal: Result<Vec<(Record, WallMs)>, String>,
    /// The plan file.
    pub plans: Result<Vec<Plan>, String>,
    /// The pinned versions.
    pub pins: Vec<Pin>,
    /// The plans that were carried out.
    pub finished: Vec<(PlanName, Height)>,
    /// The newest entry of the history.
    pub last_upgrade: Option<HistoryEntry>,
    /// Its newest entry that was committed.
    pub last_committed: Option<HistoryEntry>,
    /// What the last supervisor left.
    pub facts: Facts,
    /// A number of this node's own.
    pub stagger: u64,
}

/// A node that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningNode {
    /// Which start.
    pub launch: u64,
    /// Its process id.
    pub pid: u32,
    /// Which program; `None` for one that is not of this home.
    pub target: Option<Target>,
    /// How long it has run.
    pub uptime: Duration,
    /// It has been sent its SIGTERM: it is about to end.
    pub term_sent: bool,
}

/// The end of the last node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// Which start.
    pub launch: u64,
    /// Which program it was.
    pub target: Option<Target>,
    /// How it ended.
    pub exit: NodeExit,
    /// How long ago.
    pub ago: Duration,
}

impl Boot {
    /// The highest number known to have been given. The facts may have been lost, and the wall clock set back.
    fn newest_id(&self) -> u64 {
        let journal = self.journal.iter().flatten().filter_map(|(record, _)| match record {
            Record::Triggered(order) => Some(order.id),
            _ => None,
        });
        let told = self.last_upgrade.as_ref().map(|entry| entry.id);
        let ended = self.last_exit.as_ref().map(|last| last.launch);
        journal.chain(told).chain(ended).fold(self.facts.last_id, u64::max)
    }
}

impl Engine {
    /// Makes the engine from what was found, and decides what comes first.
    pub fn boot(boot: Boot, now: Now) -> (Self, Decision) {
        let mut out = Decision::default();
        let mut engine = Self::from_findings(&boot, now);
        let line = engine.line_given_or(boot.facts.line.as_ref());
        if boot.facts.line.is_some() && line == engine.given_line {
            let text =
                "the node's arguments were changed: those of the last plan are no longer used".to_owned();
            engine.event(&mut out, "system", "arguments_changed", text, serde_json::json!({}));
        }
        engine.line = line;
        if let (Some(_), Some(before)) = (&boot.running, &boot.facts.given)
            && *before != engine.given_line
        {
            let text = "the node that runs was started with other arguments than this supervisor was given: the new ones \
                        are used from its next start on. If that is not meant: wemixvisor stop, then start with the \
                        right ones"
                .to_owned();
            engine.raise("arguments", text, &mut out);
        }
        let boot_plans = boot.plans.clone();
        let folded = match &boot.journal {
            Err(problem) => Err(problem.clone()),
            Ok(records) if records.is_empty() => Ok(None),
            Ok(records) => fold(records.iter().map(|(record, at)| (record, *at)))
                .map(Some)
                .map_err(|damaged| damaged.to_string()),
        };
        engine.recall_failure(&mut out);
        if let Some(running) = &boot.running {
            engine.adopt(running, now, &mut out);
        }
        match folded {
            Err(problem) => {
                engine.get_stuck(problem, &mut out);
                engine.plans_read(boot_plans, now, &mut out);
            }
            Ok(Some(Folded::Open(upgrade))) => {
                engine.upgrade = Some(UnderWay::resumed(*upgrade, &boot, now));
                // The file may lack the plan that is being carried out; that cancels nothing after a restart.
                engine.take_plans(boot_plans, now, &mut out);
                engine.resume(&boot, now, &mut out);
            }
            Ok(_) => engine.plans_read(boot_plans, now, &mut out),
        }
        engine.restart_ordered =
            engine.upgrade.is_none() && boot.running.as_ref().is_some_and(|running| running.term_sent);
        engine.progress(now, &mut out);
        engine.start_unless_busy(now, &mut out);
        (engine, out)
    }

    fn from_findings(boot: &Boot, now: Now) -> Self {
        let block_time = boot.facts.block_time_ms.map(Duration::from_millis);
        let mut node = Node::default();
        // The floor after the last end holds across supervisors.
        let floor = boot.settings.restart_floor();
        let recent = boot.last_exit.as_ref().filter(|last| last.ago < floor);
        node.ended_at = recent.map(|last| MonoMs(now.mono.0.saturating_sub(millis(last.ago))));
        Self {
            poll_every: boot.settings.heights.poll_interval,
            settings: Arc::new(boot.settings.clone()),
            heights: HeightView::new(boot.sources.len(), block_time),
            sources: Arc::new(boot.sources.clone()),
            given_line: boot.given_line.clone(),
            line: boot.given_line.clone(),
            target: boot.target.clone(),
            node,
            restarts: RestartHistory::default(),
            node_failed: None,
            last_exit: None,
            answering_since: now.mono,
            reference: boot.facts.reference.clone(),
            is_wbft: false,
            plans: PlanBook::new(boot.finished.clone(), boot.facts.plans.clone()),
            upgrade: None,
            stuck: None,
            last_upgrade: boot.last_upgrade.clone().map(Arc::new),
            last_committed: boot.last_committed.clone().map(Arc::new),
            pins: boot.pins.clone(),
            last_id: boot.newest_id(),
            stagger: boot.stagger,
            probe: Probe { asking: false, next: now.mono },
            look_at: now.mono,
            alerts: Default::default(),
            shutdown: false,
            giving_way: false,
            ended: false,
            restart_ordered: false,
            unsettled: None,
            started: now.mono,
            heard_at: now.mono,
        }
    }

    fn adopt(&mut self, running: &RunningNode, now: Now, out: &mut Decision) {
        let since = MonoMs(now.mono.0.saturating_sub(millis(running.uptime)));
        let text = format!("the node runs already (pid {}) and is taken over", running.pid);
        self.event(out, "node", "node_adopted", text, serde_json::json!({ "pid": running.pid }));
        self.last_id = self.last_id.max(running.launch);
        self.node.adopt(Up {
            launch: running.launch,
            pid: running.pid,
            target: running.target.clone(),
            since,
            adopted: true,
            stop_wanted: None,
        });
        if running.term_sent {
            // A stop that the last supervisor did not see to its end: bounded as any other, then a new start.
            self.stop_node(false, now, out);
        }
        out.effects.push(Effect::SourcesUp);
    }

    /// Starts the node unless it runs, an upgrade will, or one is about to fire before the first start.
    pub(super) fn start_unless_busy(&mut self, now: Now, out: &mut Decision) {
        let unsettled = self.unsettled.take();
        let idle = self.upgrade.is_none() && self.plans.verifying.is_none() && self.node_failed.is_none();
        if idle && self.node.wanted && self.node.process == super::node::Process::Down && !self.shutdown {
            match unsettled {
                Some(ending) => self.restart_by_policy(ending, now, out),
                None => self.start_node(now, out),
            }
        }
    }

    /// Goes on with an upgrade in the middle of which the supervisor ended.
    fn resume(&mut self, boot: &Boot, now: Now, out: &mut Decision) {
        let Some(upgrade) = self.upgrade.as_ref().map(|under_way| under_way.upgrade.clone()) else { return };
        let step = upgrade.step;
        self.line = match step {
            Step::Start | Step::Probation | Step::PostUpgrade | Step::BackStop => {
                upgrade.switchover.to_line.clone()
            }
            _ => upgrade.switchover.from_line.clone(),
        };
        let text = format!(
            "upgrade {} goes on where the last supervisor left it: {step}",
            upgrade.switchover.label()
        );
        self.event(out, "upgrades", "upgrade_resumed", text, serde_json::json!({ "step": step }));
        let begun = upgrade.marks.last().is_some_and(|mark| mark.step == step);
        let over = begun && upgrade.marks.last().is_some_and(|mark| mark.ended.is_some());
        if !begun || over {
            // Nothing was begun, or a step ended without its successor: both are begun (again), harmlessly.
            self.begin_again(&upgrade, boot, now, out);
            return;
        }
        self.go_on(&upgrade, boot, now, out);
    }

    fn begin_again(&mut self, upgrade: &Upgrade, boot: &Boot, now: Now, out: &mut Decision) {
        if boot.running.is_none() || !upgrade.step.past_the_stop() {
            self.begin(upgrade.step, now, out);
        } else {
            self.go_on(upgrade, boot, now, out);
        }
    }

    fn go_on(&mut self, upgrade: &Upgrade, boot: &Boot, now: Now, out: &mut Decision) {
        let order = &upgrade.switchover;
        let runs = boot.running.as_ref();
        let runs_the = |program: &Target| runs.is_some_and(|node| node.target.as_ref() == Some(program));
        let stranger = |engine: &mut Self, out: &mut Decision| {
            let found = runs
                .and_then(|node| node.target.as_ref())
                .map_or("an unknown program".into(), ToString::to_string);
            engine.get_stuck(format!("{found} runs during \"{}\"", upgrade.step), out);
        };
        match upgrade.step {
            Step::PreStop | Step::BackStop => self.act(now, out),
            Step::Stop if runs.is_none() || runs_the(&order.from) => self.act(now, out),
            Step::PreUpgrade | Step::Switch | Step::BackSwitch if runs.is_none() => self.act(now, out),
            Step::Start if runs_the(&order.to) => self.end(Ended::Done(None), now, out),
            // Written down, because it is not done for ever.
            Step::Probation if runs_the(&order.to) => self.begin(Step::Probation, now, out),
            Step::PostUpgrade if runs_the(&order.to) => self.act(now, out),
            // The operator is still waited for, and waiting is no start.
            Step::Start if runs.is_none() && !self.settings.upgrade.restart_after_upgrade => {
                self.act(now, out)
            }
            Step::Start | Step::Probation | Step::PostUpgrade if runs.is_none() => {
                self.new_program_down(boot, now, out)
            }
            Step::BackStart if runs_the(&order.from) => self.end(Ended::Done(None), now, out),
            Step::BackProbation if runs_the(&order.from) => self.begin(Step::BackProbation, now, out),
            Step::BackStart | Step::BackProbation if runs.is_none() => self.begin(Step::BackStart, now, out),
            _ => stranger(self, out),
        }
    }

    /// The new program does not run: it ended by itself (a failure), or everything went down with the
    /// supervisor (it is started again, so often).
    fn new_program_down(&mut self, boot: &Boot, now: Now, out: &mut Decision) {
        let Some(under_way) = &self.upgrade else { return };
        let order = &under_way.upgrade.switchover;
        let its_own = boot.last_exit.as_ref().filter(|last| {
            last.target.as_ref() == Some(&order.to)
                && last.launch > order.id
                && !matches!(classify(&last.exit), ExitClass::Asked | ExitClass::Killed | ExitClass::Unknown)
        });
        if let Some(last) = its_own {
            let reason = format!("it {}", last.exit.describe());
            self.end(Ended::Failed(reason), now, out);
        } else if self.too_many_starts() {
            let reason =
                format!("it was started {} times and never proved itself", crate::upgrade::MAX_STARTS);
            self.end(Ended::Failed(reason), now, out);
        } else {
            self.begin(Step::Start, now, out);
        }
    }
}
