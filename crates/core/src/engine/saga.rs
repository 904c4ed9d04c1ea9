//! Drives the upgrade along its table: begins steps, hears how they ended, writes down both.

use std::time::Duration;

use serde_json::json;

use super::port::{Decision, Effect, Entry, Verified};
use super::questions::BEAT;
use super::{Boot, Engine};
use crate::command_line::CommandLine;
use crate::exit::ExitClass;
use crate::observation::Observation;
use crate::plan::{Plan, PlanName, SwitchMode};
use crate::probation::{Expectation, Probation, Verdict};
use crate::target::Target;
use crate::time::{MonoMs, Now, WallMs, millis};
use crate::trigger::Why;
use crate::upgrade::{Ended, MAX_STARTS, Next, Record, Step, Switchover, Upgrade, next};

/// A link that cannot be pointed back is tried again after this time, then after twice as long each time, up to
/// [`BACK_SWITCH_RETRY_MOST`].
const BACK_SWITCH_RETRY: Duration = Duration::from_secs(5);

/// Each try is a line of the journal; a disk that stays read-only must not fill it.
const BACK_SWITCH_RETRY_MOST: Duration = Duration::from_secs(300);

/// The upgrade under way and what of it lives in memory only.
#[derive(Debug, Clone, PartialEq)]
pub struct UnderWay {
    pub(super) upgrade: Upgrade,
    pub(super) probation: Option<Probation>,
    /// The run of the step's hook that is waited for. It ends with the step: no hook outlives what it was run for.
    hook: Option<u64>,
    /// After the switch the operator is waited for.
    pub(super) held: bool,
    /// How often the link could not be pointed back.
    barred: u32,
    /// The step's effect is to be tried (again) then.
    pub(super) retry_at: Option<MonoMs>,
    /// Since when no node runs, while none does.
    pub(super) down_at: Option<WallMs>,
    /// How long none ran so far, in milliseconds, where that is known.
    pub(super) down_ms: Option<u64>,
}

impl UnderWay {
    pub(super) fn new(upgrade: Upgrade) -> Self {
        Self {
            upgrade,
            probation: None,
            hook: None,
            held: false,
            barred: 0,
            retry_at: None,
            down_at: None,
            down_ms: None,
        }
    }

    /// One that a supervisor comes back to. How long no node has run is told by the end that the keeper saw.
    pub(super) fn resumed(upgrade: Upgrade, boot: &Boot, now: Now) -> Self {
        let ended = boot.last_exit.as_ref().map(|last| (last.launch, millis(last.ago)));
        let new_runs = matches!(upgrade.step, Step::Start | Step::Probation | Step::PostUpgrade);
        let (mut down_at, mut down_ms) = (None, None);
        match (ended, &boot.running) {
            (Some((_, ago)), None) => down_at = Some(WallMs(now.wall.0.saturating_sub(ago))),
            (Some((launch, ago)), Some(node)) if node.launch > launch && new_runs => {
                down_ms = Some(ago.saturating_sub(millis(node.uptime)));
            }
            _ => {}
        }
        Self { down_at, down_ms, ..Self::new(upgrade) }
    }

    pub(super) fn step(&self) -> Step {
        self.upgrade.step
    }

    pub(super) fn name(&self) -> Option<&PlanName> {
        self.upgrade.switchover.plan.as_ref().map(|plan| &plan.name)
    }

    pub(super) fn is_for(&self, name: &PlanName) -> bool {
        self.name() == Some(name)
    }

    /// The step is left: a hook of it that still runs is ended.
    pub(super) fn end_hook(&mut self, out: &mut Decision) {
        if let Some(run) = self.hook.take() {
            out.effects.push(Effect::EndHook { run });
        }
    }

    pub(super) fn was_ordered(&self) -> bool {
        self.upgrade.switchover.why == Why::Ordered
    }
}

impl Engine {
    /// The program is in place and verified: the upgrade begins.
    #[expect(clippy::too_many_arguments, reason = "all of it is recorded")]
    pub(super) fn fire(
        &mut self,
        to: Target,
        plan: Option<Plan>,
        why: Why,
        verified: Verified,
        ticket: Option<u64>,
        now: Now,
        out: &mut Decision,
    ) {
        let id = self.next_id(now);
        let height = plan.as_ref().map_or(u64::MAX, |plan| plan.height);
        let mut to_line = match (&plan, &self.last_upgrade) {
            // What a plan's arguments replaced comes back with the program they replaced it for.
            (None, Some(last)) if self.line != self.given_line => last.from_line.clone(),
            _ => self.line.clone(),
        };
        if let Some(plan) = &plan {
            if let Some(args) = &plan.args {
                to_line.args = args.iter().map(|arg| arg.as_str().into()).collect();
            }
            to_line.env.extend(plan.env.clone());
        }
        let reference = self.reference_below(height);
        let expectation = self.expectation(plan.as_ref(), &verified);
        let switchover = Switchover {
            id,
            why,
            from: self.target.clone(),
            to,
            from_line: self.line.clone(),
            to_line,
            sha256: verified.sha256,
            head: self.heights.head().map(|seen| seen.head),
            reference,
            expectation,
            block_time_ms: self.heights.block_time().map(millis),
            hooks: verified.hooks,
            at: now.wall,
            plan,
        };
        let label = switchover.label();
        if let Some(name) = switchover.plan.as_ref().map(|plan| plan.name.clone())
            && let Some(scheduled) =
                self.plans.scheduled.iter_mut().find(|scheduled| scheduled.plan.name == name)
        {
            scheduled.blocked = None;
        }
        let at = match (switchover.head, self.reference.head) {
            (Some(head), _) => format!("head {}", head.height),
            (None, Some(before)) => format!("head {before}, as it was last seen"),
            (None, None) => "an unknown head".into(),
        };
        let data = json!({ "name": label, "height": height, "head": switchover.head, "why": switchover.why });
        self.event(out, "upgrades", "upgrade_triggered", format!("upgrade {label} begins at {at}"), data);
        out.entries
            .push(Entry::Journal { upgrade: id, record: Record::Triggered(Box::new(switchover.clone())) });
        if let Some(ticket) = ticket {
            Self::reply(
                out,
                ticket,
                Ok(format!("upgrade {label} has begun; follow it with: wemixvisor upgrade status")),
            );
        }
        (self.restart_ordered, self.unsettled) = (false, None);
        let upgrade = Upgrade::new(switchover);
        let first = upgrade.step;
        self.upgrade = Some(UnderWay::new(upgrade));
        self.begin(first, now, out);
    }

    fn expectation(&self, plan: Option<&Plan>, verified: &Verified) -> Expectation {
        let said = self.reference.client_version.as_deref();
        // `version` and `web3_clientVersion` need not agree in every fork. Where they do for the program that
        // runs, they are expected to for the next one.
        let comparable = match (said, &verified.present_version) {
            (Some(said), Some(present)) => said.contains(present.as_str()),
            _ => false,
        };
        let by_itself = verified.version.clone().filter(|_| comparable);
        Expectation {
            version: plan.and_then(|plan| plan.expect_version.clone()).or(by_itself),
            own_seal: self.settings.validator && self.is_wbft,
            halted_chain: plan.is_some_and(|plan| plan.switch == SwitchMode::Halted),
        }
    }

    /// Writes down that the step begins, then has it done.
    pub(super) fn begin(&mut self, step: Step, now: Now, out: &mut Decision) {
        let Some(under_way) = &mut self.upgrade else { return };
        let record = Record::Started { step };
        // The table only leads where the fold can follow; a test walks every path.
        if let Err(damaged) = under_way.upgrade.apply(&record, now.wall) {
            self.get_stuck(damaged.to_string(), out);
            return;
        }
        under_way.retry_at = None;
        under_way.end_hook(out);
        let (id, label) = (under_way.upgrade.switchover.id, under_way.upgrade.switchover.label());
        out.entries.push(Entry::Journal { upgrade: id, record });
        let data = json!({ "name": label, "step": step, "state": "started" });
        self.event(out, "upgrades", "upgrade_step", format!("{label}: {step}"), data);
        self.act(now, out);
    }

    /// Does what the current step is for. Harmless when repeated.
    pub(super) fn act(&mut self, now: Now, out: &mut Decision) {
        let Some(under_way) = &self.upgrade else { return };
        let order = under_way.upgrade.switchover.clone();
        match under_way.step() {
            step @ (Step::PreStop | Step::PreUpgrade | Step::PostUpgrade) => {
                let run = self.next_id(now);
                if let Some(under_way) = &mut self.upgrade {
                    under_way.hook = Some(run);
                }
                let plan = order.plan.as_ref();
                out.effects.push(Effect::RunHook {
                    run,
                    step,
                    name: order.label(),
                    height: plan.map_or(0, |plan| plan.height),
                    info: plan.and_then(|plan| plan.info.description.clone()).unwrap_or_default(),
                    target: order.to,
                });
            }
            Step::Stop if self.node.has_process() => self.stop_node(true, now, out),
            Step::BackStop if self.node.has_process() => self.stop_node(false, now, out),
            Step::Stop | Step::BackStop => {
                self.stop_node(false, now, out);
                self.end(Ended::Done(Some("no node was running".into())), now, out);
            }
            Step::Switch => out.effects.push(Effect::SwitchLink(order.to)),
            Step::BackSwitch => out.effects.push(Effect::SwitchLink(order.from)),
            Step::Start if !self.settings.upgrade.restart_after_upgrade => {
                if let Some(under_way) = &mut self.upgrade {
                    under_way.held = true;
                }
                let text = format!(
                    "upgrade {}: the link is switched; restart_after_upgrade = false, so the new program waits for: \
                     wemixvisor start",
                    order.label()
                );
                self.raise("held", text, out);
            }
            Step::Start => self.start_new(now, out),
            Step::BackStart => {
                self.node.wanted = true;
                self.launch(order.from, order.from_line, None, Duration::ZERO, now, out);
            }
            Step::Probation => self.begin_probation(order.expectation.clone(), now),
            Step::BackProbation => self.begin_probation(Expectation::default(), now),
        }
    }

    pub(super) fn start_new(&mut self, now: Now, out: &mut Decision) {
        let Some(under_way) = &mut self.upgrade else { return };
        under_way.held = false;
        let Switchover { to, to_line, sha256, .. } = under_way.upgrade.switchover.clone();
        let delay = self.settings.upgrade.restart_delay;
        self.clear("held", out);
        // An upgrade that was ordered for a node at rest ends its rest.
        self.node.wanted = true;
        self.launch(to, to_line, Some(sha256), delay, now, out);
    }

    fn begin_probation(&mut self, expectation: Expectation, now: Now) {
        let up = self.node.up().map(|up| (up.since, up.adopted));
        if let Some(under_way) = &mut self.upgrade {
            let running = now.wall.since(under_way.upgrade.proving_since);
            let since = match up {
                Some((since, false)) => since,
                _ => MonoMs(now.mono.0.saturating_sub(millis(running))),
            };
            let order = &under_way.upgrade.switchover;
            let block_time = order.block_time_ms.map(Duration::from_millis);
            under_way.probation =
                Some(Probation::begin(order.reference.clone(), expectation, block_time, since));
        }
        self.probe.next = now.mono;
    }

    /// Writes down how the current step ended, and goes where the table leads.
    pub(super) fn end(&mut self, ended: Ended, now: Now, out: &mut Decision) {
        // A step that ends while the supervisor is told to go is done again by the next one.
        if self.shutdown {
            return;
        }
        let Some(under_way) = &mut self.upgrade else { return };
        let step = under_way.step();
        let record = match &ended {
            Ended::Done(note) => Record::Done { step, note: note.clone() },
            Ended::Failed(reason) => Record::Failed { step, reason: reason.clone() },
        };
        let applied = under_way.upgrade.apply(&record, now.wall);
        let following = next(&under_way.upgrade, &ended);
        let (id, label) = (under_way.upgrade.switchover.id, under_way.upgrade.switchover.label());
        under_way.probation = None;
        under_way.held = false;
        let (Ok(()), Some(following)) = (applied, following) else {
            self.get_stuck(format!("upgrade {label}: \"{step}\" cannot end with {ended:?}"), out);
            return;
        };
        out.entries.push(Entry::Journal { upgrade: id, record });
        let (state, text) = match &ended {
            Ended::Done(Some(note)) => ("done", format!("{label}: {step}: done ({note})")),
            Ended::Done(None) => ("done", format!("{label}: {step}: done")),
            Ended::Failed(reason) => ("failed", format!("{label}: {step}: failed: {reason}")),
        };
        self.event(
            out,
            "upgrades",
            "upgrade_step",
            text,
            json!({ "name": label, "step": step, "state": state }),
        );
        self.took_effect(step, &ended);
        match following {
            Next::Go(step) => {
                if step.is_back() && !matches!(ended, Ended::Done(_)) {
                    let text = format!("upgrade {label} failed and is rolled back: {}", self.failure());
                    self.event(out, "upgrades", "upgrade_failed", text, json!({ "name": label }));
                }
                self.begin(step, now, out);
            }
            Next::Again => {
                let text =
                    format!("upgrade {label}: the way back is barred and tried again: {}", self.failure());
                self.raise("rollback_barred", text, out);
                if let Some(under_way) = &mut self.upgrade {
                    under_way.barred += 1;
                    let pause = BACK_SWITCH_RETRY * 2_u32.pow(under_way.barred.min(16) - 1);
                    under_way.retry_at = Some(now.mono.after(pause.min(BACK_SWITCH_RETRY_MOST)));
                }
            }
            Next::Finish(outcome) => self.finish(outcome, now, out),
        }
    }

    fn failure(&self) -> String {
        self.upgrade.as_ref().map_or_else(String::new, |under_way| under_way.upgrade.reason())
    }

    /// Keeps the engine's own view in line with what the step has changed.
    fn took_effect(&mut self, step: Step, ended: &Ended) {
        let Some(under_way) = &self.upgrade else { return };
        let order = &under_way.upgrade.switchover;
        if let (Step::Switch, Ended::Done(_)) = (step, ended) {
            self.target = order.to.clone();
            self.line = order.to_line.clone();
        }
        if let (Step::BackSwitch, Ended::Done(_)) = (step, ended) {
            self.target = order.from.clone();
            self.line = order.from_line.clone();
        }
    }

    pub(super) fn saga_node_up(&mut self, now: Now, out: &mut Decision) {
        let Some(under_way) = &mut self.upgrade else { return };
        if let Some(down_at) = under_way.down_at.take() {
            let gap = now.wall.0.saturating_sub(down_at.0);
            under_way.down_ms = Some(under_way.down_ms.unwrap_or(0) + gap);
        }
        if matches!(under_way.step(), Step::Start | Step::BackStart) {
            self.end(Ended::Done(None), now, out);
        } else if under_way.step() == Step::Stop {
            // It was being started as the upgrade began.
            self.act(now, out);
        }
    }

    /// The new program ended because the last supervisor had told it to, on its own way out: that says nothing
    /// about it, so it is started again. Returns whether that was so.
    pub(super) fn saga_stopped_before(&mut self, class: ExitClass, now: Now, out: &mut Decision) -> bool {
        let proving = |under_way: &UnderWay| matches!(under_way.step(), Step::Probation | Step::PostUpgrade);
        let stopped = class == ExitClass::Asked && self.upgrade.as_ref().is_some_and(proving);
        if stopped && !self.too_many_starts() {
            self.begin(Step::Start, now, out);
            return true;
        }
        false
    }

    /// The node is down. Returns whether that belongs to the upgrade under way.
    pub(super) fn saga_node_down(&mut self, why: &str, now: Now, out: &mut Decision) -> bool {
        let Some(under_way) = &mut self.upgrade else { return false };
        under_way.down_at = under_way.down_at.or(Some(now.wall));
        match under_way.step() {
            Step::PreStop => {}
            Step::Stop | Step::BackStop => self.end(Ended::Done(Some(format!("it {why}"))), now, out),
            Step::Start | Step::Probation | Step::PostUpgrade | Step::BackStart | Step::BackProbation => {
                self.end(Ended::Failed(format!("it {why}")), now, out);
            }
            Step::PreUpgrade | Step::Switch | Step::BackSwitch => {}
        }
        true
    }

    pub(super) fn hook_ended(
        &mut self,
        run: u64,
        result: Result<String, String>,
        now: Now,
        out: &mut Decision,
    ) {
        // Another run's end, of an upgrade that was called off, says nothing about the one that is waited for.
        let Some(under_way) = self.upgrade.as_mut().filter(|under_way| under_way.hook == Some(run)) else {
            return;
        };
        under_way.hook = None;
        match result {
            Ok(note) => self.end(Ended::Done(Some(note).filter(|note| !note.is_empty())), now, out),
            Err(_)
                if under_way.step() == Step::PreUpgrade
                    && under_way.upgrade.tries < self.settings.hooks.pre_upgrade_retries =>
            {
                under_way.upgrade.tries += 1;
                self.act(now, out);
            }
            Err(reason) => self.end(Ended::Failed(reason), now, out),
        }
    }

    pub(super) fn switched(
        &mut self,
        target: Target,
        result: Result<(), String>,
        now: Now,
        out: &mut Decision,
    ) {
        let Some(under_way) = &self.upgrade else { return };
        let expected = matches!(under_way.step(), Step::Switch | Step::BackSwitch)
            && *under_way.upgrade.program() == target;
        if expected {
            let ended = result.map_or_else(Ended::Failed, |()| Ended::Done(None));
            self.end(ended, now, out);
        }
    }

    pub(super) fn probation(&self) -> Option<&Probation> {
        self.upgrade.as_ref()?.probation.as_ref()
    }

    pub(super) fn saga_observed(&mut self, round: &Observation, now: Now, out: &mut Decision) {
        let limits = self.limits();
        if let Some(probation) = self.upgrade.as_mut().and_then(|under_way| under_way.probation.as_mut()) {
            probation.observe(round, &limits, now);
        }
        self.judge(now, out);
    }

    pub(super) fn saga_head(&mut self, now: Now, out: &mut Decision) {
        let limits = self.limits();
        let head = self.heights.head();
        let probation = self.upgrade.as_mut().and_then(|under_way| under_way.probation.as_mut());
        if let (Some(probation), Some(seen)) = (probation, head) {
            probation.head_seen(seen.head, &limits, now);
            self.judge(now, out);
        }
    }

    fn judge(&mut self, now: Now, out: &mut Decision) {
        let limits = self.limits();
        let Some(probation) = self.probation() else { return };
        match probation.verdict(&limits, now.mono) {
            Verdict::Pending(_) => {}
            Verdict::Passed => {
                let skipped = probation.skipped();
                let note = (!skipped.is_empty())
                    .then(|| format!("not supported here, skipped: {}", skipped.join(", ")));
                self.end(Ended::Done(note), now, out);
            }
            Verdict::Failed(fault) => self.end(Ended::Failed(fault.to_string()), now, out),
            Verdict::Stalled(missing) => {
                let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
                let text = format!(
                    "the new program runs but the chain does not go on; still missing: {}. The old program halts at this \
                     height by its own rules, so it is not gone back to by itself. To go back: wemixvisor upgrade rollback",
                    missing.join(", ")
                );
                self.raise_once("stalled", text, out);
            }
        }
    }

    /// What is due by time alone.
    pub(super) fn saga_progress(&mut self, now: Now, out: &mut Decision) {
        if self.shutdown {
            return;
        }
        self.judge(now, out);
        if self.upgrade.as_ref().is_some_and(|under_way| under_way.retry_at.is_some_and(|at| at <= now.mono))
        {
            let step = self.upgrade.as_ref().map(UnderWay::step);
            if let Some(step) = step {
                self.begin(step, now, out);
            }
        }
    }

    pub(super) fn saga_next_wake(&self, now: Now) -> Option<MonoMs> {
        let under_way = self.upgrade.as_ref()?;
        let limits = self.limits();
        let clocks = under_way.probation.as_ref().map(|probation| probation.deadline(&limits));
        // A clock that has run out without an end (a chain that stands still) is looked at with every answer.
        let later = clocks.filter(|at| *at > now.mono);
        let beat = under_way.probation.as_ref().map(|_| self.heard_at.after(BEAT));
        under_way.retry_at.into_iter().chain(later).chain(beat).min()
    }

    /// The journal says what cannot be: nothing is done in its name, and the node is left alone.
    pub(super) fn get_stuck(&mut self, why: String, out: &mut Decision) {
        let text = format!(
            "the upgrade cannot be followed any further: {why}. Nothing more is done by itself; the node is left as it \
             is. See: wemixvisor upgrade status"
        );
        self.raise("stuck", text, out);
        self.stuck = Some(why);
        if let Some(mut under_way) = self.upgrade.take() {
            under_way.end_hook(out);
        }
    }

    /// A new program that has been started too often in one upgrade is given up.
    pub(super) fn too_many_starts(&self) -> bool {
        self.upgrade.as_ref().is_some_and(|under_way| under_way.upgrade.starts >= MAX_STARTS)
    }

    /// The line the node is started with after this outcome.
    pub(super) fn line_given_or(&self, over: Option<&super::LineOverride>) -> CommandLine {
        match over {
            Some(over) if over.given == self.given_line => over.line.clone(),
            _ => self.given_line.clone(),
        }
    }
}
