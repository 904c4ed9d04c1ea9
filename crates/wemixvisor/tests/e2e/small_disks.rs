//! Disks that are really full: file systems of 1 MiB. The node runs on, the fault is said, and with room again
//! everything goes on by itself.

use serde_json::json;
use testkit::{Program, Signal, SmallDisk, processes};

use crate::{empty_home, home_by_order};

#[test]
fn a_full_disk_under_the_logs_costs_output_and_nothing_else() {
    let home = home_by_order();
    let Some(disk) = SmallDisk::over(&home.wemixvisor().join("logs"), 1) else { return };
    let supervisor = home.start();
    let node = home.node();
    disk.fill();
    assert!(disk.is_full());
    // Far more than disk and pipe hold.
    node.set(json!({"log-burst": 4_000_000}));
    node.mine(10);
    home.sees_head(10);
    // Everybody works: stop, start, upgrade.
    home.schedule("v2", 20);
    node.set_head(20);
    assert_eq!(home.committed("v2")["head"], 20);
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
    disk.fill();
    disk.clear();
    home.wait("it is said how much is missing, and why", || {
        let text = home.node_log();
        let note =
            text.lines().find(|line| line.contains("bytes of the node's output could not be written"))?;
        assert!(note.contains("No space left"), "{note}");
        Some(())
    });
    let so_far = home.node_log().len();
    home.node().set(json!({"log-burst": 100_000}));
    home.wait("the log goes on", || (home.node_log().len() >= so_far + 100_000).then_some(()));
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
    assert!(!home.supervisor_said().contains("panicked"));
}

#[test]
fn a_full_disk_under_the_state_holds_an_upgrade_up_and_the_node_runs_on() {
    let home = empty_home();
    let Some(disk) = SmallDisk::over(&home.wemixvisor(), 1) else { return };
    home.set("node.restart_floor", "0");
    home.init(&Program::practice("1.0.0").with("--no-blocks").with("--block-time=100ms"));
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    let supervisor = home.start();
    let node = home.node();
    node.mine(1);
    home.sees_head(1);
    home.schedule("v2", 20);
    home.sees("it is ready", |status| status["upgrades"][0]["ready"] == json!(true));
    disk.fill();
    assert!(disk.is_full());
    node.set_head(20);
    let status = home.sees("it is said", |status| {
        status["alerts"]
            .as_array()
            .is_some_and(|alerts| alerts.iter().any(|alert| alert["kind"] == "store_failed"))
    });
    assert!(node.runs() && home.started() == ["1.0.0"], "{status:#}");
    assert_eq!(home.signals(node.pid, "SIGTERM"), 0, "nothing is done that is not written down");
    home.wait("the log says so", || home.supervisor_said().contains("full").then_some(()));
    disk.clear();
    assert_eq!(home.committed("v2")["head"], 20);
    home.sees("the alert is over", |status| {
        status["alerts"]
            .as_array()
            .is_none_or(|alerts| alerts.iter().all(|alert| alert["kind"] != "store_failed"))
    });
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    let kept = home.history();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
    assert!(!home.supervisor_said().contains("panicked"));
}

#[test]
fn a_full_disk_under_the_state_answers_orders_at_once_and_hides_no_end_of_the_node() {
    let home = empty_home();
    let Some(disk) = SmallDisk::over(&home.wemixvisor(), 1) else { return };
    home.set("node.restart_floor", "0");
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    let supervisor = home.start();
    let node = home.node();
    home.schedule("v2", 1_000_000);
    home.sees("it is ready", |status| status["upgrades"][0]["ready"] == json!(true));
    disk.fill();
    // The first one is under way when that is found out, those after it are refused.
    for what in ["how it ends is not known yet", "so nothing is ordered"] {
        let said = home.cli(&["upgrade", "apply", "v2", "--no-wait"]).expect(1);
        assert!(said.err.contains(what), "{}", said.err);
    }
    assert!(processes::signal(node.pid, home.root(), Signal::KILL));
    let status = home.sees("the node is down", |status| {
        status["verdict"] == "down" && status["headline"].to_string().contains("NO NODE RUNS")
    });
    assert!(
        status["node"]["pid"].is_null() && status["node"]["last_exit"]["class"] == "signal",
        "{status:#}"
    );
    disk.clear();
    home.committed("v2");
    home.sees("all is well", |status| status["verdict"] == "ok");
    assert_eq!(supervisor.stop(), 0);
}

/// The old node is stopped by then, so it is down and nothing else may be said.
#[test]
fn a_disk_filled_by_a_hook_is_a_node_that_is_down_until_there_is_room() {
    let home = empty_home();
    let Some(_disk) = SmallDisk::over(&home.wemixvisor(), 1) else { return };
    home.set("node.restart_floor", "0");
    home.init(&Program::practice("1.0.0").with("--no-blocks").with("--block-time=100ms"));
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    let hook = "#!/bin/sh\ndd if=/dev/zero of=\"$DAEMON_HOME/wemixvisor/fill\" bs=4k 2>/dev/null\nexit 0\n";
    home.hook("v2", "pre-upgrade", hook);
    let _supervisor = home.start();
    let node = home.node();
    home.schedule("v2", 20);
    node.set_head(20);
    let status = home.sees("it is said", |status| {
        status["verdict"] == "down"
            && status["headline"].as_str().is_some_and(|text| text.contains("NO NODE"))
    });
    assert!(!node.runs(), "{status:#}");
    // Who orders something now is told at once.
    let said = home.cli(&["restart"]).expect(1);
    assert!(said.err.contains("decisions cannot be written down"), "{}", said.err);
    std::fs::remove_file(home.wemixvisor().join("fill")).unwrap();
    assert_eq!(home.committed("v2")["head"], 20);
    home.sees("all is well", |status| status["verdict"] == "ok");
}
