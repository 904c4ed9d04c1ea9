//! anvil 1.4.4 → 1.7.1: the chain lies in a file that is written at the stop; blocks can be ordered.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Program, TestApi};

use super::{
    Real, carried_over, does_not_know_its_flag, hangs_and_comes_back, makes_no_blocks, releases, script,
};

const OLD: &str = "anvil-1.4.4";
const NEW: &str = "anvil-1.7.1";
const VERSIONS: [&str; 2] = ["anvil/v1.4.4", "anvil/v1.7.1"];

/// anvil's arguments: a block a second, and a place for its state and its socket.
fn args(data: &Path, port: u16, _: u16) -> Vec<String> {
    let words = ["--port", &port.to_string(), "--state", &data.join("state.json").to_string_lossy()]
        .map(str::to_owned);
    let more = ["--ipc", &data.join("anvil.ipc").to_string_lossy(), "--block-time", "1"].map(str::to_owned);
    words.into_iter().chain(more).collect()
}

/// The usual arguments without a clock: blocks come by order only.
fn args_without_blocks(data: &Path, port: u16, other: u16) -> Vec<String> {
    let mut args = args(data, port, other);
    args.truncate(args.len() - 2);
    args.push("--no-mining".to_owned());
    args
}

fn usual() -> Option<Real> {
    let [old, new] = releases(OLD, NEW)?;
    let real = Real::new(&Program::copy_of(&old), &Program::copy_of(&new), args);
    real.sources(&[format!("http://127.0.0.1:{}", real.http)]);
    Some(real)
}

/// The blocks that each program made, by its own output: one list a start.
fn made(output: &str) -> Vec<Vec<u64>> {
    let runs = output.split("Listening on").skip(1);
    let number = |line: &str| line.trim().strip_prefix("Block Number: ")?.parse().ok();
    runs.map(|run| run.lines().filter_map(number).collect()).collect()
}

/// `before`: the last block of the old program is H − 1, whatever way the heights come.
fn is_exact(real: &Real) {
    let _supervisor = real.start();
    let (height, _) = carried_over(real, "before", VERSIONS);
    let runs = made(&real.home.node_log());
    assert_eq!((runs[0].last(), runs[1].first()), (Some(&(height - 1)), Some(&height)), "{runs:?}");
}

#[test]
fn anvil_with_its_state_by_http() {
    let Some(real) = usual() else { return };
    is_exact(&real);
}

#[test]
fn anvil_with_its_state_by_websocket() {
    let Some(real) = usual() else { return };
    real.sources(&[format!("ws://127.0.0.1:{}", real.http)]);
    is_exact(&real);
}

#[test]
fn anvil_with_its_state_by_ipc() {
    let Some(real) = usual() else { return };
    real.sources(&[real.home.data().join("anvil.ipc").display().to_string()]);
    is_exact(&real);
}

#[test]
fn anvil_a7_heights_that_are_jumped_over() {
    let Some([old, new]) = releases(OLD, NEW) else { return };
    let real = Real::new(&Program::copy_of(&old), &Program::copy_of(&new), args_without_blocks);
    real.sources(&[format!("ws://127.0.0.1:{}", real.http)]);
    let home = &real.home;
    home.set("probation.must_advance_within", "50s");
    let mine = |blocks: u64| {
        home.wait("blocks are made", || real.ask("anvil_mine", &json!([format!("{blocks:#x}")])));
    };
    let supervisor = real.start();
    mine(3);
    real.is_at(3);
    home.plan("v2", 10);
    home.sees("the upgrade is ready", |status| status["upgrades"][0]["ready"] == true);
    mine(6);
    let status = home.sees_head(9);
    assert!(status["upgrade"].is_null() && status["upgrades"][0]["name"] == "v2", "{status:#}");
    // Back and forth below the height: nothing.
    home.wait("the chain is rewound", || real.ask("anvil_rollback", &json!([4])));
    home.sees("the head went down", |status| status["chain"]["head"] == 5);
    mine(3);
    assert!(home.sees_head(8)["upgrade"].is_null());
    mine(7);
    home.sees("the new program is on probation", |status| status["upgrade"]["step"] == "probation");
    home.has_answered_on_probation();
    let kept = real.past().head().number;
    mine(5);
    let entry = home.committed("v2");
    // anvil makes its seven blocks one after the other: any of them from 10 on may be the one that was seen first.
    let fired = entry["head"].as_u64().unwrap();
    assert!((10..=15).contains(&fired) && fired <= kept, "{entry:#}");
    // Back and past again (as far as this process has the states): nothing fires anew.
    home.wait("the chain is rewound", || real.ask("anvil_rollback", &json!([3])));
    home.sees("the head went down", |status| status["chain"]["head"] == kept + 2);
    mine(30);
    home.sees_head(kept + 32);
    assert_eq!((home.history().len(), home.current().as_deref()), (1, Some("v2")));
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
}

#[test]
fn anvil_a4_a_node_that_hangs() {
    let Some(real) = usual() else { return };
    hangs_and_comes_back(&real);
}

#[test]
fn anvil_d26_a_flag_that_the_new_program_does_not_know() {
    let Some([old, new]) = releases(OLD, NEW) else { return };
    let real = Real::new(&Program::copy_of(&old), &script(&new, "--no-such-flag"), args);
    real.sources(&[format!("http://127.0.0.1:{}", real.http)]);
    does_not_know_its_flag(&real);
}

#[test]
fn anvil_d26_a_new_program_that_makes_no_blocks() {
    let Some(real) = usual() else { return };
    let mut args = args_without_blocks(&real.home.data(), real.http, real.ws);
    // It only reads the state: anvil adds a genesis block of its own with each writing start (see below).
    args.iter_mut().filter(|arg| *arg == "--state").for_each(|arg| *arg = "--load-state".to_owned());
    makes_no_blocks(&real, &args);
}

/// anvil writes the genesis block that it made up at its start beside the one that it has loaded, and takes any of
/// them when it loads two. This leaves the oldest, the true one.
fn keep_one_genesis(state: &Path) {
    let mut all: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let blocks = all["blocks"].as_array_mut().expect("the state holds blocks");
    let made = |block: &Value| number_of(&block["header"]["timestamp"]);
    let is_genesis = |block: &Value| number_of(&block["header"]["number"]) == 0;
    let oldest = blocks.iter().filter(|block| is_genesis(block)).map(made).min();
    blocks.retain(|block| !is_genesis(block) || Some(made(block)) == oldest);
    std::fs::write(state, all.to_string()).unwrap();
}

fn number_of(value: &Value) -> u64 {
    let hex = value.as_str().and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    hex.or_else(|| value.as_u64()).expect("a number")
}

/// There, and back by a plan of its own: each exactly once, in order.
#[test]
fn anvil_b15_two_upgrades_in_a_chain() {
    let Some(real) = usual() else { return };
    let home = &real.home;
    home.install("v3", &Program::copy_of(&testkit::real_node(OLD).expect("it was there before")));
    let wait =
        "#!/bin/sh\nuntil [ -e \"$DAEMON_HOME/go\" ] || [ ! -d \"$DAEMON_HOME\" ]; do sleep 0.05; done\n";
    home.hook("v3", "pre-upgrade", wait);
    let _supervisor = real.start();
    real.is_at(2);
    let past = real.past();
    let head = past.head().number;
    home.write_plans(
        &json!([{"name": "v2", "height": head + 3}, {"name": "v3", "height": head + 8}]).to_string(),
    );
    home.sees("the second one is under way", |status| status["upgrade"]["step"] == "pre_upgrade");
    keep_one_genesis(&home.data().join("state.json"));
    std::fs::write(home.root().join("go"), "").unwrap();
    home.committed("v3");
    let history: Vec<Value> = home.history().iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(history, ["v3", "v2"]);
    assert_eq!(home.history()[0]["from"], "v2");
    assert_eq!(real.past_up_to(head), past);
    let runs = made(&home.node_log());
    let all: Vec<u64> = runs.concat();
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "each block once: {runs:?}");
    assert!(real.is_at(head + 11)["node"]["client_version"].as_str().unwrap().contains(VERSIONS[0]));
}

/// SCENARIOS.md 44: driven and watched over the API, by somebody who has nothing else.
#[test]
fn anvil_g44_an_upgrade_by_api_alone() {
    let Some(real) = usual() else { return };
    let api = TestApi::of(&real.home);
    let _supervisor = real.start();
    real.is_at(3);
    let mut events = api.events();
    events.subscribe(&["upgrades", "heights", "node"], None);
    let height = api.get("/api/v1/status")["chain"]["head"].as_u64().unwrap() + 5;
    let plan = json!({"name": "v2", "height": height, "switch": "before", "info": "by API"});
    let (status, scheduled) = api.ask("POST", "/api/v1/upgrades", Some(&plan));
    assert_eq!((status, &scheduled["upgrade"]["height"]), (200, &json!(height)), "{scheduled:#}");
    assert_eq!(api.get("/api/v1/upgrades")["count"], 1);
    assert_eq!(api.get("/api/v1/upgrades/v2")["description"], "by API");
    let mut steps: Vec<String> = Vec::new();
    let done = |frame: &Value| frame["type"] == "upgrade_completed";
    while !events.seen.iter().any(done) {
        let frame = events.until("the upgrade goes on", |_| true);
        if frame["type"] == "upgrade_step" && frame["data"]["state"] == "started" {
            let now = api.get("/api/v1/upgrades/status");
            assert!(now["upgrading"] == true || now["last_upgrade"]["outcome"] == "committed", "{now:#}");
            steps.push(frame["data"]["step"].as_str().unwrap().to_owned());
        }
    }
    let first = |kind: &str| events.seen.iter().position(|frame| frame["type"] == kind).expect(kind);
    let order =
        ["upgrade_scheduled", "upgrade_ready", "upgrade_triggered", "upgrade_step", "upgrade_completed"];
    assert!(order.map(first).is_sorted(), "{:?}", events.story("upgrades"));
    assert!(
        ["stop", "switch", "start", "probation"].iter().all(|step| steps.iter().any(|seen| seen == step)),
        "{steps:?}"
    );
    let told: Vec<u64> = events
        .seen
        .iter()
        .filter(|frame| frame["topic"] == "upgrades" && frame["type"] != "snapshot")
        .map(|frame| frame["seq"].as_u64().unwrap())
        .collect();
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    let history = api.get("/api/v1/history");
    assert_eq!((&history["count"], &history["history"][0]["outcome"]), (&json!(1), &json!("committed")));
    assert_eq!(api.get("/api/v1/status")["installed"], "v2");
    let version = real.ask("web3_clientVersion", &json!([])).unwrap();
    assert!(version.as_str().unwrap().starts_with(VERSIONS[1]), "{version}");
}
