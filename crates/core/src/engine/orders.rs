//! What people may order, and what they are told when it is refused.

use super::port::{Decision, Effect, Entry, Order, PlanEdit, RefusalCode, Refused};
use super::{Engine, node};
use crate::near::{did_you_mean, near};
use crate::plan::{Plan, PlanName};
use crate::target::Target;
use crate::time::Now;
use crate::trigger::{Why, firing_height};
use crate::upgrade::{Ended, Outcome, Step};

/// The answer to an order: at once, or later by the effect that carries its ticket.
type Answered = Option<Result<String, Refused>>;

fn refuse(code: RefusalCode, message: impl Into<String>) -> Answered {
    Some(Err(Refused { code, message: message.into() }))
}

fn done(message: impl Into<String>) -> Answered {
    Some(Ok(message.into()))
}

impl Engine {
    pub(super) fn ordered(&mut self, ticket: u64, order: Order, now: Now, out: &mut Decision) -> Answered {
        if self.shutdown || self.giving_way {
            return refuse(RefusalCode::Conflict, "the supervisor is about to end: nothing new is begun");
        }
        match order {
            Order::Schedule { plan, force } => self.schedule(ticket, *plan, force, out),
            Order::Cancel(name) => self.cancel(ticket, &name, now, out),
            Order::Apply { name, force } => self.apply(ticket, &name, force, out),
            Order::Retry(name) => self.retry(ticket, &name, out),
            Order::Rollback => self.roll_back(ticket, now, out),
            Order::StartNode => self.start_ordered(now, out),
            Order::StopNode => self.stop_ordered(now, out),
            Order::RestartNode => self.restart_ordered(now, out),
            Order::ReplaceSupervisor => self.replace_ordered(),
        }
    }

    /// Recovery goes on at every step; only a hook, which is a person's, is not cut off and run twice for it.
    fn replace_ordered(&mut self) -> Answered {
        let running = self.upgrade.as_ref().filter(|under_way| {
            matches!(under_way.step(), Step::PreStop | Step::PreUpgrade | Step::PostUpgrade)
        });
        if let Some(under_way) = running {
            let message = format!(
                "a hook of upgrade {} runs ({}) and would have to be run again; try it when it is over",
                under_way.upgrade.switchover.label(),
                under_way.step()
            );
            return refuse(RefusalCode::Conflict, message);
        }
        self.giving_way = true;
        let node = if self.node.has_process() { "the node runs on" } else { "no node runs" };
        done(format!("the supervisor gives its place to its program as it is on the disk; {node}"))
    }

    fn schedule(&mut self, ticket: u64, plan: Plan, force: bool, out: &mut Decision) -> Answered {
        let Plan { name, height, switch, .. } = &plan;
        if self.upgrade.as_ref().is_some_and(|under_way| under_way.is_for(name)) {
            return refuse(
                RefusalCode::Conflict,
                format!("upgrade {name} is being carried out now: it cannot be changed"),
            );
        }
        if self.target == Target::Upgrade(name.clone()) {
            return refuse(RefusalCode::Conflict, format!("{name} is the version that runs already"));
        }
        if let Some(other) =
            self.plans.scheduled.iter().find(|other| other.plan.height == *height && other.plan.name != *name)
        {
            let message = format!(
                "height {height} is taken by upgrade {other}; cancel that first: wemixvisor upgrade cancel {other}",
                other = other.plan.name
            );
            return refuse(RefusalCode::Conflict, message);
        }
        if self.plans.finished.iter().any(|(done, at)| done == name && at == height) {
            let message = format!(
                "upgrade {name} at height {height} was carried out already; to try it again: wemixvisor upgrade retry {name}"
            );
            return refuse(RefusalCode::Conflict, message);
        }
        if let Some(refusal) = self.refuse_pinned(name, force) {
            return refusal;
        }
        let head = self.heights.highest().max(self.reference.head).unwrap_or(0);
        if !force && firing_height(&plan, self.stagger).is_some_and(|firing| firing <= head) {
            let reached = match *height <= head {
                true => format!("height {height} has passed"),
                false => format!("switch {switch} at height {height} would fire at once"),
            };
            let message = format!(
                "{reached} (the head is at {head}); to upgrade at once, put the plan in with --force, or give a height \
                 to come"
            );
            return refuse(RefusalCode::Conflict, message);
        }
        self.unpin(name.clone(), out);
        self.plans.hold_for(ticket, name);
        out.effects.push(Effect::EditPlans { ticket: Some(ticket), edit: PlanEdit::Put(Box::new(plan)) });
        None
    }

    fn cancel(&mut self, ticket: u64, name: &PlanName, now: Now, out: &mut Decision) -> Answered {
        if self.upgrade.as_ref().is_some_and(|under_way| under_way.is_for(name)) {
            if !self.can_cancel() {
                let message = format!(
                    "upgrade {name} is past the stop of the old program: it runs to its end; to go back: wemixvisor upgrade \
                     rollback"
                );
                return refuse(RefusalCode::Conflict, message);
            }
            self.cancel_upgrade("a person called it off", now, out);
        } else if self.plans.get(name).is_none() {
            return Some(Err(self.unknown(name)));
        }
        self.plans.hold_for(ticket, name);
        out.effects.push(Effect::EditPlans { ticket: Some(ticket), edit: PlanEdit::Remove(name.clone()) });
        None
    }

    fn apply(&mut self, ticket: u64, name: &PlanName, force: bool, out: &mut Decision) -> Answered {
        if let Some(refusal) = self.refuse_upgrade() {
            return refusal;
        }
        let Some(scheduled) = self.plans.get(name) else { return Some(Err(self.unknown(name))) };
        let plan = scheduled.plan.clone();
        if let Some(refusal) = self.refuse_pinned(name, force) {
            return refusal;
        }
        self.unpin(name.clone(), out);
        self.verify(Some(plan), None, Why::Ordered, Some(ticket), out);
        None
    }

    fn retry(&mut self, ticket: u64, name: &PlanName, out: &mut Decision) -> Answered {
        if let Some(refusal) = self.refuse_upgrade() {
            return refusal;
        }
        let failed = self.last_upgrade.as_ref().filter(|last| last.outcome != Outcome::Committed);
        let plan = failed
            .and_then(|last| last.plan.clone())
            .filter(|plan| plan.name == *name)
            .or_else(|| self.plans.get(name).map(|scheduled| scheduled.plan.clone()));
        let Some(plan) = plan else {
            let message = format!(
                "there is no failed upgrade {name} to try again; see: wemixvisor upgrade history, and schedule it anew"
            );
            return refuse(RefusalCode::NotFound, message);
        };
        self.unpin(name.clone(), out);
        self.verify(Some(plan), None, Why::Ordered, Some(ticket), out);
        None
    }

    fn roll_back(&mut self, ticket: u64, now: Now, out: &mut Decision) -> Answered {
        if let Some(under_way) = &self.upgrade {
            let step = under_way.step();
            let upgrade = under_way.upgrade.switchover.plan.is_some();
            // To roll a rollback back would bring the version that somebody wants to leave.
            if upgrade && (matches!(step, Step::Probation | Step::PostUpgrade) || under_way.held) {
                let label = under_way.upgrade.switchover.label();
                self.clear("held", out);
                self.end(Ended::Failed("a person ordered the rollback".into()), now, out);
                return done(format!(
                    "upgrade {label} is rolled back; follow it with: wemixvisor upgrade status"
                ));
            }
        }
        if let Some(refusal) = self.refuse_while_busy() {
            return refusal;
        }
        let last = self.last_committed.clone().filter(|last| last.plan.is_some() && last.to == self.target);
        let Some(last) = last else {
            let gone_back = self.last_committed.as_ref().is_some_and(|last| last.plan.is_none());
            let message = match gone_back {
                true => format!(
                    "{} runs since the last upgrade was taken back: there is nothing to go back to",
                    self.target
                ),
                false => {
                    format!("{} runs, and no upgrade led to it: there is nothing to go back to", self.target)
                }
            };
            return refuse(RefusalCode::NotFound, message);
        };
        self.verify(None, Some(last.from.clone()), Why::Ordered, Some(ticket), out);
        None
    }

    fn refuse_upgrade(&self) -> Option<Answered> {
        self.refuse_while_busy().or_else(|| {
            let message = "upgrades are only watched (upgrade.enabled = false): nothing was begun. Set it to true, which \
                           is in force at once, then order it again";
            (!self.settings.upgrade.enabled).then(|| refuse(RefusalCode::Conflict, message))
        })
    }

    fn start_ordered(&mut self, now: Now, out: &mut Decision) -> Answered {
        if self.upgrade.as_ref().is_some_and(|under_way| under_way.held) {
            self.start_new(now, out);
            return done("the new program is being started");
        }
        if let Some(refusal) = self.refuse_in_upgrade() {
            return refusal;
        }
        self.node.wanted = true;
        if let node::Process::Stopping { .. } = self.node.process {
            self.restart_ordered = true;
            return done("the node is being stopped; it is started again when it is down");
        }
        if self.node.has_process() {
            return done("the node runs already");
        }
        self.restarts.forgive();
        self.start_node(now, out);
        done("the node is being started")
    }

    fn stop_ordered(&mut self, now: Now, out: &mut Decision) -> Answered {
        if let Some(refusal) = self.refuse_in_upgrade() {
            return refusal;
        }
        self.node.wanted = false;
        self.restart_ordered = false;
        self.node_failed = None;
        self.clear("node_down", out);
        if !self.node.has_process() {
            self.stop_node(false, now, out);
            return done("the node is down");
        }
        self.stop_node(false, now, out);
        done("the node is being stopped")
    }

    fn restart_ordered(&mut self, now: Now, out: &mut Decision) -> Answered {
        if let Some(refusal) = self.refuse_in_upgrade() {
            return refusal;
        }
        self.node.wanted = true;
        self.restarts.forgive();
        if !self.node.has_process() {
            self.stop_node(false, now, out);
            self.start_node(now, out);
            return done("the node was down and is being started");
        }
        self.restart_ordered = true;
        self.stop_node(true, now, out);
        let waits = matches!(self.node.process, node::Process::Up(_));
        done(if waits {
            "the node is restarted at the next good moment"
        } else {
            "the node is being restarted"
        })
    }

    pub(super) fn plans_edited(
        &mut self,
        ticket: u64,
        result: Result<Vec<Plan>, String>,
        message: String,
        now: Now,
        out: &mut Decision,
    ) {
        let result = match result {
            Ok(plans) => {
                self.plans_read(Ok(plans), now, out);
                Ok(message)
            }
            Err(problem) => Err(Refused { code: RefusalCode::Failed, message: problem }),
        };
        self.plans.release(ticket);
        Self::reply(out, ticket, result);
    }

    /// An upgrade that is stuck bars other upgrades, not the orders about the node itself.
    fn refuse_while_busy(&self) -> Option<Answered> {
        let stuck = self.stuck.as_ref().map(|why| {
            let message = format!("an earlier upgrade is stuck: {why}; see: wemixvisor upgrade status");
            refuse(RefusalCode::Conflict, message)
        });
        self.refuse_in_upgrade().or(stuck)
    }

    fn refuse_in_upgrade(&self) -> Option<Answered> {
        if let Some(under_way) = &self.upgrade {
            let label = under_way.upgrade.switchover.label();
            let message = format!(
                "upgrade {label} is being carried out ({}): one at a time; follow it with: wemixvisor upgrade status",
                under_way.step()
            );
            return Some(refuse(RefusalCode::Conflict, message));
        }
        if self.plans.verifying.is_some() {
            return Some(refuse(
                RefusalCode::Conflict,
                "an upgrade is about to begin; see: wemixvisor upgrade status",
            ));
        }
        None
    }

    fn refuse_pinned(&self, name: &PlanName, force: bool) -> Option<Answered> {
        let pin = self.pins.iter().find(|pin| pin.name == *name).filter(|_| !force)?;
        let message = format!(
            "upgrade {name} is pinned as bad: {}. When its program is mended, add --force, or: wemixvisor upgrade retry {name}",
            pin.reason
        );
        Some(refuse(RefusalCode::Conflict, message))
    }

    fn unpin(&mut self, name: PlanName, out: &mut Decision) {
        if self.pins.iter().any(|pin| pin.name == name) {
            self.pins.retain(|pin| pin.name != name);
            out.entries.push(Entry::Unpin(name));
            self.clear("upgrade_failed", out);
        }
    }

    fn unknown(&self, name: &PlanName) -> Refused {
        let names: Vec<_> =
            self.plans.scheduled.iter().map(|scheduled| scheduled.plan.name.as_str()).collect();
        let near = near(name.as_str(), names.iter().copied());
        let hint = match (near.as_slice(), names.as_slice()) {
            ([], []) => "; no upgrade is".to_owned(),
            ([], names) => format!("; scheduled: {}", names.join(", ")),
            (near, _) => did_you_mean(near),
        };
        let message = format!("no upgrade {name} is scheduled{hint}");
        Refused { code: RefusalCode::NotFound, message }
    }
}
