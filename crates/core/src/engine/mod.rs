//! The engine: one state, one input at a time, and what follows from it.
//!
//! [`Engine::handle`] takes what happened and returns a [`Decision`]: entries that must be durable, then
//! effects. Everything the supervisor does begins here and nowhere else. The caller works on a clone and
//! keeps it only when the entries were written: what could not be written down has not been decided.
//!
//! The parts: [`node`] keeps the process (one at most), `heights` and `questions` hear what it says, `plans` keeps the
//! schedule and its readiness, `saga` drives the upgrade along the table of [`crate::upgrade`] and `outcome` ends it,
//! `orders` answers people, `alerts` and [`snapshot`] tell how it stands, `surroundings` looks at what others change,
//! `boot` finds the way back in after the supervisor itself was gone.

mod alerts;
mod boot;
mod heights;
pub mod node;
mod orders;
mod outcome;
mod plans;
pub mod port;
mod questions;
mod saga;
pub mod snapshot;
mod surroundings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

pub use boot::{Boot, LastExit, RunningNode};
use node::{Node, Overdue};
use port::{
    Decision, Effect, Entry, ExitWith, Facts, HistoryEntry, Input, Launch, LineOverride, Order, Pin, Source,
};

use crate::command_line::CommandLine;
use crate::exit::{ExitClass, NodeExit, classify};
use crate::head::Height;
use crate::height::HeightView;
use crate::probation::Reference;
use crate::restart::{Restart, RestartHistory, RestartLimits};
use crate::settings::Settings;
use crate::target::Target;
use crate::time::{MonoMs, Now, millis};
use plans::PlanBook;
use questions::PROBE_EVERY;
use saga::UnderWay;

/// Everything the supervisor knows and decides from.
#[derive(Debug, Clone)]
pub struct Engine {
    settings: Arc<Settings>,
    sources: Arc<Vec<Source>>,
    /// The command line the supervisor was given for the node.
    given_line: CommandLine,
    /// The one the node is started with.
    line: CommandLine,
    /// Where `current` points.
    target: Target,
    node: Node,
    restarts: RestartHistory,
    /// Set when the restart budget is used up: why the node does not run.
    node_failed: Option<String>,
    last_exit: Option<NodeExit>,
    heights: HeightView,
    /// Since when the node that runs has answered.
    answering_since: MonoMs,
    reference: Reference,
    /// The node has the `istanbul_*` methods: a WBFT client.
    is_wbft: bool,
    plans: PlanBook,
    upgrade: Option<UnderWay>,
    /// An upgrade's journal that cannot be followed: nothing is done in its name.
    stuck: Option<String>,
    last_upgrade: Option<Arc<HistoryEntry>>,
    /// The upgrade that led to the present program.
    last_committed: Option<Arc<HistoryEntry>>,
    pins: Vec<Pin>,
    last_id: u64,
    /// A number of this node's own, for the stagger of windows and restarts.
    stagger: u64,
    probe: Probe,
    /// When the home is looked at next.
    look_at: MonoMs,
    poll_every: Duration,
    alerts: BTreeMap<&'static str, String>,
    shutdown: bool,
    /// The program on the disk is to go on in this supervisor's place.
    giving_way: bool,
    /// The supervisor has been told to end; nothing is decided any more.
    ended: bool,
    /// A restart that was ordered: the node is to be started when it is down.
    restart_ordered: bool,
    /// The node ended while a plan's program was being verified: what follows waits for that.
    unsettled: Option<Ending>,
    /// When the supervisor began, for the silence of sources that never spoke.
    started: MonoMs,
    /// When something was heard last.
    heard_at: MonoMs,
}

/// An end of the node that the restart policy has to judge.
#[derive(Debug, Clone, PartialEq)]
struct Ending {
    class: ExitClass,
    /// `None`: it never ran.
    uptime: Option<Duration>,
    why: String,
}

/// The rounds of questions to the node.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probe {
    asking: bool,
    next: MonoMs,
}

impl Engine {
    /// Takes in one input and decides what follows.
    pub fn handle(&mut self, input: Input, now: Now) -> Decision {
        let mut out = Decision::default();
        self.clear("store_failed", &mut out);
        if !self.ended {
            self.hear(now, &mut out);
            self.take_in(input, now, &mut out);
            self.progress(now, &mut out);
        }
        out
    }

    fn take_in(&mut self, input: Input, now: Now, out: &mut Decision) {
        match input {
            Input::Tick => {}
            Input::Head { source, head } => self.head_told(source, head, now, out),
            Input::SourceFailed { source, reason } => self.heights.failed(source, reason),
            Input::SourceRecovered { source } => self.heights.recovered(source),
            Input::Plans(read) => self.plans_read(read, now, out),
            Input::Checked { name, check } => self.plan_checked(&name, check, now, out),
            Input::Verified { target, result } => self.verified(&target, result, now, out),
            Input::NodeUp { launch, pid } => self.node_up(launch, pid, now, out),
            Input::LaunchFailed { launch, reason } => self.launch_failed(launch, &reason, now, out),
            Input::NodeExited { launch, exit } => self.node_exited(launch, exit, now, out),
            Input::Work(sample) => self.node.worked(sample, now.mono),
            Input::HookEnded { run, result } => self.hook_ended(run, result, now, out),
            Input::Switched { target, result } => self.switched(target, result, now, out),
            Input::Observed { launch, round } => self.observed(launch, &round, now, out),
            Input::Sealing(answer) => self.node.sealing(&answer, now.mono, out),
            Input::Surroundings(found) => self.looked_around(found, now, out),
            Input::Order { ticket, order } => self.order(ticket, order, now, out),
            Input::PlansEdited { ticket, result, message } => {
                self.plans_edited(ticket, result, message, now, out)
            }
            Input::Shutdown => self.shut_down(now, out),
        }
    }

    /// What is due by time alone, and what has become possible.
    fn progress(&mut self, now: Now, out: &mut Decision) {
        if self.giving_way {
            self.ended = true;
            out.entries.push(Entry::Facts(Box::new(self.facts())));
            out.effects.push(Effect::Exit(ExitWith::Successor));
            return;
        }
        if let Some(overdue) = self.node.tick(&self.settings.clone(), now.mono, out) {
            self.stop_overdue(overdue, now, out);
        }
        self.saga_progress(now, out);
        self.plans_progress(now, out);
        self.probe_progress(now, out);
        self.watch_heights(now, out);
        self.set_pace(now, out);
        self.look_around(now, out);
        if self.shutdown && !self.node.has_process() && !self.ended {
            self.ended = true;
            out.entries.push(Entry::Facts(Box::new(self.facts())));
            let class = self.last_exit.as_ref().map(classify);
            let code = match (&self.last_exit, class) {
                (Some(exit), Some(class)) if class != ExitClass::Asked => ExitWith::Node(exit.status),
                _ => ExitWith::Success,
            };
            out.effects.push(Effect::Exit(code));
        }
    }

    /// The next moment at which something is due by time alone.
    pub fn next_wake(&self, now: Now) -> Option<MonoMs> {
        let probing = (self.node.is_serving() && !self.probe.asking).then_some(self.probe.next);
        [
            self.node.next_wake(&self.settings),
            self.saga_next_wake(now),
            self.plans_next_wake(now),
            probing,
            self.silence_due_at(),
            self.next_look(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn node_up(&mut self, launch: u64, pid: u32, now: Now, out: &mut Decision) {
        if !self.node.is_up(launch, pid, now.mono) {
            return;
        }
        self.node_failed = None;
        self.clear("node_down", out);
        self.clear("stop_overdue", out);
        self.clear("arguments", out);
        let program = self
            .node
            .up()
            .and_then(|up| up.target.clone())
            .map_or_else(String::new, |target| target.to_string());
        self.event(
            out,
            "node",
            "node_started",
            format!("the node runs ({program}, pid {pid})"),
            json!({ "pid": pid, "version": program }),
        );
        out.effects.push(Effect::SourcesUp);
        self.probe.next = now.mono.after(PROBE_EVERY);
        self.saga_node_up(now, out);
        if self.shutdown || !self.node.wanted {
            self.stop_node(false, now, out);
        } else if self.restart_ordered {
            self.stop_node(true, now, out);
        }
    }

    fn launch_failed(&mut self, launch: u64, reason: &str, now: Now, out: &mut Decision) {
        if !self.node.is_launching(launch) {
            return;
        }
        self.node.is_down(launch, now.mono);
        self.event(
            out,
            "node",
            "node_start_failed",
            format!("the node could not be started: {reason}"),
            json!({}),
        );
        let why = format!("could not be started: {reason}");
        if !self.shutdown && !self.saga_node_down(&why, now, out) {
            self.restart_ordered = false;
            self.restart_if_wanted(Ending { class: ExitClass::Loader, uptime: None, why }, now, out);
        }
    }

    fn node_exited(&mut self, launch: u64, exit: NodeExit, now: Now, out: &mut Decision) {
        let Some(uptime) = self.node.is_down(launch, now.mono) else { return };
        let class = classify(&exit);
        let text = exit.describe();
        let uptime_ms = uptime.map(millis);
        let data =
            json!({ "class": class, "status": exit.status, "uptime_ms": uptime_ms, "tail": exit.tail });
        self.event(out, "node", "node_stopped", format!("the node {text}"), data);
        self.last_exit = Some(exit);
        self.heights.interrupted(now.mono);
        self.probe.asking = false;
        out.entries.push(Entry::Facts(Box::new(self.facts())));
        out.effects.push(Effect::SourcesDown);
        if self.shutdown || self.saga_stopped_before(class, now, out) || self.saga_node_down(&text, now, out)
        {
            return;
        }
        if self.restart_ordered {
            self.restart_ordered = false;
            self.start_node(now, out);
        } else {
            self.restart_if_wanted(Ending { class, uptime, why: text }, now, out);
        }
    }

    fn restart_if_wanted(&mut self, ending: Ending, now: Now, out: &mut Decision) {
        if !self.node.wanted {
            return;
        }
        // An end at the last block of the old rules may be what a plan waits for.
        self.plans_progress(now, out);
        if self.plans.verifying.is_some() {
            self.unsettled = Some(ending);
        } else {
            self.restart_by_policy(ending, now, out);
        }
    }

    fn restart_by_policy(&mut self, ending: Ending, now: Now, out: &mut Decision) {
        let Ending { class, uptime, why } = ending;
        let node = &self.settings.node;
        let limits = RestartLimits {
            enabled: node.restart_on_failure,
            max_restarts: node.max_restarts,
            period: node.restart_period,
            healthy_uptime: node.healthy_uptime,
        };
        match self.restarts.ended(&limits, class, uptime, now.mono, self.stagger ^ now.wall.0) {
            Restart::After(delay) => {
                let text = format!("the node {why}; it is started again in {:.1} s", delay.as_secs_f64());
                self.raise("node_down", text, out);
                self.start_node_after(delay, now, out);
            }
            Restart::GiveUp if !limits.enabled => {
                self.ended = true;
                let status =
                    self.last_exit.as_ref().map_or(crate::exit::WaitStatus::Unknown, |exit| exit.status);
                out.effects.push(Effect::Exit(ExitWith::Node(status)));
            }
            Restart::GiveUp => {
                let text = format!(
                    "the node is down and not started again: {} restarts within {} s did not help. Last: the node {why}. \
                     Mend the cause, then: wemixvisor restart",
                    limits.max_restarts,
                    limits.period.as_secs()
                );
                self.node_failed = Some(why);
                self.raise("node_down", text, out);
            }
        }
    }

    fn start_node(&mut self, now: Now, out: &mut Decision) {
        self.start_node_after(Duration::ZERO, now, out);
    }

    fn start_node_after(&mut self, delay: Duration, now: Now, out: &mut Decision) {
        let (target, line) = (self.target.clone(), self.line.clone());
        self.launch(target, line, None, delay, now, out);
    }

    fn launch(
        &mut self,
        target: Target,
        line: CommandLine,
        sha256: Option<String>,
        delay: Duration,
        now: Now,
        out: &mut Decision,
    ) {
        let launch = Launch { launch: self.next_id(now), target, line, sha256 };
        // Before there is a node: its arguments are known to whoever finds it.
        out.entries.push(Entry::Facts(Box::new(self.facts())));
        let floor = self.settings.restart_floor();
        self.node.start(launch, delay, floor, now.mono, out);
    }

    /// Stops the node; where a moment may be chosen, at the one that suits the client (NODES.md 5 and 6).
    fn stop_node(&mut self, at_its_moment: bool, now: Now, out: &mut Decision) {
        let moment = match (at_its_moment && self.settings.validator, self.is_wbft) {
            (false, _) => node::Moment::Now,
            (true, true) => node::Moment::FreshHead,
            (true, false) => node::Moment::NotSealing,
        };
        self.node.stop(moment, self.settings.node.stop_moment_limit, now.mono, out);
    }

    fn stop_overdue(&mut self, overdue: Overdue, _now: Now, out: &mut Decision) {
        self.raise("stop_overdue", overdue.describe(), out);
    }

    fn shut_down(&mut self, now: Now, out: &mut Decision) {
        self.shutdown = true;
        self.node.wanted = false;
        self.stop_node(false, now, out);
    }

    fn facts(&self) -> Facts {
        let line = (self.line != self.given_line)
            .then(|| LineOverride { given: self.given_line.clone(), line: self.line.clone() });
        Facts {
            last_id: self.last_id,
            reference: self.reference_below(u64::MAX),
            block_time_ms: self.heights.block_time().map(millis),
            line,
            given: Some(self.given_line.clone()),
            plans: self.plans.known(),
        }
    }

    /// A number that was never used before, in this life or an earlier one.
    fn next_id(&mut self, now: Now) -> u64 {
        self.last_id = (self.last_id + 1).max(now.wall.0);
        self.last_id
    }

    fn reply(out: &mut Decision, ticket: u64, result: Result<String, port::Refused>) {
        out.effects.push(Effect::Reply { ticket, result });
    }

    /// New settings are in force from now on. What needs a restart of the node is said by the caller.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = Arc::new(settings);
    }

    /// Where `current` points, as far as the engine knows.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The process id of the node, if it runs.
    pub fn node_pid(&self) -> Option<u32> {
        self.node.up().map(|up| up.pid)
    }

    /// The head as last seen.
    pub fn head(&self) -> Option<Height> {
        self.heights.head().map(|seen| seen.head.height)
    }

    /// The estimated time between two blocks, in milliseconds.
    pub fn block_time_ms(&self) -> Option<u64> {
        self.heights.block_time().map(millis)
    }

    /// Other sources are asked from now on; the node was started with other addresses.
    pub fn set_sources(&mut self, sources: Vec<Source>) {
        self.heights.sources_changed(sources.len());
        self.sources = Arc::new(sources);
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn order(&mut self, ticket: u64, order: Order, now: Now, out: &mut Decision) {
        if let Some(result) = self.ordered(ticket, order, now, out) {
            Self::reply(out, ticket, result);
        }
    }
}
