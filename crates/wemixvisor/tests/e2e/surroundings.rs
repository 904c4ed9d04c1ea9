//! What other hands do to a home while all goes well: it is said at once, and mended when it is put right.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use testkit::{NODE_NAME, Program, Signal, TestHome, processes};

use crate::{empty_home, home_by_order};

fn alert(status: &Value, kind: &str) -> Option<String> {
    let alerts = status["alerts"].as_array().into_iter().flatten();
    alerts.into_iter().find(|alert| alert["kind"] == kind)?["text"].as_str().map(str::to_owned)
}

fn is_told(home: &TestHome, kind: &str) -> String {
    let status = home.sees("the alert", |status| alert(status, kind).is_some());
    alert(&status, kind).unwrap()
}

fn is_over(home: &TestHome, kind: &str) {
    home.sees("the end of the alert", |status| alert(status, kind).is_none());
}

#[test]
fn a_link_that_another_hand_points_elsewhere() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    let link = home.wemixvisor().join("current");
    fs::remove_file(&link).unwrap();
    let said = is_told(&home, "link");
    assert!(said.contains("point `current` to genesis"), "{said}");
    symlink("upgrades/v2", &link).unwrap();
    home.wait("the other text", || is_told(&home, "link").contains("v2 by another hand").then_some(()));
    fs::remove_file(&link).unwrap();
    symlink("genesis", &link).unwrap();
    is_over(&home, "link");
    assert!(node.runs() && home.started() == ["1.0.0"]);
}

#[test]
fn a_program_that_is_moved_away_in_use() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    let program = home.wemixvisor().join("genesis/bin").join(NODE_NAME);
    for (there, elsewhere) in [
        (program.clone(), program.with_extension("x")),
        (program.parent().unwrap().to_owned(), program.parent().unwrap().with_extension("x")),
    ] {
        fs::rename(&there, &elsewhere).unwrap();
        let said = is_told(&home, "link");
        assert!(said.contains(&format!("there is no program at {}", program.display())), "{said}");
        let status = home.status().unwrap();
        assert_eq!(status["verdict"], "attention", "{status:#}");
        fs::rename(&elsewhere, &there).unwrap();
        is_over(&home, "link");
    }
    assert!(node.runs() && home.started() == ["1.0.0"]);
}

#[test]
fn something_else_than_a_file_in_the_place_of_the_nodes_log() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    let log = home.root().join("output");
    home.set("logs.file", "output");
    fs::create_dir(&log).unwrap();
    let supervisor = home.start();
    let said = is_told(&home, "log");
    assert!(said.contains(&format!("{} is a directory, not a file", log.display())), "{said}");
    let status = home.sees_head(1);
    assert_eq!(status["verdict"], "attention", "{status:#}");
    let noted = || home.cli(&["config", "validate"]).expect(0).out;
    assert!(noted().contains("note: logs.file: ") && noted().contains("is a directory"), "{}", noted());
    fs::remove_dir(&log).unwrap();
    // Nobody reads it; whoever opens it to read would wait for a writer.
    rustix::fs::mkfifoat(rustix::fs::CWD, &log, 0o600.into()).unwrap();
    home.wait("the other text", || is_told(&home, "log").contains("is a FIFO").then_some(()));
    let (node, head) = (home.node(), home.status().unwrap()["chain"]["head"].as_u64().unwrap_or(0));
    supervisor.kill();
    let supervisor = home.start();
    home.sees_head(head + 1);
    assert!(node.runs() && home.cli(&["logs"]).code != 0);
    fs::remove_file(&log).unwrap();
    is_over(&home, "log");
    home.wait("the log is begun", || fs::read_to_string(&log).ok().filter(|text| text.contains("number=")));
    assert!(!noted().contains("note: logs.file"), "{}", noted());
    assert_eq!(home.started(), ["1.0.0"]);
    assert_eq!(supervisor.stop(), 0);
}

/// It would be written into, and renamed when it is full.
#[test]
fn the_nodes_log_is_no_file_of_the_supervisor() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    let supervisor = home.start();
    let node = home.node();
    for file in ["wemixvisor/state.db", "wemixvisor/logs/supervisor.log", "data/upgrade-info.json"] {
        home.set("logs.file", file);
        let said = home.cli(&["config", "validate"]).expect(2).err;
        assert!(said.contains("logs.file: ") && said.contains(file), "{said}");
        home.wait("it is told", || is_told(&home, "settings").contains(file).then_some(()));
    }
    let refused = home.cli(&["restart", "--supervisor-only"]);
    assert!(refused.code != 0 && node.runs(), "{refused:?}");
    assert_eq!(supervisor.stop(), 0);
    let mut next = home.spawn(&home.node_args(&[]), std::process::Stdio::null());
    assert_eq!(next.ends(), 2);
    assert!(home.supervisor_said().contains("upgrade-info.json is a file of wemixvisor"));
    assert_eq!(home.started().len(), 1);
}

#[test]
fn a_store_that_is_moved_away_in_use() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    let (store, elsewhere) = (home.wemixvisor().join("state.db"), home.wemixvisor().join("elsewhere.db"));
    fs::rename(&store, &elsewhere).unwrap();
    let said = is_told(&home, "store_gone");
    assert!(said.contains("state.db was moved away"), "{said}");
    fs::rename(&elsewhere, &store).unwrap();
    is_over(&home, "store_gone");
    assert!(node.runs());
}

/// No checksum in the plan: only the look at the file itself can tell.
#[test]
fn a_program_that_is_replaced_after_its_check_is_looked_at_again() {
    let home = home_by_order();
    home.plan("v2", 10_000);
    let _supervisor = home.start();
    let ready = |home: &TestHome, wanted: bool| {
        home.sees("the readiness", |status| status["upgrades"][0]["ready"] == json!(wanted))
    };
    ready(&home, true);
    home.install("v2", &Program::bytes("#!/bin/sh\necho 'no such library' >&2\nexit 127\n"));
    let status = ready(&home, false);
    let said = status["upgrades"][0]["findings"].to_string();
    assert!(said.contains("it does not run on this machine") && said.contains("no such library"), "{said}");
    home.install("v2", &Program::practice("2.0.0"));
    ready(&home, true);
}

/// So late that nobody has looked at it since: it is asked for its version before the old node is stopped.
#[test]
fn a_program_that_is_replaced_at_the_last_moment_is_asked_first() {
    let home = home_by_order();
    home.plan("v2", 50);
    let _supervisor = home.start();
    home.sees("it is ready", |status| status["upgrades"][0]["ready"] == true);
    home.sees_head(0);
    let node = home.node();
    home.install("v2", &Program::bytes("#!/bin/sh\nexit 127\n"));
    node.set_head(50);
    let status = home.sees("it is blocked", |status| status["upgrades"][0]["blocked"].is_string());
    let why = status["upgrades"][0]["blocked"].as_str().unwrap();
    assert!(why.contains("it does not run on this machine"), "{why}");
    assert!(node.runs() && home.facts("signal").is_empty());
}

#[test]
fn more_plans_than_any_chain_announces_are_refused_as_a_whole() {
    let home = home_by_order();
    home.plan("v2", 10_000);
    let _supervisor = home.start();
    home.sees("the plan", |status| status["upgrades"][0]["name"] == "v2");
    let many: Vec<Value> =
        (1..=101).map(|n| json!({"name": format!("v{n}"), "height": 20_000 + n})).collect();
    home.write_plans(&Value::from(many).to_string());
    let said = is_told(&home, "plan_file");
    assert!(said.contains("holds 101 plans, the most is 100"), "{said}");
    let status = home.status().unwrap();
    assert_eq!((&status["upgrades"][0]["name"], &status["upgrades"][1]), (&json!("v2"), &Value::Null));
}

/// Nobody is left who saw the end of the node: one consensus round must not be signed twice all the same.
#[test]
fn the_floor_of_a_validator_holds_when_supervisor_keeper_and_node_are_killed_at_once() {
    let home = empty_home();
    home.set("validator", "true");
    home.set("node.restart_floor", "3s");
    home.init(&Program::practice("1.0.0").with("--validator").with("--no-blocks"));
    let supervisor = home.start();
    let node = home.node();
    home.sees("it runs", |status| status["node"]["pid"] == json!(node.pid));
    let keeper = home.keeper();
    for pid in [supervisor.pid(), keeper, node.pid] {
        assert!(processes::signal(pid, home.root(), Signal::KILL));
    }
    home.wait("the node is gone", || (!node.runs()).then_some(()));
    let gone = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    drop(supervisor);
    let _supervisor = home.start();
    home.wait("the next start", || (home.started().len() == 2).then_some(()));
    let start = u128::from(home.facts("start")[1]["at_ms"].as_u64().unwrap());
    assert!(start >= gone + 3_000, "{} ms", start - gone);
}
