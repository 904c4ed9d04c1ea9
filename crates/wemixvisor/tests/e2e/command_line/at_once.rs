//! Two people, or a person and a script, at the same time; a supervisor in the background and its log; and what is
//! typed by mistake while a supervisor runs.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use testkit::{Program, TestHome};

use super::{Following, fails, has, json, words};
use crate::{empty_home, home, home_by_order};

/// `start` with the usual arguments for the node, as a command that goes on.
fn starting(home: &TestHome) -> Following<'_> {
    let args = home.node_args(&[]);
    Following::begin(home, &[&["start"], &words(&args)[..]].concat())
}

fn supervisors(home: &TestHome) -> Vec<u32> {
    let is = |pid: &u32| testkit::processes::command_line(*pid).contains("--background");
    testkit::processes::of(home.root()).into_iter().filter(is).collect()
}

#[test]
fn two_starts_at_the_same_time_end_with_one_supervisor_and_both_say_so() {
    let home = home();
    let (one, other) = (starting(&home), starting(&home));
    let (one, other) = (one.ends().expect(0), other.ends().expect(0));
    let supervisor = home.status().unwrap()["supervisor"]["pid"].to_string();
    has(&one.out, &[&supervisor]);
    has(&other.out, &[&supervisor]);
    assert_eq!(supervisors(&home).len(), 1);
    assert_eq!(home.started(), ["1.0.0"]);
    // The same with arguments that only one of the two can have.
    let _ = home.cli(&["stop"]).expect(0);
    let one = starting(&home);
    let other = {
        let args = home.node_args(&["--no-blocks"]);
        Following::begin(&home, &[&["start"], &words(&args)[..]].concat())
    };
    let ends = [one.ends(), other.ends()];
    let refused = ends.iter().find(|said| said.code == 4).expect("one is refused");
    has(&refused.err, &["starts the node with other arguments"]);
    assert_eq!(ends.iter().filter(|said| said.code == 0).count(), 1);
    assert_eq!(supervisors(&home).len(), 1);
    let _ = home.cli(&["stop"]).expect(0);
}

#[test]
fn a_start_whose_question_a_dying_supervisor_breaks_off_starts_another_one() {
    let home = home();
    // What is left of a supervisor: it takes the question, and is gone.
    let dying = UnixListener::bind(home.wemixvisor().join("wemixvisor.sock")).unwrap();
    let asked = std::thread::spawn(move || drop(dying.accept().unwrap()));
    has(&starting(&home).ends().expect(0).out, &["the node runs (pid"]);
    asked.join().unwrap();
    assert_eq!((supervisors(&home).len(), home.started().len()), (1, 1));
    let _ = home.cli(&["stop"]).expect(0);
}

#[test]
fn two_stops_at_the_same_time_wait_for_the_same_end() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--stop-works=1s").with("--block-time=100ms"));
    let _ = starting(&home).ends().expect(0);
    let node = home.node();
    let (one, other) = (Following::begin(&home, &["stop"]), Following::begin(&home, &["stop"]));
    for said in [one.ends(), other.ends()] {
        has(&said.expect(0).out, &["the node and the supervisor have ended"]);
    }
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
    home.is_deserted();
}

#[test]
fn a_start_that_is_stopped_meanwhile_says_so_and_does_not_wait() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--rpc-after=10m"));
    let start = starting(&home);
    start.says("it is waited for to answer");
    let stop = home.cli(&["stop"]).expect(0);
    has(&stop.out, &["have ended"]);
    has(&start.ends().expect(1).err, &["told to end meanwhile"]);
    home.is_deserted();
}

#[test]
fn a_restart_whose_supervisor_goes_does_not_wait_for_another_one() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--stop-works=2s").with("--block-time=100ms"));
    let supervisor = home.start();
    home.sees_head(1);
    let restart = Following::begin(&home, &["restart"]);
    restart.says("the node is being");
    let stop = Following::begin(&home, &["stop"]);
    has(&restart.ends().expect(1).err, &["told to end meanwhile"]);
    fails(&home, &["start"], 4, "conflict", &["is stopping the node and ends then"]);
    let _ = stop.ends().expect(0);
    drop(supervisor);

    let supervisor = home.start();
    home.sees_head(1);
    let restart = Following::begin(&home, &["restart"]);
    restart.says("the node is being");
    supervisor.kill();
    has(&restart.ends().expect(3).err, &["the supervisor has ended meanwhile", "wemixvisor start"]);
}

#[test]
fn a_slip_in_a_flag_is_refused_whatever_runs_and_nothing_is_done() {
    let home = home_by_order();
    let _supervisor = home.start();
    home.schedule("v2", 1000);
    let node = home.node().pid;
    for args in [
        &["--set", "foo=bar", "status"][..],
        &["--set", "foo=bar", "upgrade", "cancel", "v2"],
        &["--set", "foo=bar", "stop"],
        &["--set", "foo=bar", "restart"],
    ] {
        fails(&home, args, 2, "invalid_settings", &["there is no setting \"foo\""]);
    }
    fails(
        &home,
        &["--set", "node.max_restart=1", "status"],
        2,
        "invalid_settings",
        &["did you mean node.max_restarts?"],
    );
    fails(&home, &["--network", "moon", "status"], 2, "invalid_settings", &["moon"]);
    fails(
        &home,
        &["--config", "none.toml", "status"],
        2,
        "invalid_settings",
        &["there is no configuration file"],
    );
    assert_eq!((home.node().pid, home.plans().len()), (node, 1));
}

/// The part of the supervisor's own log with this ending.
fn log_part(home: &TestHome, ending: &str) -> Option<String> {
    fs::read_to_string(home.wemixvisor().join("logs").join(format!("supervisor.log{ending}"))).ok()
}

#[test]
fn the_log_of_a_supervisor_in_the_background_is_rotated_by_size() {
    let home = home_by_order();
    home.set("logs.max_bytes", "65536");
    home.set("logs.keep", "1");
    let _ = starting(&home).ends().expect(0);
    let path = home.wemixvisor().join("logs/supervisor.log");
    let mut height = 1000;
    let mut says_something = || {
        height += 1;
        home.schedule("v2", height);
        let said = format!("{height}");
        home.wait("it is in the log", || log_part(&home, "")?.contains(&said).then_some(()));
    };
    for round in ["first", "second", "third"] {
        says_something();
        // As if it had written so much itself.
        let mut text = log_part(&home, "").unwrap();
        text.push_str(&format!("{round} {}\n", "x".repeat(65536)));
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .map(|mut file| {
                std::io::Write::write_all(&mut file, &text.as_bytes()[text.len() - 65540..]).unwrap();
            })
            .unwrap();
        says_something();
        assert!(fs::metadata(&path).unwrap().len() < 4096, "a new file was begun");
        assert!(log_part(&home, ".1").unwrap().len() > 65536, "the full one is kept");
        assert_eq!(log_part(&home, ".2"), None, "and no more than that");
    }
    // Somebody cleans up.
    fs::remove_file(&path).unwrap();
    says_something();
    let _ = home.cli(&["stop"]).expect(0);
    has(&log_part(&home, "").unwrap(), &["the node"]);
}

#[test]
fn the_way_back_is_open_when_the_present_program_is_gone() {
    let home = home();
    let _supervisor = home.start();
    home.sees_head(2);
    let _ = home.cli(&["upgrade", "schedule", "v2", "1000000", "--switch", "manual"]).expect(0);
    let _ = home.cli(&["upgrade", "apply", "v2"]).expect(0);
    fs::remove_dir_all(home.wemixvisor().join("upgrades/v2")).unwrap();
    home.sees("it is noticed", |status| {
        status["alerts"].to_string().contains("upgrades/v2, which does not exist")
    });
    let said = home.cli(&["status"]).expect(0).out;
    has(&said, &["ATTENTION", "does not name the program that runs", "ALERTS", "upgrades/v2"]);
    // An upgrade from there would have no way back.
    home.install("v3", &Program::practice("3.0.0").with("--block-time=100ms"));
    let _ = home.cli(&["upgrade", "schedule", "v3", "2000000", "--switch", "manual"]).expect(0);
    fails(&home, &["upgrade", "apply", "v3"], 4, "not_ready", &["which does not exist"]);
    assert_eq!(json(&home, &["upgrade", "rollback"], 0)["to"], "genesis");
    assert_eq!(home.current().as_deref(), Some("genesis"));
    home.sees("all is well again", |status| status["alerts"] == json!([]));
}

#[test]
fn the_way_back_is_open_when_the_node_is_down_and_why_it_is_down_is_said() {
    let home = home();
    home.set("node.max_restarts", "1");
    let _supervisor = home.start();
    home.sees_head(2);
    let _ = home.cli(&["upgrade", "schedule", "v2", "1000000", "--switch", "manual"]).expect(0);
    let _ = home.cli(&["upgrade", "apply", "v2"]).expect(0);
    fs::remove_file(home.program("v2")).unwrap();
    home.node().exit(json!({"code": 1}));
    home.sees("it is given up", |status| status["node"]["state"] == "failed");
    let program = home.program("v2").display().to_string();
    has(
        &home.cli(&["status"]).expect(0).out.replace("\n      ", " "),
        &["DOWN  the node is down", "could not be"],
    );
    fails(&home, &["start"], 1, "failed", &["the node could not be started", &program]);
    assert_eq!(json(&home, &["upgrade", "rollback"], 0)["outcome"], "committed");
    assert_eq!(home.status().unwrap()["node"]["version"], "genesis");
}

#[test]
fn two_data_directories_are_warned_of_wherever_one_looks() {
    let home = home();
    home.set("data_dir", "elsewhere");
    let _supervisor = home.start();
    let status = home.sees("it is said", |status| status["alerts"][0]["kind"] == "data_dir");
    has(status["alerts"][0]["text"].as_str().unwrap(), &["--datadir", "/data,", "/elsewhere"]);
    has(&home.supervisor_said(), &["the setting data_dir says"]);
    has(
        &home.cli(&["config", "validate"]).expect(0).out,
        &["is valid", "note: the node's arguments say --datadir"],
    );
    let warnings = json(&home, &["config", "validate"], 0)["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    // A file that has them the same is without a word.
    fs::write(home.root().join("other.toml"), "data_dir = \"data\"\n").unwrap();
    let other = json(&home, &["config", "validate", "other.toml"], 0);
    assert_eq!((&other["valid"], &other["warnings"]), (&json!(true), &json!([])));
}

#[test]
fn plans_that_wait_where_nobody_looks_are_told() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    // Without a supervisor the node's arguments are not known.
    let _ = home.cli(&["upgrade", "schedule", "v2", "1000"]).expect(0);
    let node = home.root().join("node").display().to_string();
    let args = ["--datadir", &node, "--ipcpath", &home.data().join("gwemix.ipc").display().to_string()];
    let _ = home.cli(&[&["start"], &args[..]].concat()).expect(0);
    let status = home.sees("it is told", |status| status["alerts"][0]["kind"] == "data_dir");
    assert_eq!(status["upgrades"], json!([]));
    has(status["alerts"][0]["text"].as_str().unwrap(), &["schedules v2, but", "/node: nothing of that"]);
    has(&log_part(&home, "").unwrap(), &["schedules v2, but"]);
    fs::remove_file(home.plan_file()).unwrap();
    home.sees("it is over", |status| status["alerts"] == json!([]));
    let _ = home.cli(&["stop"]).expect(0);
}

#[test]
fn a_hook_that_ends_without_a_word_leaves_no_hole_in_what_is_said() {
    let home = home();
    home.set("hooks.time_limit", "1s");
    home.hook("v2", "pre-upgrade", "#!/bin/sh\nexec sleep 600\n");
    let _supervisor = home.start();
    home.sees_head(2);
    let _ = home.cli(&["upgrade", "schedule", "v2", "1000000", "--switch", "manual"]).expect(0);
    let said = home.cli(&["upgrade", "apply", "v2"]).expect(1);
    has(&said.out, &["did not end within 1s and was killed. genesis runs again"]);
    let status = home.cli(&["status"]).expect(0).out + &home.cli(&["upgrade", "history"]).expect(0).out;
    let history: Vec<Value> = home.history();
    for text in [said.out, said.err, status, json!(history).to_string(), home.supervisor_said()] {
        for hole in [": .", ": ;", ": \"", "()", " ,"] {
            assert!(!text.contains(hole), "{hole:?} in:\n{text}");
        }
    }
}
