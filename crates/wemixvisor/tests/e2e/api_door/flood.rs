//! Too much of everything: the node is supervised all the same.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use testkit::Door;

use super::beside::Beside;
use super::{home, started, supervises, with_door};

#[test]
fn g43_connections_leave_files_for_the_supervision() {
    let home = home();
    let door = with_door(&home);
    home.set("api.enabled", "false");
    let supervisor = home.start();
    let few = Rlimit { current: Some(512), maximum: Some(512) };
    prlimit(Pid::from_raw(supervisor.pid().cast_signed()), Resource::Nofile, few).unwrap();
    home.set("api.enabled", "true");
    home.wait("it is served", || door.answers(200).then_some(()));
    let mut crowd: Vec<_> = (0..700).filter_map(|_| door.connect()).collect();
    for one in &mut crowd {
        let _ = one.write_all(b"GET /api/v1/ev");
    }
    assert!(crowd.len() > 300, "{}", crowd.len());
    supervises(&home);
    let before = home.status().unwrap()["node"]["pid"].clone();
    assert_eq!(home.ask("POST", "/api/v1/node/restart", None).unwrap().0, 202);
    home.sees("the node is started again", |status| {
        status["node"]["state"] == "running" && status["node"]["pid"] != before
    });
    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.schedule("v2", head + 10);
    home.committed("v2");
    drop(crowd);
    home.wait("others are served again", || door.answers(200).then_some(()));
}

/// A client that asks for this and keeps the connection, and the status that it got.
fn stays(door: Door, request: &str) -> (TcpStream, String) {
    let mut stream = door.connect().expect("somebody listens");
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    (stream, String::from_utf8_lossy(&status[9..]).into_owned())
}

#[test]
fn g45_the_commands_find_a_place_whoever_reads_beside() {
    let home = home();
    let supervisor = home.start();
    let few = Rlimit { current: Some(512), maximum: Some(512) };
    prlimit(Pid::from_raw(supervisor.pid().cast_signed()), Resource::Nofile, few).unwrap();
    let _ = home.cli(&["restart", "--supervisor-only"]).expect(0);
    // Each of them may have more connections than the supervisor has places: 128, and 64 for guests.
    let beside = [Beside::start(&home), Beside::start(&home)];
    let events = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    let opening = "GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let crowd: Vec<_> = (0..160)
        .map(|number| stays(beside[number % 2].door, if number % 4 < 2 { events } else { opening }))
        .collect();
    let count = |wanted: &str| crowd.iter().filter(|(_, status)| status == wanted).count();
    assert_eq!((count("200") + count("101"), count("503")), (64, 96));
    assert!(count("200") > 0 && count("101") > 0);
    let refused = beside[0].door.get("/api/v1/status");
    assert_eq!(refused.error(), (503, "busy".into()), "{refused:?}");
    for command in [["status", "--json"], ["upgrade", "list"]] {
        let begun = Instant::now();
        let _ = home.cli(&command).expect(0);
        assert!(begun.elapsed() < Duration::from_secs(3), "{command:?}: {:?}", begun.elapsed());
    }
    supervises(&home);
    drop(crowd);
    let again = home.wait("as many others are served", || {
        let again: Vec<_> = (0..64).map(|_| stays(beside[1].door, events)).collect();
        again.iter().all(|(_, status)| status == "200").then_some(again)
    });
    let _ = home.cli(&["stop"]).expect(0);
    drop(again);
}

#[test]
fn g43_websockets_take_places_like_all_connections() {
    let home = home();
    let door = with_door(&home);
    home.set("api.enabled", "false");
    let supervisor = home.start();
    let few = Rlimit { current: Some(300), maximum: Some(300) };
    prlimit(Pid::from_raw(supervisor.pid().cast_signed()), Resource::Nofile, few).unwrap();
    home.set("api.enabled", "true");
    home.wait("it is served", || door.answers(200).then_some(()));
    let talks: Vec<_> = (0..40).filter_map(|_| door.websocket(&[]).ok()).collect();
    assert!((15..=22).contains(&talks.len()), "of 22 places: {}", talks.len());
    supervises(&home);
    drop(talks);
    home.wait("others are served again", || door.answers(200).then_some(()));
}

#[test]
fn g44_who_says_too_much_is_let_go_and_who_asks_for_everything_harms_nobody() {
    let home = home();
    let door = with_door(&home);
    let _supervisor = started(&home, door);
    let mut talk = door.websocket(&[]).unwrap();
    talk.until("hello");
    for (said, code) in [
        ("{", "invalid"),
        ("[]", "invalid"),
        (r#"{"action":"subscribe","topics":[]}"#, "invalid"),
        (r#"{"action":"subscribe","topics":["upgrade"]}"#, "unknown_topic"),
        (r#"{"action":"dance","topics":["upgrades"]}"#, "invalid"),
        (r#"{"action":"subscribe","topics":["upgrades"],"since":-1}"#, "invalid"),
        (r#"{"action":"subscribe","topics":["upgrades"],"since":1e30}"#, "invalid"),
        (r#"{"action":"subscribe","topics":["upgrades"],"more":1}"#, "invalid"),
    ] {
        talk.say(said);
        assert_eq!(talk.until("error")["data"]["code"], code, "{said}");
    }
    talk.say(json!({"action": "subscribe", "topics": ["upgrades"], "since": u64::MAX}).to_string());
    assert_eq!(talk.until("gap")["data"]["since"], u64::MAX);
    talk.until("snapshot");
    talk.say("x".repeat(17 * 1024));
    let (code, _) = talk.end();
    assert!([0, 1009].contains(&code), "too long a message: {code}");

    let mut nonsense = door.websocket(&[]).unwrap();
    (0..40).for_each(|_| _ = nonsense.say("?"));
    assert_eq!(nonsense.end().0, 1008);

    let crowd: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                let mut talk = door.websocket(&[]).unwrap();
                let since =
                    json!({"action": "subscribe", "topics": ["node", "heights"], "since": 0}).to_string();
                (0..1000).for_each(|_| _ = talk.say(since.clone()));
                talk.end()
            })
        })
        .collect();
    supervises(&home);
    for one in crowd {
        let (code, reason) = one.join().unwrap();
        // What was said after the end can break the connection before the last word is read.
        assert!(code == 1008 && reason.contains("100 messages") || code == 0, "{code} {reason}");
    }
    assert_eq!(home.ask_within(Duration::from_secs(5), "GET", "/health", None).unwrap().0, 200);
    home.wait("nobody listens any more", || {
        let text = door.get("/metrics").body;
        text.lines().any(|line| line == "wemixvisor_api_listeners 0").then_some(())
    });
}
