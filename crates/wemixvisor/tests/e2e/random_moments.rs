//! C18. Whatever is killed at whatever moment: the seed is printed, and `WEMIXVISOR_SEED` plays it again;
//! `WEMIXVISOR_ROUNDS` makes it longer.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use testkit::{Program, Signal, TestHome, processes};

use crate::empty_home;
use crate::interruptions::{LinkWatch, judged};

/// Enough to meet most steps once; the whole still takes well under a minute.
const ROUNDS: u64 = 12;

/// Kills come at most so late after the start of a supervisor: by then a good upgrade is over.
const LATEST_MS: u64 = 1500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn rounds(one: impl Fn(&mut fastrand::Rng)) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("WEMIXVISOR_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    for round in 0..number("WEMIXVISOR_ROUNDS").unwrap_or(ROUNDS) {
        // Shown when the test fails.
        println!("WEMIXVISOR_SEED={seed}, round {round}");
        one(&mut fastrand::Rng::with_seed(seed.wrapping_add(round)));
    }
}

#[test]
fn c18_killed_at_random_moments() {
    rounds(one_round);
}

#[test]
fn e32_handed_over_at_random_moments() {
    rounds(handed_over);
}

/// The supervisor gives its place to its program 1 to 5 times at any moment of an upgrade. Nobody is killed: a good
/// program is committed, a bad one rolled back, each node started and stopped as if nothing had been.
fn handed_over(random: &mut fastrand::Rng) {
    let home = empty_home();
    let program = |version| Program::practice(version).with("--block-time=50ms").with("--flush-every=1");
    home.set("probation.must_advance_within", "30s");
    home.init(&program("1.0.0"));
    let bad = random.bool();
    let new = program("2.0.0");
    home.install("v2", &if bad { new.with("--fail-start=bad flag") } else { new });
    home.plan("v2", random.u64(1..6));
    let watch = LinkWatch::over(&home);
    let supervisor = home.start();
    for _ in 0..random.u8(1..6) {
        wait_until(Instant::now() + Duration::from_millis(random.u64(0..250)));
        // While it is just being replaced nobody answers; that is asked again.
        let (code, answer) = home.wait("an answer", || home.ask("POST", "/api/v1/supervisor/restart", None));
        assert!([202, 409].contains(&code), "{code} {answer}");
    }
    judged(&home);
    let (outcome, programs): (&str, &[&str]) = match bad {
        true => ("rolled_back", &["1.0.0", "2.0.0", "1.0.0"]),
        false => ("committed", &["1.0.0", "2.0.0"]),
    };
    assert_eq!(home.history()[0]["outcome"], outcome);
    assert_eq!(home.started(), programs);
    assert_eq!(supervisor.stop(), 0);
    watch.never_absent();
}

fn one_round(random: &mut fastrand::Rng) {
    let home = empty_home();
    let program = |version| Program::practice(version).with("--block-time=100ms").with("--flush-every=1");
    home.set("probation.must_advance_within", "5s");
    home.set("node.max_restarts", "100");
    home.init(&program("1.0.0"));
    let new = program("2.0.0");
    home.install(
        "v2",
        &match random.u8(0..6) {
            0 => new.with("--fail-start=bad flag"),
            1 => new.with("--no-blocks"),
            2 => new.with("--exit-after=300ms"),
            _ => new,
        },
    );
    home.plan("v2", random.u64(1..6));
    let watch = LinkWatch::over(&home);
    for _ in 0..random.u8(1..4) {
        let mut supervisor = home.spawn(&home.node_args(&[]), std::process::Stdio::null());
        wait_until(Instant::now() + Duration::from_millis(random.u64(0..LATEST_MS)));
        let victims = random.u8(1..8);
        println!("  victims {victims:03b}");
        // The node's and the keeper's own deaths are met by a supervisor that lives on, or by the next one.
        if victims & 2 != 0 {
            kill(&home, home.pid_in("keeper.lock"));
        }
        if victims & 4 != 0 {
            kill(&home, node(&home));
        }
        if victims & 1 != 0 {
            supervisor.kill();
        } else {
            supervisor.answers();
            wait_until(Instant::now() + Duration::from_millis(random.u64(0..300)));
        }
    }
    let _supervisor = home.start();
    judged(&home);
    watch.never_absent();
}

/// A random moment is the one thing that a clock must give.
fn wait_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left);
    }
}

fn kill(home: &TestHome, pid: Option<u32>) {
    if let Some(pid) = pid {
        processes::signal(pid, home.root(), Signal::KILL);
    }
}

fn node(home: &TestHome) -> Option<u32> {
    let record: Value = serde_json::from_slice(&fs::read(home.wemixvisor().join("node.json")).ok()?).ok()?;
    record["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}
