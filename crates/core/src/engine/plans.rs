//! The schedule: which plans wait, whether they are ready, and which one is due.

use std::time::Duration;

use serde_json::json;

use super::port::{Decision, Effect, Entry, PlanEdit, RefusalCode, Refused, Verified};
use super::{Engine, node};
use crate::exit::{ExitClass, classify};
use crate::head::Height;
use crate::plan::{Plan, PlanName, SwitchMode};
use crate::readiness::Check;
use crate::settings::Late;
use crate::target::Target;
use crate::time::{MonoMs, Now};
use crate::trigger::{Situation, Why, due, firing_height, stands_before};

/// A plan that is not ready is looked at again so often: what it lacks may be put there any moment.
const NOT_READY_RECHECK: Duration = Duration::from_secs(10);

/// A plan file that is bad for less than this is being written at the moment: nobody needs to hear of it.
const BAD_FILE_TOLD_AFTER: Duration = Duration::from_millis(500);

/// So many plans are named in one alert.
const TOLD_AT_ONCE: usize = 3;

/// A due plan whose program failed its verification is tried again so often.
const BLOCKED_RETRY: Duration = Duration::from_secs(5);

/// The plans of the plan file, as last read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanBook {
    /// In order of height.
    pub scheduled: Vec<Scheduled>,
    /// Why the file as it stands cannot be used, if so. What was read before stays in force.
    pub problem: Option<String>,
    /// Since when.
    pub problem_since: MonoMs,
    /// Plans that were carried out: found again, they are not run again.
    pub finished: Vec<(PlanName, Height)>,
    /// The plans that the last supervisor read, until this one has read the file.
    told_before: Option<Vec<Plan>>,
    /// Finished plans that still stand in the file, and were told of.
    told_finished: Vec<Plan>,
    /// A verification under way.
    pub verifying: Option<Verifying>,
}

/// A waiting plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// The plan.
    pub plan: Plan,
    /// Its last preparation.
    pub check: Option<Check>,
    /// Why it did not fire although it was due.
    pub blocked: Option<String>,
    /// The head was once seen below its height: it is not late.
    pub seen_below: bool,
    /// It came too late, and such plans are refused.
    pub refused: bool,
    /// The order whose change of this plan is being written: until that is answered the plan does not fire.
    pub(super) edited_by: Option<u64>,
    checking: bool,
    check_at: MonoMs,
    retry_at: MonoMs,
}

/// A verification under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Verifying {
    pub(super) target: Target,
    pub(super) plan: Option<Plan>,
    pub(super) why: Why,
    pub(super) ticket: Option<u64>,
    /// It was ordered otherwise in the meantime.
    called_off: bool,
}

impl PlanBook {
    /// Nothing read yet; `told_before` is what the last supervisor read.
    pub(super) fn new(finished: Vec<(PlanName, Height)>, told_before: Vec<Plan>) -> Self {
        Self { finished, told_before: Some(told_before), ..Self::default() }
    }

    /// The plans whose events were recorded.
    pub(super) fn known(&self) -> Vec<Plan> {
        let read = || self.scheduled.iter().map(|scheduled| scheduled.plan.clone()).collect();
        self.told_before.clone().unwrap_or_else(read)
    }

    /// The plan of this name.
    pub fn get(&self, name: &PlanName) -> Option<&Scheduled> {
        self.scheduled.iter().find(|scheduled| scheduled.plan.name == *name)
    }

    fn get_mut(&mut self, name: &PlanName) -> Option<&mut Scheduled> {
        self.scheduled.iter_mut().find(|scheduled| scheduled.plan.name == *name)
    }

    /// An order changes this plan: it does not fire before the change is written.
    pub(super) fn hold_for(&mut self, ticket: u64, name: &PlanName) {
        if let Some(scheduled) = self.get_mut(name) {
            scheduled.edited_by = Some(ticket);
        }
        if let Some(verifying) = &mut self.verifying {
            verifying.called_off |= verifying.plan.as_ref().is_some_and(|plan| plan.name == *name);
        }
    }

    /// The change is written, or could not be.
    pub(super) fn release(&mut self, ticket: u64) {
        for scheduled in &mut self.scheduled {
            scheduled.edited_by.take_if(|by| *by == ticket);
        }
    }

    fn is_finished(&self, plan: &Plan) -> bool {
        self.finished.iter().any(|(name, height)| *name == plan.name && *height == plan.height)
    }
}

impl Engine {
    pub(super) fn plans_read(&mut self, read: Result<Vec<Plan>, String>, now: Now, out: &mut Decision) {
        self.take_plans(read, now, out);
        self.cancel_if_unplanned(now, out);
    }

    /// Takes over the plans as the file has them now.
    pub(super) fn take_plans(&mut self, read: Result<Vec<Plan>, String>, now: Now, out: &mut Decision) {
        let mut plans = match read {
            Ok(plans) => plans,
            Err(problem) => {
                if self.plans.problem.is_none() {
                    self.plans.problem_since = now.mono;
                }
                self.plans.problem = Some(problem);
                return;
            }
        };
        self.plans.problem = None;
        self.clear("plan_file", out);
        plans.sort_by_key(|plan| plan.height);
        let told = self.plans.known();
        self.plans.told_before = None;
        let before = std::mem::take(&mut self.plans.scheduled);
        self.plans.told_finished.retain(|finished| plans.contains(finished));
        for gone in told.iter().filter(|old| !plans.iter().any(|plan| plan.name == old.name)) {
            let name = &gone.name;
            let own = self.upgrade.as_ref().is_some_and(|under_way| under_way.is_for(name));
            if !own && !self.plans.is_finished(gone) {
                self.plan_event(
                    out,
                    "upgrade_cancelled",
                    gone,
                    format!("upgrade {name} is off the schedule"),
                );
            }
        }
        for plan in plans {
            let old = before.iter().find(|old| old.plan.name == plan.name);
            if let Some(same) = old.filter(|old| old.plan == plan) {
                self.plans.scheduled.push(same.clone());
                continue;
            }
            let under_way = self.upgrade.as_ref().is_some_and(|under_way| under_way.is_for(&plan.name));
            let runs = self.target == Target::Upgrade(plan.name.clone()) && !under_way;
            if self.plans.is_finished(&plan) || runs {
                self.drop_finished(&plan, out);
                continue;
            }
            let news = match told.iter().find(|told| told.name == plan.name) {
                Some(told) if *told == plan => None,
                Some(_) => Some(("upgrade_updated", "changed")),
                None => Some(("upgrade_scheduled", "scheduled")),
            };
            if let Some((kind, verb)) = news {
                let text =
                    format!("upgrade {} {verb}: height {}, switch {}", plan.name, plan.height, plan.switch);
                self.plan_event(out, kind, &plan, text);
            }
            self.plans.scheduled.push(Scheduled {
                plan,
                check: None,
                blocked: None,
                seen_below: false,
                refused: false,
                edited_by: None,
                checking: false,
                check_at: now.mono,
                retry_at: now.mono,
            });
        }
        if self.plans.known() != told {
            out.entries.push(Entry::Facts(Box::new(self.facts())));
        }
        self.refresh_readiness_alert(out);
    }

    /// The programs of these plans were replaced: what was found out about them no longer holds.
    pub(super) fn prepare_again(&mut self, names: &[PlanName], now: Now) {
        for scheduled in &mut self.plans.scheduled {
            if names.contains(&scheduled.plan.name) {
                scheduled.check_at = now.mono;
            }
        }
    }

    pub(super) fn plan_checked(&mut self, name: &PlanName, check: Check, now: Now, out: &mut Decision) {
        let interval = self.settings.upgrade.prepare_interval;
        let Some(scheduled) = self.plans.get_mut(name) else { return };
        scheduled.checking = false;
        let ready = check.is_ready();
        let again = if ready { interval } else { interval.min(NOT_READY_RECHECK) };
        scheduled.check_at = now.mono.after(again);
        let news = scheduled
            .check
            .as_ref()
            .is_none_or(|old| old.problems() != check.problems() || old.sha256 != check.sha256);
        scheduled.check = Some(check.clone());
        let plan = scheduled.plan.clone();
        if ready {
            // What stood in the way may be gone: no need to wait for the next retry.
            scheduled.retry_at = now.mono;
        }
        // Of the one that is being carried out it is no news; of one that was changed meanwhile it is.
        let under_way =
            self.upgrade.as_ref().and_then(|under_way| under_way.upgrade.switchover.plan.as_ref());
        if news && under_way != Some(&plan) {
            let (kind, text) = if ready {
                let sum = check.sha256.as_ref().map_or_else(String::new, |sum| format!(" (sha256 {sum})"));
                ("upgrade_ready", format!("upgrade {name} is ready for height {}{sum}", plan.height))
            } else {
                let problems = check.problems().join("; ");
                ("upgrade_not_ready", format!("upgrade {name} is not ready: {problems}"))
            };
            self.plan_event(out, kind, &plan, text);
        }
        self.refresh_readiness_alert(out);
    }

    /// One alert for all plans that are not ready; gone when all are.
    fn refresh_readiness_alert(&mut self, out: &mut Decision) {
        let lacking: Vec<_> = self
            .plans
            .scheduled
            .iter()
            .filter_map(|scheduled| {
                let check = scheduled.check.as_ref().filter(|check| !check.is_ready())?;
                Some(format!(
                    "upgrade {} (height {}) is not ready: {}",
                    scheduled.plan.name,
                    scheduled.plan.height,
                    check.problems().join("; ")
                ))
            })
            .collect();
        if lacking.is_empty() {
            self.clear("not_ready", out);
        } else {
            let more = lacking.len().saturating_sub(TOLD_AT_ONCE);
            let mut text = lacking[..lacking.len() - more].join(" | ");
            if more > 0 {
                text.push_str(&format!(" | and {more} more"));
            }
            self.raise("not_ready", text, out);
        }
    }

    /// Checks that are due, then the first plan that is due.
    pub(super) fn plans_progress(&mut self, now: Now, out: &mut Decision) {
        if self.shutdown {
            return;
        }
        for scheduled in &mut self.plans.scheduled {
            if !scheduled.checking && scheduled.check_at <= now.mono {
                scheduled.checking = true;
                out.effects.push(Effect::Prepare(Box::new(scheduled.plan.clone())));
            }
        }
        if let Some(problem) = &self.plans.problem
            && now.mono.since(self.plans.problem_since) >= BAD_FILE_TOLD_AFTER
        {
            let text = format!("the plan file cannot be used, the last good plans stay in force: {problem}");
            self.raise("plan_file", text, out);
        }
        let blocked = self.plans.scheduled.iter().any(|scheduled| scheduled.blocked.is_some());
        if !blocked {
            self.clear("blocked", out);
        }
        if !self.plans.scheduled.iter().any(|scheduled| scheduled.refused) {
            self.clear("refused_late", out);
        }
        if self.upgrade.is_some()
            || self.stuck.is_some()
            || self.plans.verifying.is_some()
            || !self.node.wanted
        {
            return;
        }
        let situation = self.situation();
        match self.first_due(&situation, now, out) {
            Some((plan, _)) if !self.settings.upgrade.enabled => {
                let text = format!(
                    "upgrade {} is due (height {}) but upgrades are switched off (upgrade.enabled = false): nothing is done",
                    plan.name, plan.height
                );
                self.raise_once("disabled", text, out);
            }
            Some((plan, _)) if self.alerts.contains_key("store_gone") => {
                self.block(&plan, "state.db is not in its place, see the other alert", now, out);
            }
            found => {
                self.clear("disabled", out);
                if let Some((plan, why)) = found {
                    self.verify(Some(plan), None, why, None, out);
                }
            }
        }
        self.watch_standstill(&situation, out);
    }

    fn first_due(&mut self, situation: &Situation, now: Now, out: &mut Decision) -> Option<(Plan, Why)> {
        let mut refused = None;
        let mut pinned = None;
        let mut found = None;
        let seen_now = self.heights.highest().is_some();
        for scheduled in &mut self.plans.scheduled {
            let situation = Situation { late: !scheduled.seen_below, ..*situation };
            let Some(why) = due(&scheduled.plan, &situation) else {
                // Only a head of this life counts: what an earlier one saw does not say when the height passed.
                scheduled.seen_below |= seen_now;
                continue;
            };
            if scheduled.refused {
                continue;
            }
            if let Some(pin) = self.pins.iter().find(|pin| is_pinned(pin, scheduled)) {
                pinned = Some((scheduled.plan.clone(), pin.reason.clone()));
                continue;
            }
            if why == Why::Late && self.settings.upgrade.late == Late::Refuse {
                scheduled.refused = true;
                refused = Some(scheduled.plan.clone());
                continue;
            }
            // In order of height: a plan that is due and blocked holds the later ones.
            let may = scheduled.retry_at <= now.mono && scheduled.edited_by.is_none();
            found = may.then(|| (scheduled.plan.clone(), why));
            break;
        }
        if let Some(plan) = refused {
            let text = format!(
                "upgrade {name}: height {} had passed when it was first seen, and upgrade.late = \"refuse\": it is not \
                 carried out. To do it now: wemixvisor upgrade apply {name}",
                plan.height,
                name = plan.name
            );
            self.raise("refused_late", text, out);
        }
        match pinned {
            Some((Plan { name, height, .. }, reason)) => {
                let text = format!(
                    "upgrade {name} is due (height {height}) but its program is pinned as bad ({reason}): it is not \
                     carried out. When it is mended: wemixvisor upgrade apply {name} --force; else: wemixvisor upgrade \
                     cancel {name}"
                );
                self.raise_once("pinned", text, out);
            }
            None => self.clear("pinned", out),
        }
        found
    }

    fn situation(&self) -> Situation {
        let remembered = self.reference.head;
        let by_itself = |exit| !matches!(classify(exit), ExitClass::Asked | ExitClass::Killed);
        Situation {
            highest: self.heights.highest().max(remembered),
            head: self.heights.head().map(|seen| seen.head.height).or(remembered),
            still_for: self.seen_still_for(),
            went_down: self.last_exit.as_ref().is_some_and(by_itself)
                && !self.node.has_process()
                && self.node.wanted,
            stall_time: self.settings.upgrade.stall_time,
            stagger: self.stagger,
            late: false,
        }
    }

    /// How long the head was seen to stand still: from the node's first answer, or its last block, to its last
    /// answer. What happens while nobody answers is not known.
    fn seen_still_for(&self) -> Option<Duration> {
        let answered = self.heights.answered_at().filter(|_| self.node.is_serving())?;
        let answering = answered.since(self.answering_since);
        Some(self.heights.still_for(answered)?.min(answering))
    }

    fn watch_standstill(&mut self, situation: &Situation, out: &mut Decision) {
        match self.plans.scheduled.iter().find(|scheduled| stands_before(&scheduled.plan, situation)) {
            Some(scheduled) => {
                let Plan { name, height, .. } = &scheduled.plan;
                let text = format!(
                    "the head stands still at {}, the last block before upgrade {name} (height {height}): this program \
                     probably cannot make or accept block {height}, so \"switch\": \"at\" will never fire. To switch now: \
                     wemixvisor upgrade apply {name}; for the next one use \"switch\": \"halted\" or \"before\"",
                    height - 1
                );
                self.raise_once("stands_before_height", text, out);
            }
            None => self.clear("stands_before_height", out),
        }
    }

    /// Has the program verified once more; the answer fires the upgrade.
    pub(super) fn verify(
        &mut self,
        plan: Option<Plan>,
        to: Option<Target>,
        why: Why,
        ticket: Option<u64>,
        out: &mut Decision,
    ) {
        let Some(target) = to.or_else(|| plan.as_ref().map(|plan| Target::Upgrade(plan.name.clone()))) else {
            return;
        };
        out.effects.push(Effect::Verify { target: target.clone(), plan: plan.clone().map(Box::new) });
        self.plans.verifying = Some(Verifying { target, plan, why, ticket, called_off: false });
    }

    pub(super) fn verified(
        &mut self,
        target: &Target,
        result: Result<Verified, String>,
        now: Now,
        out: &mut Decision,
    ) {
        let Some(verifying) = self.plans.verifying.take_if(|verifying| verifying.target == *target) else {
            return;
        };
        let Verifying { plan, why, ticket, called_off, .. } = verifying;
        // The plan may have been taken back while its program was looked at.
        let still_wanted = ticket.is_some()
            || plan
                .as_ref()
                .is_some_and(|plan| self.plans.get(&plan.name).is_some_and(|now| now.plan == *plan));
        if self.shutdown || self.upgrade.is_some() || called_off || !still_wanted {
            if let Some(ticket) = ticket {
                let message = "the state changed meanwhile; see: wemixvisor status".to_owned();
                Self::reply(out, ticket, Err(Refused { code: RefusalCode::Conflict, message }));
            }
            self.start_unless_busy(now, out);
            return;
        }
        match result {
            Ok(verified) => self.fire(target.clone(), plan, why, verified, ticket, now, out),
            Err(problem) => {
                if let Some(ticket) = ticket {
                    let message = format!("the node was not stopped: {problem}");
                    Self::reply(out, ticket, Err(Refused { code: RefusalCode::NotReady, message }));
                } else if let Some(plan) = &plan {
                    self.block(plan, &problem, now, out);
                }
                // The first start may have waited for this upgrade.
                self.start_unless_busy(now, out);
            }
        }
    }

    fn block(&mut self, plan: &Plan, problem: &str, now: Now, out: &mut Decision) {
        let Some(scheduled) = self.plans.get_mut(&plan.name) else { return };
        scheduled.blocked = Some(problem.to_owned());
        scheduled.retry_at = now.mono.after(BLOCKED_RETRY);
        let text = format!(
            "upgrade {} is due (height {}) but cannot be carried out: {problem}. The old program keeps running; the \
             upgrade happens as soon as this is mended",
            plan.name, plan.height
        );
        self.raise("blocked", text, out);
    }

    fn drop_finished(&mut self, plan: &Plan, out: &mut Decision) {
        if !self.plans.told_finished.contains(plan) {
            self.plans.told_finished.push(plan.clone());
            let text =
                format!("upgrade {} was carried out already: its plan is taken off the file", plan.name);
            self.plan_event(out, "upgrade_already_done", plan, text);
        }
        out.effects.push(Effect::EditPlans { ticket: None, edit: PlanEdit::finished(plan) });
    }

    /// How long until the next plan fires, as far as it can be told.
    pub(super) fn time_to_next_plan(&self, now: Now) -> Option<Duration> {
        let head = self.heights.head()?.head.height;
        self.plans
            .scheduled
            .iter()
            .filter_map(|scheduled| {
                let mut firing = firing_height(&scheduled.plan, self.stagger)?;
                if scheduled.plan.switch == SwitchMode::Halted {
                    firing -= 1;
                }
                if firing <= head {
                    return Some(Duration::ZERO);
                }
                self.heights.expected_at(firing, now).map(|at| at.since(now.wall))
            })
            .min()
    }

    pub(super) fn plans_next_wake(&self, now: Now) -> Option<MonoMs> {
        if self.shutdown {
            return None;
        }
        let checks = self.plans.scheduled.iter().filter(|plan| !plan.checking).map(|plan| plan.check_at);
        let retries =
            self.plans.scheduled.iter().filter(|plan| plan.blocked.is_some()).map(|plan| plan.retry_at);
        let later = |at: &MonoMs| *at > now.mono;
        let bad_file =
            self.plans.problem.as_ref().map(|_| self.plans.problem_since.after(BAD_FILE_TOLD_AFTER));
        checks.chain(retries.filter(later)).chain(bad_file.filter(later)).min()
    }

    /// A plan taken out of the file, or changed in it, before the old program is stopped cancels its upgrade.
    fn cancel_if_unplanned(&mut self, now: Now, out: &mut Decision) {
        let Some(under_way) = self.upgrade.as_ref().filter(|under_way| !under_way.was_ordered()) else {
            return;
        };
        let Some(plan) = &under_way.upgrade.switchover.plan else { return };
        let reason = match self.plans.get(&plan.name) {
            None => "its plan was taken off the schedule",
            Some(scheduled) if scheduled.plan != *plan => "its plan was changed",
            Some(_) => return,
        };
        if self.can_cancel() {
            self.cancel_upgrade(reason, now, out);
        }
    }

    /// Whether the upgrade under way can still be called off: the old program has not been told to stop.
    pub(super) fn can_cancel(&self) -> bool {
        let before_stop = self.upgrade.as_ref().is_some_and(|under_way| !under_way.step().past_the_stop());
        before_stop && matches!(self.node.process, node::Process::Up(_))
    }

    pub(super) fn plan_event(&self, out: &mut Decision, kind: &str, plan: &Plan, text: String) {
        self.event(out, "upgrades", kind, text, json!({ "name": plan.name, "height": plan.height }));
    }
}

/// Whether this plan's program is the one that was pinned: a mended program under the same name is not.
fn is_pinned(pin: &super::port::Pin, scheduled: &Scheduled) -> bool {
    let same_program =
        scheduled.check.as_ref().and_then(|check| check.sha256.as_ref()).is_none_or(|sha| *sha == pin.sha256);
    pin.name == scheduled.plan.name && same_program
}
