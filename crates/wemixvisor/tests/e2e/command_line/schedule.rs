//! `upgrade schedule`, `list`, `cancel`, `status`; `config`, and settings that are read again.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Program, Signal};

use super::{fails, has, json};
use crate::home_by_order;

#[test]
fn upgrades_are_scheduled_listed_replaced_and_cancelled_through_the_supervisor() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(50);
    home.sees_head(50);
    has(&home.cli(&["upgrade", "list"]).expect(0).out, &["no upgrade is scheduled"]);
    fails(&home, &["upgrade", "cancel"], 1, "failed", &["nothing to cancel"]);
    fails(
        &home,
        &["upgrade", "cancel", "v2"],
        1,
        "not_found",
        &["no upgrade v2 is scheduled; no upgrade is"],
    );

    let sum = format!("sha256:{}", "a".repeat(64));
    let sums = json!({"linux/amd64": sum, "linux/arm64": sum}).to_string();
    let flags = [
        "upgrade",
        "schedule",
        "v3",
        "2000",
        "--binaries",
        "https://127.0.0.1/v3",
        "--checksum",
        &sums,
        "--info",
        "what it is for",
        "--switch",
        "window:7",
    ];
    let answer = json(&home, &flags, 0);
    assert_eq!(answer["supervised"], true);
    let upgrade = &answer["upgrade"];
    assert_eq!(
        (&upgrade["height"], &upgrade["switch"], &upgrade["description"]),
        (&json!(2000), &json!("window:7"), &json!("what it is for"))
    );
    assert_eq!(upgrade["checksums"]["linux/arm64"], json!(sum));
    assert!(upgrade["binaries"].to_string().contains("https://127.0.0.1/v3"), "{upgrade}");
    let _ = json(&home, &["upgrade", "schedule", "v2", "1000", "--switch", "before"], 0);
    home.sees("v2 is ready and v3 is not", |status| {
        status["upgrades"][0]["ready"] == true && status["upgrades"][1]["ready"] == false
    });
    has(
        &home.cli(&["upgrade", "list"]).expect(0).out,
        &["NAME", "v2", "before", "yes", "v3", "window:7", "NO"],
    );
    assert_eq!(json(&home, &["upgrade", "list"], 0)["count"], 2);
    has(
        &home.cli(&["upgrade", "status"]).expect(0).out,
        &["NEXT UPGRADE v2", "one block before, for a fork", "blocks left", "ready"],
    );
    assert_eq!(json(&home, &["upgrade", "status"], 0)["pending_upgrade"]["name"], "v2");
    has(&home.cli(&["status"]).expect(0).out, &["ATTENTION", "then: v3", "ALERTS"]);

    fails(&home, &["upgrade", "schedule", "v4", "2000"], 4, "conflict", &["taken by upgrade v3"]);
    fails(&home, &["upgrade", "schedule", "v4", "50"], 4, "conflict", &["has passed (the head is at 50)"]);
    fails(&home, &["upgrade", "schedule", "v4", "0"], 2, "invalid", &["whole number"]);
    fails(&home, &["upgrade", "schedule", "v4", "60", "--switch", "soon"], 2, "invalid", &["switch"]);
    fails(
        &home,
        &["upgrade", "schedule", "v4", "60", "--checksum", "{"],
        2,
        "invalid",
        &["--checksum begins"],
    );
    fails(&home, &["upgrade", "schedule", "a/b", "60"], 2, "invalid", &["name"]);
    fails(&home, &["upgrade", "cancel"], 2, "invalid", &["several", "v2 at 1000", "v3 at 2000"]);
    fails(&home, &["upgrade", "cancel", "v22"], 1, "not_found", &["no upgrade v22 is scheduled"]);
    fails(&home, &["upgrade", "apply", "v22"], 1, "not_found", &["no upgrade v22 is scheduled"]);
    fails(&home, &["upgrade", "apply", "v3"], 4, "not_ready", &["the node was not stopped"]);

    // The same name again replaces its plan.
    let said = home.cli(&["upgrade", "schedule", "v3", "3000", "--switch", "manual"]).expect(0);
    assert!(!said.out.is_empty());
    assert_eq!(json(&home, &["upgrade", "list"], 0)["upgrades"][1]["height"], 3000);
    has(&home.cli(&["upgrade", "cancel", "v2"]).expect(0).out, &["v2"]);
    has(&home.cli(&["status"]).expect(0).out, &["only by hand", "NOT READY", "wemixvisor upgrade apply v3"]);
    let answer = json(&home, &["upgrade", "cancel"], 0);
    assert_eq!(answer["supervised"], true);
    assert!(home.plans().is_empty() && node.runs());
}

#[test]
fn a_due_upgrade_that_is_not_ready_is_shown_as_blocked() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(10);
    home.sees_head(10);
    home.schedule("v3", 12);
    node.set_head(12);
    home.sees("it is blocked, and known not to be ready", |status| {
        let upgrade = &status["upgrades"][0];
        !upgrade["blocked"].is_null() && upgrade["ready"] == false
    });
    has(&home.cli(&["status"]).expect(0).out, &["ATTENTION", "NOT READY", "blocked:"]);
    has(&home.cli(&["upgrade", "list"]).expect(0).out, &["blocked"]);
    assert!(node.runs());
    let _ = home.cli(&["upgrade", "cancel"]).expect(0);

    // By hand a height that has passed is taken at once.
    fails(&home, &["upgrade", "schedule", "v2", "5"], 4, "conflict", &["--force"]);
    let _ = home.cli(&["upgrade", "schedule", "v2", "5", "--force"]).expect(0);
    home.committed("v2");
    fails(&home, &["upgrade", "schedule", "v2", "90000000"], 4, "conflict", &["runs already"]);
}

#[test]
fn a_plan_file_that_makes_no_sense_is_said_by_every_command_that_shows_plans() {
    let home = home_by_order();
    home.install("v3", &Program::practice("3.0.0"));
    home.plan("v2", 1000);
    let _supervisor = home.start();
    home.sees("it is planned", |status| status["upgrades"][0]["name"] == "v2");
    home.write_plans("{");
    // A moment later: the file might be in the middle of being written.
    home.sees("the fault needs a person", |status| alerts(status) == ["plan_file"]);
    let said = home.cli(&["upgrade", "list"]).expect(0);
    has(&said.err, &["the plan file cannot be used"]);
    has(&said.out, &["v2"]);
    has(&home.cli(&["status"]).expect(0).out, &["ATTENTION", "PLAN FILE", "NEXT UPGRADE v2"]);
    fails(&home, &["upgrade", "schedule", "v3", "2000"], 1, "failed", &["plan file"]);
    fails(&home, &["upgrade", "cancel", "v2"], 1, "failed", &["plan file"]);
}

/// The alerts of a status by kind.
fn alerts(status: &Value) -> Vec<&str> {
    status["alerts"].as_array().unwrap().iter().filter_map(|alert| alert["kind"].as_str()).collect()
}

#[test]
fn settings_are_shown_checked_and_read_again() {
    let home = home_by_order();
    let supervisor = home.start();
    home.sees("all is well", |status| alerts(status).is_empty());
    has(&home.cli(&["config", "show"]).expect(0).out, &["node.max_restarts", "probation.must_be_steady_for"]);
    has(&home.cli(&["config", "show", "--origin"]).expect(0).out, &["default", "flag"]);
    let shown = json(&home, &["config", "show"], 0);
    assert_eq!(shown["file_found"], true);
    assert_eq!(json(&home, &["config", "validate"], 0)["valid"], true);

    // What makes no sense changes nothing, is said, and keeps nobody from the supervisor.
    home.set("node.max_restarts", "many");
    supervisor.signal(Signal::HUP);
    let status = home.sees("the fault is said", |status| !alerts(status).is_empty());
    assert!(status["alerts"].to_string().contains("max_restarts"), "{status:#}");
    let answer = json(&home, &["config", "validate"], 2);
    assert_eq!(answer["valid"], false);
    has(answer["errors"][0].as_str().unwrap(), &["max_restarts"]);
    fails(&home, &["config", "show"], 2, "invalid_settings", &["max_restarts"]);
    let said = home.cli(&["status"]).expect(0);
    has(&said.err, &["max_restarts"]);
    has(&said.out, &["ATTENTION  the node runs, but the settings file cannot be used", "ALERTS"]);

    // Mended: in force at once, at the node's next start, or told to need a restart.
    home.set("node.max_restarts", "7");
    home.set("logs.keep", "3");
    home.set("logs.color", "false");
    home.set("network", "devnet");
    supervisor.signal(Signal::HUP);
    home.sees("the fault is gone", |status| alerts(status).is_empty() && status["node"]["max_restarts"] == 7);
    for said in [
        "the settings stay as they are",
        "node.max_restarts is in force from now on",
        "logs.keep is in force from the node's next start on",
        "network was changed; it takes effect with: wemixvisor restart --supervisor-only",
    ] {
        home.wait(said, || home.supervisor_said().contains(said).then_some(()));
    }
    assert_eq!(json(&home, &["config", "validate"], 0)["valid"], true);

    // On its way to be replaced, or lost: no settings at all were not meant.
    let file = home.wemixvisor().join("config.toml");
    type Lose = fn(&Path) -> std::io::Result<()>;
    let lost: [(&str, Lose); 2] =
        [("is empty", |file| std::fs::write(file, "\n")), ("is gone", |file| std::fs::remove_file(file))];
    for (state, lose) in lost {
        lose(&file).unwrap();
        supervisor.signal(Signal::HUP);
        let status = home.sees(state, |status| status["alerts"].to_string().contains(state));
        assert_eq!((alerts(&status), &status["node"]["max_restarts"]), (vec!["settings"], &7.into()));
    }
    home.set("node.max_restarts", "8");
    home.sees("it is read again", |status| alerts(status).is_empty() && status["node"]["max_restarts"] == 8);
}
