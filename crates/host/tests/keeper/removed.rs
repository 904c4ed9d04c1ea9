//! Files are removed, or cannot be written, while all run: nobody is lost and there is never a second node.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use wemixvisor_host::keeper::{DATA_DIR_LOCK, Found, Keeper, SpawnError, WaitStatus};

use crate::home::{Connected, Home, exists, keeper_program, signal, until};

const SLEEPS: &str = "sleep 1000; :";

fn remove(home: &Home, names: &[&str]) {
    for name in names {
        fs::remove_file(home.dir().join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_keeper_without_its_lock_file_and_socket_is_found_and_makes_them_anew() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(1, SLEEPS)).await.unwrap();
    remove(&home, &["keeper.lock", "keeper.sock"]);
    drop(at.keeper);
    let again = home.find_running().await;
    assert_eq!((again.state.keeper_pid, again.state.node), (at.state.keeper_pid, Some(node)));
    until("both are there again", async || {
        fs::read_to_string(home.dir().join("keeper.lock"))
            .is_ok_and(|text| text.trim() == at.state.keeper_pid.to_string())
            && home.dir().join("keeper.sock").exists()
    })
    .await;
}

#[tokio::test]
async fn a_stopped_keeper_without_its_files_is_not_replaced_either() {
    let home = Home::new();
    let at = home.start().await;
    at.keeper.spawn(home.sh(1, SLEEPS)).await.unwrap();
    let keeper = at.state.keeper_pid;
    signal(keeper, Signal::STOP);
    remove(&home, &["keeper.lock", "keeper.sock"]);
    drop(at);
    let found = Keeper::find(&home.dir(), std::time::Duration::from_millis(300)).await.unwrap();
    assert!(matches!(found, Found::Unresponsive { pid } if pid == Some(keeper)), "{found:?}");
    signal(keeper, Signal::CONT);
    assert_eq!(home.find_running().await.state.keeper_pid, keeper);
}

#[tokio::test]
async fn a_node_without_keeper_lock_file_and_record_is_found() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(1, SLEEPS)).await.unwrap();
    until("it is written down", async || home.dir().join("node.json").exists()).await;
    signal(at.state.keeper_pid, Signal::KILL);
    until("the keeper is gone", async || !exists(at.state.keeper_pid)).await;
    remove(&home, &["node.lock", "node.json", "keeper.lock", "keeper.sock"]);
    let found = home.find().await;
    assert!(
        matches!(&found, Found::OrphanedNode { holders } if holders.contains(&node.pid)),
        "{} is not in {found:?}",
        node.pid
    );
    let adopted = home.adopt(false).await;
    assert_eq!(adopted.state.node.as_ref().unwrap().pid, node.pid);
    let second = adopted.keeper.spawn(home.sh(2, SLEEPS)).await;
    assert!(matches!(second, Err(SpawnError::NodeStillRuns { .. })), "{second:?}");
}

#[tokio::test]
async fn a_running_node_is_not_joined_by_another_whatever_was_removed() {
    let home = Home::new();
    let at = home.start().await;
    let node = at.keeper.spawn(home.sh(1, SLEEPS)).await.unwrap();
    until("it is written down", async || home.dir().join("node.json").exists()).await;
    remove(&home, &["node.lock", "node.json"]);
    let mut elsewhere = home.sh(2, SLEEPS);
    elsewhere.locks = Vec::new();
    match at.keeper.spawn(elsewhere).await {
        Err(SpawnError::NodeStillRuns { holders, .. }) => assert_eq!(holders, [node.pid]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_removed_or_copied_lock_of_the_data_directory_lets_no_second_node_in() {
    let (home, other) = (Home::new(), Home::new());
    let (at, second) = (home.start().await, other.start().await);
    let node = at.keeper.spawn(home.program(1, Path::new("/bin/sleep"), &["1000"])).await.unwrap();
    let lock = home.data().join(DATA_DIR_LOCK);
    let refused = async || {
        let mut launch = other.sh(1, SLEEPS);
        launch.locks = vec![lock.clone()];
        match second.keeper.spawn(launch).await {
            Err(SpawnError::NodeStillRuns { lock, holders }) => {
                assert_eq!(lock, home.data());
                assert!(holders.contains(&node.pid), "{holders:?}");
            }
            other => panic!("{other:?}"),
        }
    };
    let copy = lock.with_extension("copy");
    fs::copy(&lock, &copy).unwrap();
    fs::rename(&copy, &lock).unwrap();
    refused().await;
    fs::remove_file(&lock).unwrap();
    refused().await;
    // It is free when the node is gone.
    at.keeper.kill(None).await.unwrap();
    until("the next one can be started", async || {
        let mut launch = other.sh(2, SLEEPS);
        launch.locks = vec![lock.clone()];
        second.keeper.spawn(launch).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn removed_logs_are_made_anew_and_the_node_is_not_held_up() {
    let home = Home::new();
    let at = home.start().await;
    let script = "while :; do [ -e go ] && rm go && echo \"after $(date +%s)\"; sleep 0.01; done";
    at.keeper.spawn(home.sh(1, script)).await.unwrap();
    fs::remove_dir_all(home.dir().join("logs")).unwrap();
    let go = home.root.path().join("go");
    until("the log is there again, with what is said", async || {
        if !go.exists() {
            fs::File::create(&go).unwrap();
        }
        home.log_text().contains("after")
    })
    .await;
    // And the keeper's own, for when it has something to say.
    let own = home.dir().join("logs/keeper.log");
    until("the keeper's log is there again", async || own.exists()).await;
    assert!(at.keeper.state().await.unwrap().node.unwrap().alive());
}

/// The keeper with a limit of no bytes on every file that it writes: what a full disk is for it, and nobody else.
fn keeper_that_can_write_nothing(home: &Home) -> PathBuf {
    let path = home.root.path().join("keeper");
    let text = format!("#!/bin/sh\nulimit -f 0\nexec {} \"$@\"\n", keeper_program().display());
    // Written by another process: see `Home::sh`.
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    path
}

#[tokio::test]
async fn a_keeper_that_can_write_nothing_serves_all_the_same() {
    let home = Home::new();
    let program = keeper_that_can_write_nothing(&home);
    // No id in its lock, no diagnostic in its log, no record of start and end: nothing of that is worth dying for.
    let mut at = Connected::from(Keeper::start(&home.dir(), &program, None).await.unwrap());
    assert_eq!(fs::read_to_string(home.dir().join("keeper.lock")).unwrap(), "");
    for id in 1..=2 {
        let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
        let node = at.keeper.spawn(home.sh(id, script)).await.unwrap();
        assert_eq!(at.keeper.state().await.unwrap().node.unwrap().pid, node.pid);
        until("it catches the signal", async || {
            let stat = fs::read_to_string(format!("/proc/{}/status", node.pid)).unwrap_or_default();
            let caught = stat.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
            u64::from_str_radix(caught.trim(), 16).unwrap_or(0) & (1 << 14) != 0
        })
        .await;
        at.keeper.terminate(None).await.unwrap();
        let exit = at.exit().await;
        assert_eq!((exit.launch_id, exit.status), (id, WaitStatus::Exited(7)));
        assert_eq!(exit.last_output, ["ready"]);
    }
    assert!(exists(at.state.keeper_pid) && home.log_text().is_empty());
    assert!(fs::read_to_string(home.dir().join("logs/keeper.log")).unwrap().is_empty());
}
