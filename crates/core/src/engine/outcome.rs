//! How an upgrade ends: written down, told, and what follows for its plan and its program.

use serde_json::json;

use super::port::{Decision, Effect, Entry, HistoryEntry, Pin, PlanEdit};
use super::saga::UnderWay;
use super::{Ending, Engine};
use crate::exit::ExitClass;
use crate::target::Target;
use crate::time::Now;
use crate::upgrade::{Outcome, Record};

impl Engine {
    pub(super) fn finish(&mut self, outcome: Outcome, now: Now, out: &mut Decision) {
        let Some(mut under_way) = self.upgrade.take() else { return };
        under_way.end_hook(out);
        let UnderWay { upgrade, down_ms: downtime_ms, .. } = under_way;
        let order = upgrade.switchover;
        let label = order.label();
        out.entries.push(Entry::Journal { upgrade: order.id, record: Record::Finished(outcome.clone()) });
        let entry = HistoryEntry {
            id: order.id,
            label: label.clone(),
            plan: order.plan.clone(),
            from: order.from.clone(),
            to: order.to.clone(),
            sha256: order.sha256.clone(),
            from_line: order.from_line.clone(),
            head: order.head.map(|head| head.height),
            fired_at: order.at,
            finished_at: now.wall,
            downtime_ms,
            outcome: outcome.clone(),
            steps: upgrade.marks,
        };
        out.entries.push(Entry::History(Box::new(entry.clone())));
        let entry = std::sync::Arc::new(entry);
        self.last_upgrade = Some(entry.clone());
        let before = match outcome {
            Outcome::Committed => self.last_committed.replace(entry),
            _ => None,
        };
        self.clear("rollback_barred", out);
        self.clear("stalled", out);
        self.clear("stop_overdue", out);
        let (kind, text, bad) = describe(&label, &outcome, downtime_ms);
        self.event(out, "upgrades", kind, text.clone(), json!({ "name": label, "downtime_ms": downtime_ms }));
        match bad {
            Some(reason) => {
                self.raise("upgrade_failed", text, out);
                if let Some(plan) = &order.plan {
                    self.pin(Pin { name: plan.name.clone(), sha256: order.sha256.clone(), reason }, out);
                }
            }
            None if outcome == Outcome::Committed => {
                self.clear("upgrade_failed", out);
                // Left on purpose: what ran is not to come back by a plan that is found again.
                if let (None, Target::Upgrade(name)) = (&order.plan, &order.from) {
                    let sha256 = before.map(|before| before.sha256.clone()).unwrap_or_default();
                    self.pin(Pin { name: name.clone(), sha256, reason: "rolled back by hand".into() }, out);
                }
            }
            None => {}
        }
        out.entries.push(Entry::Facts(Box::new(self.facts())));
        if let Some(plan) = &order.plan
            && !matches!(outcome, Outcome::Cancelled { .. })
        {
            self.plans.finished.push((plan.name.clone(), plan.height));
            // A plan that failed may have been moved in the meantime, for its mended program.
            let moved = outcome != Outcome::Committed
                && self.plans.get(&plan.name).is_some_and(|scheduled| scheduled.plan.height != plan.height);
            if !moved {
                self.plans.scheduled.retain(|scheduled| scheduled.plan.name != plan.name);
                out.effects.push(Effect::EditPlans { ticket: None, edit: PlanEdit::finished(plan) });
            }
        }
        if outcome == Outcome::Committed {
            // That was the old program. The new one is asked again at once.
            self.reference.client_version = None;
        }
        self.probe.next = now.mono;
        if !self.node.has_process() && self.node.wanted {
            let why =
                self.last_exit.as_ref().map_or_else(|| "is down".into(), crate::exit::NodeExit::describe);
            let ending = Ending { class: ExitClass::OtherCode, uptime: None, why };
            self.restart_by_policy(ending, now, out);
        }
    }

    /// A failed upgrade stays an alert, also for the next supervisor, until its pin is taken off.
    pub(super) fn recall_failure(&mut self, out: &mut Decision) {
        let Some(last) = self.last_upgrade.clone() else { return };
        let pinned = last.plan.as_ref().is_some_and(|plan| self.pins.iter().any(|pin| pin.name == plan.name));
        let (_, text, bad) = describe(&last.label, &last.outcome, last.downtime_ms);
        if bad.is_some() && pinned {
            self.raise("upgrade_failed", text, out);
        }
    }

    fn pin(&mut self, pin: Pin, out: &mut Decision) {
        self.pins.retain(|known| known.name != pin.name);
        self.pins.push(pin.clone());
        out.entries.push(Entry::Pin(pin));
    }

    /// Calls the upgrade off while the old program still runs untouched.
    pub(super) fn cancel_upgrade(&mut self, reason: &str, now: Now, out: &mut Decision) {
        self.node.forget_stop();
        self.finish(Outcome::Cancelled { reason: reason.into() }, now, out);
    }
}

/// What is told of an outcome: the event's kind, the words, and the reason for a pin.
fn describe(
    label: &str,
    outcome: &Outcome,
    downtime_ms: Option<u64>,
) -> (&'static str, String, Option<String>) {
    match outcome {
        Outcome::Committed => {
            let pause = downtime_ms.map_or_else(String::new, |ms| format!(", without a node for {ms} ms"));
            ("upgrade_completed", format!("upgrade {label} is complete{pause}"), None)
        }
        Outcome::Cancelled { reason } => {
            ("upgrade_cancelled", format!("upgrade {label} was called off: {reason}"), None)
        }
        Outcome::RolledBack { reason, stranded: None } => (
            "upgrade_rolled_back",
            format!(
                "upgrade {label} was rolled back, the old program runs: {reason}. When it is mended: wemixvisor upgrade \
                 retry {label}"
            ),
            Some(reason.clone()),
        ),
        Outcome::RolledBack { reason, stranded: Some(stranded) } => (
            "upgrade_rolled_back",
            format!(
                "upgrade {label} was rolled back ({reason}), but the old program cannot follow the chain: {stranded}. The \
                 way is forward: put a mended program in place, then: wemixvisor upgrade retry {label}"
            ),
            Some(reason.clone()),
        ),
        Outcome::RollbackFailed { reason, failure } => (
            "upgrade_failed",
            format!(
                "upgrade {label} failed ({reason}) and the old program could not be started either: {failure}. It is tried \
                 again by the restart policy; see: wemixvisor logs"
            ),
            Some(reason.clone()),
        ),
    }
}
