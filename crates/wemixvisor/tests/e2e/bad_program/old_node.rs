//! The old node does not go as it should, or has gone already: the upgrade happens all the same.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Program, Signal, TestHome, processes};

use super::{alerts, is_known, practice, replace_first};
use crate::{empty_home, home_by_order};

/// The note of a step of a finished upgrade.
fn note<'entry>(entry: &'entry Value, step: &str) -> &'entry str {
    let steps = entry["steps"].as_array().expect("a list");
    let mark = steps.iter().find(|mark| mark["step"] == step).expect("the step was taken");
    mark["note"].as_str().unwrap_or_default()
}

/// A home whose old program has this fault when it stops; the upgrade `v2` is good.
fn home_that_stops_by(fault: &str) -> TestHome {
    let home = empty_home();
    home.set("node.shutdown_grace", "2s");
    home.init(&practice("1.0.0").with(fault));
    home.install("v2", &practice("2.0.0"));
    home
}

/// Upgrades from an old program that has to be killed; the answer is what is said of the kill.
fn killed(home: &TestHome) -> String {
    let _supervisor = home.start();
    let node = home.node();
    home.plan("v2", is_known(home) + 5);
    let entry = home.committed("v2");
    assert!(note(&entry, "stop").contains("killed"), "{entry:#}");
    assert_eq!(
        (home.signals(node.pid, "SIGTERM"), home.started().as_slice()),
        (1, ["1.0.0".to_owned(), "2.0.0".to_owned()].as_slice())
    );
    let said = alerts(home, "stop_overdue");
    assert_eq!(said.len(), 1, "recorded, once: {said:?}");
    said[0]["data"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn d29_an_old_node_that_hangs_is_killed_after_the_grace_and_the_upgrade_goes_on() {
    let said = killed(&home_that_stops_by("--stop-hangs"));
    assert!(said.contains("showed no work"), "{said}");
}

/// It makes blocks as if nothing had been said.
#[test]
fn d29_an_old_node_that_ignores_the_stop_is_killed_and_the_upgrade_goes_on() {
    let home = home_that_stops_by("--ignore-sigterm");
    home.set("node.stop_hard_limit", "8s");
    let said = killed(&home);
    assert!(said.contains("SIGTERM") && said.contains("SIGKILL"), "{said}");
}

#[test]
fn d29_an_old_node_that_may_not_be_killed_is_waited_for_and_reported() {
    let home = home_that_stops_by("--stop-hangs");
    home.set("node.kill", "never");
    let _supervisor = home.start();
    let node = home.node();
    home.plan("v2", is_known(&home) + 5);
    let status = home.sees("the stop is overdue", |status| {
        let alerts = status["alerts"].as_array().expect("a list");
        alerts.iter().any(|alert| alert["kind"] == "stop_overdue")
    });
    assert_eq!(home.nodes(), [node.pid]);
    assert_eq!(status["upgrade"]["step"], "stop");
    // A person ends it.
    assert!(processes::signal(node.pid, home.root(), Signal::KILL));
    home.committed("v2");
    assert_eq!((home.signals(node.pid, "SIGTERM"), alerts(&home, "stop_overdue").len()), (1, 1));
    home.sees("the alert is over", |status| status["alerts"] == json!([]));
}

/// While it drains, that is between the height and the stop.
#[test]
fn d29_an_old_node_that_dies_by_itself_at_the_height() {
    for how in [json!({"code": 2}), json!({"code": 0}), json!({"signal": 9})] {
        let home = home_by_order();
        let wait =
            "#!/bin/sh\nuntil [ -e \"$DAEMON_HOME/go\" ] || [ ! -d \"$DAEMON_HOME\" ]; do sleep 0.05; done\n";
        home.hook("v2", "pre-stop", wait);
        home.plan("v2", 20);
        let _supervisor = home.start();
        let node = home.node();
        node.set_head(20);
        home.sees("it drains", |status| status["upgrade"]["step"] == "pre_stop");
        node.exit(how.clone());
        home.sees("its end is known", |status| !status["node"]["last_exit"].is_null());
        std::fs::write(home.root().join("go"), "").unwrap();
        let entry = home.committed("v2");
        assert_eq!(home.started(), ["1.0.0", "2.0.0"], "{how}: {entry:#}");
        assert_eq!(home.signals(node.pid, "SIGTERM"), 0, "{how}");
    }
}

/// Killed by the kernel in the middle of its stop: what it had not written is lost, and made again.
#[test]
fn d29_an_old_node_that_is_killed_while_it_stops() {
    let home = empty_home();
    home.init(&practice("1.0.0").with("--stop-takes=10m"));
    home.install("v2", &practice("2.0.0"));
    let _supervisor = home.start();
    let node = home.node();
    home.plan("v2", is_known(&home) + 5);
    home.wait("it was told to stop", || (home.signals(node.pid, "SIGTERM") == 1).then_some(()));
    assert!(processes::signal(node.pid, home.root(), Signal::KILL));
    let entry = home.committed("v2");
    assert!(home.node().head() >= entry["head"].as_u64().unwrap() + 2, "{entry:#}");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

/// It has the block and dies of it, each time it starts: whether somebody saw that head in time is a matter of luck.
#[test]
fn d29_an_old_node_that_dies_of_the_block_of_the_height() {
    for code in [0, 2] {
        let home = empty_home();
        home.init(
            &practice("1.0.0")
                .with("--flush-every=1")
                .with("--exit-at-height=12")
                .with(&format!("--exit-code={code}")),
        );
        home.install("v2", &practice("2.0.0"));
        home.plan("v2", 12);
        let _supervisor = home.start();
        home.committed("v2");
        assert_eq!((home.history().len(), home.nodes().len()), (1, 1), "exit code {code}");
    }
}

/// The program cannot make the block of the height: it dies there, each time.
#[test]
fn d29_an_old_node_that_goes_down_at_its_last_block_fires_the_halted_plan() {
    let home = home_by_order();
    home.set("upgrade.stall_time", "10m");
    home.write_plans(&json!({"name": "v2", "height": 30, "switch": "halted"}).to_string());
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(29);
    home.sees_head(29);
    node.exit(json!({"code": 0}));
    let entry = home.committed("v2");
    assert_eq!(entry["head"], 29, "{entry:#}");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

/// A network goes on while an operator has the node stopped; the height passes unseen.
#[test]
fn d29_an_old_node_that_is_already_down_when_the_height_comes() {
    let home = empty_home();
    let network =
        |version: &str| Program::practice(version).with("--network-follows").with("--block-time=100ms");
    home.init(&network("1.0.0"));
    home.install("v2", &network("2.0.0"));
    let _supervisor = home.start();
    let height = is_known(&home) + 10;
    let (code, _) = home.ask("POST", "/api/v1/node/stop", None).unwrap();
    assert_eq!(code, 202);
    home.sees("it rests", |status| status["node"]["state"] == "stopped");
    let rests = Instant::now();
    home.plan("v2", height);
    home.sees("the plan waits", |status| status["upgrades"][0]["ready"] == true);
    home.wait("the network has gone on by 20 blocks", || {
        (rests.elapsed() > Duration::from_secs(2)).then_some(())
    });
    assert!(home.nodes().is_empty(), "a plan does not wake a node that a person has stopped");
    let (code, _) = home.ask("POST", "/api/v1/node/start", None).unwrap();
    assert_eq!(code, 202);
    let entry = home.committed("v2");
    assert!(entry["head"].as_u64() >= Some(height), "{entry:#}");
    // Nobody knew of the height before the old program said so.
    assert_eq!(home.started(), ["1.0.0", "1.0.0", "2.0.0"]);
}

/// The old program is at its end for good; a person applies the upgrade that mends it.
#[test]
fn d29_an_old_node_that_cannot_run_any_more() {
    let home = home_by_order();
    home.set("node.max_restarts", "1");
    home.plan("v2", 1_000);
    let _supervisor = home.start();
    let node = home.node();
    node.mine(3);
    home.sees_head(3);
    replace_first(&home, &practice("1.0.0").with("--fail-start=chain data is damaged"));
    node.exit(json!({"code": 1}));
    home.sees("it is given up", |status| status["node"]["state"] == "failed");
    let _ = home.cli(&["upgrade", "apply", "v2"]).expect(0);
    let entry = home.committed("v2");
    assert_eq!(note(&entry, "stop"), "no node was running", "{entry:#}");
    home.sees("all is well again", |status| status["verdict"] == "ok");
}
