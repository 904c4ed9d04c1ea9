//! Events told again, to clients that take their time.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::{Value, json};
use testkit::{Door, Talk, TestHome};
use wemixvisor_host::store::Store;

use super::{home, started, supervises, with_door};

/// So many events are in the store before the start.
const SEEDED: u64 = 9000;

/// So many bytes are in each of them.
const BYTES: usize = 1000;

/// A home that remembers [`SEEDED`] events: 9 MB.
fn with_events() -> TestHome {
    let home = home();
    remember(&home, SEEDED);
    home
}

fn remember(home: &TestHome, count: u64) {
    let mut store = Store::open(&home.wemixvisor().join("state.db")).unwrap();
    let filled = store.write(|batch| {
        for _ in 0..count {
            batch.event("node", "seeded", &json!({"text": "x".repeat(BYTES)}))?;
        }
        Ok(())
    });
    filled.unwrap();
}

/// The most memory that a process has had, in MB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// A client that wants everything and takes nothing.
fn greedy(door: Door, request: &str) -> TcpStream {
    let mut stream = door.connect().expect("somebody listens");
    set_socket_recv_buffer_size(&stream, 2048).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// So many times something happens.
const ROUNDS: u64 = 160;

/// So many events a slow client takes meanwhile, each time: none would be nobody, and it is behind to the end.
const TAKEN: u64 = SEEDED / ROUNDS - 5;

/// More events than may wait for a client.
fn makes_noise(home: &TestHome, mut meanwhile: impl FnMut()) {
    for _ in 0..ROUNDS {
        home.schedule("v2", 1_000_000);
        assert_eq!(home.ask("DELETE", "/api/v1/upgrades/v2", None).unwrap().0, 200);
        meanwhile();
    }
}

/// The number of a recorded event; those of the moment have none of their own.
fn number(frame: &Value) -> Option<u64> {
    let of_the_moment = ["hello", "subscribed", "height", "snapshot", "metrics"];
    (!of_the_moment.contains(&frame["type"].as_str().unwrap())).then(|| frame["seq"].as_u64().unwrap())
}

#[test]
fn g44_a_crowd_that_wants_all_events_and_takes_none_costs_little() {
    let home = with_events();
    let door = with_door(&home);
    let supervisor = started(&home, door);
    supervises(&home);
    let before = most_memory(supervisor.pid());
    let events =
        "GET /api/v1/events?since=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    let opening = "GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let crowd: Vec<_> = (0..250).map(|_| greedy(door, events)).collect();
    let listen = |count: usize| {
        home.wait("they listen", || {
            let (_, text) = home.ask("GET", "/api/v1/events?since=0&limit=1", None)?;
            assert_eq!(text["events"][0]["seq"], 1);
            let metrics = door.get("/metrics").body;
            metrics.lines().any(|line| line == format!("wemixvisor_api_listeners {count}")).then_some(())
        });
    };
    listen(250);
    // A mask of zeros leaves the text as it is.
    let said = json!({"action": "subscribe", "topics": ["node"], "since": 0}).to_string();
    let mut frame = vec![0x81, 0x80 | u8::try_from(said.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(said.as_bytes());
    let talks: Vec<_> = (0..50)
        .map(|_| {
            let mut talk = greedy(door, opening);
            talk.write_all(&frame).unwrap();
            talk
        })
        .collect();
    supervises(&home);
    let answered = home.ask_within(Duration::from_secs(5), "GET", "/api/v1/status", None);
    assert_eq!(answered.unwrap().0, 200);
    let grown = most_memory(supervisor.pid()) - before;
    assert!(grown < 100, "300 clients took {grown} MB");
    drop((crowd, talks));
    listen(0);
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn g44_who_takes_events_slowly_has_them_all_once_and_in_order() {
    let home = with_events();
    let door = with_door(&home);
    let supervisor = started(&home, door);
    let mut stream = door.stream("/api/v1/events?since=0", &[]);
    let mut talk = door.websocket(&[]).unwrap();
    let topics = ["upgrades", "heights", "node", "alerts", "system"];
    talk.say(json!({"action": "subscribe", "topics": topics, "since": 0}).to_string());
    // Both have begun, and are still far behind when more has happened than is kept for them.
    assert_eq!(stream.next_data().unwrap()["seq"], 1);
    assert_eq!(talk.until("seeded")["seq"], 1);
    let (mut streamed, mut told) = (vec![], vec![]);
    makes_noise(&home, || {
        for _ in 0..TAKEN {
            streamed.extend(number(&stream.next_data().unwrap()));
            told.extend(number(&talk.hear().unwrap()));
        }
    });
    let all: Value = home.ask("GET", &format!("/api/v1/events?since={SEEDED}&limit=1000"), None).unwrap().1;
    let last = all["last"].as_u64().unwrap();
    assert!(last > SEEDED + 320, "{last}");
    while streamed.last().is_none_or(|seq| *seq < last) {
        streamed.extend(number(&stream.next_data().unwrap()));
    }
    while told.last().is_none_or(|seq| *seq < last) {
        told.extend(number(&talk.hear().unwrap()));
    }
    for heard in [streamed, told] {
        assert_eq!(heard, (2..=*heard.last().unwrap()).collect::<Vec<_>>());
    }
    // And they hear what happens then.
    home.schedule("v2", 1_000_000);
    assert_eq!(stream.until("upgrade_scheduled")["seq"], talk.until("upgrade_scheduled")["seq"]);
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn g44_whatever_frame_was_the_last_one_its_number_is_the_one_to_come_back_with() {
    let home = with_events();
    let door = with_door(&home);
    let supervisor = started(&home, door);
    let mut talk = door.websocket(&[]).unwrap();
    talk.say(
        json!({"action": "subscribe", "topics": ["upgrades", "heights", "alerts", "system"]}).to_string(),
    );
    let known = talk.until("subscribed")["seq"].as_u64().unwrap();
    // A topic more, from its beginning, while the others go on: more than may wait for a client.
    talk.say(json!({"action": "subscribe", "topics": ["node"], "since": 0}).to_string());
    assert_eq!(talk.until("subscribed")["seq"], 0);
    assert_eq!(talk.until("seeded")["seq"], 1);
    let (mut told, mut answered, mut resumes_at) = (Vec::new(), false, 1);
    let mut hear = |talk: &mut Talk, told: &mut Vec<u64>| {
        let frame = talk.hear().unwrap();
        let is_answer = frame["type"] == "error";
        if let Some(number) = number(&frame).filter(|_| !is_answer) {
            assert!(number > resumes_at, "{number} comes after a frame that said {resumes_at}: {frame}");
            told.push(number);
        }
        resumes_at = frame["seq"].as_u64().unwrap();
        is_answer
    };
    makes_noise(&home, || {
        for _ in 0..TAKEN {
            hear(&mut talk, &mut told);
        }
    });
    // The answer to nonsense has a number as well.
    talk.say("nonsense");
    let all: Value = home.ask("GET", &format!("/api/v1/events?since={SEEDED}&limit=1000"), None).unwrap().1;
    let last = all["last"].as_u64().unwrap();
    assert!(last > known + 300, "{last}");
    while !answered || told.last().is_none_or(|seq| *seq < last) {
        answered |= hear(&mut talk, &mut told);
    }
    assert_eq!(told[..100], (2..=101).collect::<Vec<u64>>());
    let since_then: Vec<u64> = told.iter().copied().filter(|seq| *seq > known).collect();
    assert_eq!(since_then, (known + 1..=*told.last().unwrap()).collect::<Vec<_>>());
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn g44_what_is_not_kept_any_more_is_said_to_be_missing() {
    let home = home();
    remember(&home, 10_500);
    let door = with_door(&home);
    let supervisor = started(&home, door);
    let page = |since: &str| door.get(&format!("/api/v1/events?limit=1{since}")).json();
    let oldest = page("")["events"][0]["seq"].as_u64().unwrap();
    assert!(oldest > 500, "{oldest}");
    for (since, gap) in [
        (String::new(), false),
        ("&since=0".into(), true),
        (format!("&since={}", oldest - 2), true),
        (format!("&since={}", oldest + 100), false),
        ("&since=1000000".into(), true),
    ] {
        assert_eq!(page(&since)["gap"], gap, "{since}");
    }
    let mut stream = door.stream("/api/v1/events?since=5", &[]);
    assert_eq!(stream.until("gap")["data"]["since"], 5);
    stream.until("snapshot");
    assert_eq!(supervisor.stop(), 0);
}
