//! The new program starts and is bad: the old one is back within the clock of the failure, as it was.

use std::time::Duration;

use serde_json::json;
use testkit::{Program, Signal, processes};

use super::{CLOCK, alerts, home_with, is_known, practice, rolled_back, schedule_ahead, took};

const AT_ONCE: Duration = Duration::from_secs(1);
const BY_CLOCK: Duration = Duration::from_secs(CLOCK);
const THERE_AND_BACK: [&str; 3] = ["1.0.0", "2.0.0", "1.0.0"];

/// Upgrades to a bad program and asserts that it is rolled back for a reason that contains `word`.
fn goes_back(bad: &Program, clock: Duration, word: &str) {
    let home = home_with(bad);
    let _supervisor = home.start();
    schedule_ahead(&home);
    let reason = rolled_back(&home, &THERE_AND_BACK, clock);
    assert!(reason.contains(word), "{reason}");
    // It did run with what the plan gave it.
    let new = &home.facts("start")[1];
    assert_eq!(new["env"]["TESTNODE_NEW"], "1");
}

#[test]
fn d26_exits_at_once() {
    goes_back(&practice("2.0.0").with("--fail-start=unknown flag"), AT_ONCE, "unknown flag");
}

#[test]
fn d26_exits_after_five_seconds() {
    let bad = practice("2.0.0").with("--head-still=10m").with("--exit-after=5s").with("--exit-code=2");
    let home = home_with(&bad);
    home.set("probation.must_advance_within", "5m");
    let _supervisor = home.start();
    schedule_ahead(&home);
    let reason = rolled_back(&home, &THERE_AND_BACK, Duration::from_secs(5));
    assert!(reason.contains("panicked"), "{reason}");
}

#[test]
fn d26_dies_by_a_signal() {
    let bad = practice("2.0.0").with("--head-still=10m").with("--signal-after=200ms").with("--signal=11");
    goes_back(&bad, AT_ONCE, "SIGSEGV");
}

/// A real program whose library is not on this machine: the system's own loader refuses it.
fn without_its_library() -> Program {
    let (library, gone) = (b"libc.so.6\0", b"libq.so.9\0");
    let mut shell = std::fs::read("/bin/sh").unwrap();
    let place = shell.windows(library.len()).position(|bytes| bytes == library).expect("/bin/sh needs libc");
    shell[place..place + gone.len()].copy_from_slice(gone);
    Program::bytes(shell)
}

/// Its `version` shows it beforehand: the old node is not even stopped.
#[test]
fn d26_cannot_be_loaded() {
    let home = home_with(&without_its_library());
    let _supervisor = home.start();
    home.plan("v2", 1_000_000);
    let status = home.sees("it is not ready", |status| status["upgrades"][0]["ready"] == false);
    assert!(status["upgrades"][0]["findings"].to_string().contains("libq.so.9"), "{status:#}");
    let height = schedule_ahead(&home);
    let status = home.sees("it is blocked", |status| status["upgrades"][0]["blocked"].is_string());
    assert!(status["upgrades"][0]["blocked"].to_string().contains("libq.so.9"), "{status:#}");
    home.sees_head(height + 3);
    assert_eq!((home.started().as_slice(), home.facts("signal").len()), (["1.0.0".to_owned()].as_slice(), 0));
}

/// What shows only when it is run.
#[test]
fn d26_cannot_be_loaded_although_it_tells_its_version() {
    let home = home_with(&practice("2.0.0"));
    home.install("broken", &without_its_library());
    let broken = home.wemixvisor().join("broken");
    std::fs::rename(home.program("broken"), &broken).unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = version ]; then echo 'Version: 2.0.0-stable'; exit 0; fi\nexec '{}' \"$@\"\n",
        broken.display()
    );
    home.install("v2", &Program::bytes(script));
    let _supervisor = home.start();
    schedule_ahead(&home);
    let reason = rolled_back(&home, &["1.0.0", "1.0.0"], AT_ONCE);
    assert!(reason.contains("could not be loaded") && reason.contains("libq.so.9"), "{reason}");
}

#[test]
fn d26_hangs_before_it_answers() {
    goes_back(&practice("2.0.0").with("--rpc-hang"), BY_CLOCK, "no answer within");
}

#[test]
fn d26_never_opens_its_rpc() {
    goes_back(&practice("2.0.0").with("--rpc-after=10m"), BY_CLOCK, "no answer within");
}

#[test]
fn d26_answers_but_its_head_stands_still() {
    goes_back(&practice("2.0.0").with("--head-still=10m"), BY_CLOCK, "still missing: head");
}

#[test]
fn d26_answers_for_another_chain() {
    goes_back(&practice("2.0.0").with("--answer-chain-id=7"), AT_ONCE, "it runs chain 7");
}

#[test]
fn d26_answers_for_another_genesis() {
    goes_back(&practice("2.0.0").with("--answer-genesis=other"), AT_ONCE, "genesis block");
}

#[test]
fn d26_is_another_version() {
    let bad = practice("2.0.0").with("--client-version=testnode/v1.9.9-stable/linux-amd64/rust");
    goes_back(&bad, AT_ONCE, "it calls itself");
}

#[test]
fn d26_is_another_version_than_the_plan_expects() {
    let home = home_with(&practice("2.0.0"));
    let _supervisor = home.start();
    let height = is_known(&home) + 8;
    let plan = json!({"name": "v2", "height": height, "expect_version": "v2.1"});
    home.write_plans(&plan.to_string());
    let reason = rolled_back(&home, &THERE_AND_BACK, AT_ONCE);
    assert!(reason.contains("v2.1"), "{reason}");
}

#[test]
fn d26_ignores_sigterm() {
    let bad = practice("2.0.0").with("--head-still=10m").with("--ignore-sigterm");
    // The grace of 2 s, and until it is seen to do no work.
    goes_back(&bad, BY_CLOCK + Duration::from_secs(8), "still missing: head");
}

/// The first start is broken off with its supervisor, as by a power cut; the second one crashes.
#[test]
fn d26_crashes_only_on_its_second_start() {
    let bad = Program::practice("2.0.0")
        .with("--journal-env")
        .with("--block-time=1h")
        .with("--only-on-start=2")
        .with("--fail-start=corrupted cache");
    let home = home_with(&bad);
    home.set("probation.must_advance_within", "5m");
    let supervisor = home.start();
    schedule_ahead(&home);
    home.sees("it is on probation", |status| status["upgrade"]["step"] == "probation");
    home.wait("it runs", || (home.started().len() == 2).then_some(()));
    supervisor.kill();
    for pid in processes::of(home.root()) {
        processes::signal(pid, home.root(), Signal::KILL);
    }
    home.is_deserted();
    let _supervisor = home.start();
    let reason = rolled_back(&home, &["1.0.0", "2.0.0", "2.0.0", "1.0.0"], Duration::from_secs(30));
    assert!(reason.contains("corrupted cache"), "{reason}");
}

/// Once it is proven, a crash is a crash: answered by the restart policy.
#[test]
fn d26_a_crash_on_the_second_start_after_the_commit_is_no_rollback() {
    let bad = practice("2.0.0").with("--only-on-start=2").with("--fail-start=corrupted cache");
    let home = home_with(&bad);
    let _supervisor = home.start();
    schedule_ahead(&home);
    home.committed("v2");
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.wait("the third start", || (home.started() == ["1.0.0", "2.0.0", "2.0.0", "2.0.0"]).then_some(()));
    home.sees("it runs", |status| status["node"]["state"] == "running" && status["installed"] == "v2");
    assert_eq!(home.history().len(), 1);
}

/// What comes back is what ran, with what a plan once gave it: not the first program of the home.
#[test]
fn d26_goes_back_to_the_program_that_ran_before_and_not_to_the_first_one() {
    let home = home_with(&practice("2.0.0"));
    home.install("v3", &practice("3.0.0").with("--fail-start=unknown flag"));
    let _supervisor = home.start();
    schedule_ahead(&home);
    home.committed("v2");
    home.nothing_is_planned();
    let height = home.node().head() + 8;
    let args = home.node_args(&["--peers", "30"]);
    home.write_plans(&json!({"name": "v3", "height": height, "args": args}).to_string());
    let entry = home.finished("v3");
    assert_eq!((&entry["outcome"], &entry["from"]), (&json!("rolled_back"), &json!("v2")), "{entry:#}");
    assert!(took(&entry) < AT_ONCE + super::SLACK);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "3.0.0", "2.0.0"]);
    assert_eq!(home.current().as_deref(), Some("v2"));
    let starts = home.facts("start");
    assert_eq!(super::line_of(&starts[1]), super::line_of(&starts[3]));
    assert_eq!(home.node().state()["peers"], 9, "the arguments of v2's plan");
    home.sees_head(height + 5);
}

/// A pinned program is not tried again by itself, wherever its plan is put; a mended one is, by order.
#[test]
fn d26_a_bad_program_is_not_tried_again_until_it_is_mended() {
    let home = home_with(&practice("2.0.0").with("--fail-start=unknown flag"));
    let supervisor = home.start();
    let height = schedule_ahead(&home);
    rolled_back(&home, &THERE_AND_BACK, AT_ONCE);
    for height in [height, height + 20] {
        home.plan("v2", height);
        home.sees_head(height + 25);
    }
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
    let _supervisor = home.start();
    home.sees_head(is_known(&home) + 5);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0", "1.0.0"], "pinned for ever");
    assert_eq!(alerts(&home, "upgrade_failed").len(), 2, "the next supervisor says it again, once");

    home.install("v2", &practice("2.0.1"));
    let _ = home.cli(&["upgrade", "retry", "v2"]).expect(0);
    home.committed("v2");
    assert_eq!(home.started().last().map(String::as_str), Some("2.0.1"));
    home.sees("the alert is over", |status| status["alerts"] == json!([]));
}
