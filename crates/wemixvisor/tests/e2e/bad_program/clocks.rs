//! A program that needs time is given it, and one that only looks healthy is not believed.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Program, TestHome};

use super::{CLOCK, SLACK, alerts, home_with, is_known, practice, took};
use crate::empty_home;

/// The moment of an event of the journal or the wire, in milliseconds since the epoch.
fn ms(moment: &Value) -> i64 {
    moment.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).expect("a moment").as_millisecond()
}

/// Start-up work before the RPC opens, then a head that stands still: slower than the practice node ever is, within
/// the clocks.
#[test]
fn d27_a_good_but_slow_program_is_not_rolled_back() {
    let home = empty_home();
    home.init(&practice("1.0.0"));
    home.install("v2", &practice("2.0.0").with("--rpc-after=3s").with("--head-still=9s"));
    let _supervisor = home.start();
    home.plan("v2", is_known(&home) + 5);
    home.sees("its slow start is seen", |status| {
        status["upgrade"]["step"] == "probation" && status["chain"]["head"].is_u64()
    });
    let entry = home.committed("v2");
    assert!(took(&entry) >= Duration::from_secs(8), "{entry:#}");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    assert!(alerts(&home, "upgrade_failed").is_empty());
}

/// Its clocks are the supervisor's: what passes while that stands still (SIGSTOP, a frozen cgroup, swapping) is not held
/// against a program that nobody has asked.
#[test]
fn d27_a_good_program_is_committed_when_the_supervisor_stood_still_in_its_probation() {
    let home = home_with(&practice("2.0.0").with("--rpc-after=2s"));
    let supervisor = home.start();
    home.plan("v2", is_known(&home) + 5);
    home.sees("the new program is on probation", |status| status["upgrade"]["step"] == "probation");
    supervisor.signal(Signal::STOP);
    // Longer than its clocks, and so long that it answers and goes on meanwhile.
    let clock = i64::try_from(CLOCK * 1000).unwrap();
    let stopped = jiff::Timestamp::now().as_millisecond();
    let started = home.wait("it has begun", || home.facts("start").get(1)?["at_ms"].as_i64());
    assert!(stopped - started < clock, "the machine is too slow for this test");
    home.wait("its clocks would have run out", || {
        (jiff::Timestamp::now().as_millisecond() > stopped + 2 * clock).then_some(())
    });
    supervisor.signal(Signal::CONT);
    let entry = home.committed("v2");
    assert!(took(&entry) >= Duration::from_secs(2 * CLOCK), "{entry:#}");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    assert!(alerts(&home, "upgrade_failed").is_empty());
    assert!(home.supervisor_said().contains("the supervisor could decide nothing for"));
}

/// One of several validators, 4 blocks a second.
fn validator(version: &str) -> Program {
    Program::practice(version).with("--validator").with("--network-follows").with("--block-time=250ms")
}

/// A validator's home. The floor between two starts costs it blocks, so that it always comes back behind.
fn validator_home(old: &Program, new: &Program) -> TestHome {
    let home = empty_home();
    home.set("validator", "true");
    home.set("node.restart_floor", "1s");
    home.set("probation.must_advance_within", "20s");
    home.init(old);
    home.install("v2", new);
    home
}

#[test]
fn d27a_a_validator_that_stands_healthy_behind_is_waited_for() {
    let home = validator_home(&validator("1.0.0"), &validator("2.0.0").with("--catch-up-after=8s"));
    let _supervisor = home.start();
    home.plan("v2", is_known(&home) + 8);
    let status = home.sees("it stands behind, all answers healthy", |status| {
        status["upgrade"]["step"] == "probation"
            && status["upgrade"]["waiting_for"].to_string().contains("head")
    });
    let entry = home.committed("v2");
    assert!(status["chain"]["head"].as_u64() < Some(home.node().head()));
    let starts = home.facts("start");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    let started = starts[1]["at_ms"].as_i64().unwrap();
    assert!(ms(&entry["finished_at"]) - started >= 8_000, "committed before it was in step: {entry:#}");
}

/// It goes on at once, but does not sign: as useless to a validator as one that stands.
#[test]
fn d27a_a_validator_that_does_not_seal_is_rolled_back() {
    let home = validator_home(&validator("1.0.0"), &validator("2.0.0").with("--no-seal"));
    home.set("probation.must_advance_within", "5s");
    let _supervisor = home.start();
    home.plan("v2", is_known(&home) + 8);
    let entry = home.finished("v2");
    assert_eq!((&entry["outcome"], &entry["trouble"]), (&json!("rolled_back"), &Value::Null), "{entry:#}");
    assert!(entry["reason"].as_str().unwrap().contains("our own seal"), "{entry:#}");
}

#[test]
fn d27a_a_validator_that_seals_and_cannot_import_is_rolled_back() {
    let home = validator_home(&validator("1.0.0"), &validator("2.0.0"));
    home.set("probation.must_advance_within", "5s");
    let _supervisor = home.start();
    let height = is_known(&home) + 12;
    let bad = validator("2.0.0").with(&format!("--cannot-import-from={height}"));
    home.install("v2", &bad);
    home.write_plans(&json!({"name": "v2", "height": height, "switch": "before"}).to_string());
    home.sees("the new node is on probation", |status| status["upgrade"]["step"] == "probation");
    // It runs for as long as its clock.
    let new = home.node();
    let new = home.wait("it stands before the fork, without peers", || {
        let state = new.state();
        (state["peers"] == 0).then_some(state)
    });
    assert!(new["version"].to_string().contains("2.0.0"), "{new:#}");
    assert!(new["head"].as_u64() <= Some(height), "{new:#}");
    let entry = home.finished("v2");
    // The old program can follow this network, and does.
    assert_eq!((&entry["outcome"], &entry["trouble"]), (&json!("rolled_back"), &Value::Null), "{entry:#}");
    assert!(entry["reason"].as_str().unwrap().contains("still missing: head"), "{entry:#}");
    assert!(took(&entry) < Duration::from_secs(5 + 20) + SLACK);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
    home.sees_head(height + 20);
}

/// The network has forked and neither program can follow: the way is forward, and that is said.
#[test]
fn d27a_when_the_old_program_cannot_follow_either_it_is_said_and_the_way_is_forward() {
    let (fork, height) = ("croissantBlock", 20);
    let network = |version: &str| validator(version).with(&format!("--network-fork={fork}={height}"));
    let wrong = network("2.0.0").with(&format!("--cannot-import-from={height}"));
    let home = validator_home(&network("1.0.0"), &wrong);
    home.set("probation.must_advance_within", "5s");
    home.set("node.stop_moment_limit", "1s");
    home.write_plans(&json!({"name": "v2", "height": height, "switch": "before"}).to_string());
    let _supervisor = home.start();
    let entry = home.finished("v2");
    assert_eq!(entry["outcome"], "rolled_back", "{entry:#}");
    assert!(entry["trouble"].as_str().is_some_and(|trouble| trouble.contains("head")), "{entry:#}");
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
    let alert = &alerts(&home, "upgrade_failed")[0];
    let said = alert["data"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("old program cannot follow") && said.contains("upgrade retry v2"), "{alert:#}");
    assert_eq!(home.nodes().len(), 1, "it stands, and it runs");

    home.install("v2", &network("2.0.1").with(&format!("--fork={fork}={height}")));
    let _ = home.cli(&["upgrade", "retry", "v2"]).expect(0);
    home.committed("v2");
    home.sees_head(height + 10);
}
