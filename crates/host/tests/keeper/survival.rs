//! Supervisors come and go, keepers are killed: the node runs on.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use wemixvisor_host::keeper::{
    self, Found, Keeper, KeeperEvent, NodeProcess, SpawnError, WaitStatus, last_exit, last_node,
};

use crate::home::{Home, LIMIT, exists, signal, until};

#[tokio::test]
async fn the_next_supervisor_finds_the_same_node_and_later_its_end() {
    let home = Home::new();
    assert!(matches!(home.find().await, Found::Nothing));
    let at = home.start().await;
    let node = at
        .keeper
        .spawn(home.sh(1, "while [ ! -e go ]; do sleep 0.003; done; echo bye; exit 5"))
        .await
        .unwrap();
    until("it is written down", async || last_node(&home.dir()).as_ref() == Some(&node)).await;
    drop(at);
    let at = home.find_running().await;
    assert_eq!(at.state.node.as_ref(), Some(&node));
    // Nobody is there when it ends: the keeper ends as well, and the record stays.
    drop(at);
    fs::File::create(home.root.path().join("go")).unwrap();
    home.becomes_empty().await;
    let exit = last_exit(&home.dir()).unwrap();
    assert_eq!((exit.launch_id, exit.pid, exit.status), (1, node.pid, WaitStatus::Exited(5)));
    assert_eq!(exit.last_output, ["bye"]);
    let at = home.start().await;
    assert_eq!(at.state.last_exit, Some(exit));
}

#[tokio::test]
async fn a_keeper_that_nobody_needs_ends() {
    let home = Home::new();
    let at = home.start().await;
    let pid = at.state.keeper_pid;
    assert!(exists(pid));
    at.keeper.bye().await;
    until("the keeper ends", async || !exists(pid)).await;
    assert!(matches!(home.find().await, Found::Nothing));
    assert!(!home.dir().join("keeper.sock").exists());
}

#[tokio::test]
async fn signals_do_not_reach_the_node_through_the_keeper() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(1, "sleep 1000; :")).await.unwrap();
    for number in
        [Signal::HUP, Signal::TERM, Signal::INT, Signal::QUIT, Signal::PIPE, Signal::USR1, Signal::TSTP]
    {
        signal(at.state.keeper_pid, number);
    }
    let state = at.keeper.state().await.unwrap();
    assert_eq!(state.node.unwrap(), node);
    assert!(node.alive());
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(3).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(session(at.state.keeper_pid), at.state.keeper_pid);
    assert_eq!(session(node.pid), node.pid);
}

#[tokio::test]
async fn a_stopped_keeper_is_never_replaced() {
    let home = Home::new();
    let at = home.start().await;
    let pid = at.state.keeper_pid;
    drop(at.keeper.spawn(home.sh(1, "sleep 1000; :")).await.unwrap());
    signal(pid, Signal::STOP);
    drop(at);
    match Keeper::find(&home.dir(), Duration::from_millis(300)).await.unwrap() {
        Found::Unresponsive { pid: named } => assert_eq!(named, Some(pid)),
        other => panic!("{other:?}"),
    }
    signal(pid, Signal::CONT);
    assert!(home.find_running().await.state.node.is_some());
}

#[tokio::test]
async fn a_stopped_keeper_is_seen_without_waiting_for_it() {
    let home = Home::new();
    let seen = || keeper::stopped(&home.dir());
    assert_eq!(seen(), None, "there is none");
    let at = home.start().await;
    drop(at.keeper.spawn(home.sh(1, "sleep 1000; :")).await.unwrap());
    let pid = at.state.keeper_pid;
    assert_eq!(seen(), None);
    signal(pid, Signal::STOP);
    until("it is seen", async || seen() == Some(pid)).await;
    signal(pid, Signal::CONT);
    until("it goes on", async || seen().is_none()).await;
}

#[tokio::test]
async fn a_traced_keeper_is_not_called_stopped() {
    let home = Home::new();
    let at = home.start().await;
    let pid = at.state.keeper_pid;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests touch no memory of ours.
    #[allow(unsafe_code)]
    let trace = |request| unsafe { libc::ptrace(request, pid as libc::pid_t, none, none) };
    if trace(libc::PTRACE_SEIZE) != 0 {
        return eprintln!("nothing may be traced here: {}", std::io::Error::last_os_error());
    }
    trace(libc::PTRACE_INTERRUPT);
    let stands = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") t ");
    until("it stands", async || stands()).await;
    assert_eq!(keeper::stopped(&home.dir()), None);
    trace(libc::PTRACE_DETACH);
    assert_eq!(at.keeper.state().await.unwrap().keeper_pid, pid);
}

/// The id that a dead keeper left in its lock file is another's by now.
#[tokio::test]
async fn a_stopped_stranger_is_not_taken_for_the_keeper() {
    let home = Home::new();
    let mut stranger = tokio::process::Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
    let pid = stranger.id().unwrap();
    signal(pid, Signal::STOP);
    let stands = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    until("it stands", async || stands()).await;
    fs::write(home.dir().join("keeper.lock"), format!("{pid}\n")).unwrap();
    assert_eq!(keeper::stopped(&home.dir()), None);
    stranger.kill().await.unwrap();
}

#[tokio::test]
async fn a_killed_keeper_costs_the_node_nothing() {
    let home = Home::new();
    let mut at = home.start().await;
    let script = "n=0; trap 'echo last words; exit 4' TERM; \
        while :; do n=$((n+1)); echo line $n; sleep 0.003; done";
    let node = at.keeper.spawn(home.sh(9, script)).await.unwrap();
    until("it writes", async || home.log_text().contains("line 5\n")).await;
    signal(at.state.keeper_pid, Signal::KILL);
    assert_eq!(tokio::time::timeout(LIMIT, at.events.recv()).await.unwrap(), Some(KeeperEvent::Lost));
    match home.find().await {
        Found::OrphanedNode { holders } => assert!(holders.contains(&node.pid), "{holders:?}"),
        other => panic!("{other:?}"),
    }
    let written = home.log_text().len();

    // Without adopting, no other node is started beside it.
    let fresh = home.start().await;
    match fresh.keeper.spawn(home.sh(10, ":")).await {
        Err(SpawnError::NodeStillRuns { holders, .. }) => assert!(holders.contains(&node.pid), "{holders:?}"),
        other => panic!("{other:?}"),
    }
    fresh.keeper.bye().await;
    until("the fresh keeper ends", async || !exists(fresh.state.keeper_pid)).await;

    let mut at = home.adopt(false).await;
    let adopted = at.state.node.clone().unwrap();
    assert_eq!((adopted.pid, adopted.launch_id, adopted.adopted), (node.pid, 9, true));
    until("its output goes on", async || home.log_text().len() > written).await;
    // What it wrote while nobody read is not lost either.
    let lines: Vec<usize> =
        home.log_text().lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "{lines:?}");

    at.keeper.terminate(None).await.unwrap();
    let exit = at.exit().await;
    assert!(matches!(exit.status, WaitStatus::Exited(4) | WaitStatus::Unknown), "{exit:?}");
    assert_eq!((exit.launch_id, exit.last_output.last().map(String::as_str)), (9, Some("last words")));
    at.keeper.end_leftovers().await.unwrap();
    at.keeper.spawn(home.sh(11, ":")).await.unwrap();
    assert_eq!(at.exit().await.launch_id, 11);
}

#[tokio::test]
async fn an_adopted_node_is_not_terminated_twice_and_its_end_is_told() {
    let home = Home::new();
    // The kernel tells how an orphan ended once its new parent has collected it: be that parent, and be quick.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let script = "n=0; trap 'n=$((n+1)); echo term $n' TERM; echo ready; \
        while [ ! -e go ]; do sleep 0.003; done; exit $n";
    for (id, hint) in [(1, false), (2, true)] {
        let at = home.start().await;
        let node = at.keeper.spawn(home.sh(id, script)).await.unwrap();
        until("ready", async || home.log_text().matches("ready").count() == id as usize).await;
        if hint {
            // Sent by the dying supervisor itself, say: only the hint knows.
            signal(node.pid, Signal::TERM);
        } else {
            at.keeper.terminate(None).await.unwrap();
        }
        until("term 1", async || home.log_text().matches("term 1").count() == id as usize).await;
        signal(at.state.keeper_pid, Signal::KILL);
        drop(at);
        until("orphaned", async || matches!(home.find().await, Found::OrphanedNode { .. })).await;
        let mut at = home.adopt(hint).await;
        assert!(at.state.node.as_ref().unwrap().term_sent);
        at.keeper.terminate(None).await.unwrap();
        let pid = Pid::from_raw(node.pid as i32);
        let collected = std::thread::spawn(move || waitpid(pid, WaitOptions::empty()));
        fs::File::create(home.root.path().join("go")).unwrap();
        let exit = at.exit().await;
        let told = if kernel_tells() { WaitStatus::Exited(1) } else { WaitStatus::Unknown };
        assert_eq!((exit.status, exit.term_sent), (told, true));
        collected.join().unwrap().unwrap();
        fs::remove_file(home.root.path().join("go")).unwrap();
        at.keeper.bye().await;
        home.becomes_empty().await;
    }
    assert!(!home.log_text().contains("term 2"));
}

#[tokio::test]
async fn what_a_dead_node_left_is_not_taken_for_the_node() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(1, "sleep 1000 & sleep 1000 & echo up; wait")).await.unwrap();
    until("up", async || home.log_text().contains("up")).await;
    signal(at.state.keeper_pid, Signal::KILL);
    until("the keeper is dead", async || !exists(at.state.keeper_pid)).await;
    signal(node.pid, Signal::KILL);
    until("the node is dead", async || !exists(node.pid)).await;
    let at = home.adopt(false).await;
    assert_eq!(at.state.node, None);
    assert!(at.state.leftovers.len() == 2, "{:?}", at.state);
    at.keeper.end_leftovers().await.unwrap();
    at.keeper.bye().await;
    home.becomes_empty().await;
}

#[tokio::test]
async fn a_node_without_a_record_is_known_by_its_lock() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(1, "sleep 1000 & sleep 1000; :")).await.unwrap();
    until("it is written down", async || last_node(&home.dir()).is_some()).await;
    signal(at.state.keeper_pid, Signal::KILL);
    fs::remove_file(home.dir().join("node.json")).unwrap();
    until("orphaned", async || matches!(home.find().await, Found::OrphanedNode { .. })).await;
    let mut at = home.adopt(false).await;
    let adopted = at.state.node.clone().unwrap();
    assert_eq!((adopted.pid, adopted.start_time, adopted.launch_id), (node.pid, node.start_time, 0));
    assert!(adopted.started_at_ms.abs_diff(node.started_at_ms) < 1000, "{adopted:?} {node:?}");
    at.keeper.kill(None).await.unwrap();
    assert_eq!(at.exit().await.pid, node.pid);
    at.keeper.end_leftovers().await.unwrap();
}

#[tokio::test]
async fn a_node_whose_keeper_died_before_it_wrote_it_down_is_known_by_its_announced_launch() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(7, "sleep 1000; :")).await.unwrap();
    let written = || last_node(&home.dir()).filter(|noted| noted.pid != 0);
    until("it is written down", async || written().is_some()).await;
    signal(at.state.keeper_pid, Signal::KILL);
    let announced = NodeProcess { pid: 0, start_time: 0, ..written().unwrap() };
    fs::write(home.dir().join("node.json"), serde_json::to_vec(&announced).unwrap()).unwrap();
    until("orphaned", async || matches!(home.find().await, Found::OrphanedNode { .. })).await;
    let mut at = home.adopt(false).await;
    let adopted = at.state.node.clone().unwrap();
    assert_eq!((adopted.pid, adopted.start_time), (node.pid, node.start_time));
    assert_eq!((adopted.launch_id, &adopted.program), (7, &node.program));
    assert!(adopted.adopted && adopted.alive());
    at.keeper.kill(None).await.unwrap();
    assert_eq!(at.exit().await.launch_id, 7);
    at.keeper.end_leftovers().await.unwrap();
    at.keeper.bye().await;
    home.becomes_empty().await;
}

/// Whether this is Linux 6.15 or later.
fn kernel_tells() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}
