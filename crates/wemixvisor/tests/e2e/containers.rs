//! E. The supervisor as process 1 of a PID namespace, as in a container; and what a node leaves behind.

use std::fs;

use serde_json::{Value, json};
use testkit::{Container, Program, Signal, TestHome, processes};

use crate::empty_home;

const ORPHANS: usize = 50;

fn zombies(container: &Container<'_>) -> usize {
    container.processes().iter().filter(|process| process.zombie).count()
}

/// The orphans that came to process 1.
fn orphans(container: &Container<'_>) -> usize {
    container.processes().iter().filter(|process| process.name == "sleep" && process.parent == 1).count()
}

/// Starts so many processes that lose their parent at once and end after this time, in seconds.
fn leave(container: &Container<'_>, seconds: &str) {
    container.run(&format!("for i in $(seq {ORPHANS}); do setsid sleep {seconds} & done"));
}

fn a_node(flags: &[&str]) -> TestHome {
    let home = empty_home();
    let practice = |version| {
        let node = Program::practice(version).with("--block-time=100ms").with("--flush-every=1");
        flags.iter().fold(node, |node, flag| node.with(flag))
    };
    home.init(&practice("1.0.0"));
    home.install("v2", &practice("2.0.0"));
    home
}

/// The node that runs, by its id inside.
fn pid(home: &TestHome) -> u32 {
    home.status().unwrap()["node"]["pid"].as_u64().unwrap() as u32
}

fn term_and_end(home: &TestHome, mut container: Container<'_>) {
    let node = pid(home);
    for _ in 0..3 {
        container.signal(Signal::TERM);
    }
    assert_eq!(container.ends(), 0);
    assert_eq!((home.signals(node, "SIGTERM"), home.signals(node, "SIGINT")), (1, 0));
    let stop = home.facts("stop").pop().unwrap();
    assert_eq!((&stop["pid"], &stop["exit"]), (&json!(node), &json!(0)), "it stopped in order: {stop}");
    // The keeper was not cut off: its last note is there.
    let note: Value =
        serde_json::from_slice(&fs::read(home.wemixvisor().join("node-exit.json")).unwrap()).unwrap();
    assert_eq!((&note["pid"], &note["status"]["exited"]), (&json!(node), &json!(0)), "{note}");
    home.is_deserted();
}

#[test]
fn e34_process_1_collects_orphans_and_stops_the_node_once() {
    let home = a_node(&["--leave-child"]);
    let Some(container) = home.start_contained(&[]) else { return };
    home.sees_head(1);
    leave(&container, "3");
    home.wait("the orphans are there", || (orphans(&container) == ORPHANS).then_some(()));
    home.wait("all are collected", || (orphans(&container) == 0 && zombies(&container) == 0).then_some(()));
    term_and_end(&home, container);
}

#[test]
fn e34_process_1_does_not_take_the_exit_codes_of_its_own_children() {
    let home = a_node(&[]);
    home.hook("v2", "pre-stop", "#!/bin/sh\n(setsid sleep 0.1 &)\nsleep 0.3\nexit 37\n");
    home.hook("v2", "post-upgrade", "#!/bin/sh\n(setsid sleep 0.1 &)\nexit 0\n");
    let Some(container) = home.start_contained(&[]) else { return };
    let head = home.sees_head(1)["chain"]["head"].as_u64().unwrap();
    home.schedule("v2", head + 8);
    while home.status().is_none_or(|status| status["last_upgrade"].is_null()) {
        leave(&container, "0.02");
    }
    let entry = home.committed("v2");
    let steps = entry["steps"].to_string();
    assert!(steps.contains("37"), "the hook's own exit code: {steps}");
    home.wait("all are collected", || (orphans(&container) == 0 && zombies(&container) == 0).then_some(()));
    term_and_end(&home, container);
}

#[test]
fn e34_process_1_passes_the_nodes_exit_code_on() {
    let home = a_node(&["--exit-at-height=5", "--exit-code=42"]);
    home.set("node.restart_on_failure", "false");
    let Some(mut container) = home.start_contained(&[]) else { return };
    assert_eq!(container.ends(), 42);
    assert_eq!(home.started(), ["1.0.0"]);
    home.is_deserted();
}

#[test]
fn e34_process_1_gets_the_node_of_a_killed_keeper_and_still_knows_its_end() {
    let home = a_node(&[]);
    let Some(container) = home.start_contained(&[]) else { return };
    home.sees_head(1);
    let node = pid(&home);
    let keeper = home.keeper();
    container.run(&format!("kill -9 {keeper}"));
    home.wait("the node has come to process 1", || {
        container.processes().iter().any(|process| process.pid == node && process.parent == 1).then_some(())
    });
    home.wait("there is another keeper", || home.pid_in("keeper.lock").filter(|pid| *pid != keeper));
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.sees("the next node", |status| {
        status["node"]["pid"].as_u64().is_some_and(|pid| pid != u64::from(node))
    });
    assert_eq!(home.signals(node, "SIGTERM"), 1);
    home.wait("nobody is left uncollected", || (zombies(&container) == 0).then_some(()));
    home.sees_head(home.status().unwrap()["chain"]["head"].as_u64().unwrap_or(0) + 1);
    term_and_end(&home, container);
}

#[test]
fn e34_what_the_node_left_behind_ends_before_the_supervisor_does() {
    let home = a_node(&["--leave-child"]);
    let supervisor = home.start();
    home.sees_head(1);
    assert_eq!(supervisor.stop(), 0);
    assert_eq!(home.facts("child").len(), 1, "it left one");
    assert_eq!(processes::of(home.root()), [0_u32; 0], "neither a child of the node nor the keeper");
}
