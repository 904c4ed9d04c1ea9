//! geth 1.15.11 → 1.16.7: a real data directory with its lock and its database, IPC, and a head that goes back when
//! the node is killed. Who made a block stands in its extra data.

use std::path::Path;

use serde_json::json;
use testkit::{Program, Signal, processes};

use super::{
    Real, carried_over, does_not_know_its_flag, hangs_and_comes_back, makes_no_blocks, releases, script,
};

const OLD: &str = "geth-1.15.11";
const NEW: &str = "geth-1.16.7";
const VERSIONS: [&str; 2] = ["v1.15.11-stable", "v1.16.7-stable"];

/// How each of them signs its blocks: an RLP list that begins with its version.
const SIGNED: [&str; 2] = ["83010f0b8467657468", "830110078467657468"];

/// The arguments without a clock: then blocks come with transactions only.
fn args_without_blocks(data: &Path, http: u16, ws: u16) -> Vec<String> {
    let authrpc = testkit::free_port().to_string();
    let (data, http, ws) = (data.display().to_string(), http.to_string(), ws.to_string());
    let words = [
        "--dev",
        "--datadir",
        &data,
        "--port",
        "0",
        "--authrpc.port",
        &authrpc,
        "--http",
        "--http.port",
        &http,
        "--ws",
        "--ws.port",
        &ws,
        "--cache",
        "64",
    ];
    words.map(str::to_owned).to_vec()
}

fn args(data: &Path, http: u16, ws: u16) -> Vec<String> {
    let mut args = args_without_blocks(data, http, ws);
    args.extend(["--dev.period", "1"].map(str::to_owned));
    args
}

fn usual() -> Option<Real> {
    let [old, new] = releases(OLD, NEW)?;
    let real = Real::new(&Program::copy_of(&old), &Program::copy_of(&new), args);
    // Nothing is set: the socket is found in the data directory.
    real.sources(&[]);
    Some(real)
}

/// Who made the block of this height: 0 the old program, 1 the new one.
fn maker(real: &Real, height: u64) -> Option<usize> {
    let block = real.block(height);
    SIGNED.iter().position(|signed| block.extra.contains(signed))
}

fn is_exact(real: &Real, switch: &str) {
    let _supervisor = real.start();
    let (height, _) = carried_over(real, switch, VERSIONS);
    let first_new = if switch == "before" { height } else { height + 1 };
    let makers = [first_new - 2, first_new - 1, first_new, first_new + 1].map(|height| maker(real, height));
    assert_eq!(makers, [Some(0), Some(0), Some(1), Some(1)], "{switch} {height}");
}

#[test]
fn geth_with_its_state_by_the_socket_that_is_found() {
    let Some(real) = usual() else { return };
    is_exact(&real, "before");
    let socket = real.home.data().join("geth.ipc").display().to_string();
    let said = real.home.supervisor_said();
    assert!(!said.contains("WARN"), "{socket}: {said}");
}

#[test]
fn geth_with_its_state_by_websocket() {
    let Some(real) = usual() else { return };
    real.sources(&[format!("ws://127.0.0.1:{}", real.ws)]);
    is_exact(&real, "before");
}

#[test]
fn geth_with_its_state_by_http() {
    let Some(real) = usual() else { return };
    real.sources(&[format!("http://127.0.0.1:{}", real.http)]);
    is_exact(&real, "at");
}

#[test]
fn geth_a4_a_node_that_hangs() {
    let Some(real) = usual() else { return };
    hangs_and_comes_back(&real);
}

#[test]
fn geth_d26_a_flag_that_the_new_program_does_not_know() {
    let Some([old, new]) = releases(OLD, NEW) else { return };
    let real = Real::new(&Program::copy_of(&old), &script(&new, "--no-such-flag"), args);
    real.sources(&[]);
    does_not_know_its_flag(&real);
}

#[test]
fn geth_d26_a_new_program_that_makes_no_blocks() {
    let Some(real) = usual() else { return };
    let args = args_without_blocks(&real.home.data(), real.http, real.ws);
    makes_no_blocks(&real, &args);
}

/// SIGKILL: the head goes back to the last clean stop. Nothing fires anew; what waits fires once, when its height comes.
#[test]
fn geth_a3_a_killed_node_comes_back_with_a_lower_head() {
    let Some(real) = usual() else { return };
    let home = &real.home;
    // The same release under another name. The old one finds no state in what a killed new one leaves (seen: it began
    // again at block 0), and that is found out as another past.
    home.install("v3", &Program::copy_of(&testkit::real_node(NEW).expect("it was there before")));
    let _supervisor = real.start();
    let first = real.is_at(2)["chain"]["head"].as_u64().unwrap() + 2;
    home.plan("v2", first);
    home.committed("v2");
    home.nothing_is_planned();
    let pid = real.is_at(first + 4)["node"]["pid"].clone();
    let killed_at = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    let second = killed_at + 4;
    home.plan("v3", second);
    home.sees("the next one waits", |status| status["upgrades"][0]["name"] == "v3");
    let number = u32::try_from(pid.as_u64().unwrap()).unwrap();
    assert!(processes::signal(number, home.root(), Signal::KILL));

    let status = home.sees("the node is started again", |status| {
        status["node"]["pid"].is_u64() && status["node"]["pid"] != pid && status["chain"]["head"].is_u64()
    });
    assert_eq!(status["node"]["last_exit"]["class"], "signal", "{status:#}");
    let status = home.sees("it is well", |status| status["verdict"] == "ok");
    assert_eq!((&status["installed"], &status["alerts"]), (&json!("v2"), &json!([])));
    let low = home.wait("the lower head is noticed", || {
        let (_, events) = home.ask("GET", "/api/v1/events?limit=1000", None)?;
        let went_down =
            events["events"].as_array()?.iter().find(|event| event["type"] == "head_went_down")?;
        went_down["data"]["height"].as_u64()
    });
    assert!(low < killed_at, "{low}");

    assert!(home.committed("v3")["head"].as_u64() >= Some(second));
    let names: Vec<_> = home.history().iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, ["v3", "v2"]);
}
