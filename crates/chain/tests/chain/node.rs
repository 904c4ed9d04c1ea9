//! A node for tests: one state, any number of doors (HTTP, WebSocket, Unix socket), every fault on order.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use wemixvisor_chain::Endpoint;

/// What is wrong with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It accepts connections and questions, and does not answer until the fault is gone.
    Hang,
    /// A web page.
    Html,
    /// An HTTP error (elsewhere a web page).
    Status500,
    /// A JSON-RPC error object.
    ErrorObject,
    /// An answer of 10 MB.
    TenMegabytes,
    /// A result that is no number.
    Nonsense,
    /// JSON of another shape.
    OtherJson,
    /// The connection ends in the middle of the answer.
    DropMidway,
}

#[derive(Clone)]
pub struct State {
    pub height: u64,
    pub chain_id: u64,
    pub fault: Fault,
    /// The fault touches this method only.
    pub only: Option<&'static str>,
    /// Heads are not told to subscribers.
    pub silent: bool,
    /// Heads are told to subscribers in spite of a fault.
    pub tells_anyway: bool,
    /// Subscribers are told a block without a number.
    pub strange_head: bool,
    /// Answers for further methods.
    pub answers: HashMap<String, Value>,
}

pub struct Node {
    state: watch::Sender<State>,
    tally: watch::Sender<Tally>,
}

/// What the node has seen.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    pub opened: usize,
    pub open: usize,
    /// The last height that a subscriber was told.
    pub told: u64,
    pub asked: HashMap<String, usize>,
    pub authorization: Option<String>,
    pub path: Option<String>,
}

/// An open door of a node. Dropping it closes the door and all connections that came through it.
pub struct Door {
    pub endpoint: Endpoint,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    /// Closes the door; returns when it is closed.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

pub fn hash(height: u64) -> String {
    format!("0x{height:064x}")
}

impl Node {
    pub fn new(height: u64) -> Arc<Self> {
        let state = State {
            height,
            chain_id: 1111,
            fault: Fault::None,
            only: None,
            silent: false,
            tells_anyway: false,
            strange_head: false,
            answers: HashMap::new(),
        };
        Arc::new(Self { state: watch::Sender::new(state), tally: watch::Sender::default() })
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub fn set_height(&self, height: u64) {
        self.set(|state| state.height = height);
    }

    /// One block more; brings its height.
    pub fn next_height(&self) -> u64 {
        self.set(|state| state.height += 1);
        self.state.borrow().height
    }

    /// Waits until a subscriber has been told the head at `height`: written, and taken by the kernel.
    pub async fn until_told(&self, height: u64) {
        self.until("a subscriber is told", |tally| tally.told == height).await;
    }

    pub fn set_fault(&self, fault: Fault) {
        self.set(|state| state.fault = fault);
    }

    pub fn answer(&self, method: &str, result: Value) {
        self.set(|state| drop(state.answers.insert(method.into(), result)));
    }

    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    pub fn asked(&self, method: &str) -> usize {
        self.tally.borrow().asked.get(method).copied().unwrap_or(0)
    }

    /// Waits until the tally satisfies `fact`.
    pub async fn until(&self, what: &str, fact: impl FnMut(&Tally) -> bool) {
        let mut tally = self.tally.subscribe();
        crate::soon(what, tally.wait_for(fact)).await.unwrap();
    }

    pub async fn http(self: &Arc<Self>) -> Door {
        self.http_at(0).await
    }

    pub async fn http_at(self: &Arc<Self>, port: u16) -> Door {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        self.tcp_door(endpoint, listener, serve_http)
    }

    pub async fn ws(self: &Arc<Self>) -> Door {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("ws://{}", listener.local_addr().unwrap());
        self.tcp_door(endpoint, listener, serve_ws)
    }

    pub fn ipc(self: &Arc<Self>, path: &Path) -> Door {
        let _ = std::fs::remove_file(path);
        self.ipc_at(path, UnixListener::bind(path).unwrap())
    }

    pub fn ipc_at(self: &Arc<Self>, path: &Path, listener: UnixListener) -> Door {
        let node = self.clone();
        let task = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                visits.spawn(visit(node.clone(), serve_ipc(node.clone(), stream)));
            }
        });
        Door { endpoint: Endpoint::Ipc(path.into()), task }
    }

    fn tcp_door<S, F>(self: &Arc<Self>, endpoint: String, listener: TcpListener, serve: S) -> Door
    where
        S: Fn(Arc<Node>, TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let node = self.clone();
        let task = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                visits.spawn(visit(node.clone(), serve(node.clone(), stream)));
            }
        });
        Door { endpoint: endpoint.parse().unwrap(), task }
    }

    /// The bytes that answer `question`, and whether the connection ends after (half of) them.
    async fn reply(&self, question: &Value) -> (String, bool) {
        let method = question["method"].as_str().unwrap();
        self.tally.send_modify(|tally| *tally.asked.entry(method.into()).or_default() += 1);
        let touched = |state: &State| state.only.is_none_or(|only| only == method);
        let mut state = self.state.subscribe();
        let state =
            state.wait_for(|state| state.fault != Fault::Hang || !touched(state)).await.unwrap().clone();
        let good =
            |result: Value| json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string();
        let error = |code: i64, message: &str| {
            json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": code, "message": message}})
                .to_string()
        };
        let result = match result_of(&state, method, &question["params"]) {
            Some(result) => good(result),
            // anvil's way on its sockets.
            None if method == "anvil_none" => {
                error(-32602, "data did not match any variant of untagged enum EthRpcCall")
            }
            None => error(-32601, &format!("the method {method} does not exist/is not available")),
        };
        match state.fault {
            fault if fault == Fault::None || !touched(&state) => (result, false),
            Fault::Hang | Fault::None => unreachable!("waited for its end"),
            Fault::Html | Fault::Status500 => ("<html><body>Bad gateway</body></html>".into(), false),
            Fault::ErrorObject => (error(-32000, "header not found"), false),
            Fault::TenMegabytes => (good(format!("0x{}", "0".repeat(10_000_000)).into()), false),
            Fault::Nonsense => (good("nonsense".into()), false),
            Fault::OtherJson => (json!({"height": 7, "result": {"height": "0x7"}}).to_string(), false),
            Fault::DropMidway => (result[..result.len() / 2].into(), true),
        }
    }
}

fn block(height: u64) -> Value {
    json!({"number": format!("{height:#x}"), "hash": hash(height), "timestamp": format!("{:#x}", height & 0xffff)})
}

fn result_of(state: &State, method: &str, params: &Value) -> Option<Value> {
    if let Some(answer) = state.answers.get(method) {
        return Some(answer.clone());
    }
    Some(match method {
        "eth_chainId" => json!(format!("{:#x}", state.chain_id)),
        "eth_blockNumber" => json!(format!("{:#x}", state.height)),
        "web3_clientVersion" => json!("gwemix/v0.10.9-stable/linux-amd64/go1.19"),
        "eth_subscribe" => json!("0xcafe"),
        "eth_getBlockByNumber" => match params[0].as_str().unwrap() {
            "latest" => block(state.height),
            number => {
                let number = u64::from_str_radix(number.trim_start_matches("0x"), 16).unwrap();
                if number <= state.height { block(number) } else { Value::Null }
            }
        },
        _ => return None,
    })
}

/// Counts a connection for as long as it lasts.
async fn visit(node: Arc<Node>, serving: impl Future<Output = ()>) {
    struct Open(Arc<Node>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.tally.send_modify(|tally| tally.open -= 1);
        }
    }
    node.tally.send_modify(|tally| {
        tally.opened += 1;
        tally.open += 1;
    });
    let _open = Open(node);
    serving.await;
}

async fn serve_http(node: Arc<Node>, stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    while let Some(body) = read_request(&node, &mut stream).await {
        let question: Value = serde_json::from_slice(&body).unwrap();
        let asked = node.reply(&question);
        let (answer, ends) = tokio::select! {
            answered = asked => answered,
            _ = stream.read_u8() => return,
        };
        let (status, kind) = match node.state.borrow().fault {
            Fault::Status500 => ("500 Internal Server Error", "text/html"),
            Fault::Html => ("200 OK", "text/html"),
            _ => ("200 OK", "application/json"),
        };
        let length = answer.len() + usize::from(ends) * 10;
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        if stream.write_all((head + &answer).as_bytes()).await.is_err() || ends {
            return;
        }
    }
}

/// The body of the next request; `None` when the connection has ended.
async fn read_request(node: &Node, stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    node.tally.send_modify(|tally| {
        tally.authorization = field("authorization:");
        tally.path = head.split(' ').nth(1).map(Into::into);
    });
    let mut body = vec![0; field("content-length:").unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn serve_ws(node: Arc<Node>, stream: TcpStream) {
    let seen = node.clone();
    // The error type is the library's.
    #[allow(clippy::result_large_err)]
    let callback = move |request: &Request, response: Response| {
        seen.tally.send_modify(|tally| {
            let header = request.headers().get("authorization");
            tally.authorization = header.map(|value| value.to_str().unwrap().into());
            tally.path = Some(request.uri().to_string());
        });
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, callback).await else { return };
    let (mut to, mut from) = socket.split();
    let mut heads = Heads::new(&node);
    loop {
        tokio::select! {
            message = from.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let question: Value = serde_json::from_str(&text).unwrap();
                let (answer, ends) = tokio::select! {
                    answered = node.reply(&question) => answered,
                    _ = from.next() => return,
                };
                if ends || to.send(Message::text(answer)).await.is_err() {
                    return;
                }
                heads.asked(&question);
            }
            notification = heads.next() => {
                if to.send(Message::text(notification)).await.is_err() {
                    return;
                }
                heads.written();
            }
        }
    }
}

async fn serve_ipc(node: Arc<Node>, stream: impl AsyncRead + AsyncWrite) {
    let (from, mut to) = tokio::io::split(stream);
    let mut lines = tokio::io::AsyncBufReadExt::lines(BufReader::new(from));
    let mut heads = Heads::new(&node);
    // Without newlines between the answers: the reader must not need them.
    loop {
        let (text, ends) = tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return };
                let question: Value = serde_json::from_str(&line).unwrap();
                let answered = tokio::select! {
                    answered = node.reply(&question) => answered,
                    _ = lines.next_line() => return,
                };
                heads.asked(&question);
                answered
            }
            notification = heads.next() => (notification, false),
        };
        if to.write_all(text.as_bytes()).await.is_err() || ends {
            return;
        }
        heads.written();
    }
}

/// The heads that a subscriber is told. Like a real node's they skip when the reader is slow.
struct Heads<'a> {
    node: &'a Node,
    state: watch::Receiver<State>,
    subscribed: bool,
    told: u64,
}

impl<'a> Heads<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, state: node.state.subscribe(), subscribed: false, told: 0 }
    }

    fn asked(&mut self, question: &Value) {
        if question["method"] == "eth_subscribe" {
            self.subscribed = true;
            self.told = self.state.borrow_and_update().height;
        }
    }

    fn written(&self) {
        self.node.tally.send_modify(|tally| tally.told = self.told);
    }

    async fn next(&mut self) -> String {
        if !self.subscribed {
            return std::future::pending().await;
        }
        let told = self.told;
        let tells = |state: &State| {
            state.height != told && !state.silent && (state.fault == Fault::None || state.tells_anyway)
        };
        let state = self.state.wait_for(tells).await.unwrap();
        let (height, strange) = (state.height, state.strange_head);
        drop(state);
        self.told = height;
        let block = if strange { json!({"number": "nonsense"}) } else { block(height) };
        json!({"jsonrpc": "2.0", "method": "eth_subscription",
               "params": {"subscription": "0xcafe", "result": block}})
        .to_string()
    }
}
