//! Ending nodes, and what they leave behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use wemixvisor_host::keeper::{KeeperError, SpawnError, WaitStatus};

use crate::home::{Home, exists, until};

/// Counts the SIGTERMs that come, until a file called `go` is there; the count is its exit code.
const COUNTING: &str = "n=0; trap 'n=$((n+1)); echo term $n' TERM; echo ready; \
    while [ ! -e go ]; do sleep 0.003; done; rm go; exit $n";

#[tokio::test]
async fn a_node_gets_one_sigterm_however_often_it_is_stopped() {
    let home = Home::new();
    let mut at = home.start().await;
    for id in 1..=200 {
        let _ = fs::remove_file(home.log());
        let mut launch = home.sh(id, COUNTING);
        // A fresh file each time, so that the text in it is this launch's.
        launch.log.path = home.dir().join(format!("logs/{id}.log"));
        let log = launch.log.path.clone();
        at.keeper.spawn(launch).await.unwrap();
        let said = async |text: &str| {
            until(text, async || fs::read_to_string(&log).unwrap_or_default().contains(text)).await;
        };
        said("ready").await;
        at.keeper.terminate(None).await.unwrap();
        said("term 1").await;
        at.keeper.terminate(None).await.unwrap();
        if id % 10 == 0 {
            // Another supervisor does not know, and asks again.
            drop(at);
            at = home.find_running().await;
            assert!(at.state.node.as_ref().unwrap().term_sent);
        }
        at.keeper.terminate(None).await.unwrap();
        fs::File::create(home.root.path().join("go")).unwrap();
        let exit = at.exit().await;
        assert_eq!((exit.launch_id, exit.status, exit.term_sent), (id, WaitStatus::Exited(1), true));
    }
}

#[tokio::test]
async fn kill_and_quit_do_what_they_say() {
    let home = Home::new();
    let mut at = home.start().await;
    assert!(matches!(at.keeper.terminate(None).await, Err(KeeperError::NoNode)));
    at.keeper.spawn(home.sh(1, "trap '' TERM; echo ready; while :; do sleep 0.01; done")).await.unwrap();
    until("ready", async || home.log_text().contains("ready")).await;
    at.keeper.terminate(None).await.unwrap();
    at.keeper.kill(None).await.unwrap();
    let exit = at.exit().await;
    assert_eq!(exit.status, WaitStatus::Signaled { signal: 9, core: false });
    assert!(exit.term_sent && exit.kill_sent && !exit.oom_killed);
    at.keeper.end_leftovers().await.unwrap();

    at.keeper
        .spawn(home.sh(2, "trap 'exit 2' QUIT; echo steady; while :; do sleep 0.01; done"))
        .await
        .unwrap();
    until("steady", async || home.log_text().contains("steady")).await;
    at.keeper.quit().await.unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Exited(2));
    assert!(matches!(at.keeper.kill(None).await, Err(KeeperError::NoNode)));
}

#[tokio::test]
async fn what_outlives_the_node_is_found_and_ended() {
    let home = Home::new();
    let mut at = home.start().await;
    // One obeys SIGTERM, one does not and has a session of its own; neither is a child of the keeper at first.
    let script = "sleep 1000 & setsid sh -c 'trap \"\" TERM; echo deaf; sleep 1000; :' & \
        while [ ! -e go ]; do sleep 0.003; done; exit 3";
    let node = at.keeper.spawn(home.sh(1, script)).await.unwrap();
    until("both run", async || home.log_text().contains("deaf")).await;
    fs::File::create(home.root.path().join("go")).unwrap();
    let exit = at.exit().await;
    assert_eq!(exit.status, WaitStatus::Exited(3));
    assert!(exit.leftovers.len() >= 2, "{exit:?}");
    match at.keeper.spawn(home.sh(2, ":")).await {
        Err(SpawnError::NodeStillRuns { holders, .. }) => {
            assert!(!holders.contains(&node.pid) && holders.len() >= 2)
        }
        other => panic!("{other:?}"),
    }
    // A supervisor that comes later sees them as well: the keeper stays for them.
    drop(at);
    let mut at = home.find_running().await;
    let leftovers = at.state.leftovers.clone();
    assert!(leftovers.len() >= 3 && at.state.node.is_none(), "with what they started: {leftovers:?}");
    at.keeper.end_leftovers().await.unwrap();
    assert!(!leftovers.iter().any(|&pid| exists(pid)));
    at.keeper.spawn(home.sh(3, ":")).await.unwrap();
    assert_eq!(at.exit().await.launch_id, 3);
}

#[tokio::test]
async fn orphans_are_collected_while_the_node_runs() {
    let home = Home::new();
    let at = home.start().await;
    // Fifty processes lose their parent at once and end a moment later.
    let script = "for i in $(seq 50); do (sleep 0.05 & ) ; done; echo done; sleep 1000; :";
    at.keeper.spawn(home.sh(1, script)).await.unwrap();
    until("done", async || home.log_text().contains("done")).await;
    let children = format!("/proc/{0}/task/{0}/children", at.state.keeper_pid);
    until("only the node is left", async || {
        fs::read_to_string(&children).unwrap().split_ascii_whitespace().count() == 1
    })
    .await;
    // A running node's own processes are no leftovers.
    at.keeper.end_leftovers().await.unwrap();
    assert!(at.keeper.state().await.unwrap().node.unwrap().alive());
}

#[tokio::test]
async fn an_order_for_another_launch_touches_no_node() {
    let home = Home::new();
    let mut at = home.start().await;
    at.keeper.spawn(home.sh(2, COUNTING)).await.unwrap();
    until("it is ready", async || home.log_text().contains("ready")).await;
    let record = || fs::metadata(home.dir().join("node.json")).unwrap().ino();
    let noted = record();
    for late in [at.keeper.terminate(Some(1)).await, at.keeper.kill(Some(1)).await] {
        assert!(matches!(late, Err(KeeperError::NoNode)), "{late:?}");
    }
    assert!(!at.keeper.state().await.unwrap().node.unwrap().term_sent);
    assert_eq!(record(), noted, "it is not written again");
    at.keeper.terminate(Some(2)).await.unwrap();
    until("it was told", async || home.log_text().contains("term 1")).await;
    fs::File::create(home.root.path().join("go")).unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Exited(1));
}
