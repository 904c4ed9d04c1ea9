//! Starts the built program in a temporary directory and talks to it as any client would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_testnode");
/// No fact takes longer than this to come true.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits until `fact` gives something.
pub fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where data directories lie, whatever TMPDIR says: the IPC socket's path may have 107 bytes.
const SHORT: &str = "/tmp";

/// A directory for a node's data.
pub struct Home(pub TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir_in(SHORT).unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("data/testnode").join(name)
    }

    pub fn command(&self, program: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(flags).arg("--datadir").arg(self.0.path().join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs to the end.
    pub fn run(&self, flags: &[&str]) -> Output {
        self.command(Path::new(PROGRAM), flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    }

    /// Starts a node with HTTP, WebSocket and control port and waits until it listens.
    pub fn start(&self, flags: &[&str]) -> Running {
        let mut all = vec!["--http.port=0", "--ws.port=0", "--control", "--block-time=50ms"];
        all.extend(flags);
        self.started(self.command(Path::new(PROGRAM), &all).spawn().unwrap())
    }

    pub fn started(&self, child: Child) -> Running {
        let pid = child.id();
        let mut running = Running { child: Some(child), ports: Value::Null };
        running.ports = wait_for("the node listens", || {
            let text = std::fs::read_to_string(self.file("ports.json")).ok()?;
            let ports: Value = serde_json::from_str(&text).ok()?;
            (ports["pid"] == pid && !ports["ipc"].is_null()).then_some(ports)
        });
        running
    }

    pub fn facts(&self, fact: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("journal.log")).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|line| line["fact"] == fact).collect()
    }
}

/// A node that runs; killed when dropped.
pub struct Running {
    pub child: Option<Child>,
    pub ports: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    pub fn address(&self, name: &str) -> SocketAddr {
        self.ports[name].as_str().unwrap().parse().unwrap()
    }

    /// The result of a call over HTTP, or the error object.
    pub fn call(&self, method: &str, params: Value) -> Value {
        result(
            &self.raw(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()).1,
        )
    }

    pub fn head(&self) -> u64 {
        number(&self.call("eth_blockNumber", json!([])))
    }

    /// Status line and body of a POST to HTTP.
    pub fn raw(&self, body: &str) -> (String, String) {
        post(self.address("http"), "/", body)
    }

    pub fn order(&self, path: &str, order: Value) -> Value {
        serde_json::from_str(&post(self.address("control"), path, &order.to_string()).1).unwrap()
    }

    pub fn ipc(&self) -> Ipc {
        let stream = UnixStream::connect(self.ports["ipc"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Ipc(BufReader::new(stream))
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let status = wait_for("the node ends", || child.try_wait().unwrap());
        self.child = None;
        status
    }

    pub fn terminated(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    pub fn killed(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        assert_eq!(self.ended().signal(), Some(9));
    }
}

/// A connection to the IPC socket.
pub struct Ipc(BufReader<UnixStream>);

impl Ipc {
    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line, or `None` at the end of the connection.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string());
        result(&self.line().unwrap().to_string())
    }
}

fn post(address: SocketAddr, path: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn result(text: &str) -> Value {
    let answer: Value = serde_json::from_str(text).unwrap();
    answer.get("result").or(answer.get("error")).unwrap().clone()
}

pub fn number(quantity: &Value) -> u64 {
    u64::from_str_radix(quantity.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}
