//! The control socket: what is refused, and a supervisor that does not answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;
use testkit::Signal;

use super::{fails, has};
use crate::home_by_order;

#[test]
fn what_the_api_does_not_take_is_refused_with_a_sentence_and_a_word() {
    let home = home_by_order();
    let _supervisor = home.start();
    home.schedule("v2", 1000);
    let long = "x".repeat(1024 * 1024);
    for (method, path, body, status, code) in [
        ("GET", "/api/v1/nothing", None, 404, "not_found"),
        ("POST", "/api/v1/status", None, 405, "method_not_allowed"),
        ("DELETE", "/api/v1/upgrades", None, 405, "method_not_allowed"),
        ("POST", "/api/v1/upgrades", None, 400, "invalid"),
        ("POST", "/api/v1/upgrades", Some(json!([])), 400, "invalid"),
        ("POST", "/api/v1/upgrades", Some(json!({"name": "v3", "hight": 7})), 400, "invalid"),
        (
            "POST",
            "/api/v1/upgrades",
            Some(json!({"name": "v3", "height": 7, "info": long})),
            413,
            "too_large",
        ),
        ("POST", "/api/v1/upgrades", Some(json!({"name": "v3", "height": 1000})), 409, "conflict"),
        ("GET", "/api/v1/upgrades/v22", None, 404, "not_found"),
        ("GET", "/api/v1/upgrades/a%20b", None, 400, "invalid"),
        ("GET", "/api/v1/upgrades/%ff", None, 400, "invalid"),
        ("GET", "/api/v1/upgrades/rollback", None, 404, "not_found"),
        ("DELETE", "/api/v1/upgrades/rollback", None, 404, "not_found"),
        ("DELETE", "/api/v1/upgrades/status", None, 404, "not_found"),
        ("POST", "/api/v1/upgrades/v2/apply?force=perhaps", None, 400, "invalid"),
        ("POST", "/api/v1/upgrades/v22/apply", None, 404, "not_found"),
        ("POST", "/api/v1/upgrades/v22/retry", None, 404, "not_found"),
        ("POST", "/api/v1/upgrades/rollback", None, 404, "not_found"),
        ("GET", "/api/v1/history?limit=many", None, 400, "invalid"),
        ("GET", "/api/v1/events?sinc=1", None, 400, "invalid"),
    ] {
        let (got, answer) = home.ask(method, path, body.as_ref()).expect("an answer");
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{method} {path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.len() > 5), "{answer}");
    }
    for (path, field, value) in [
        ("/health", "status", json!("ok")),
        ("/openapi.json", "openapi", json!("3.1.0")),
        ("/api/v1/node", "state", json!("running")),
        ("/api/v1/upgrades", "count", json!(1)),
        ("/api/v1/upgrades/v2", "height", json!(1000)),
        ("/api/v1/upgrades/status", "upgrading", json!(false)),
        ("/api/v1/history?limit=1", "count", json!(0)),
        ("/api/v1/version", "wemixvisor", home.status().unwrap()["supervisor"]["version"].clone()),
    ] {
        let (status, answer) = home.ask("GET", path, None).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(answer[field], value, "{path}: {answer}");
    }
    let (_, first) = home.ask("GET", "/api/v1/events?limit=1", None).unwrap();
    assert_eq!(first["events"].as_array().unwrap().len(), 1, "{first}");
    let last = &first["last"];
    let (_, next) = home.ask("GET", &format!("/api/v1/events?since={last}"), None).unwrap();
    assert!(next["events"][0]["seq"].as_u64() > last.as_u64(), "{next}");
}

#[test]
fn bytes_that_are_no_request_harm_nobody() {
    let home = home_by_order();
    let _supervisor = home.start();
    let socket = home.wemixvisor().join("wemixvisor.sock");
    for bytes in [
        &b"\xff\xfe\x00 nonsense\r\n\r\n"[..],
        b"POST /api/v1/upgrades HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n\xff\xfe",
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(home.status().is_some());
}

#[test]
fn a_supervisor_that_does_not_answer_is_said_to_be_silent() {
    let home = home_by_order();
    let supervisor = home.start();
    supervisor.signal(Signal::STOP);
    let said = home.cli(&["status", "--json"]).expect(1);
    has(said.json()["error"].as_str().unwrap(), &["the supervisor does not answer", "5 s"]);
    supervisor.signal(Signal::CONT);
    home.sees("it answers again", |status| status["node"]["state"] == "running");
}

#[test]
fn a_socket_that_nobody_listens_on_means_that_no_supervisor_runs() {
    let home = home_by_order();
    let supervisor = home.start();
    assert_eq!(supervisor.stop(), 0);
    let socket = home.wemixvisor().join("wemixvisor.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    fails(&home, &["upgrade", "apply", "v2"], 3, "not_running", &["nobody answers on"]);
    fails(&home, &["upgrade", "status", "--follow"], 3, "not_running", &["wemixvisor start"]);
    std::fs::remove_file(&socket).unwrap();

    // Somebody else listens there, and speaks something else.
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answers = std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwords",
            "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
            "",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for part in
        ["not understood", "not understood", "in the middle of its answer", "in the middle of its answer"]
    {
        let said = home.cli(&["status", "--json"]).expect(1);
        has(said.json()["error"].as_str().unwrap(), &[part]);
    }
    answers.join().unwrap();
}
