//! Does the new program work? Answers come in, a verdict goes out (PRODUCT.md section 4, step 8).
//!
//! A node can look healthy by every single answer while it stands behind the network (NODES.md section 5), so
//! the verdict needs all of: the right program answers, on the right chain, without a break, and its head has
//! passed the old head *and* is in step with the wall clock. Three clocks bound the wait: it must answer, it
//! must stay steady, it must advance. They stand still while nobody could ask it. What the node cannot be asked is skipped and said so.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::head::{BlockHash, Head, Height};
use crate::height::lag;
use crate::observation::{Answer, Observation};
use crate::time::{MonoMs, Now};

/// What is known of the chain and of the old program before the stop; the new one is measured against it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reference {
    /// `web3_clientVersion` of the old program.
    pub client_version: Option<String>,
    /// The chain id.
    pub chain_id: Option<u64>,
    /// The hash of block 0.
    pub genesis: Option<BlockHash>,
    /// A block below the upgrade's height and its hash. Below it, because a fork may rewrite what the old
    /// program made at and above its height.
    pub pinned: Option<(Height, BlockHash)>,
    /// The last head. A block may still be sealed after the SIGTERM: a lower bound of what the database holds.
    pub head: Option<Height>,
    /// How far that head lay behind the wall clock, in milliseconds.
    pub lag_ms: Option<u64>,
}

/// The limits of a probation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbationLimits {
    /// The first answer must come so soon after the start.
    pub must_answer_within: Duration,
    /// It must have answered without a break for so long.
    pub must_be_steady_for: Duration,
    /// All of the rest must be true so soon after the first answer.
    pub must_advance_within: Duration,
    /// So many blocks beyond the old head.
    pub advance_blocks: u64,
    /// The newest block may lie so many block times behind the wall clock (beyond what it did before).
    pub in_step_blocks: u64,
    /// So many peers, where the node can be asked. 0 = not required.
    pub min_peers: u64,
}

/// What the new program is expected to say of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expectation {
    /// `web3_clientVersion` must contain this.
    pub version: Option<String>,
    /// Our own seal must be seen (a validator that can be asked).
    pub own_seal: bool,
    /// The old program cannot make the next block either (a chain that halts at its fork): a head that stands
    /// still is no reason to go back to it.
    pub halted_chain: bool,
}

/// A probation under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Probation {
    since: MonoMs,
    reference: Reference,
    expectation: Expectation,
    block_time: Duration,
    first_answer: Option<MonoMs>,
    answered_at: Option<MonoMs>,
    steady_since: Option<MonoMs>,
    identified: bool,
    head: Option<Head>,
    /// Where it began. The old program may have made more blocks than were seen of it; they prove nothing of the
    /// new one, which has to make at least one step of its own.
    first_head: Option<Height>,
    in_step: Option<bool>,
    peers: Option<u64>,
    sealed: bool,
    seal_unsupported: bool,
    contradiction: Option<Fault>,
    pin_doubted: bool,
    skipped: Vec<&'static str>,
}

/// Why a program did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It never answered.
    #[error("its RPC gave no answer within {0} s of its start")]
    NoAnswer(u64),
    /// It answered at first, then no more.
    #[error("its RPC stopped answering for {0} s")]
    FellSilent(u64),
    /// Another chain.
    #[error("it runs chain {found}, the old program ran chain {expected}")]
    WrongChain {
        /// The old program's.
        expected: u64,
        /// The new program's.
        found: u64,
    },
    /// Another genesis block.
    #[error("its genesis block is {found}, the old program's was {expected}")]
    WrongGenesis {
        /// The old program's.
        expected: BlockHash,
        /// The new program's.
        found: BlockHash,
    },
    /// The chain's past has changed.
    #[error("its block {height} is {found}, the old program's was {expected}")]
    AnotherPast {
        /// Which block.
        height: Height,
        /// The old program's.
        expected: BlockHash,
        /// The new program's.
        found: BlockHash,
    },
    /// Another program answers.
    #[error("it calls itself {found:?}, expected was {expected:?}")]
    WrongVersion {
        /// The text that should be contained.
        expected: String,
        /// What it said.
        found: String,
    },
    /// The clock for the rest ran out.
    #[error("after {after_s} s still missing: {missing}")]
    NotThere {
        /// Seconds since its first answer.
        after_s: u64,
        /// What was missing, in words.
        missing: String,
    },
}

/// What a verdict still waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// A first answer.
    Answer,
    /// Answers without a break.
    Steadiness,
    /// It has not yet said which program and which chain it is.
    Identity,
    /// The head has not reached this height.
    Head {
        /// Where it is.
        at: Option<Height>,
        /// Where it must be.
        target: Height,
    },
    /// The head is behind the wall clock.
    InStep,
    /// Peers.
    Peers {
        /// How many there are.
        has: u64,
        /// How many there must be.
        needs: u64,
    },
    /// Our own seal in a block.
    OwnSeal,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer => f.write_str("an answer of its RPC"),
            Self::Steadiness => f.write_str("answers without a break"),
            Self::Identity => f.write_str("its answers to what it is (version, chain id, genesis)"),
            Self::Head { at: Some(at), target } => write!(f, "head {target} (it is at {at})"),
            Self::Head { at: None, target } => write!(f, "head {target} (it gives none)"),
            Self::InStep => f.write_str("a head in step with the wall clock"),
            Self::Peers { has, needs } => write!(f, "{needs} peers (it has {has})"),
            Self::OwnSeal => f.write_str("our own seal in a block"),
        }
    }
}

/// The state of a probation.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Not yet.
    Pending(Vec<Missing>),
    /// Not yet, and the clock has run out, but going back could not help: a person must know.
    Stalled(Vec<Missing>),
    /// It works.
    Passed,
    /// It does not.
    Failed(Fault),
}

/// Without an estimate of the block time this one is assumed: the chains' own (NODES.md section 1).
pub const ASSUMED_BLOCK_TIME: Duration = Duration::from_secs(1);

/// Added to every allowance for being behind: block times are whole seconds, and clocks differ a little.
const LAG_ALLOWANCE: Duration = Duration::from_secs(2);

impl Probation {
    /// Begins when the new process runs. `block_time` is the estimate from before the stop.
    pub fn begin(
        reference: Reference,
        expectation: Expectation,
        block_time: Option<Duration>,
        since: MonoMs,
    ) -> Self {
        Self {
            since,
            reference,
            expectation,
            block_time: block_time.unwrap_or(ASSUMED_BLOCK_TIME),
            first_answer: None,
            answered_at: None,
            steady_since: None,
            identified: false,
            head: None,
            first_head: None,
            in_step: None,
            peers: None,
            sealed: false,
            seal_unsupported: false,
            contradiction: None,
            pin_doubted: false,
            skipped: Vec::new(),
        }
    }

    /// The pin whose hash the next round should ask for.
    pub fn pinned(&self) -> Option<(Height, BlockHash)> {
        self.reference.pinned
    }

    /// When the next of its clocks runs out, if nothing happens before.
    pub fn deadline(&self, limits: &ProbationLimits) -> MonoMs {
        let silence = self.answered_at.unwrap_or(self.since).after(limits.must_answer_within);
        let advance = self.first_answer.map(|first| first.after(limits.must_advance_within));
        // One past the limit: a clock has run out only beyond it.
        MonoMs(advance.map_or(silence, |advance| advance.min(silence)).0.saturating_add(1))
    }

    /// Checks that were left out because the node has no such method.
    pub fn skipped(&self) -> &[&'static str] {
        &self.skipped
    }

    /// For so long, until now, nobody could have asked or heard it: that time counts neither for it nor against it.
    ///
    /// What is left on its clocks stays as it was, and none begins anew.
    pub fn stood_still(&mut self, gap: Duration) {
        self.since = self.since.after(gap);
        for clock in [&mut self.first_answer, &mut self.answered_at, &mut self.steady_since] {
            *clock = clock.map(|at| at.after(gap));
        }
    }

    /// Takes in one round of answers.
    pub fn observe(&mut self, round: &Observation, limits: &ProbationLimits, now: Now) {
        let Answer::Known(head) = &round.head else {
            if self.answered_at.is_some_and(|at| now.mono.since(at) > limits.must_be_steady_for) {
                self.steady_since = None;
            }
            return;
        };
        self.first_answer = self.first_answer.or(Some(now.mono));
        self.answered_at = Some(now.mono);
        self.steady_since = self.steady_since.or(Some(now.mono));
        self.head = Some(*head);
        self.first_head = self.first_head.or(Some(head.height));
        self.in_step = head.block_time.map(|seconds| lag(seconds, now.wall) <= self.allowed_lag(limits));
        self.skip_unsupported(round);
        self.identified |=
            answered(&round.client_version) && answered(&round.chain_id) && answered(&round.genesis);
        if let Answer::Known(peers) = round.peers {
            self.peers = Some(peers);
        }
        self.sealed |= round.own_seal == Answer::Known(true);
        self.seal_unsupported |= round.own_seal == Answer::Unsupported;
        self.contradict(round);
    }

    /// The head alone, from the stream of heads between two rounds.
    pub fn head_seen(&mut self, head: Head, limits: &ProbationLimits, now: Now) {
        let round = Observation { head: Answer::Known(head), ..Observation::default() };
        // A notification without a block time must not erase what a full answer said.
        let in_step = self.in_step;
        self.observe(&round, limits, now);
        self.in_step = self.in_step.or(in_step);
    }

    /// The verdict as of `now`.
    pub fn verdict(&self, limits: &ProbationLimits, now: MonoMs) -> Verdict {
        if let Some(fault) = &self.contradiction {
            return Verdict::Failed(fault.clone());
        }
        let silent = now.since(self.answered_at.unwrap_or(self.since));
        if silent > limits.must_answer_within {
            let seconds = limits.must_answer_within.as_secs();
            return Verdict::Failed(match self.answered_at {
                None => Fault::NoAnswer(seconds),
                Some(_) => Fault::FellSilent(seconds),
            });
        }
        let missing = self.missing(limits, now);
        if missing.is_empty() {
            return Verdict::Passed;
        }
        let answering = self.first_answer.map(|first| now.since(first));
        let Some(answering) = answering.filter(|answering| *answering > limits.must_advance_within) else {
            return Verdict::Pending(missing);
        };
        if self.expectation.halted_chain {
            return Verdict::Stalled(missing);
        }
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        Verdict::Failed(Fault::NotThere { after_s: answering.as_secs(), missing: missing.join(", ") })
    }

    fn missing(&self, limits: &ProbationLimits, now: MonoMs) -> Vec<Missing> {
        let mut missing = Vec::new();
        match self.steady_since {
            None => missing.push(Missing::Answer),
            Some(since) if now.since(since) < limits.must_be_steady_for => missing.push(Missing::Steadiness),
            Some(_) => {}
        }
        if !self.identified {
            missing.push(Missing::Identity);
        }
        let at = self.head.map(|head| head.height);
        let beyond_the_old = self.reference.head.unwrap_or(0).saturating_add(limits.advance_blocks);
        let target = beyond_the_old.max(self.first_head.unwrap_or(0).saturating_add(1));
        if at.is_none_or(|at| at < target) {
            missing.push(Missing::Head { at, target });
        }
        if self.in_step == Some(false) {
            missing.push(Missing::InStep);
        }
        if let Some(has) = self.peers.filter(|peers| *peers < limits.min_peers) {
            missing.push(Missing::Peers { has, needs: limits.min_peers });
        }
        if self.expectation.own_seal && !self.sealed && !self.seal_unsupported {
            missing.push(Missing::OwnSeal);
        }
        missing
    }

    fn allowed_lag(&self, limits: &ProbationLimits) -> Duration {
        let before = Duration::from_millis(self.reference.lag_ms.unwrap_or(0));
        let blocks = u32::try_from(limits.in_step_blocks).unwrap_or(u32::MAX);
        before.saturating_add(self.block_time.saturating_mul(blocks)).saturating_add(LAG_ALLOWANCE)
    }

    fn contradict(&mut self, round: &Observation) {
        if let (Some(expected), Some(found)) = (self.reference.chain_id, round.chain_id.known())
            && expected != *found
        {
            self.contradiction = Some(Fault::WrongChain { expected, found: *found });
        } else if let (Some(expected), Some(found)) = (self.reference.genesis, round.genesis.known())
            && expected != *found
        {
            self.contradiction = Some(Fault::WrongGenesis { expected, found: *found });
        } else if let (Some(expected), Some(found)) =
            (&self.expectation.version, round.client_version.known())
            && !found.contains(expected.as_str())
        {
            let expected = expected.clone();
            self.contradiction = Some(Fault::WrongVersion { expected, found: found.clone() });
        } else if let (Some((height, expected)), Some(Some(found))) =
            (self.reference.pinned, round.pinned.known())
        {
            let differs = expected != *found;
            // Twice in a row: a node that is still sorting out its tip may show a stale block once.
            if differs && self.pin_doubted {
                self.contradiction = Some(Fault::AnotherPast { height, expected, found: *found });
            }
            self.pin_doubted = differs;
        }
    }

    fn skip_unsupported(&mut self, round: &Observation) {
        for (unsupported, what) in [
            (round.client_version == Answer::Unsupported, "version (web3_clientVersion)"),
            (round.chain_id == Answer::Unsupported, "chain id (eth_chainId)"),
            (round.genesis == Answer::Unsupported, "genesis hash (eth_getBlockByNumber)"),
            (round.peers == Answer::Unsupported, "peers (net_peerCount)"),
            (round.own_seal == Answer::Unsupported, "own seal (istanbul_*)"),
        ] {
            if unsupported && !self.skipped.contains(&what) {
                self.skipped.push(what);
            }
        }
    }
}

/// Whether the question is settled: answered, or not to be had from this node.
fn answered<T>(answer: &Answer<T>) -> bool {
    matches!(answer, Answer::Known(_) | Answer::Unsupported)
}

#[cfg(test)]
#[path = "probation_tests.rs"]
mod tests;
