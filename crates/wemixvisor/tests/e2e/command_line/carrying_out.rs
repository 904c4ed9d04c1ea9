//! `upgrade apply`, `retry`, `rollback`, `history`, each followed to its end.

use serde_json::json;
use testkit::Program;

use super::{Following, fails, has, json};
use crate::home;

/// Schedules by hand: it is only carried out by order.
fn by_hand(home: &testkit::TestHome, name: &str) {
    let _ = home.cli(&["upgrade", "schedule", name, "1000000", "--switch", "manual"]).expect(0);
}

#[test]
fn an_upgrade_is_applied_shown_and_taken_back() {
    let home = home();
    let _supervisor = home.start();
    home.sees_head(2);
    has(&home.cli(&["upgrade", "history"]).expect(0).out, &["no upgrade has been carried out yet"]);
    fails(&home, &["upgrade", "rollback"], 1, "not_found", &["nothing to go back to"]);
    fails(&home, &["upgrade", "retry", "v2"], 1, "not_found", &["no failed upgrade v2"]);
    by_hand(&home, "v2");

    let said = home.cli(&["upgrade", "apply", "v2"]).expect(0);
    has(&said.out, &["v2 is committed: v2 runs and is proven"]);
    assert!(said.err.matches(" done (").count() >= 4, "the steps are shown:\n{}", said.err);
    has(&home.cli(&["status"]).expect(0).out, &["LAST UPGRADE", "v2 is committed"]);
    has(&home.cli(&["upgrade", "status"]).expect(0).out, &["no upgrade is scheduled", "LAST UPGRADE"]);
    has(&home.cli(&["upgrade", "status", "--follow"]).expect(0).out, &["LAST UPGRADE"]);
    has(&home.cli(&["upgrade", "history"]).expect(0).out, &["FINISHED", "genesis", "v2", "committed"]);

    let entry = json(&home, &["upgrade", "rollback"], 0);
    assert_eq!((&entry["outcome"], &entry["to"]), (&json!("committed"), &json!("genesis")), "{entry}");
    assert_eq!(home.current().as_deref(), Some("genesis"));
    let history = json(&home, &["upgrade", "history", "--limit", "1"], 0);
    assert_eq!((&history["count"], &history["history"][0]["to"]), (&json!(1), &json!("genesis")));
    fails(&home, &["upgrade", "rollback"], 1, "not_found", &["nothing to go back to"]);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
}

#[test]
fn an_upgrade_that_fails_is_rolled_back_pinned_and_tried_again() {
    let home = home();
    home.install("v2", &Program::practice("2.0.0").with("--exit-after=50ms").with("--exit-code=1"));
    let _supervisor = home.start();
    home.sees_head(2);
    by_hand(&home, "v2");
    let said = home.cli(&["upgrade", "apply", "v2"]).expect(1);
    has(&said.out, &["v2 was rolled back: ", "genesis runs again"]);
    has(&said.err, &[" failed ("]);
    has(&home.cli(&["status"]).expect(0).out, &["LAST UPGRADE", "v2 was rolled back"]);
    has(&home.cli(&["upgrade", "history"]).expect(0).out, &["rolled back", "[x]"]);

    fails(&home, &["upgrade", "schedule", "v2", "2000000"], 4, "conflict", &["pinned as bad", "--force"]);
    home.plan("v2", 2_000_000);
    home.sees("it is back in the file", |status| status["upgrades"][0]["pinned"] == true);
    has(&home.cli(&["upgrade", "list"]).expect(0).out, &["pinned"]);
    has(&home.cli(&["upgrade", "status"]).expect(0).out, &["is pinned as bad"]);
    fails(&home, &["upgrade", "apply", "v2"], 4, "conflict", &["pinned as bad"]);
    // Its program is still bad: by force it is tried and given up again.
    assert_eq!(json(&home, &["upgrade", "apply", "v2", "--force"], 1)["outcome"], "rolled_back");
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    let said = home.cli(&["upgrade", "retry", "v2"]).expect(0);
    has(&said.out, &["v2 is committed"]);
    assert_eq!(home.status().unwrap()["pinned"], json!([]));
}

#[test]
fn a_rollback_that_is_ordered_during_the_probation_gets_what_it_wants() {
    let home = home();
    home.install("v2", &Program::practice("2.0.0").with("--no-blocks"));
    let _supervisor = home.start();
    home.sees_head(2);
    by_hand(&home, "v2");
    let begun = json(&home, &["upgrade", "apply", "v2", "--no-wait"], 0);
    assert_eq!(begun["supervised"], true);
    let follower = Following::begin(&home, &["upgrade", "status", "--follow"]);
    home.sees("the new one is on probation", |status| {
        status["upgrade"]["step"] == "probation"
            && status["upgrade"]["waiting_for"].as_array().is_some_and(|missing| !missing.is_empty())
    });
    has(&home.cli(&["status"]).expect(0).out, &["ATTENTION", "UPGRADE UNDER WAY v2", "still to prove"]);
    has(&home.cli(&["upgrade", "status"]).expect(0).out, &["UPGRADE UNDER WAY v2"]);
    assert_eq!(json(&home, &["upgrade", "status"], 0)["upgrading"], true);
    fails(&home, &["restart"], 4, "conflict", &["is being carried out"]);
    follower.says("still to prove");

    let back = Following::begin(&home, &["upgrade", "rollback"]);
    let said = back.ends().expect(0);
    has(&said.out, &["v2 was rolled back: prove the new program: a person ordered the rollback"]);
    // Whoever waited for the upgrade did not get it.
    let said = follower.ends().expect(1);
    has(&said.out, &["v2 was rolled back"]);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
}

#[test]
fn an_upgrade_that_waits_for_its_operator_says_so_and_is_started_by_hand() {
    let home = home();
    home.set("upgrade.restart_after_upgrade", "false");
    let _supervisor = home.start();
    home.sees_head(2);
    by_hand(&home, "v2");
    let answer = json(&home, &["upgrade", "apply", "v2"], 0);
    has(answer["message"].as_str().unwrap(), &["wemixvisor start"]);
    has(&home.cli(&["status"]).expect(0).out, &["waits for you", "wemixvisor start"]);
    has(&home.cli(&["start"]).expect(0).out, &["the node runs (pid"]);
    home.committed("v2");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

#[test]
fn an_upgrade_that_waits_for_its_operator_is_started_by_a_start_that_finds_no_supervisor() {
    let home = home();
    home.set("upgrade.restart_after_upgrade", "false");
    let supervisor = home.start();
    home.sees_head(2);
    by_hand(&home, "v2");
    let _ = json(&home, &["upgrade", "apply", "v2"], 0);
    supervisor.kill();
    let args = home.node_args(&[]);
    let words = [&["start"], &super::words(&args)[..]].concat();
    has(&home.cli(&words).expect(0).out, &["the node runs (pid"]);
    home.committed("v2");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    let _ = home.cli(&["stop"]).expect(0);
}
