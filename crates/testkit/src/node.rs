//! The practice node that runs, directed through its control port.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::home::TestHome;
use crate::http;
use crate::processes;
use crate::waiting::LIMIT;

/// One practice node process. Its methods panic when it no longer answers.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Its process id.
    pub pid: u32,
    control: SocketAddr,
}

impl TestHome {
    /// The practice node that runs, once it has opened its control port (`--control`, as every home gives it).
    pub fn node(&self) -> Node {
        self.wait("a node runs and takes orders", || self.node_now())
    }

    /// The practice node that runs now, if one does.
    pub fn node_now(&self) -> Option<Node> {
        let text = std::fs::read_to_string(self.data().join("testnode/ports.json")).ok()?;
        let ports: Value = serde_json::from_str(&text).ok()?;
        let pid = u32::try_from(ports["pid"].as_u64()?).ok()?;
        let control = ports["control"].as_str()?.parse().ok()?;
        let node = Node { pid, control };
        (processes::runs(pid) && node.ask("GET", "/state", None).is_some_and(|state| state["pid"] == pid))
            .then_some(node)
    }
}

impl Node {
    /// Its whole state: `head`, `hash`, `version`, `peers`, `requests` by method, `subscriptions`, `faults`.
    pub fn state(&self) -> Value {
        self.ask("GET", "/state", None).expect("the node answers on its control port")
    }

    /// Its head.
    pub fn head(&self) -> u64 {
        self.state()["head"].as_u64().expect("a node has a head")
    }

    /// Makes so many blocks at once.
    pub fn mine(&self, blocks: u64) {
        self.order("/mine", &json!({"blocks": blocks}));
    }

    /// Puts the head at this height, up or down.
    pub fn set_head(&self, height: u64) {
        self.order("/set-head", &json!({"height": height}));
    }

    /// Replaces the last `depth` blocks by others.
    pub fn reorg(&self, depth: u64) {
        self.order("/reorg", &json!({"depth": depth}));
    }

    /// Changes faults: `{"rpc-hang": true}`; `null` takes one back.
    #[allow(clippy::needless_pass_by_value)] // `json!` at the call reads better without `&`.
    pub fn set(&self, faults: Value) {
        self.order("/set", &faults);
    }

    /// Has the node end by itself: `{"code": 1}` or `{"signal": 9}`.
    #[allow(clippy::needless_pass_by_value)]
    pub fn exit(&self, how: Value) {
        self.order("/exit", &how);
    }

    /// Whether the process still runs.
    pub fn runs(&self) -> bool {
        processes::runs(self.pid)
    }

    fn order(&self, path: &str, order: &Value) {
        let answer = self.ask("POST", path, Some(order)).expect("the node answers on its control port");
        assert!(answer["error"].is_null(), "{path} {order}: {answer}");
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let stream = TcpStream::connect(self.control).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        http::exchange(stream, method, path, body).ok().map(|(_, answer)| answer)
    }
}
