//! Requests that are wrong, too long, too slow, or not what they seem.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{home, started, text, with_door};

#[test]
fn g43_every_route_answers_and_says_what_is_wrong() {
    let home = home();
    let door = with_door(&home);
    let _supervisor = started(&home, door);
    home.sees_head(1);
    for path in [
        "/health",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/",
        "/api/v1/status",
        "/api/v1/version",
        "/api/v1/node",
    ] {
        assert_eq!(door.get(path).status, 200, "{path}");
        let head = door.ask("HEAD", path, &[], "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    for path in [
        "upgrades",
        "upgrades/status",
        "history",
        "config",
        "logs",
        "events",
        "logs?tail=1",
        "events?since=0",
    ] {
        let path = format!("/api/v1/{path}");
        assert!(door.get(&path).json().is_object(), "{path}");
    }
    let plan = json!({"name": "v2", "height": 100_000}).to_string();
    let scheduled = door.ask("POST", "/api/v1/upgrades", &[], &plan);
    assert_eq!((scheduled.status, text(&scheduled.json()["upgrade"]["name"])), (200, "v2".into()));
    assert_eq!(door.get("/api/v1/upgrades/v2").json()["height"], 100_000);
    assert_eq!(door.get("/api/v1/upgrades/%76%32").json()["height"], 100_000, "the same name");
    assert_eq!(door.ask("DELETE", "/api/v1/upgrades/v2", &[], "").status, 200);

    let huge = "9".repeat(400);
    for (method, path, body, status, code) in [
        ("GET", "/api/v1/nothing", "", 404, "not_found"),
        ("GET", "/api/v1/%75pgrades", "", 404, "not_found"),
        ("GET", "/api/v1/upgrades/../config", "", 404, "not_found"),
        ("GET", "/api/v1/upgrades/..%2f..%2fx", "", 400, "invalid"),
        ("GET", "/api/v1/upgrades/%ff%00", "", 400, "invalid"),
        ("GET", "/assets/..%2fpage.rs", "", 404, "not_found"),
        ("PATCH", "/api/v1/status", "", 405, "method_not_allowed"),
        ("BREW", "/api/v1/status", "", 405, "method_not_allowed"),
        ("TRACE", "/api/v1/status", "", 405, "method_not_allowed"),
        ("GET", &format!("/api/v1/events?since={huge}"), "", 400, "invalid"),
        ("GET", "/api/v1/events?since=-1", "", 400, "invalid"),
        ("GET", "/api/v1/events?limit=x", "", 400, "invalid"),
        ("GET", "/api/v1/events?topics=nonsense", "", 400, "unknown_topic"),
        ("GET", &format!("/api/v1/logs?tail={huge}"), "", 400, "invalid"),
        ("GET", "/api/v1/logs?lines=1", "", 400, "invalid"),
        ("GET", "/api/v1/history?limit=1e9", "", 400, "invalid"),
        ("POST", "/api/v1/upgrades", "", 400, "invalid"),
        ("POST", "/api/v1/upgrades", "[]", 400, "invalid"),
        ("POST", "/api/v1/upgrades", "{\"name\":\"v2\",\"height\":0}", 400, "invalid"),
        ("POST", "/api/v1/upgrades", "{\"name\":\"../v2\",\"height\":9}", 400, "invalid"),
        ("POST", "/api/v1/upgrades", "{\"name\":\"v2\",\"height\":9,\"hight\":1}", 400, "invalid"),
        ("POST", "/api/v1/upgrades/v9/apply", "", 404, "not_found"),
        ("POST", "/api/v1/upgrades/v9/apply?force=maybe", "", 400, "invalid"),
        ("DELETE", "/api/v1/upgrades/v9", "", 404, "not_found"),
        ("PUT", "/api/v1/config", "x", 400, "invalid"),
        ("GET", "/api/v1/ws", "", 400, "invalid"),
    ] {
        let answer = door.ask(method, path, &[], body);
        assert_eq!(answer.error(), (status, code.into()), "{method} {path} {body}: {answer:?}");
    }
    for path in [format!("/api/v1/events?since={}", u64::MAX), format!("/api/v1/events?since={}", i64::MAX)] {
        let page = door.get(&path).json();
        assert_eq!(page["events"], json!([]), "{path}: {page}");
    }
    for path in [format!("/api/v1/logs?tail={}", u64::MAX), format!("/api/v1/history?limit={}", u64::MAX)] {
        assert_eq!(door.get(&path).status, 200, "{path}");
    }
    let not_that = door.ask("GET", "/api/v1/logs/stream", &[("Accept", "application/json")], "");
    assert_eq!(not_that.error(), (406, "not_acceptable".into()));
    // `[`: three and a half thousand of them nest deeper than any plan.
    let deep = "[".repeat(100_000);
    assert_eq!(door.ask("POST", "/api/v1/upgrades", &[], &deep).error(), (400, "invalid".into()));
}

#[test]
fn g43_what_is_too_long_is_cut_off() {
    let home = home();
    let door = with_door(&home);
    let _supervisor = started(&home, door);
    let longest = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024 - 11));
    assert_eq!(longest.len(), 1024 * 1024);
    for path in ["/api/v1/upgrades", "/api/v1/config/validate", "/api/v1/upgrades/x/apply"] {
        assert_ne!(door.ask("POST", path, &[], &longest).status, 413, "{path}");
        assert_eq!(
            door.ask("POST", path, &[], &format!("{longest} ")).error(),
            (413, "too_large".into()),
            "{path}"
        );
    }
    let pieces = "10000\r\n".to_owned() + &"x".repeat(65536) + "\r\n";
    let chunked = "POST /api/v1/upgrades HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_owned()
        + &pieces.repeat(17);
    assert_eq!(door.raw(chunked.as_bytes()).error(), (413, "too_large".into()));
    for (what, request) in [
        (
            "a long header",
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(256 * 1024)),
        ),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(101))),
        ("a long path", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(256 * 1024))),
    ] {
        let answer = door.raw(request.as_bytes());
        assert!([0, 400, 414, 431].contains(&answer.status), "{what}: {answer:?}");
    }
    let broken =
        "POST /api/v1/upgrades HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n";
    assert!([0, 400].contains(&door.raw(broken.as_bytes()).status), "{:?}", door.raw(broken.as_bytes()));
}

#[test]
fn g43_requests_cannot_be_smuggled() {
    let home = home();
    let door = with_door(&home);
    let _supervisor = started(&home, door);
    let head = "POST /api/v1/config/validate HTTP/1.1\r\nHost: localhost\r\n";
    let inner = "POST /api/v1/node/stop HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for shape in [
        format!("{head}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}Content-Length: +0\r\n\r\n{inner}"),
        format!("{head}Content-Length: -1\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: identity, x\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding : chunked\r\n\r\n{inner}"),
        format!("{head} Folded: x\r\n\r\n{inner}"),
        format!("{head}Bad\0Name: x\r\n\r\n{inner}"),
    ] {
        let answer = door.raw(shape.as_bytes());
        assert!([0, 400, 501].contains(&answer.status), "{shape}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1"), "one answer at most: {answer:?}");
    }
    // What is behind a body of known length is a request of its own, answered in turn and looked at like any other.
    let pipelined = "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3)
        + "GET /api/v1/version HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answers = door.raw(pipelined.as_bytes());
    let statuses = format!("{}\r\n\r\n{}", answers.head, answers.body);
    assert_eq!(
        (statuses.matches(" 200 OK").count(), statuses.matches(" 403 ").count()),
        (3, 1),
        "{statuses}"
    );
    let old = door.raw(b"GET /api/v1/version HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(old.status, 200);
    assert_eq!(door.raw(b"GET /api/v1/version HTTP/1.0\r\n\r\n").status, 400);
    for odd in [
        "CONNECT localhost:80 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET / HTTP/2.0",
        "PRI * HTTP/2.0",
        "\u{16}\u{3}\u{1}",
    ] {
        let answer = door.raw(format!("{odd}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        assert!([0, 400, 403, 404, 405, 505].contains(&answer.status), "{odd}: {answer:?}");
    }
    home.sees("nothing was smuggled in", |status| status["node"]["state"] == "running");
    assert_eq!(home.signals(home.node().pid, "SIGTERM"), 0);
}

#[test]
fn g43_a_slow_body_holds_up_nobody_and_is_given_up() {
    let home = home();
    let door = with_door(&home);
    let _supervisor = started(&home, door);
    let mut slow = door.connect().unwrap();
    let begun = Instant::now();
    slow.write_all(b"POST /api/v1/upgrades HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99\r\n\r\n{").unwrap();
    let drips = std::thread::spawn({
        let mut slow = slow.try_clone().unwrap();
        move || {
            while slow.write_all(b" ").is_ok() && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    });
    assert_eq!(door.get("/api/v1/status").status, 200, "another one is served meanwhile");
    let mut answer = String::new();
    let _ = std::io::Read::read_to_string(&mut slow, &mut answer);
    assert!(answer.contains(" 408 ") && answer.contains("too_slow"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    drips.join().unwrap();
}
