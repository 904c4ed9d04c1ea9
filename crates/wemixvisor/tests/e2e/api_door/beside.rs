//! `wemixvisor api`: beside a supervisor, and without one.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};

use serde_json::json;
use testkit::{Door, TestHome};

use super::{home, started, supervises, text, token, with_door};

/// The process, ended with this.
pub(super) struct Beside {
    child: Child,
    pub(super) door: Door,
}

impl Beside {
    pub(super) fn start(home: &TestHome) -> Self {
        let mut child = home
            .command()
            .args(["api", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no address: {line}"));
        Self { child, door: Door::at(port) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn g45_beside_a_supervisor_everything_is_handed_on_also_over_its_death() {
    let home = home();
    let supervisor = home.start();
    let beside = Beside::start(&home);
    let door = beside.door;
    assert_eq!(door.get("/api/v1/status").json()["supervisor"]["pid"], supervisor.pid());
    assert_eq!(
        (door.get("/health").status, door.get("/").status, door.get("/openapi.json").status),
        (200, 200, 200)
    );
    let mut talk = door.websocket(&[("Sec-WebSocket-Protocol", "wemixvisor")]).unwrap();
    talk.say(r#"{"action":"subscribe","topics":["upgrades"]}"#);
    talk.until("snapshot");
    let mut stream = door.stream("/api/v1/events?topics=upgrades", &[]);
    stream.until("snapshot");
    let plan = json!({"name": "v2", "height": 1_000_000}).to_string();
    let scheduled = door.ask("POST", "/api/v1/upgrades", &[], &plan);
    assert_eq!(scheduled.status, 200, "{scheduled:?}");
    let seq = talk.until("upgrade_scheduled")["seq"].as_u64().unwrap();
    assert_eq!(stream.until("upgrade_scheduled")["seq"], seq);
    assert_eq!(door.ask("GET", "/api/v1/status", &[("Host", "evil.example")], "").status, 403);
    assert_eq!(door.ask("POST", "/api/v1/node/stop", &[("Origin", "http://evil.example")], "").status, 403);
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(door.ask("POST", "/api/v1/upgrades", &[], &large).error(), (413, "too_large".into()));
    assert_eq!(
        door.ask("GET", "/api/v1/version", &[("Content-Length", "3")], "").status,
        408,
        "a body that never comes"
    );

    supervisor.kill();
    assert_eq!(talk.end().0, 0, "the conversation breaks off");
    while stream.next_data().is_some() {}
    home.wait("the files answer", || door.get("/api/v1/status").json()["supervisor"].is_null().then_some(()));
    assert_eq!(door.get("/health").error(), (503, "not_running".into()));
    let again = home.start();
    home.wait("the new one answers", || {
        (door.get("/api/v1/status").json()["supervisor"]["pid"] == again.pid()).then_some(())
    });
    let mut stream = door.stream(&format!("/api/v1/events?topics=upgrades&since={}", seq - 1), &[]);
    assert_eq!(stream.until("upgrade_scheduled")["seq"], seq, "nothing is missed");
    supervises(&home);
}

#[test]
fn g45_without_a_supervisor_the_files_answer() {
    let home = home();
    let beside = Beside::start(&home);
    let door = beside.door;
    let status = door.get("/api/v1/status").json();
    assert_eq!((status["supervisor"].is_null(), text(&status["verdict"])), (true, "down".into()), "{status}");
    let plan = json!({"name": "v2", "height": 1_000_000}).to_string();
    assert_eq!(door.ask("POST", "/api/v1/upgrades", &[], &plan).status, 200);
    assert_eq!(home.plans()[0]["name"], "v2");
    assert_eq!(door.get("/api/v1/upgrades").json()["count"], 1);
    assert_eq!(door.ask("DELETE", "/api/v1/upgrades/v2", &[], "").status, 200);
    assert!(home.plans().is_empty());
    for (method, path) in [
        ("POST", "/api/v1/node/start"),
        ("POST", "/api/v1/node/stop"),
        ("POST", "/api/v1/upgrades/rollback"),
        ("POST", "/api/v1/supervisor/stop"),
        ("GET", "/api/v1/logs/stream"),
        ("GET", "/health"),
    ] {
        assert_eq!(door.ask(method, path, &[], "").error(), (503, "not_running".into()), "{method} {path}");
    }
    assert_eq!(door.get("/ready").status, 503);
    assert_eq!(door.websocket(&[]).unwrap_err(), 503);
    for path in ["/", "/api/v1/history", "/api/v1/events", "/api/v1/config", "/metrics"] {
        assert_eq!(door.get(path).status, 200, "{path}");
    }
    // Here as well a revoked token is good for nothing.
    let read = token(&home, "x", "read");
    let ask = || door.ask("GET", "/api/v1/status", &[("X-API-Key", &read)], "").status;
    assert_eq!(ask(), 200);
    let _ = home.cli(&["api", "token", "revoke", "x"]).expect(0);
    assert_eq!(ask(), 401);
}

#[test]
fn g45_what_cannot_be_listened_on_is_an_error_at_once() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = home.cli(&["api", "--port", &port]).expect(1);
    assert!(said.err.contains("another program listens there"), "{said:?}");
    for args in
        [["--port", "65536"], ["--port", "-1"], ["--port", "http"], ["--host", "nonsense"], ["--host", ""]]
    {
        let said = home.cli(&["api", args[0], args[1]]).expect(2);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{said:?}");
    }
    let said = home.cli(&["api", "--host", "203.0.113.1", "--port", "0"]);
    assert!(said.code != 0, "{said:?}");
}

#[test]
fn g45_an_address_that_the_supervisor_serves_itself_is_said_to_be_its_own() {
    let home = home();
    let door = with_door(&home);
    let supervisor = started(&home, door);
    let said = home.cli(&["api"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("serves the API on") && said.err.contains("--port"), "{}", said.err);
    assert_eq!(supervisor.stop(), 0);
}
