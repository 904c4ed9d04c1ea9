//! How fast, and how small. Run by hand in release mode:
//! `cargo test --release -p wemixvisor-host --test keeper latency -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::home::Home;

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: p50 {:?}, p95 {:?}, max {:?} of {}", at(50), at(95), at(100), times.len());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn latency() {
    let home = Home::new();
    let start = Instant::now();
    let mut at = home.start().await;
    println!("keeper started and answering: {:?}", start.elapsed());
    let (mut spawns, mut ends, mut switches) = (Vec::new(), Vec::new(), Vec::new());
    let sleep = Path::new("/bin/sleep");
    at.keeper.spawn(home.program(0, sleep, &["1000"])).await.unwrap();
    for id in 1..=500 {
        let launch = home.program(id, sleep, &["1000"]);
        let kill = Instant::now();
        at.keeper.kill(None).await.unwrap();
        at.exit().await;
        let exit = Instant::now();
        at.keeper.spawn(launch).await.unwrap();
        ends.push(exit - kill);
        spawns.push(exit.elapsed());
        switches.push(kill.elapsed());
    }
    show("SIGKILL asked for -> exit event (with the process's own end)", ends);
    show("spawn asked for -> executed and proved", spawns);
    show("both", switches);
    let keeper = at.state.keeper_pid;
    let memory = fs::read_to_string(format!("/proc/{keeper}/smaps_rollup")).unwrap();
    for line in memory
        .lines()
        .filter(|line| line.starts_with("Rss") || line.starts_with("Private") || line.starts_with("Pss:"))
    {
        println!("keeper {line}");
    }
    at.keeper.kill(None).await.unwrap();
    at.exit().await;

    let start = Instant::now();
    at.keeper.spawn(home.sh(1000, "head -c 2000000000 /dev/zero")).await.unwrap();
    at.exit().await;
    let seconds = start.elapsed().as_secs_f64();
    println!("output: {:.0} MB/s", 2000.0 / seconds);
}
