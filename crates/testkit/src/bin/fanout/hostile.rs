//! The clients that do not listen as they should.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::connect::{SUBSCRIBE, Socket, connect, say};

/// So often does the greedy one ask how everything stands, without reading any answer.
const MANY: usize = 2000;

/// What the kernel is asked to keep for one that does not read, in bytes; it gives its least.
const TINY: u32 = 1024;

/// It is looked after a connection so often.
const LOOK: Duration = Duration::from_millis(100);

/// The talker says something so often.
const TALK: Duration = Duration::from_millis(10);

/// What is left in the buffers is there within this time.
const LEFT_OVER: Duration = Duration::from_secs(2);

/// All of them; the answer says what became of each.
pub(crate) async fn all(address: SocketAddr, over: watch::Receiver<bool>) -> Value {
    let (once, often, rubbish) = tokio::join!(
        never_reads("subscribes once", address, 1, over.clone()),
        never_reads("asks for more", address, MANY, over.clone()),
        talks_rubbish(address, over),
    );
    json!({"never_readers": [once, often], "rubbish": rubbish})
}

/// Subscribes `times` times and never reads; the answer says when it was cut off, and what it finds when it reads
/// after that.
async fn never_reads(
    name: &'static str,
    address: SocketAddr,
    times: usize,
    mut over: watch::Receiver<bool>,
) -> Value {
    let mut socket = connect(address, Some(TINY)).await.expect("the API takes a client");
    let own = socket.get_ref().local_addr().expect("a connected socket has an address");
    let began = Instant::now();
    for _ in 0..times {
        // It may be that the server takes no more while it cannot answer.
        if !matches!(timeout(TALK, say(&mut socket, SUBSCRIBE)).await, Ok(Ok(()))) {
            break;
        }
    }
    let mut cut = None;
    while cut.is_none() {
        tokio::select! {
            () = sleep(LOOK) => if !is_held(address.port(), own.port()) { cut = Some(began.elapsed().as_secs_f64()) },
            _ = over.changed() => break,
        }
    }
    let listened = began.elapsed().as_secs_f64();
    let (frames, ended) = read_what_is_left(&mut socket).await;
    json!({"name": name, "listened_s": listened, "cut_after_s": cut, "frames_left": frames, "ended": ended})
}

/// Whether the server's end of a connection is open.
fn is_held(server: u16, client: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/self/net/tcp").expect("the kernel's table");
    let (server, client) = (format!(":{server:04X}"), format!(":{client:04X}"));
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(words[..], [_, local, remote, state]
            if local.ends_with(&server) && remote.ends_with(&client) && state == ESTABLISHED)
    })
}

async fn read_what_is_left(socket: &mut Socket) -> (usize, String) {
    let (mut frames, until) = (0, tokio::time::Instant::now() + LEFT_OVER);
    loop {
        match timeout_at(until, socket.next()).await {
            Ok(Some(Ok(Message::Close(said)))) => {
                return (
                    frames,
                    said.map_or("closed".into(), |said| format!("{}: {}", said.code, said.reason)),
                );
            }
            Ok(Some(Ok(_))) => frames += 1,
            Ok(Some(Err(error))) => return (frames, error.to_string()),
            Ok(None) => return (frames, "the connection ended".into()),
            Err(_) => return (frames, "still open".into()),
        }
    }
}

/// Says what means nothing, comes again when it is thrown out, and so on until the end.
async fn talks_rubbish(address: SocketAddr, over: watch::Receiver<bool>) -> Value {
    let (mut visits, mut said, mut errors) = (0, 0, 0);
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    while !*over.borrow() {
        let mut socket = connect(address, None).await.expect("the API takes a client");
        visits += 1;
        let end = loop {
            // It fails when the server has closed; that is read below.
            let _ = socket.send(rubbish(said)).await;
            said += 1;
            let end = loop {
                match timeout(TALK, socket.next()).await {
                    Ok(Some(Ok(Message::Text(text)))) => {
                        errors += usize::from(text.contains(r#""type":"error""#))
                    }
                    Ok(Some(Ok(Message::Close(said)))) => {
                        break Some(said.map_or("no code".into(), |said| u16::from(said.code).to_string()));
                    }
                    Ok(Some(Ok(_))) => {}
                    Ok(Some(Err(error))) => break Some(error.to_string()),
                    Ok(None) => break Some("no close frame".into()),
                    Err(_) => break None,
                }
            };
            if end.is_some() || *over.borrow() {
                break end;
            }
        };
        if let Some(end) = end {
            *ends.entry(end).or_default() += 1;
        }
    }
    json!({"visits": visits, "said": said, "errors": errors, "ends": ends})
}

fn rubbish(number: usize) -> Message {
    match number % 6 {
        0 => Message::text("rubbish"),
        1 => Message::text("[".repeat(10_000)),
        2 => Message::text(r#"{"action":"dance","topics":["heights"]}"#),
        3 => Message::text(r#"{"action":"subscribe","topics":["weather"]}"#),
        4 => Message::text(r#"{"action":"subscribe","topics":[],"since":-1}"#),
        _ => Message::binary(vec![0; 1000]),
    }
}
