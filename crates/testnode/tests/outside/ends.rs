//! Signals, locks and exits.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::rig::{Home, PROGRAM, wait_for};

#[test]
fn one_sigterm_stops_in_order_and_is_recorded() {
    let home = Home::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = home.start(&[]);
        node.signal(signal);
        assert_eq!(node.ended().code(), Some(0));
        assert!(!home.file("ports.json").exists() && !home.0.path().join("data/gwemix.ipc").exists());
    }
    let names: Vec<_> =
        home.facts("signal").into_iter().map(|fact| (fact["name"].clone(), fact["count"].clone())).collect();
    assert_eq!(names, [(json!("SIGTERM"), json!(1)), (json!("SIGINT"), json!(1))]);
    let starts = home.facts("start");
    assert_eq!((starts.len(), &starts[1]["count"]), (2, &json!(2)));
    assert_eq!(home.facts("stop")[0]["exit"], 0);
}

#[test]
fn the_tenth_further_sigterm_panics() {
    let home = Home::new();
    let mut node = home.start(&["--stop-hangs"]);
    for sent in 1..=11 {
        node.signal(Signal::TERM);
        wait_for("the signal is counted", || (home.facts("signal").len() == sent).then_some(()));
    }
    assert_eq!(node.ended().code(), Some(2));
}

#[test]
fn other_signals_kill_and_quit_dumps() {
    let home = Home::new();
    let mut node = home.start(&[]);
    node.signal(Signal::HUP);
    assert_eq!(node.ended().signal(), Some(1));
    let mut node = home.start(&[]);
    node.signal(Signal::QUIT);
    assert_eq!(node.ended().code(), Some(2));
    let mut node = home.start(&["--sigterm-after=1h"]);
    assert_eq!(node.terminated().signal(), Some(15));
}

#[test]
fn a_second_node_on_the_data_directory_is_refused() {
    let home = Home::new();
    let _node = home.start(&[]);
    let second = home.run(&[]);
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(String::from_utf8(second.stderr).unwrap(), "Fatal: datadir already used by another process\n");
    assert_eq!(home.facts("datadir-locked").len(), 1);
}

#[test]
fn a_hanging_stop_closes_the_rpc_and_does_nothing_and_a_working_one_works() {
    let home = Home::new();
    let mut node = home.start(&["--stop-hangs", "--seal-after-term", "--no-blocks"]);
    node.signal(Signal::TERM);
    wait_for("the RPC is closed", || std::net::TcpStream::connect(node.address("http")).err());
    let spent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let pid = node.child.as_ref().unwrap().id();
    let before = spent(pid);
    std::thread::sleep(Duration::from_millis(300));
    assert!(spent(pid) <= before + 1);
    node.killed();

    let mut node = home.start(&["--stop-works=600ms", "--seal-after-term", "--no-blocks"]);
    let (pid, begin) = (node.child.as_ref().unwrap().id(), Instant::now());
    let written = || -> Option<u64> {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
    };
    let (worked, wrote) = (spent(pid), written().unwrap());
    node.signal(Signal::TERM);
    wait_for("it writes", || written().filter(|&now| now >= wrote + 100_000));
    wait_for("it uses the processor", || (spent(pid) > worked).then_some(()));
    assert_eq!(node.ended().code(), Some(0));
    assert!(begin.elapsed() >= Duration::from_millis(600));
    assert_eq!(home.facts("stop").last().unwrap()["head"], 1, "a block was sealed after SIGTERM");
}

#[test]
fn exits_by_order_by_flag_and_at_a_height() {
    let home = Home::new();
    let mut node = home.start(&[]);
    node.order("/exit", json!({"code": 3}));
    assert_eq!(node.ended().code(), Some(3));
    for signal in [6, 9, 11, 15] {
        let mut node = home.start(&[]);
        node.order("/exit", json!({"signal": signal}));
        assert_eq!(node.ended().signal(), Some(signal));
    }
    let mut node = home.start(&["--exit-after=100ms", "--exit-code=2"]);
    assert_eq!(node.ended().code(), Some(2));
    let mut node = home.start(&["--exit-at-height=5", "--exit-code=0", "--no-blocks"]);
    node.order("/set", json!({"no-blocks": false}));
    assert_eq!(node.ended().code(), Some(0));
    assert_eq!(home.facts("stop").last().unwrap()["head"], 5);
    let mut node = home.start(&["--signal-at-height=7", "--signal=11"]);
    assert_eq!(node.ended().signal(), Some(11));
}

#[test]
fn a_fault_can_wait_for_the_second_start() {
    let home = Home::new();
    let flags = ["--only-on-start=2", "--fail-start=Fatal: no", "--exit-code=7"];
    assert!(home.start(&flags).terminated().success());
    let second = home.run(&flags);
    assert_eq!((second.status.code(), second.stderr.ends_with(b"Fatal: no\n")), (Some(7), true));
    assert!(home.start(&flags).terminated().success());
}

#[test]
fn a_child_outlives_the_node() {
    let home = Home::new();
    assert!(home.start(&["--leave-child"]).terminated().success());
    let child = home.facts("child")[0]["child"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    rustix::process::test_kill_process(pid).expect("it lives");
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn a_broken_output_kills_by_sigpipe_and_what_it_was_given_is_recorded() {
    let home = Home::new();
    let mut command = home.command(Path::new(PROGRAM), &["--read-stdin", "--block-time=20ms"]);
    command
        .env("DAEMON_NAME", "a b")
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut node = home.started(command.spawn().unwrap());
    let child = node.child.as_mut().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"abc").unwrap();
    drop(child.stdin.take());
    let stdin = wait_for("stdin is read", || home.facts("stdin").pop());
    assert_eq!(
        (&stdin["bytes"], stdin["sha256"].as_str().unwrap().starts_with("ba7816bf")),
        (&json!(3), true)
    );
    assert_eq!(home.facts("start")[0]["env"]["DAEMON_NAME"], "a b");
    drop(node.child.as_mut().unwrap().stderr.take());
    assert_eq!(node.ended().signal(), Some(13));
}
