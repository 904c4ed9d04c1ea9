//! E. Stops: one SIGTERM, at the right moment, waited for as long as it works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Program, Signal, TestHome};

use crate::{empty_home, home, home_by_order};

/// How the node `pid` ended by its own record: `{"exit": 0, …}`.
fn end_of(home: &TestHome, pid: u32) -> Option<Value> {
    home.facts("stop").into_iter().find(|fact| fact["pid"] == pid)
}

fn restart(home: &TestHome) -> String {
    let (code, answer) = home.ask("POST", "/api/v1/node/restart", None).expect("the supervisor answers");
    assert_eq!(code, 202, "{answer}");
    answer["message"].as_str().expect("a message").to_owned()
}

/// `WEMIXVISOR_STOPS` makes it more than 50.
#[test]
fn e30_many_stops_with_one_signal_each() {
    let stops = std::env::var("WEMIXVISOR_STOPS").map_or(50, |text| text.parse().unwrap());
    let home = home();
    let _supervisor = home.start();
    let mut node = home.node();
    for _ in 0..stops {
        restart(&home);
        node = home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    }
    // Each node in its turn: started, told once, gone in order.
    let facts = [home.facts("start"), home.facts("signal"), home.facts("stop")];
    assert_eq!(facts.each_ref().map(Vec::len), [stops + 1, stops, stops]);
    for ((start, signal), stop) in facts[0].iter().zip(&facts[1]).zip(&facts[2]) {
        assert_eq!((&start["pid"], &signal["name"]), (&signal["pid"], &json!("SIGTERM")));
        assert_eq!((&start["pid"], &stop["exit"]), (&stop["pid"], &json!(0)));
    }
    assert_eq!(home.nodes(), [node.pid]);
}

#[test]
fn e31a_a_hangup_reaches_nobody() {
    let home = home();
    let supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    supervisor.signal(Signal::HUP);
    // As when its terminal is closed.
    supervisor.signal_group(Signal::HUP);
    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.sees_head(head + 3);
    assert!(node.runs() && home.started() == ["1.0.0"]);
    let start = &home.facts("start")[0];
    assert_ne!(start["sid"], supervisor.pid(), "the node has a session of its own");
    assert_ne!(start["pgid"], supervisor.pid());
    assert_eq!(supervisor.stop(), 0);
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
}

#[test]
fn e31a_ctrl_c_in_a_shell_stops_the_node_once() {
    let home = home();
    let mut supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    // The terminal signals the whole group, and an impatient user does so again.
    for _ in 0..3 {
        supervisor.signal_group(Signal::INT);
    }
    assert_eq!(supervisor.ends(), 0);
    assert_eq!((home.signals(node.pid, "SIGTERM"), home.signals(node.pid, "SIGINT")), (1, 0));
    assert_eq!(end_of(&home, node.pid).unwrap()["exit"], 0);
    home.is_deserted();
}

#[test]
fn e31a_a_stop_before_the_node_can_catch_it_is_a_stop_and_no_crash() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--sigterm-after=10m").with("--block-time=100ms"));
    let supervisor = home.start();
    let node = home.node();
    let message = restart(&home);
    assert!(message.contains("restart"), "{message}");
    let next = home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    let status = home.sees("it runs", |status| status["node"]["pid"] == next.pid);
    assert_eq!(status["node"]["restarts"], 0, "not counted as a crash: {status:#}");
    assert_eq!(status["node"]["last_exit"]["class"], "asked", "{status:#}");
    assert_eq!(supervisor.stop(), 0);
}

/// A validator that makes blocks by order only.
fn validator(limit: &str) -> TestHome {
    let home = empty_home();
    home.set("validator", "true");
    home.set("node.restart_floor", "0");
    home.set("node.stop_moment_limit", limit);
    home.init(&Program::practice("1.0.0").with("--validator").with("--no-blocks"));
    home
}

/// Waits until the supervisor knows what kind of node it is, and its last head is no longer fresh.
fn in_the_middle_of_an_interval(home: &TestHome) {
    let node = home.node();
    node.mine(1);
    home.sees_head(1);
    home.wait("it was asked for its seals", || {
        let requests = node.state()["requests"].clone();
        requests.as_object()?.keys().any(|method| method.starts_with("istanbul_")).then_some(())
    });
    home.sees("the head is no longer fresh", |status| status["chain"]["still_ms"].as_u64() >= Some(300));
}

#[test]
fn e31b_a_restart_in_the_middle_of_a_block_interval_waits_for_the_next_head() {
    let home = validator("50s");
    let _supervisor = home.start();
    in_the_middle_of_an_interval(&home);
    let node = home.node();
    let message = restart(&home);
    assert!(message.contains("next good moment"), "{message}");
    assert!(node.runs() && home.signals(node.pid, "SIGTERM") == 0, "{message}");
    let status = home.sees("it still runs", |status| status["node"]["state"] == "running");
    assert_eq!(status["node"]["pid"], node.pid);
    node.mine(1);
    home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    let signals = home.facts("signal");
    assert_eq!((signals.len(), &signals[0]["head"]), (1, &json!(2)), "{signals:?}");
}

#[test]
fn e31b_without_heads_the_restart_goes_on_after_the_limit() {
    let home = validator("2s");
    let _supervisor = home.start();
    in_the_middle_of_an_interval(&home);
    let node = home.node();
    let begin = Instant::now();
    restart(&home);
    home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    assert!(begin.elapsed() >= Duration::from_millis(1800), "after {:?}", begin.elapsed());
    assert_eq!(home.facts("signal")[0]["head"], 1);
}

#[test]
fn e31c_a_stop_that_hangs_is_killed_after_the_grace_with_one_sigterm() {
    let home = empty_home();
    home.set("node.shutdown_grace", "2s");
    home.init(&Program::practice("1.0.0").with("--stop-hangs").with("--block-time=100ms"));
    let mut supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    let begin = Instant::now();
    supervisor.signal(Signal::TERM);
    let code = supervisor.ends();
    assert!(begin.elapsed() >= Duration::from_secs(2), "killed after {:?}", begin.elapsed());
    assert_eq!(code, 137, "the node's own end");
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
    assert_eq!(end_of(&home, node.pid), None, "it did not end by itself");
    home.is_deserted();
}

#[test]
fn e31c_a_stop_that_still_works_is_waited_for_beyond_the_grace() {
    let home = empty_home();
    home.set("node.shutdown_grace", "1s");
    home.init(&Program::practice("1.0.0").with("--stop-works=6s").with("--block-time=100ms"));
    let mut supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.ends(), 0);
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
    assert_eq!(end_of(&home, node.pid).unwrap()["exit"], 0);
}

#[test]
fn e31c_the_hard_limit_ends_a_stop_that_works_for_ever() {
    let home = empty_home();
    home.set("node.shutdown_grace", "3s");
    home.set("node.stop_hard_limit", "4s");
    home.init(&Program::practice("1.0.0").with("--stop-works=10m").with("--block-time=100ms"));
    let _supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    restart(&home);
    home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
    let (_, events) = home.ask("GET", "/api/v1/events?limit=1000", None).unwrap();
    assert!(events.to_string().contains("hard limit"), "{events:#}");
}

#[test]
fn e31c_a_block_sealed_after_the_sigterm_is_no_mismatch() {
    let home = home_by_order();
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    let _supervisor = home.start();
    let node = home.node();
    node.set(json!({"seal-after-term": true}));
    home.schedule("v2", 20);
    node.set_head(20);
    let entry = home.committed("v2");
    assert_eq!((&entry["head"], &end_of(&home, node.pid).unwrap()["head"]), (&json!(20), &json!(21)));
}
