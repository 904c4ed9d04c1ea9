#![allow(clippy::disallowed_methods)] // Plain files will do for tests.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};
use wemixvisor_core::engine::port::{Order, RefusalCode, Refused};
use wemixvisor_core::engine::snapshot::PlanView;
use wemixvisor_host::successor::Successor;

use super::*;
use crate::api::Place;
use crate::api::verdict_tests::calm;
use crate::configuration::Configuration;
use crate::handle::{Handle, Message, Notice, RecordedEvent, Subscription};

fn home(root: &Path) -> Home {
    let home = Home::new(root, None, None, "node").unwrap();
    fs::create_dir_all(home.wemixvisor()).unwrap();
    home
}

/// An engine that knows one plan and says what it was ordered.
async fn engine(mut mailbox: mpsc::Receiver<Message>) {
    let mut plans = Vec::new();
    while let Some(message) = mailbox.recv().await {
        match message {
            Message::Snapshot(reply) => {
                let mut snapshot = calm();
                snapshot.plans.clone_from(&plans);
                drop(reply.send(snapshot));
            }
            Message::Ordered { order, reply } => drop(reply.send(answer(order, &mut plans))),
            Message::History { reply, .. } => drop(reply.send(Err("the disk is on fire".into()))),
            Message::EventsSince { seq, limit, reply } => {
                let event = |seq| RecordedEvent {
                    seq,
                    at: wemixvisor_core::time::WallMs(5),
                    topic: "node".into(),
                    kind: "node_started".into(),
                    data: json!({}),
                };
                drop(reply.send(Ok((seq + 1..).take(limit).map(event).collect())));
            }
            Message::Happened(_) => return,
            Message::Settings(_) | Message::Subscribe(_) => {}
        }
    }
}

fn answer(order: Order, plans: &mut Vec<PlanView>) -> Result<String, Refused> {
    let refuse = |code, message: &str| Err(Refused { code, message: message.into() });
    match order {
        Order::Schedule { plan, .. } => {
            plans.push(PlanView {
                plan: *plan,
                fires_at: None,
                blocks_left: None,
                expected_at: None,
                readiness: None,
                ready: None,
                blocked: None,
                refused: false,
                pinned: false,
            });
            Ok("scheduled".into())
        }
        Order::Apply { force: false, .. } => refuse(RefusalCode::NotReady, "not ready"),
        Order::Retry(_) => refuse(RefusalCode::NotFound, "unknown"),
        Order::Rollback => refuse(RefusalCode::Failed, "failed"),
        Order::RestartNode => refuse(RefusalCode::Conflict, "busy"),
        other => Ok(format!("{other:?}")),
    }
}

/// The way to the engine; the program on the disk is one that always could begin.
fn handle(mailbox: mpsc::Sender<Message>, home: &Home) -> Handle {
    let successor = Successor {
        program: "/bin/echo".into(),
        args: Vec::new(),
        check: vec![r#"{"valid": true, "errors": []}"#.into()],
        environment: Vec::new(),
        cwd: home.root().into(),
        keeper_in: home.wemixvisor().into(),
    };
    let configuration =
        Configuration::new(home.root().join("config.toml"), Arc::new(|_| Err(Vec::new())), false);
    Handle::new(mailbox, successor, configuration)
}

/// Serves for ever.
fn serve_for_ever(home: &Home, mailbox: mpsc::Sender<Message>) {
    let handle = handle(mailbox, home);
    let place = Place { log: home.root().join("node.log"), configuration: handle.configuration.clone() };
    let over = CancellationToken::new();
    let api = Api::new(Arc::new(handle), Some(api::wire::Supervisor::here()), place, over.clone());
    tokio::spawn(serve(bind(home).unwrap(), api, over));
}

/// A home whose supervisor is [`engine`].
struct Served {
    client: Client,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let (mailbox, messages) = mpsc::channel(8);
        tokio::spawn(engine(messages));
        serve_for_ever(&home, mailbox);
        Self { client: Client::new(&home), _dir: dir }
    }

    /// Status and code, or status and body.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, String> {
        match self.client.order(method, path, body.as_ref()).await {
            Ok(answer) => Ok(answer),
            Err(ClientError::Refused(body)) => Err(body.code),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn every_route_answers_in_its_form() {
    let served = Served::start();
    for path in [
        "/health",
        "/api/v1/status",
        "/api/v1/version",
        "/api/v1/node",
        "/api/v1/upgrades",
        "/api/v1/upgrades/status",
    ] {
        let answer = served.ask(Method::GET, path, None).await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    let status: api::wire::Status = served.client.get("/api/v1/status").await.unwrap();
    assert_eq!(status.supervisor.unwrap().pid, std::process::id());
    assert_eq!((status.chain.head, status.node.args), (Some(7), vec!["--x".to_owned()]));
    for path in ["/api/v1/node/start", "/api/v1/node/stop", "/api/v1/upgrades/v2/apply?force=true"] {
        assert_eq!(served.ask(Method::POST, path, None).await.unwrap().status, 202, "{path}");
    }
}

#[tokio::test]
async fn refusals_have_their_status_and_code() {
    let served = Served::start();
    for (method, path, code) in [
        (Method::GET, "/api/v1/nothing", "not_found"),
        (Method::GET, "/api/v1/upgrades/v2", "not_found"),
        (Method::PUT, "/api/v1/upgrades", "method_not_allowed"),
        (Method::DELETE, "/api/v1/upgrades/.v2", "invalid"),
        (Method::POST, "/api/v1/upgrades/v2/apply", "not_ready"),
        (Method::POST, "/api/v1/upgrades/v2/apply?forced=1", "invalid"),
        (Method::POST, "/api/v1/upgrades/v2/retry", "not_found"),
        (Method::POST, "/api/v1/upgrades/rollback", "failed"),
        (Method::POST, "/api/v1/node/restart", "conflict"),
        (Method::GET, "/api/v1/history", "failed"),
        (Method::GET, "/api/v1/events?since=x", "invalid"),
        (Method::POST, "/api/v1/upgrades", "invalid"),
    ] {
        assert_eq!(served.ask(method.clone(), path, None).await.unwrap_err(), code, "{method} {path}");
    }
    let large = json!({ "name": "x".repeat(api::MAX_BODY) });
    assert_eq!(served.ask(Method::POST, "/api/v1/upgrades", Some(large)).await.unwrap_err(), "too_large");
}

#[tokio::test]
async fn a_plan_is_scheduled_shown_and_cancelled_also_under_the_name_of_a_route() {
    let served = Served::start();
    for name in ["v2", "status", "rollback"] {
        let body = json!({ "name": name, "height": "7", "info": "x" });
        let answer = served.ask(Method::POST, "/api/v1/upgrades", Some(body)).await.unwrap();
        assert_eq!(answer.body["message"], "scheduled");
        assert_eq!(answer.body["upgrade"]["name"], name);
        let path = format!("/api/v1/upgrades/{name}");
        let gone = served.ask(Method::DELETE, &path, None).await.unwrap();
        assert!(gone.body["message"].as_str().unwrap().contains(name), "{gone:?}");
    }
    let one = served.ask(Method::GET, "/api/v1/upgrades/v2", None).await.unwrap();
    assert_eq!(one.body["height"], 7);
    let list = served.ask(Method::GET, "/api/v1/upgrades", None).await.unwrap();
    assert_eq!(list.body["count"], 3);
}

#[tokio::test]
async fn events_are_paged_by_their_numbers() {
    let served = Served::start();
    let page = served.ask(Method::GET, "/api/v1/events?since=41&limit=2", None).await.unwrap();
    assert_eq!(page.body["last"], 43);
    assert_eq!(page.body["events"][0]["seq"], 42);
    assert_eq!(page.body["events"][0]["type"], "node_started");
    assert_eq!(page.body["events"][0]["timestamp"], "1970-01-01T00:00:00.005Z");
}

#[tokio::test]
async fn a_supervisor_that_ends_says_so() {
    let served = Served::start();
    assert_eq!(served.ask(Method::POST, "/api/v1/supervisor/stop", None).await.unwrap().status, 202);
    // The engine is over; the socket still answers.
    assert_eq!(served.ask(Method::GET, "/api/v1/status", None).await.unwrap_err(), "gone");
}

#[tokio::test]
async fn nobody_there_is_told_from_somebody_silent() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let client = Client::new(&home);
    let missing = client.get::<Value>("/health").await;
    assert!(matches!(missing, Err(ClientError::NotRunning { .. })), "{missing:?}");
    drop(bind(&home).unwrap());
    let stale = client.get::<Value>("/health").await;
    assert!(matches!(stale, Err(ClientError::NotRunning { .. })), "{stale:?}");
    let elsewhere = Client::new(&Home::new(&dir.path().join("no/where"), None, None, "node").unwrap());
    assert!(matches!(elsewhere.get::<Value>("/health").await, Err(ClientError::NotRunning { .. })));

    let listener = bind(&home).unwrap();
    let accepted = tokio::spawn(async move { listener.accept().await.map(|(stream, _)| stream) });
    tokio::time::pause();
    let silent = client.get::<Value>("/health").await;
    assert!(matches!(silent, Err(ClientError::Silent { .. })), "{silent:?}");
    drop(accepted);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_makes_no_sense_is_an_error() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for (answer, broken) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{", false),
        ("HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nhi", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let listener = bind(&home).unwrap();
        tokio::spawn(async move {
            let (mut stream, _): (UnixStream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let found = Client::new(&home).get::<Value>("/health").await.unwrap_err();
        let as_expected = match &found {
            ClientError::BrokenOff(_) => broken,
            ClientError::NotUnderstood(_) => !broken,
            _ => false,
        };
        assert!(as_expected, "{answer:?}: {found:?}");
    }
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_replaces_a_stale_one_and_may_lie_deep() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    let home = home(&deep);
    fs::write(home.socket(), "left behind").unwrap();
    drop(bind(&home).unwrap());
    let (mailbox, messages) = mpsc::channel(8);
    tokio::spawn(engine(messages));
    serve_for_ever(&home, mailbox);
    let mode = fs::metadata(home.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> =
        fs::read_dir(home.wemixvisor()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["wemixvisor.sock"]);
    let health: Value = Client::new(&home).get("/health").await.unwrap();
    assert_eq!(health["status"], "ok");
}

/// Opens the stream of events and reads until it has begun.
async fn listen(home: &Home) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(home.socket()).await.unwrap();
    let request =
        b"GET /api/v1/events?topics=node HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut stream = BufReader::new(stream);
    next_line(&mut stream, "event: snapshot").await;
    stream
}

async fn next_line(stream: &mut BufReader<UnixStream>, begin: &str) -> String {
    let mut line = String::new();
    while !line.starts_with(begin) {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the stream is over before {begin:?}");
    }
    line
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_told_why_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let (mailbox, mut messages) = mpsc::channel(8);
    let (tell, _) = broadcast::channel(1024);
    let told = tell.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Snapshot(reply) => drop(reply.send(calm())),
                Message::Subscribe(reply) => {
                    drop(reply.send(Ok(Subscription { notices: told.subscribe(), last: 0 })));
                }
                other => panic!("{other:?}"),
            }
        }
    });
    serve_for_ever(&home, mailbox);
    let mut reads = listen(&home).await;
    let mut sleeps = listen(&home).await;
    let all = 4000;
    for seq in 1..=all {
        let event = RecordedEvent {
            seq,
            at: wemixvisor_core::time::WallMs(5),
            topic: "node".into(),
            kind: "node_started".into(),
            data: json!({ "long": "x".repeat(1000) }),
        };
        let _ = tell.send(Notice::Event(Arc::new(event)));
        assert_eq!(next_line(&mut reads, "id: ").await.trim(), format!("id: {seq}"));
    }
    let mut heard = String::new();
    // It ends in order: with the last chunk, though the connection stays open.
    let mut piece = vec![0; 64 * 1024];
    while !heard.ends_with("\r\n0\r\n\r\n") {
        let count = sleeps.read(&mut piece).await.unwrap();
        assert_ne!(count, 0, "it breaks off");
        heard += std::str::from_utf8(&piece[..count]).unwrap();
    }
    let (before, last) = heard.rsplit_once("event: ").unwrap();
    assert!(last.starts_with("error") && last.contains("too_slow") && last.contains("256 frames"), "{last}");
    let count = before.matches("event: node_started").count() as u64;
    assert!(count > 0 && count < all - 256, "{count}");
}
