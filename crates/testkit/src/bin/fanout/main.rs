//! The listeners of `bench/api`: many clients of one WebSocket API, two that never read, one that talks rubbish.
//!
//! ```text
//! fanout ADDRESS CLIENTS [--alone]      ADDRESS: the API's, such as 127.0.0.1:8080; --alone: none of the bad ones
//! stdout  {"joined": 1000, "seconds": 0.9}      when every client is subscribed
//! stdin   a line: the name of the phase that begins; its end: everything is over
//! stdout  one JSON object: what was heard, when, by whom
//! ```
//!
//! The pieces: `record` (every frame and when each client had it), `listeners` (the good ones), `hostile` (the
//! others), `connect`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A measurement that cannot go on has failed.
#![allow(clippy::disallowed_methods)] // It has its own clock.

mod connect;
mod hostile;
mod listeners;
mod record;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use record::Record;

/// What was told before the end is heard within this time, or it is lost.
const LATE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let address = words.next().and_then(|word| word.parse().ok());
    let clients = words.next().and_then(|word| word.parse().ok()).filter(|clients| *clients > 0);
    let alone = words.next();
    let (Some(address), Some(clients), None | Some("--alone")) = (address, clients, alone.as_deref()) else {
        eprintln!("fanout: see the head of crates/testkit/src/bin/fanout/main.rs");
        return ExitCode::from(2);
    };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(measure(address, clients, alone.is_some())));
    ExitCode::SUCCESS
}

async fn measure(address: SocketAddr, clients: usize, alone: bool) {
    let record = Rc::new(RefCell::new(Record::default()));
    let (end, over) = watch::channel(false);
    let began = Instant::now();
    let mut listeners = JoinSet::new();
    let mut joined = listeners::start(address, clients, &record, &over, &mut listeners);
    for _ in 0..clients {
        joined.recv().await.expect("every client is subscribed");
    }
    println!("{}", json!({"joined": clients, "seconds": began.elapsed().as_secs_f64()}));
    record.borrow_mut().all_are_there();

    let bad_ones = (!alone).then(|| tokio::task::spawn_local(hostile::all(address, over)));
    let mut phases = BufReader::new(tokio::io::stdin()).lines();
    while let Some(name) = phases.next_line().await.expect("standard input") {
        record.borrow_mut().begin(name);
    }
    record.borrow_mut().end();
    sleep(LATE).await;

    let _ = end.send(true);
    let heard = listeners.join_all().await;
    let mut report = record.borrow().report(&heard);
    if let Some(bad_ones) = bad_ones {
        report["bad"] = bad_ones.await.expect("their report");
    }
    println!("{report}");
}
