//! The node's output: it is never held up, whatever it writes and whatever happens to the log.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)]

use std::fs;

use wemixvisor_host::keeper::WaitStatus;
use wemixvisor_host::output::{Follow, tail};

use crate::home::{Home, LIMIT, until};

fn log_bytes(home: &Home) -> u64 {
    let entries = fs::read_dir(home.dir().join("logs")).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("node.log"))
        .fold(0, |sum, entry| sum + entry.metadata().map_or(0, |metadata| metadata.len()))
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_line_end_pass_and_the_disk_is_bounded() {
    let home = Home::new();
    let mut at = home.start().await;
    let script = "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end; exit 6";
    at.keeper.spawn(home.sh(1, script)).await.unwrap();
    let exit = at.exit().await;
    assert_eq!(exit.status, WaitStatus::Exited(6));
    assert_eq!(exit.last_output.last().unwrap(), "end");
    assert!(exit.last_output.iter().map(String::len).sum::<usize>() <= 4096);
    let (bytes, policy) = (log_bytes(&home), home.log_policy());
    assert!(bytes <= policy.max_bytes * u64::from(policy.keep) && bytes > policy.max_bytes, "{bytes}");
    assert_eq!(tail(&home.log(), 1).unwrap(), b"end\n");
}

#[tokio::test]
async fn a_log_that_is_removed_or_cannot_be_written_holds_nobody_up() {
    let home = Home::new();
    let mut at = home.start().await;
    let script =
        "n=0; while [ ! -e go ]; do n=$((n+1)); echo line $n; echo $n > count; sleep 0.003; done; exit 6";
    at.keeper.spawn(home.sh(1, script)).await.unwrap();
    let count =
        || fs::read_to_string(home.root.path().join("count")).unwrap_or_default().trim().parse::<u64>().ok();
    let advances = async || {
        let before = count();
        until("the node goes on", async || count() > before).await;
    };
    until("it writes", async || home.log_text().contains("line 3\n")).await;
    fs::remove_file(home.log()).unwrap();
    until("the log is back", async || home.log_text().contains("line")).await;
    // A directory in its place.
    fs::remove_file(home.log()).unwrap();
    fs::create_dir(home.log()).unwrap();
    advances().await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await; // The keeper looks at the place once a second.
    advances().await;
    fs::remove_dir(home.log()).unwrap();
    until("what is missing is said", async || {
        home.log_text().contains("bytes of the node's output could not be written: Is a directory")
    })
    .await;
    // No directory at all.
    fs::remove_dir_all(home.dir().join("logs")).unwrap();
    advances().await;
    fs::create_dir(home.dir().join("logs")).unwrap();
    until("the log is back", async || home.log_text().contains("line")).await;
    fs::File::create(home.root.path().join("go")).unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Exited(6));
}

#[tokio::test]
async fn a_burst_that_nobody_logs_is_taken_as_well() {
    let home = Home::new();
    let mut at = home.start().await;
    let mut launch = home.sh(1, "head -c 50000000 /dev/zero; exit 6");
    launch.log.path = "/dev/full".into();
    at.keeper.spawn(launch).await.unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Exited(6));
}

#[tokio::test]
async fn a_node_that_closes_its_output_costs_no_time() {
    let home = Home::new();
    let mut at = home.start().await;
    at.keeper
        .spawn(home.sh(1, "echo gone; exec >/dev/null 2>&1; while [ ! -e go ]; do sleep 0.01; done"))
        .await
        .unwrap();
    until("it has closed it", async || home.log_text().contains("gone")).await;
    let keeper = at.state.keeper_pid;
    let before = wemixvisor_host::process::Work::of(keeper).unwrap().cpu_ticks;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await; // A spinning loop would use 50 ticks.
    let used = wemixvisor_host::process::Work::of(keeper).unwrap().cpu_ticks - before;
    assert!(used < 10, "{used} ticks");
    fs::File::create(home.root.path().join("go")).unwrap();
    assert_eq!(at.exit().await.last_output, ["gone"]);
}

#[tokio::test]
async fn a_node_that_floods_is_stopped_all_the_same() {
    let home = Home::new();
    let mut at = home.start().await;
    let node =
        at.keeper.spawn(home.program(1, "/usr/bin/yes".as_ref(), &["a line of a node's log"])).await.unwrap();
    until("it floods", async || fs::metadata(home.dir().join("logs/node.log.1")).is_ok()).await;
    assert_eq!(at.keeper.state().await.unwrap().node.unwrap().pid, node.pid);
    at.keeper.terminate(None).await.unwrap();
    assert_eq!(at.exit().await.status, WaitStatus::Signaled { signal: 15, core: false });
    let policy = home.log_policy();
    assert!(log_bytes(&home) <= policy.max_bytes * u64::from(policy.keep));
}

#[tokio::test]
async fn the_log_is_followed_as_it_is_written() {
    let home = Home::new();
    let mut at = home.start().await;
    let mut follow = Follow::from_end(&home.log()).unwrap();
    let mut launch = home.sh(1, "for i in $(seq 20000); do echo line $i; done; exit 0");
    // Some 230 kB in 16 kB parts: about 15 rotations while it is read.
    launch.log.max_bytes = 16 << 10;
    launch.log.keep = 100;
    at.keeper.spawn(launch).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"line 20000\n") {
        text.extend(tokio::time::timeout(LIMIT, follow.next()).await.expect("no line in time").unwrap());
    }
    let wanted: String = (1..=20000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(text.len(), wanted.len());
    assert!(text == wanted.as_bytes());
    assert_eq!(at.exit().await.status, WaitStatus::Exited(0));
}
