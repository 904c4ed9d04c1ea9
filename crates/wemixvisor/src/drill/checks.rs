//! The verdict: from what was recorded to a list of checks, each with the fact behind it.

use serde::Serialize;
use wemixvisor_daemon::api::wire::{Finished, Moment};

use super::journal::Journal;
use crate::render::span;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What has to hold.
    pub what: &'static str,
    /// Whether it does.
    pub passed: bool,
    /// The fact behind it.
    pub fact: String,
}

/// What an upgrade of the drill was meant to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The upgrade's name.
    pub name: &'static str,
    /// Its height.
    pub height: u64,
    /// How it has to end, as the history says it.
    pub outcome: &'static str,
    /// The longest time that the head may stand meanwhile, in milliseconds.
    pub may_stand_ms: u64,
}

/// What became of the supervisor that was killed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survival {
    /// How often a supervisor was killed.
    pub kills: usize,
    /// The node before the kill and after it was taken over.
    pub pids: Option<(u32, u32)>,
    /// The blocks that it made while there was no supervisor.
    pub blocks_alone: u64,
}

/// Everything that is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// What was meant to happen, in order.
    pub acts: Vec<Act>,
    /// The supervisor's history, newest first.
    pub history: Vec<Finished>,
    /// The practice nodes' own record.
    pub journal: Journal,
    /// The versions pinned as bad.
    pub pinned: Vec<String>,
    /// What `current` points to.
    pub link: String,
    /// The plans that still wait.
    pub waiting: usize,
    /// The killed supervisor.
    pub survival: Survival,
    /// Processes of the drill that still run after its end.
    pub left_over: Vec<String>,
}

/// The newest program that has to run in the end.
const LAST: &str = "v4.0.0";

impl Played {
    /// All checks, in the order in which they are shown.
    pub fn checks(&self) -> Vec<Check> {
        vec![
            self.exact_height(),
            self.one_sigterm(),
            self.never_two(),
            self.no_block_lost(),
            self.outcome("good ones commit", "committed"),
            self.bad_one(),
            self.head_goes_on(),
            self.survives(),
            self.link_and_plans(),
            self.nothing_left(),
        ]
    }

    fn finished(&self, name: &str) -> Option<&Finished> {
        self.history.iter().find(|entry| entry.name == name)
    }

    /// The first process that ends after the act began is the old program. Its head is the node's own word.
    fn head_at_sigterm(&self, act: &Act) -> Option<u64> {
        let Moment(fired) = self.finished(act.name)?.fired_at;
        let life =
            self.journal.lives.iter().find(|life| life.end.as_ref().is_some_and(|end| end.at >= fired))?;
        life.signals.first().map(|(_, head)| *head)
    }

    fn exact_height(&self) -> Check {
        let list = |heights: Vec<Option<u64>>| heights.into_iter().map(shown).collect::<Vec<_>>().join(", ");
        let planned: Vec<_> = self.acts.iter().map(|act| Some(act.height)).collect();
        let fired: Vec<_> =
            self.acts.iter().map(|act| self.finished(act.name).and_then(|entry| entry.head)).collect();
        let stopped: Vec<_> = self.acts.iter().map(|act| self.head_at_sigterm(act)).collect();
        // The supervisor decides at exactly the height; a machine under load may make one more block before the
        // signal arrives. Never before.
        let in_time = |(act, head): (&Act, &Option<u64>)| {
            head.is_some_and(|head| (act.height..=act.height + 1).contains(&head))
        };
        let passed = fired == planned && self.acts.iter().zip(&stopped).all(in_time);
        let fact = if passed && stopped == planned {
            format!("{}: as announced, SIGTERM at these heads", list(planned))
        } else {
            format!("announced {}; began {}; SIGTERM {}", list(planned), list(fired), list(stopped))
        };
        Check { what: "exact height", passed, fact }
    }

    fn one_sigterm(&self) -> Check {
        let lives = &self.journal.lives;
        let terms: usize = lives.iter().map(|life| life.count("SIGTERM")).sum();
        let signals: usize = lives.iter().map(|life| life.signals.len()).sum();
        let clean = |end: &super::journal::End| end.exit == Some(0);
        let ended = lives.iter().filter(|life| life.end.as_ref().is_some_and(clean)).count();
        let each = lives.iter().all(|life| life.count("SIGTERM") == 1 && life.signals.len() == 1);
        let passed = !lives.is_empty() && each && ended == lives.len();
        let fact = format!(
            "{} nodes: {terms} SIGTERM, {} other signals, {ended} clean ends",
            lives.len(),
            signals - terms
        );
        Check { what: "one SIGTERM each", passed, fact }
    }

    fn never_two(&self) -> Check {
        let journal = &self.journal;
        let gaps = journal.lives.windows(2).map(|pair| {
            // A life without an end was killed; that is another check's finding.
            let end = pair[0].end.as_ref().map_or(0, |end| end.at);
            i64::try_from(pair[1].started).unwrap_or(i64::MAX) - i64::try_from(end).unwrap_or(i64::MAX)
        });
        let shortest = gaps.min();
        let passed = shortest.is_some_and(|gap| gap >= 0) && journal.locked_out == 0;
        let fact = match shortest {
            Some(gap) if passed => {
                format!("{} lives, none overlaps; shortest gap {gap} ms", journal.lives.len())
            }
            Some(gap) if gap < 0 => format!("two nodes ran at once for {} ms", -gap),
            Some(_) => format!("{} starts found the data directory in use", journal.locked_out),
            None => "fewer than two nodes were seen".into(),
        };
        Check { what: "never two nodes", passed, fact }
    }

    fn no_block_lost(&self) -> Check {
        let heights = self.journal.blocks.iter().map(|&(_, height)| height);
        let wrong = heights.zip(1..).find(|(height, expected)| height != expected);
        let fact = match wrong {
            None => format!("blocks 1 to {}, each made once", self.journal.head()),
            Some((height, expected)) => format!("after block {} came block {height}", expected - 1),
        };
        Check { what: "no block lost", passed: wrong.is_none() && self.journal.head() > 0, fact }
    }

    fn outcome(&self, what: &'static str, outcome: &'static str) -> Check {
        let acts: Vec<&Act> = self.acts.iter().filter(|act| act.outcome == outcome).collect();
        let found =
            |act: &Act| self.finished(act.name).map_or("not in the history", |entry| entry.outcome.as_str());
        let passed = !acts.is_empty() && acts.iter().all(|act| found(act) == outcome);
        let facts = acts.iter().map(|act| format!("{}: {}", act.name, found(act).replace('_', " ")));
        Check { what, passed, fact: facts.collect::<Vec<_>>().join(", ") }
    }

    fn bad_one(&self) -> Check {
        let mut check = self.outcome("bad one goes back", "rolled_back");
        let bad = self.acts.iter().filter(|act| act.outcome == "rolled_back");
        let pinned = bad.into_iter().all(|act| self.pinned.iter().any(|name| name == act.name));
        check.passed &= pinned;
        check.fact.push_str(if pinned { ", and pinned as bad" } else { ", but not pinned as bad" });
        check
    }

    fn head_goes_on(&self) -> Check {
        let mut passed = true;
        let facts = self.acts.iter().map(|act| {
            let stood = self.finished(act.name).and_then(|entry| {
                let (Moment(from), Moment(to)) = (entry.fired_at, entry.finished_at);
                self.journal.longest_standstill(from, to)
            });
            passed &= stood.is_some_and(|stood| stood <= act.may_stand_ms);
            let stood = stood.map_or_else(|| "no block".into(), span);
            format!("{stood} of {}", span(act.may_stand_ms))
        });
        let fact = facts.collect::<Vec<_>>().join(", ");
        Check { what: "head stood at most", passed, fact }
    }

    fn survives(&self) -> Check {
        let Survival { kills, pids, blocks_alone } = self.survival;
        let same = pids.is_some_and(|(before, after)| before == after);
        let passed = kills > 0 && same && blocks_alone > 0;
        let fact = match pids {
            Some((before, _)) if same => {
                format!("{kills} kills; node {before} lived on, made {blocks_alone} blocks alone")
            }
            Some((before, after)) => format!("{kills} kills; node {before} was gone, {after} ran instead"),
            None => format!("{kills} kills; no node was found afterwards"),
        };
        Check { what: "outlives kill -9", passed, fact }
    }

    fn link_and_plans(&self) -> Check {
        let passed = self.link == format!("upgrades/{LAST}") && self.waiting == 0;
        let fact = format!("current -> {}, {} plans left", self.link, self.waiting);
        Check { what: "link and plans", passed, fact }
    }

    fn nothing_left(&self) -> Check {
        let fact = match self.left_over.as_slice() {
            [] => "no process of the drill runs any more".into(),
            some => format!("still there: {}", some.join(", ")),
        };
        Check { what: "nothing left over", passed: self.left_over.is_empty(), fact }
    }
}

fn shown(height: Option<u64>) -> String {
    height.map_or_else(|| "no height".into(), |height| height.to_string())
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
