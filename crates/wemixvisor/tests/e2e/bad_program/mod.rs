//! D. The new program is bad: the old node is not stopped for it, or it comes back within a stated time.

mod clocks;
mod files;
mod old_node;
mod runs;
mod way_back;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Program, TestHome};

use crate::empty_home;

/// The clocks of probation in these tests, in seconds: long for a practice node, which needs a tenth of one.
const CLOCK: u64 = 5;

/// What two busy cores may add to a clock before a test calls it late.
const SLACK: Duration = Duration::from_secs(25);

/// A practice node that makes a block every 100 ms.
fn practice(version: &str) -> Program {
    Program::practice(version).with("--block-time=100ms").with("--journal-env")
}

/// A home that runs a good program and has `new` as the upgrade `v2`, with short clocks.
fn home_with(new: &Program) -> TestHome {
    let home = empty_home();
    home.set("probation.must_answer_within", &format!("{CLOCK}s"));
    home.set("probation.must_advance_within", &format!("{CLOCK}s"));
    home.set("node.shutdown_grace", "2s");
    home.init(&practice("1.0.0"));
    home.install("v2", new);
    home
}

/// Puts another program in the place of the home's first one.
fn replace_first(home: &TestHome, program: &Program) {
    home.install("another", program);
    let first = home.wemixvisor().join("genesis/bin").join(testkit::NODE_NAME);
    std::fs::rename(home.program("another"), first).expect("within one directory tree");
}

/// Waits until the supervisor knows who runs and on which chain; the answer is the head.
fn is_known(home: &TestHome) -> u64 {
    let status = home.sees("the node is known", |status| {
        let (node, chain) = (&status["node"], &status["chain"]);
        node["client_version"].is_string() && chain["chain_id"].is_u64() && chain["head"].as_u64() >= Some(2)
    });
    status["chain"]["head"].as_u64().expect("a height")
}

/// Schedules `v2` a few blocks ahead, with arguments and environment of its own; the answer is its height.
fn schedule_ahead(home: &TestHome) -> u64 {
    let height = is_known(home) + 8;
    let args = home.node_args(&["--peers", "9"]);
    let plan = json!({"name": "v2", "height": height, "args": args, "env": {"TESTNODE_NEW": "1"}});
    home.write_plans(&plan.to_string());
    height
}

/// The alerts of one kind that were raised so far.
fn alerts(home: &TestHome, kind: &str) -> Vec<Value> {
    let (_, answer) = home.ask("GET", "/api/v1/events?limit=1000", None).expect("the supervisor answers");
    let mut events = answer["events"].as_array().expect("a list").clone();
    events.retain(|event| event["topic"] == "alerts" && event["type"] == kind);
    events
}

/// How long an upgrade took from its firing to its end.
fn took(entry: &Value) -> Duration {
    let at = |field: &str| entry[field].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let (fired, finished) = at("fired_at").zip(at("finished_at")).expect("two moments");
    finished.duration_since(fired).unsigned_abs()
}

/// The start of a node without what differs from start to start: its words and its environment.
fn line_of(start: &Value) -> (Value, Value) {
    let words = start["argv"].as_array().expect("the arguments of a start");
    let own = words.iter().position(|word| word == "--datadir").expect("the arguments of a home");
    (json!(words[own..]), start["env"].clone())
}

/// Waits for the end of the upgrade `v2` and asserts everything that a rollback promises. The answer is the reason.
///
/// `starts` are the versions that were started, `clock` is what the failure may take.
fn rolled_back(home: &TestHome, starts: &[&str], clock: Duration) -> String {
    let entry = home.finished("v2");
    assert_eq!((&entry["outcome"], &entry["trouble"]), (&json!("rolled_back"), &Value::Null), "{entry:#}");
    assert!(took(&entry) < clock + SLACK, "{:?}: {entry:#}", took(&entry));

    // The old program with its old arguments and environment, and nothing else.
    assert_eq!(home.current().as_deref(), Some("genesis"));
    assert_eq!(home.started(), starts);
    let all = home.facts("start");
    assert_eq!(line_of(&all[0]), line_of(&all[all.len() - 1]));
    let node = home.node();
    assert_eq!(home.nodes(), [node.pid]);
    assert_eq!(node.state()["peers"], 3);

    // Pinned, off the file, said once.
    let status = home.sees("it serves", |status| status["node"]["pid"] == node.pid);
    assert_eq!((&status["pinned"][0]["name"], &status["installed"]), (&json!("v2"), &json!("genesis")));
    home.nothing_is_planned();
    assert_eq!(alerts(home, "upgrade_failed").len(), 1);
    assert_eq!(status["verdict"], "attention", "{status:#}");

    // The head goes on.
    let head = node.head();
    home.sees_head(head + 3);
    assert_eq!(home.nodes(), [node.pid]);
    entry["reason"].as_str().expect("a reason").to_owned()
}
