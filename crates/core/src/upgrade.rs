//! The upgrade: a fixed line of steps, each journaled as begun before it acts and as done after, each with a
//! way back (PRODUCT.md section 4).
//!
//! ```text
//!  PreStop ─> Stop ─> PreUpgrade ─> Switch ─> Start ─> Probation ─> PostUpgrade ─> Committed
//!               .         │            │        │          │             │
//!               .         └────────────┴────────┴──────────┴─────────────┘ any failure
//!               .                                 v
//!  Cancelled <──┘                BackStop ─> BackSwitch ─> BackStart ─> BackProbation ─> RolledBack
//! ```
//!
//! [`next`] is the whole table. Recovery is [`fold`]: the journal's records make the same [`Upgrade`] again,
//! and its current step is done again. Every step is harmless when repeated.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command_line::CommandLine;
use crate::head::Head;
use crate::plan::Plan;
use crate::probation::{Expectation, Reference};
use crate::target::Target;
use crate::time::WallMs;
use crate::trigger::Why;

/// The clocks of a probation begin anew with a supervisor that comes back to it, which did not see the first answers;
/// but only so often: a supervisor that is lost again and again must not keep a bad program for ever.
pub const MAX_PROOFS: u32 = 3;

/// A new program is started at most so often in one upgrade: a supervisor that is itself killed again and
/// again must not try a bad program for ever.
pub const MAX_STARTS: u32 = 3;

/// One upgrade, as it was decided on. Recorded once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switchover {
    /// Unique among all upgrades of the home, rising.
    pub id: u64,
    /// The plan that fired; `None` for a rollback that a person ordered.
    pub plan: Option<Plan>,
    /// Why now.
    pub why: Why,
    /// The program that ran.
    pub from: Target,
    /// The program that is to run.
    pub to: Target,
    /// The old program's command line.
    pub from_line: CommandLine,
    /// The new program's command line.
    pub to_line: CommandLine,
    /// The SHA-256 of the new program's file, in hex.
    pub sha256: String,
    /// The head when it fired, where one was known.
    pub head: Option<Head>,
    /// What the old program said of itself and its chain.
    pub reference: Reference,
    /// What the new program is expected to say.
    pub expectation: Expectation,
    /// The estimated block time in milliseconds, where there was one.
    pub block_time_ms: Option<u64>,
    /// Which hooks exist.
    pub hooks: Hooks,
    /// When it fired.
    pub at: WallMs,
}

impl Switchover {
    /// What people call it.
    pub fn label(&self) -> String {
        match &self.plan {
            Some(plan) => plan.name.to_string(),
            None => format!("rollback to {}", self.to),
        }
    }
}

/// Which hooks exist for an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// `pre-stop`.
    pub pre_stop: bool,
    /// `pre-upgrade`.
    pub pre_upgrade: bool,
    /// `post-upgrade`.
    pub post_upgrade: bool,
}

/// A step of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The `pre-stop` hook drains the node.
    PreStop,
    /// The old program is stopped, at the moment that suits it.
    Stop,
    /// The `pre-upgrade` hook.
    PreUpgrade,
    /// `current` is pointed to the new program.
    Switch,
    /// The new program is started.
    Start,
    /// The new program proves that it works.
    Probation,
    /// The `post-upgrade` hook.
    PostUpgrade,
    /// Back: what runs is stopped.
    BackStop,
    /// Back: `current` is pointed to the old program again.
    BackSwitch,
    /// Back: the old program is started.
    BackStart,
    /// Back: the old program is checked.
    BackProbation,
}

impl Step {
    /// Whether the step belongs to the way back.
    pub fn is_back(self) -> bool {
        self >= Self::BackStop
    }

    /// Whether the old node may already be stopped: from here on there is no simple cancelling.
    pub fn past_the_stop(self) -> bool {
        self > Self::Stop
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreStop => "pre-stop hook",
            Self::Stop => "stop the old program",
            Self::PreUpgrade => "pre-upgrade hook",
            Self::Switch => "switch the link",
            Self::Start => "start the new program",
            Self::Probation => "prove the new program",
            Self::PostUpgrade => "post-upgrade hook",
            Self::BackStop => "stop the new program",
            Self::BackSwitch => "switch the link back",
            Self::BackStart => "start the old program",
            Self::BackProbation => "check the old program",
        })
    }
}

/// How an upgrade ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The new program runs and is proven.
    Committed,
    /// The old program runs again.
    RolledBack {
        /// Why the new one was given up.
        reason: String,
        /// Why the old program cannot follow the chain, if it cannot.
        stranded: Option<String>,
    },
    /// Given up before the old program was stopped.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Neither program could be made to run.
    RollbackFailed {
        /// Why the new one was given up.
        reason: String,
        /// Why the old one does not run.
        failure: String,
    },
}

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// The upgrade fired.
    Triggered(Box<Switchover>),
    /// The step is about to act.
    Started {
        /// Which step.
        step: Step,
    },
    /// The step has acted.
    Done {
        /// Which step.
        step: Step,
        /// What is worth knowing about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The step has failed.
    Failed {
        /// Which step.
        step: Step,
        /// Why.
        reason: String,
    },
    /// The upgrade is over.
    Finished(Outcome),
}

/// How the current step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is done.
    Done(Option<String>),
    /// It failed.
    Failed(String),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This step.
    Go(Step),
    /// The same step once more, later.
    Again,
    /// The end.
    Finish(Outcome),
}

/// An upgrade under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Upgrade {
    /// As it was decided on.
    pub switchover: Switchover,
    /// The step that is under way.
    pub step: Step,
    /// How often the new program has been started.
    pub starts: u32,
    /// How often the current step has failed and is tried again.
    pub tries: u32,
    /// How often the clocks of the probation under way were begun.
    pub proofs: u32,
    /// When they were begun last.
    pub proving_since: WallMs,
    /// Why it goes back, once it does.
    pub failure: Option<String>,
    /// The steps so far, for people.
    pub marks: Vec<Mark>,
}

/// One line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The step.
    pub step: Step,
    /// When it began.
    pub started: WallMs,
    /// When it ended, if it has.
    pub ended: Option<WallMs>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// What is worth knowing about it.
    pub note: Option<String>,
}

/// The table: what follows when `step` has ended so. `None` is a pair that cannot happen.
pub fn next(upgrade: &Upgrade, ended: &Ended) -> Option<Next> {
    use Ended::{Done, Failed};
    let hooks = upgrade.switchover.hooks;
    let after_stop = if hooks.pre_upgrade { Step::PreUpgrade } else { Step::Switch };
    Some(match (upgrade.step, ended) {
        // A drain that fails must not cost the upgrade: the stop is orderly without it.
        (Step::PreStop, Done(_) | Failed(_)) => Next::Go(Step::Stop),
        (Step::Stop, Done(_)) => Next::Go(after_stop),
        // A stop waits, or kills; it has no third end.
        (Step::Stop, Failed(_)) => return None,
        (Step::PreUpgrade, Done(_)) => Next::Go(Step::Switch),
        (Step::PreUpgrade | Step::Switch, Failed(_)) => Next::Go(Step::BackSwitch),
        (Step::Switch, Done(_)) => Next::Go(Step::Start),
        (Step::Start, Done(_)) => Next::Go(Step::Probation),
        (Step::Probation, Done(_)) if hooks.post_upgrade => Next::Go(Step::PostUpgrade),
        (Step::Probation | Step::PostUpgrade, Done(_)) => Next::Finish(Outcome::Committed),
        (Step::Start | Step::Probation | Step::PostUpgrade, Failed(_)) => Next::Go(Step::BackStop),
        (Step::BackStop, Done(_)) => Next::Go(Step::BackSwitch),
        (Step::BackStop, Failed(_)) => return None,
        (Step::BackSwitch, Done(_)) => Next::Go(Step::BackStart),
        (Step::BackSwitch, Failed(_)) => Next::Again,
        (Step::BackStart, Done(_)) => Next::Go(Step::BackProbation),
        (Step::BackStart, Failed(failure)) => {
            Next::Finish(Outcome::RollbackFailed { reason: upgrade.reason(), failure: failure.clone() })
        }
        (Step::BackProbation, Done(_)) => {
            Next::Finish(Outcome::RolledBack { reason: upgrade.reason(), stranded: None })
        }
        (Step::BackProbation, Failed(stranded)) => {
            Next::Finish(Outcome::RolledBack { reason: upgrade.reason(), stranded: Some(stranded.clone()) })
        }
    })
}

impl Upgrade {
    /// An upgrade that has just fired, before its first step.
    pub fn new(switchover: Switchover) -> Self {
        let step = if switchover.hooks.pre_stop { Step::PreStop } else { Step::Stop };
        Self {
            switchover,
            step,
            starts: 0,
            tries: 0,
            proofs: 0,
            proving_since: WallMs(0),
            failure: None,
            marks: Vec::new(),
        }
    }

    /// The program that belongs to the current step: the one that runs, or is to run, in it.
    pub fn program(&self) -> &Target {
        match self.step {
            Step::PreStop | Step::Stop | Step::BackSwitch | Step::BackStart | Step::BackProbation => {
                &self.switchover.from
            }
            _ => &self.switchover.to,
        }
    }

    /// Why it goes back.
    pub fn reason(&self) -> String {
        self.failure.clone().unwrap_or_else(|| "no reason was recorded".into())
    }

    /// Takes in one record, as written or as read back.
    ///
    /// # Errors
    /// When the record cannot follow what came before: the journal is damaged or from another program.
    pub fn apply(&mut self, record: &Record, at: WallMs) -> Result<(), Damaged> {
        match record {
            Record::Triggered(_) => return Err(Damaged::Twice),
            Record::Finished(_) => {}
            Record::Started { step } => {
                if self.step != *step {
                    (self.tries, self.proofs) = (0, 0);
                }
                if matches!(step, Step::Probation | Step::BackProbation) && self.proofs < MAX_PROOFS {
                    self.proofs += 1;
                    self.proving_since = at;
                }
                self.starts += u32::from(*step == Step::Start);
                self.step = *step;
                let mark = Mark { step: *step, started: at, ended: None, failed: None, note: None };
                match self.marks.last_mut().filter(|last| last.step == *step) {
                    Some(last) => *last = Mark { started: last.started, ..mark },
                    None => self.marks.push(mark),
                }
            }
            Record::Done { step, note } => {
                let mark = self.open_mark(*step)?;
                mark.ended = Some(at);
                mark.note.clone_from(note);
            }
            Record::Failed { step, reason } => {
                let mark = self.open_mark(*step)?;
                mark.ended = Some(at);
                mark.failed = Some(reason.clone());
                self.tries += 1;
                if !step.is_back() && *step > Step::Stop {
                    self.failure = Some(format!("{step}: {reason}"));
                }
            }
        }
        Ok(())
    }

    fn open_mark(&mut self, step: Step) -> Result<&mut Mark, Damaged> {
        let current = self.step;
        self.marks.last_mut().filter(|mark| mark.step == step).ok_or(Damaged::Order { step, current })
    }
}

/// A journal that cannot be what this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The first record is missing.
    #[error("the upgrade's journal does not begin with what was decided")]
    NoBeginning,
    /// The first record stands twice.
    #[error("the upgrade's journal begins twice")]
    Twice,
    /// An end without its beginning.
    #[error("the upgrade's journal ends the step \"{step}\" while \"{current}\" was under way")]
    Order {
        /// The step that ended.
        step: Step,
        /// The step that was under way.
        current: Step,
    },
    /// Records after the end.
    #[error("the upgrade's journal goes on after its end")]
    AfterTheEnd,
}

/// What a journal amounts to.
#[derive(Debug, Clone, PartialEq)]
pub enum Folded {
    /// It is still under way.
    Open(Box<Upgrade>),
    /// It is over.
    Finished(Box<Upgrade>, Outcome),
}

/// Makes the upgrade again from its records.
///
/// # Errors
/// When the records cannot be what this program wrote; then nothing may be done in its name.
pub fn fold<'a>(records: impl IntoIterator<Item = (&'a Record, WallMs)>) -> Result<Folded, Damaged> {
    let mut records = records.into_iter();
    let Some((Record::Triggered(switchover), _)) = records.next() else { return Err(Damaged::NoBeginning) };
    let mut upgrade = Upgrade::new((**switchover).clone());
    let mut outcome = None;
    for (record, at) in records {
        if outcome.is_some() {
            return Err(Damaged::AfterTheEnd);
        }
        upgrade.apply(record, at)?;
        if let Record::Finished(end) = record {
            outcome = Some(end.clone());
        }
    }
    let upgrade = Box::new(upgrade);
    Ok(match outcome {
        None => Folded::Open(upgrade),
        Some(outcome) => Folded::Finished(upgrade, outcome),
    })
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
