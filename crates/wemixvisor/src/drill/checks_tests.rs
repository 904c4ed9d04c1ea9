use super::super::journal::{End, Life};
use super::*;

fn life(pid: u64, started: u64, head: u64, ended: u64) -> Life {
    Life {
        pid,
        version: "v".into(),
        started,
        signals: vec![("SIGTERM".into(), head)],
        end: Some(End { at: ended, exit: Some(0) }),
    }
}

fn finished(name: &str, head: u64, fired: u64, finished: u64, outcome: &str) -> Finished {
    Finished {
        id: fired,
        name: name.into(),
        height: Some(head),
        from: String::new(),
        to: String::new(),
        sha256: String::new(),
        head: Some(head),
        fired_at: Moment(fired),
        finished_at: Moment(finished),
        downtime_ms: Some(1),
        outcome: outcome.into(),
        reason: None,
        trouble: None,
        steps: Vec::new(),
    }
}

fn act(name: &'static str, height: u64, outcome: &'static str) -> Act {
    Act { name, height, outcome, may_stand_ms: 3_000 }
}

/// A drill in which everything went well: a block every second, upgrades at 2, 4 and 6.
fn good() -> Played {
    Played {
        acts: vec![
            act("v2.0.0", 2, "committed"),
            act("v3.0.0", 4, "rolled_back"),
            act("v4.0.0", 6, "committed"),
        ],
        history: vec![
            finished("v4.0.0", 6, 6_000, 6_900, "committed"),
            finished("v3.0.0", 4, 4_000, 4_900, "rolled_back"),
            finished("v2.0.0", 2, 2_000, 2_900, "committed"),
        ],
        journal: Journal {
            lives: vec![
                life(1, 100, 2, 2_010),
                life(2, 2_020, 4, 4_010),
                life(3, 4_020, 4, 4_500),
                life(4, 4_510, 6, 6_010),
                life(5, 6_020, 8, 9_000),
            ],
            blocks: (1..=8).map(|height| (height * 1_000, height)).collect(),
            locked_out: 0,
        },
        pinned: vec!["v3.0.0".into()],
        link: "upgrades/v4.0.0".into(),
        waiting: 0,
        survival: Survival { kills: 2, pids: Some((5, 5)), blocks_alone: 2 },
        left_over: Vec::new(),
    }
}

/// The only check that does not hold after this change.
fn failing(change: impl FnOnce(&mut Played)) -> (&'static str, String) {
    let mut played = good();
    change(&mut played);
    let mut failed: Vec<Check> = played.checks().into_iter().filter(|check| !check.passed).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let check = failed.remove(0);
    (check.what, check.fact)
}

#[test]
fn a_good_drill_passes_every_check() {
    let checks = good().checks();
    assert_eq!(checks.len(), 10);
    assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
    assert_eq!(checks[0].fact, "2, 4, 6: as announced, SIGTERM at these heads");
    assert_eq!(checks[2].fact, "5 lives, none overlaps; shortest gap 10 ms");
}

#[test]
fn each_wrong_fact_fails_its_own_check() {
    type Wrong = (&'static str, &'static str, fn(&mut Played));
    let checks: [Wrong; 15] = [
        ("exact height", "began 3, 4, 6", |played| played.history[2].head = Some(3)),
        ("exact height", "SIGTERM 1, 4, 6", |played| played.journal.lives[0].signals[0].1 = 1),
        ("exact height", "began 2, 4, no height", |played| played.history[0].head = None),
        ("one SIGTERM each", "6 SIGTERM", |played| {
            played.journal.lives[4].signals.push(("SIGTERM".into(), 8));
        }),
        ("one SIGTERM each", "1 other", |played| {
            played.journal.lives[4].signals.push(("SIGINT".into(), 8));
        }),
        ("one SIGTERM each", "4 clean ends", |played| played.journal.lives[4].end = None),
        ("never two nodes", "at once for 10 ms", |played| played.journal.lives[1].started = 2_000),
        ("never two nodes", "in use", |played| played.journal.locked_out = 1),
        ("no block lost", "after block 6 came block 8", |played| {
            played.journal.blocks.remove(6);
        }),
        ("good ones commit", "v4.0.0: rolled back", |played| {
            played.history[0].outcome = "rolled_back".into()
        }),
        ("bad one goes back", "v3.0.0: committed", |played| played.history[1].outcome = "committed".into()),
        ("bad one goes back", "not pinned", |played| played.pinned.clear()),
        ("outlives kill -9", "5 was gone, 6 ran", |played| played.survival.pids = Some((5, 6))),
        ("link and plans", "genesis, 1 plans", |played| {
            (played.link, played.waiting) = ("genesis".into(), 1);
        }),
        ("nothing left over", "still there: sleep", |played| played.left_over = vec!["sleep".into()]),
    ];
    for (what, part, change) in checks {
        let (failed, fact) = failing(change);
        assert_eq!(failed, what);
        assert!(fact.contains(part), "{what}: {fact}");
    }
}

#[test]
fn a_head_that_stood_too_long_is_noticed() {
    let (what, fact) = failing(|played| played.acts[1].may_stand_ms = 500);
    assert_eq!(what, "head stood at most");
    assert_eq!(fact, "1.0 s of 3.0 s, 1.0 s of 500 ms, 1.0 s of 3.0 s");
}

#[test]
fn a_drill_without_evidence_does_not_pass() {
    let mut played = good();
    played.journal = Journal::default();
    played.history.clear();
    let passed: Vec<&str> =
        played.checks().into_iter().filter(|check| check.passed).map(|check| check.what).collect();
    assert_eq!(passed, ["outlives kill -9", "link and plans", "nothing left over"]);
}
