//! The rounds of questions to the node, and what is remembered of its answers.

use std::time::Duration;

use serde_json::json;

use super::Engine;
use super::port::{Decision, Effect, Entry, ProbeFor};
use crate::observation::{Answer, Observation};
use crate::probation::{ProbationLimits, Reference};
use crate::time::{Now, millis};

/// In probation the node is asked so often.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(250);

/// In probation something is heard at least so often, if only this beat: a question may go without an answer for longer.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// A gap in what is heard that is longer than this is no busy machine: the supervisor itself stood still (it was
/// stopped or frozen, or its disk held it up). Several beats, and less than any sensible clock of a probation.
const STOOD_STILL: Duration = Duration::from_secs(3);

impl Engine {
    /// Something is heard. What passed in probation while the supervisor stood still is not held against the program:
    /// it may have answered all the time. One beat of each gap counts all the same, so that this cannot go on for ever:
    /// a supervisor that is held up again and again gives a bad program up later, but it does.
    pub(super) fn hear(&mut self, now: Now, out: &mut Decision) {
        let gap = now.mono.since(self.heard_at);
        self.heard_at = now.mono;
        let Some(under_way) = self.upgrade.as_mut().filter(|_| gap > STOOD_STILL) else { return };
        let Some(probation) = &mut under_way.probation else { return };
        let credit = gap.saturating_sub(BEAT);
        probation.stood_still(credit);
        let label = under_way.upgrade.switchover.label();
        let text = format!(
            "the supervisor could decide nothing for {:.1} s: upgrade {label} is given {:.1} s longer to prove itself",
            gap.as_secs_f64(),
            credit.as_secs_f64()
        );
        self.event(out, "upgrades", "stood_still", text, json!({ "name": label, "ms": millis(gap) }));
    }

    pub(super) fn probe_progress(&mut self, now: Now, out: &mut Decision) {
        let Some(launch) = self.node.up().map(|up| up.launch).filter(|_| self.node.is_serving()) else {
            return;
        };
        if self.probe.asking || now.mono < self.probe.next {
            return;
        }
        self.probe.asking = true;
        let pinned = self.probation().and_then(|probation| probation.pinned()).map(|(height, _)| height);
        out.effects.push(Effect::Probe(ProbeFor { launch, pinned, own_seal: self.settings.validator }));
    }

    pub(super) fn observed(&mut self, launch: u64, round: &Observation, now: Now, out: &mut Decision) {
        // The answers of a node that is gone say nothing about the one that runs.
        if self.node.up().is_none_or(|up| up.launch != launch) {
            return;
        }
        self.probe.asking = false;
        let every =
            if self.probation().is_some() { PROBE_EVERY } else { self.settings.node.health_check_interval };
        self.probe.next = now.mono.after(every);
        if !self.node.is_serving() {
            return;
        }
        if self.probation().is_some() {
            self.saga_observed(round, now, out);
        } else if matches!(round.head, Answer::Known(_)) {
            self.refresh_reference(round, now);
            out.entries.push(Entry::Facts(Box::new(self.facts())));
        } else {
            self.probe.next = now.mono.after(every.min(Duration::from_secs(1)));
        }
    }

    fn refresh_reference(&mut self, round: &Observation, now: Now) {
        let known = &mut self.reference;
        known.client_version = round.client_version.known().cloned().or(known.client_version.take());
        known.chain_id = round.chain_id.known().copied().or(known.chain_id);
        known.genesis = round.genesis.known().copied().or(known.genesis);
        self.is_wbft |= round.own_seal.known().is_some();
        if let Answer::Known(head) = round.head {
            if let Some(hash) = head.hash {
                self.heights.remember_hash(head.height, hash);
            }
            if let Some(lag) = crate::height::lag_of(head, now.wall) {
                self.reference.lag_ms = Some(millis(lag));
            }
        }
    }

    /// What the node says of itself and its chain, as known now; the pin lies below `height`.
    pub(super) fn reference_below(&self, height: u64) -> Reference {
        let head = self.heights.head().map(|seen| seen.head.height).or(self.reference.head);
        let pinned = self.heights.newest_hash(height.saturating_sub(1));
        let remembered = self.reference.pinned.filter(|(at, _)| *at < height);
        let lag_ms = self.heights.lag().map(millis).or(self.reference.lag_ms);
        // A plan may fire before the node was asked for the first time.
        let chain_id = self.reference.chain_id.or(self.settings.expected_chain_id());
        Reference { head, pinned: pinned.or(remembered), lag_ms, chain_id, ..self.reference.clone() }
    }

    pub(super) fn limits(&self) -> ProbationLimits {
        let set = &self.settings.probation;
        // How many peers it has is no sign of whether the old program can follow the chain.
        let goes_back = self.upgrade.as_ref().is_some_and(|under_way| under_way.upgrade.step.is_back());
        ProbationLimits {
            must_answer_within: set.must_answer_within,
            must_be_steady_for: set.must_be_steady_for,
            must_advance_within: set.must_advance_within,
            advance_blocks: set.blocks,
            in_step_blocks: set.in_step_blocks,
            min_peers: if goes_back { 0 } else { set.min_peers },
        }
    }
}
