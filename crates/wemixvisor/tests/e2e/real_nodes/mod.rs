//! The same behaviours on real nodes (R in the catalogue): anvil and geth, an old and a new release of each. Where they
//! are not on the machine their tests say so in one line and pass; with `WEMIXVISOR_REQUIRE_NODES=1` they fail.

mod anvil;
mod geth;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{LIMIT, Program, Supervisor, TestHome, free_port, real_node};

use crate::empty_home;

/// An old and a new release of one client; `None` where they are missing.
fn releases(old: &str, new: &str) -> Option<[PathBuf; 2]> {
    Some([real_node(old)?, real_node(new)?])
}

/// A script that runs a real program with `flags` besides the arguments it is given. Only for what is to be told apart
/// by its flags: the other tests install the real file.
fn script(program: &Path, flags: &str) -> Program {
    Program::bytes(format!("#!/bin/sh\nexec '{}' {flags} \"$@\"\n", program.display()))
}

/// A home whose node is a real one.
struct Real {
    home: TestHome,
    /// Where the test itself asks the node, whatever the supervisor uses.
    http: u16,
    /// Another port for what else the node wants to open.
    ws: u16,
    args: Vec<String>,
}

/// A block as the node tells it.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    number: u64,
    hash: String,
    extra: String,
}

impl Real {
    /// A home with `old` installed and `new` as the upgrade `v2`. `args` makes the node's arguments from the data
    /// directory and the two ports.
    fn new(old: &Program, new: &Program, args: impl FnOnce(&Path, u16, u16) -> Vec<String>) -> Self {
        let home = empty_home();
        home.init(old);
        home.install("v2", new);
        let (http, ws) = (free_port(), free_port());
        let args = args(&home.data(), http, ws);
        std::fs::create_dir_all(home.data()).expect("a directory");
        Self { home, http, ws, args }
    }

    /// Where the supervisor asks; nothing: it finds that out by itself.
    fn sources(&self, addresses: &[String]) {
        self.home.set("heights.rpc_addresses", &json!(addresses).to_string());
    }

    fn start(&self) -> Supervisor<'_> {
        let mut supervisor = self.home.spawn(&self.args, Stdio::null());
        supervisor.answers();
        supervisor
    }

    /// The result of a question to the node itself; `None` while it does not answer.
    fn ask(&self, method: &str, params: &Value) -> Option<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let head = format!(
            "POST / HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        answer.get("result").cloned()
    }

    fn block_now(&self, which: &str) -> Option<Block> {
        let block = self.ask("eth_getBlockByNumber", &json!([which, false]))?;
        let text = |field: &str| block[field].as_str().map(str::to_owned);
        let number = u64::from_str_radix(text("number")?.strip_prefix("0x")?, 16).ok()?;
        Some(Block { number, hash: text("hash")?, extra: text("extraData")? })
    }

    /// The block of this height.
    fn block(&self, height: u64) -> Block {
        self.home.wait(&format!("the node tells block {height}"), || self.block_now(&format!("{height:#x}")))
    }

    /// The status once the node runs, is known, and its head is at least at this height.
    fn is_at(&self, height: u64) -> Value {
        self.home.sees(&format!("the node runs and is at {height}"), |status| {
            status["node"]["client_version"].is_string()
                && status["chain"]["chain_id"].is_u64()
                && status["chain"]["head"].as_u64() >= Some(height)
        })
    }

    /// What the upgrade must leave as it is: chain id, genesis, and every block that was there.
    fn past(&self) -> Past {
        let head = self.home.wait("the node tells its head", || self.block_now("latest"));
        let blocks = (0..=head.number).map(|height| self.block(height)).collect();
        Past { chain: self.ask("eth_chainId", &json!([])), blocks }
    }

    /// The last block that was seen of the process `pid` before another one runs.
    fn last_block_of(&self, pid: &Value) -> Block {
        let mut last = None;
        self.home.wait("the node is stopped", || {
            let seen = self.block_now("latest");
            let runs = self.home.status().is_some_and(|status| status["node"]["pid"] == *pid);
            if runs {
                last = seen.or(last.take());
            }
            (!runs).then_some(())
        });
        last.expect("a block was seen")
    }

    /// Waits for a rollback of `v2` and asserts that the old node works as before; the answer is the reason.
    fn rolled_back(&self, past: &Past) -> String {
        let entry = self.home.finished("v2");
        assert_eq!(
            (&entry["outcome"], &entry["trouble"]),
            (&json!("rolled_back"), &Value::Null),
            "{entry:#}"
        );
        assert_eq!(self.home.current().as_deref(), Some("genesis"));
        let head = past.blocks.last().expect("a head").number;
        let status = self.is_at(head + 3);
        assert_eq!(self.past_up_to(head), *past);
        assert_eq!(self.home.nodes(), [u32::try_from(status["node"]["pid"].as_u64().unwrap()).unwrap()]);
        assert_eq!(status["pinned"][0]["name"], "v2");
        assert_eq!(status["alerts"].as_array().map(Vec::len), Some(1), "{status:#}");
        entry["reason"].as_str().expect("a reason").to_owned()
    }

    fn past_up_to(&self, head: u64) -> Past {
        let blocks = (0..=head).map(|height| self.block(height)).collect();
        Past { chain: self.ask("eth_chainId", &json!([])), blocks }
    }
}

/// A chain up to a head.
#[derive(Debug, PartialEq)]
struct Past {
    chain: Option<Value>,
    blocks: Vec<Block>,
}

impl Past {
    fn head(&self) -> &Block {
        self.blocks.last().expect("at least block 0")
    }
}

/// The words after the program's name, and the environment, of a process.
fn line_of(pid: &Value) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let read = |file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("the node runs");
        bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    (read("cmdline").split_off(1), read("environ"))
}

/// Carries `real` over an upgrade of mode `switch` and asserts all that a chain with its state must keep. The answer
/// is the height of the upgrade and the last block that was seen of the old program.
fn carried_over(real: &Real, switch: &str, version: [&str; 2]) -> (u64, Block) {
    let home = &real.home;
    let status = real.is_at(3);
    let pid = status["node"]["pid"].clone();
    assert!(status["node"]["client_version"].as_str().unwrap().contains(version[0]), "{status:#}");
    let past = real.past();
    let height = past.head().number + 4;
    let line = line_of(&pid);
    home.write_plans(
        &json!({"name": "v2", "height": height, "switch": switch, "expect_version": version[1]}).to_string(),
    );
    let last = real.last_block_of(&pid);

    let entry = home.committed("v2");
    let status = real.is_at(height + 2);
    assert!(status["node"]["client_version"].as_str().unwrap().contains(version[1]), "{status:#}");
    assert_eq!(real.past_up_to(past.head().number), past, "chain id, genesis, every block");
    assert_eq!(real.block(last.number), last, "the head before is the head after");
    assert_eq!(line_of(&status["node"]["pid"]), line, "the very same arguments and environment");
    assert_eq!(status["node"]["last_exit"]["class"], "asked", "{status:#}");
    home.nothing_is_planned();
    let status = home.status().expect("the supervisor answers");
    assert_eq!(
        (&status["upgrades"], &status["upgrade"], &status["alerts"]),
        (&json!([]), &Value::Null, &json!([]))
    );
    assert_eq!((home.history()[0]["name"].as_str(), home.nodes().len()), (Some("v2"), 1));
    assert!(entry["downtime_ms"].as_u64() < Some(LIMIT.as_secs() * 1000), "{entry:#}");
    (height, last)
}

/// Stops a real node by SIGSTOP while the height passes unseen: nothing is done, it is said, and all goes on by itself.
fn hangs_and_comes_back(real: &Real) {
    let home = &real.home;
    home.set("heights.answer_limit", "1s");
    let _supervisor = real.start();
    let status = real.is_at(2);
    let pid = status["node"]["pid"].clone();
    let number = u32::try_from(pid.as_u64().unwrap()).unwrap();
    let height = status["chain"]["head"].as_u64().unwrap() + 3;
    home.plan("v2", height);
    home.sees("the plan waits", |status| status["upgrades"][0]["name"] == "v2");
    assert!(testkit::processes::signal(number, home.root(), testkit::Signal::STOP));
    let status =
        home.sees("the silence is shown", |status| status["chain"]["sources"][0]["failure"].is_string());
    assert_eq!((&status["node"]["pid"], &status["node"]["state"]), (&pid, &json!("running")));
    assert!(status["upgrade"].is_null() && status["chain"]["head"].as_u64() < Some(height), "{status:#}");
    assert!(testkit::processes::signal(number, home.root(), testkit::Signal::CONT));
    home.sees("it answers again", |status| {
        status["chain"]["sources"][0]["failure"].is_null() || !status["upgrade"].is_null()
    });
    assert!(home.committed("v2")["head"].as_u64() >= Some(height));
    assert_eq!(home.history().len(), 1);
}

/// The new program ends at once, as it does not know a flag.
fn does_not_know_its_flag(real: &Real) {
    let _supervisor = real.start();
    real.is_at(2);
    let past = real.past();
    real.home.plan("v2", past.head().number + 2);
    let reason = real.rolled_back(&past);
    assert!(reason.contains("no-such-flag"), "{reason}");
}

/// With these arguments the new program answers, and its head stays where it is.
fn makes_no_blocks(real: &Real, args: &[String]) {
    real.home.set("probation.must_advance_within", "6s");
    let _supervisor = real.start();
    real.is_at(2);
    let past = real.past();
    let plan = json!({"name": "v2", "height": past.head().number + 2, "args": args});
    real.home.write_plans(&plan.to_string());
    let reason = real.rolled_back(&past);
    assert!(reason.contains("still missing: head"), "{reason}");
}
