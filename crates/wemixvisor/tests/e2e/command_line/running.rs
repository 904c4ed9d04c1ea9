//! `start`, `stop`, `restart`, `status`, `version`, `logs`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::{Program, Signal, TestHome};

use super::{Following, fails, has, json, words};
use crate::{empty_home, home, home_by_order};

/// `start` with these arguments for the node: its exit code and its JSON.
fn start(home: &TestHome, node_args: &[&str], code: i32) -> Value {
    home.cli(&[&["--json", "start"], node_args].concat()).expect(code).json()
}

#[test]
fn a_supervisor_in_the_background_from_start_to_stop() {
    let home = home();
    fails(&home, &["stop"], 3, "not_running", &["there is nothing to stop"]);
    fails(&home, &["restart"], 3, "not_running", &["wemixvisor start"]);
    has(&home.cli(&["status"]).expect(3).out, &["DOWN", "neither the supervisor nor the node runs"]);
    has(&home.cli(&["version"]).expect(0).out, &["no supervisor runs"]);
    assert_eq!(json(&home, &["version"], 0)["supervisor"], Value::Null);

    let args = home.node_args(&[]);
    let args = words(&args);
    let status = start(&home, &args, 0);
    assert_eq!((&status["node"]["answering"], &status["node"]["state"]), (&json!(true), &json!("running")));
    let supervisor = status["supervisor"]["pid"].clone();

    // Again: nothing to do, by whatever name the node's own arguments go; others are refused.
    let said = home.cli(&["start"]).expect(0);
    has(&said.out, &["run already", &supervisor.to_string()]);
    assert_eq!(start(&home, &args, 0)["supervisor"]["pid"], supervisor);
    let refused = start(&home, &["--datadir", "elsewhere"], 4);
    assert_eq!(refused["code"], "conflict", "{refused}");

    home.sees("all is well", |status| status["verdict"] == "ok");
    let said = home.cli(&["status"]).expect(0);
    has(
        &said.out,
        &["OK  the node runs and follows the chain", "running, pid", "gwemix.ipc", "no upgrade is scheduled"],
    );
    assert_eq!(json(&home, &["status"], 0)["verdict"], "ok");
    has(&home.cli(&["version"]).expect(0).out, &["node ", "testnode/v1.0.0-stable"]);
    let version = json(&home, &["version"], 0);
    has(version["supervisor"]["client_version"].as_str().unwrap(), &["testnode/v1.0.0"]);

    let before = home.node();
    has(&home.cli(&["restart"]).expect(0).out, &["the node runs again (pid"]);
    let after = json(&home, &["restart"], 0);
    assert_ne!(after["node"]["pid"], json!(before.pid));
    assert_eq!(home.signals(before.pid, "SIGTERM"), 1);

    // A node that is down under a supervisor that runs.
    assert_eq!(home.ask("POST", "/api/v1/node/stop", None).unwrap().0, 202);
    home.sees("the node is stopped", |status| status["node"]["state"] == "stopped");
    has(&home.cli(&["status"]).expect(0).out, &["DOWN  the node is stopped", "last: it"]);
    has(&home.cli(&["version"]).expect(0).out, &["node not running"]);
    has(&home.cli(&["start"]).expect(0).out, &["the node runs (pid", &format!("(pid {supervisor})")]);

    let node = home.node().pid;
    let stopped = json(&home, &["stop"], 0);
    assert_eq!(
        (&stopped["stopped"], &stopped["supervisor_pid"], &stopped["node_pid"]),
        (&json!(true), &supervisor, &json!(node))
    );
    home.is_deserted();
    let said = home.cli(&["status"]).expect(3);
    has(&said.out, &["not running; to start it"]);
    fails(&home, &["stop"], 3, "not_running", &["nothing to stop"]);
}

#[test]
fn a_node_without_a_supervisor_is_told_from_the_files_and_taken_over() {
    let home = home();
    let supervisor = home.start();
    let node = home.node();
    supervisor.kill();
    fails(
        &home,
        &["stop"],
        3,
        "not_running",
        &[&format!("the node does (pid {}", node.pid), "wemixvisor start"],
    );
    let said = home.cli(&["status"]).expect(3);
    has(&said.out, &["ATTENTION", &format!("the node does (pid {})", node.pid)]);
    let args = home.node_args(&[]);
    let status = start(&home, &words(&args), 0);
    assert_eq!((&status["node"]["pid"], &status["node"]["adopted"]), (&json!(node.pid), &json!(true)));
    has(&home.cli(&["stop"]).expect(0).out, &["the node and the supervisor have ended"]);
    home.is_deserted();
}

#[test]
fn start_and_restart_say_why_the_node_does_not_run() {
    let home = empty_home();
    home.set("node.max_restarts", "1");
    home.init(
        &Program::practice("1.0.0").with("--rpc-after=1m").with("--exit-after=50ms").with("--exit-code=2"),
    );
    let args = home.node_args(&[]);
    let said = home.cli(&[&["start"], &words(&args)[..]].concat()).expect(1);
    has(
        &said.err,
        &["not started again: ", "did not help. Last: the node panicked (exit code 2)", "wemixvisor logs"],
    );
    has(&home.cli(&["status"]).expect(0).out, &["DOWN", "FAILED, not started again"]);
    let said = home.cli(&["restart"]).expect(1);
    has(&said.err, &["the node was down and is being started", "not started again"]);
    let said = home.cli(&["start"]).expect(1);
    has(&said.err, &["not started again"]);
    let _ = home.cli(&["stop"]).expect(0);
    home.is_deserted();

    // A supervisor that ends with its node.
    home.set("node.restart_on_failure", "false");
    let said = home.cli(&[&["start"], &words(&args)[..]].concat()).expect(1);
    has(&said.err, &["the supervisor did not stay up"]);
    home.is_deserted();
}

#[test]
fn a_node_that_is_down_between_two_starts_is_said_to_come_again() {
    let home = empty_home();
    let program = Program::practice("1.0.0").with("--rpc-after=1m");
    home.init(&program.with("--exit-after=50ms").with("--exit-code=3"));
    let _supervisor = home.start();
    // Long enough down to be looked at.
    home.sees("the third restart is waited for", |status| {
        status["node"]["state"] == "waiting" && status["node"]["restarts"].as_u64() >= Some(3)
    });
    has(&home.cli(&["status"]).expect(0).out, &["DOWN", "will be started again", "starts in", "(restart "]);
    let start = Following::begin(&home, &["start"]);
    start.says("the node is being started");
    start.says("; it is started again in ");
    start.leave();
    has(&start.ends().expect(130).err, &["the start goes on without this command"]);
}

#[test]
fn status_again_and_again_until_it_is_left() {
    let home = home();
    let _supervisor = home.start();
    home.sees("all is well", |status| status["verdict"] == "ok");
    let text = Following::begin(&home, &["status", "--watch"]);
    let lines = Following::begin(&home, &["status", "--watch", "--json"]);
    home.wait("it is shown twice", || (text.out().matches("  supervisor ").count() >= 2).then_some(()));
    home.wait("two lines are there", || (lines.out().lines().count() >= 2).then_some(()));
    text.signal(Signal::INT);
    lines.signal(Signal::TERM);
    assert_eq!(text.ends().code, 130);
    let said = lines.ends();
    assert_eq!(said.code, 143);
    for line in said.out.lines() {
        let status: Value = serde_json::from_str(line).unwrap();
        assert_eq!(status["node"]["state"], "running");
    }
    // A reader that goes away ends it without a word.
    let mut child = home
        .command()
        .args(["status", "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = home.wait("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn logs_end_where_the_node_is_and_go_on_with_it() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    node.set(json!({"log-lines-per-s": 100}));
    home.wait("there are lines", || (home.node_log().lines().count() > 20).then_some(()));
    assert_eq!(home.cli(&["logs", "-n", "3"]).expect(0).out.lines().count(), 3);
    assert_eq!(json(&home, &["logs", "--tail", "5"], 0)["lines"].as_array().unwrap().len(), 5);

    let text = Following::begin(&home, &["logs", "-f", "-n", "1"]);
    let pieces = Following::begin(&home, &["logs", "--follow", "--json", "-n", "0"]);
    home.wait("lines come", || (text.out().lines().count() > 10).then_some(()));
    home.wait("pieces come", || (pieces.out().lines().count() > 2).then_some(()));
    text.signal(Signal::INT);
    pieces.signal(Signal::INT);
    assert_eq!(text.ends().code, 130);
    for line in pieces.ends().out.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["lines"].is_array(), "{line}");
    }

    // A reader that has enough ends it without a word.
    let mut child =
        home.command().args(["logs", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let status = home.wait("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::io::read_to_string(child.stderr.take().unwrap()).unwrap(), "");
}
