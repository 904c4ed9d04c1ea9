//! A. Heights: noticed, merged, never invented.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Program, TestHome, free_port};

use crate::{WEMIXVISOR, empty_home, home, home_by_order};

/// A home that is polled over HTTP only, once a second; the node's arguments for it.
fn polled_home() -> (TestHome, String) {
    let home = home_by_order();
    let port = free_port();
    home.set("heights.rpc_addresses", &format!("[\"http://127.0.0.1:{port}\"]"));
    home.set("heights.answer_limit", "1s");
    (home, format!("--http.port={port}"))
}

fn failure(status: &Value, source: usize) -> Option<&str> {
    status["chain"]["sources"][source]["failure"].as_str()
}

fn followed(status: &Value) -> Option<usize> {
    status["chain"]["sources"].as_array()?.iter().position(|source| source["followed"] == true)
}

#[test]
fn a1_heights_are_noticed_and_the_poll_interval_is_kept() {
    let (home, port) = polled_home();
    let supervisor = home.start_with(&[&port]);
    let node = home.node();
    node.mine(3);
    home.sees_head(3);

    let polls = || node.state()["requests"]["eth_blockNumber"].as_u64().unwrap_or(0);
    let (before, begin) = (polls(), Instant::now());
    home.wait("four more polls", || (polls() >= before + 4).then_some(()));
    // Three whole intervals lie between four polls; the machine may be slow, never fast.
    assert!(begin.elapsed() >= Duration::from_millis(2900), "polled too often: {:?}", begin.elapsed());
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn a1_a_stop_does_not_wait_for_an_answer_that_never_comes() {
    let (home, port) = polled_home();
    home.set("heights.answer_limit", "50s");
    let supervisor = home.start_with(&[&port]);
    let node = home.node();
    node.mine(1);
    home.sees_head(1);
    let asked = |node: &testkit::Node| node.state()["requests"].as_object().map(serde_json::Map::len);
    assert!(asked(&node) > Some(0));
    node.set(json!({"rpc-hang": true}));
    let begin = Instant::now();
    assert_eq!(supervisor.stop(), 0);
    assert!(begin.elapsed() < Duration::from_secs(20), "the stop took {:?}", begin.elapsed());
    home.is_deserted();
}

#[test]
fn a2_a_client_that_never_reads_holds_up_nobody() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    let mut deaf: Vec<UnixStream> = Vec::new();
    for _ in 0..20 {
        let mut client = UnixStream::connect(home.wemixvisor().join("wemixvisor.sock")).unwrap();
        client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // Far more answers than the socket's buffers hold; none is ever read.
        let request = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
        let _ = client.write_all(request.as_bytes());
        deaf.push(client);
    }
    for height in [10, 20, 30] {
        node.set_head(height);
        home.sees_head(height);
    }
    home.schedule("v2", 40);
    node.set_head(40);
    home.committed("v2");
}

#[test]
fn a3_a_head_that_goes_back_repeats_and_jumps_fires_once() {
    let home = home_by_order();
    home.plan("v2", 50);
    let _supervisor = home.start();
    let node = home.node();
    for height in [40, 30, 45, 49] {
        node.set_head(height);
        home.sees("the head", |status| status["chain"]["head"] == height);
    }
    node.reorg(5);
    node.mine(4);
    home.sees("the head is below the height", |status| {
        status["chain"]["head"] == 48 && status["upgrade"].is_null() && status["last_upgrade"].is_null()
    });
    node.set_head(49);
    home.sees_head(49);
    assert_eq!(home.started(), ["1.0.0"]);
    node.set_head(54);
    let entry = home.committed("v2");
    assert_eq!(entry["head"], 54);

    // Back below the height and past it again.
    let node = home.node();
    node.set_head(30);
    home.sees("the head went back", |status| status["chain"]["head"].as_u64() < Some(50));
    node.set_head(70);
    home.sees_head(72);
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    assert_eq!(home.history().len(), 1);
}

#[test]
fn a3_the_highest_height_that_a_plan_can_name_fires() {
    let home = home_by_order();
    let height = i64::MAX as u64;
    home.plan("v2", height);
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(height - 1);
    home.sees_head(height - 1);
    assert_eq!(home.started(), ["1.0.0"]);
    node.mine(1);
    assert_eq!(home.committed("v2")["head"], height);
}

#[test]
fn a4_a_source_that_cannot_be_used_never_fires_and_comes_back() {
    let (home, port) = polled_home();
    home.plan("v2", 1000);
    let _supervisor = home.start_with(&[&port]);
    let node = home.node();
    let faults = [
        ("http-refuse", json!(true)),
        ("rpc-hang", json!(true)),
        ("rpc-fault", json!("html")),
        ("rpc-fault", json!("error")),
        ("rpc-fault", json!("huge")),
        ("rpc-fault", json!("nonsense")),
        ("rpc-fault", json!("empty")),
        ("rpc-fault", json!("slow:30s")),
    ];
    for (height, (fault, value)) in (10_u64..).zip(faults) {
        node.set_head(height);
        home.sees("the head is seen again", |status| {
            status["chain"]["head"] == height && failure(status, 0).is_none()
        });
        node.set(json!({fault: value}));
        home.sees(&format!("{fault} {value} is shown"), |status| failure(status, 0).is_some());
        let status = home.status().unwrap();
        assert_eq!((&status["chain"]["head"], &status["node"]["state"]), (&json!(height), &json!("running")));
        node.set(json!({fault: null}));
    }

    // The height passes unseen. Nothing is done until it is seen.
    home.sees("the source works", |status| failure(status, 0).is_none());
    node.set(json!({"rpc-fault": "nonsense"}));
    home.sees("the source fails", |status| failure(status, 0).is_some());
    node.set_head(1000);
    let asked =
        || node.state()["requests"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    let before = asked();
    home.wait("it is asked again", || (asked() >= before + 3).then_some(()));
    assert_eq!((home.started(), home.current()), (vec!["1.0.0".to_owned()], Some("genesis".to_owned())));
    node.set(json!({"rpc-fault": null}));
    home.committed("v2");
}

#[test]
fn a4_a_node_of_another_chain_never_fires() {
    let home = empty_home();
    home.set("heights.chain_id", "1112");
    home.init(&Program::practice("1.0.0").with("--no-blocks").with("--answer-chain-id=5"));
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    home.plan("v2", 10);
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(20);
    let status = home.sees("the other chain is noticed and both are named", |status| {
        failure(status, 0).is_some_and(|text| text.contains('5') && text.contains("1112"))
    });
    assert!(status["chain"]["head"].is_null(), "{status:#}");
    assert_eq!(home.started(), ["1.0.0"]);
    node.set(json!({"answer-chain-id": null}));
    home.committed("v2");
}

#[test]
fn a5_a_silent_or_dropped_subscription_loses_no_height() {
    let home = home_by_order();
    let port = free_port();
    home.set("heights.rpc_addresses", &format!("[\"ws://127.0.0.1:{port}\"]"));
    let _supervisor = home.start_with(&[&format!("--ws.port={port}")]);
    let node = home.node();
    node.mine(1);
    home.sees_head(1);

    node.set(json!({"ws-silent": true}));
    for height in 2..5 {
        node.mine(1);
        home.sees_head(height);
    }
    node.set(json!({"ws-silent": false, "ws-drop-every": 1}));
    for height in 5..10 {
        node.mine(1);
        home.sees_head(height);
    }
    node.set(json!({"ws-drop-every": null}));
    home.wait("it is subscribed again", || (node.state()["subscriptions"].as_u64() >= Some(1)).then_some(()));

    node.set(json!({"ws-refuse": true}));
    home.sees("the loss is shown", |status| failure(status, 0).is_some());
    node.mine(90);
    node.set(json!({"ws-refuse": false}));
    home.sees_head(99);
    home.schedule("v2", 110);
    node.set_head(110);
    home.committed("v2");
}

#[test]
fn a6_the_source_that_is_followed_is_said_and_changes_over_and_back() {
    let home = home_by_order();
    let port = free_port();
    let own = home.data().join("gwemix.ipc");
    home.set("heights.rpc_addresses", &format!("[\"{}\", \"http://127.0.0.1:{port}\"]", own.display()));
    home.set("heights.answer_limit", "1s");
    let datadir = home.root().join("other");
    std::fs::create_dir_all(&datadir).unwrap();
    // Another node of the same chain, a bit further.
    let other = std::process::Command::new(WEMIXVISOR)
        .args(["practice-node", "--block-time=100ms", "--ipcdisable", &format!("--http.port={port}")])
        .arg("--datadir")
        .arg(&datadir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut other = Ended(other.unwrap());
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(100_000);
    home.sees("the node's own socket is followed", |status| {
        followed(status) == Some(0) && status["chain"]["head"] == 100_000
    });
    node.set(json!({"rpc-hang": true}));
    home.sees("the other node is followed", |status| {
        followed(status) == Some(1)
            && failure(status, 0).is_some()
            && status["chain"]["head"].as_u64() < Some(100_000)
    });
    node.set(json!({"rpc-hang": false}));
    home.sees("the node's own socket is followed again", |status| {
        followed(status) == Some(0) && status["chain"]["head"] == 100_000
    });
    other.0.kill().unwrap();
    node.mine(1);
    home.sees_head(100_001);
}

/// A child that is ended with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a7_each_mode_fires_when_its_height_was_skipped() {
    for (mode, below, beyond) in [("at", 49, 57), ("before", 48, 57), ("window:5", 44, 57)] {
        let home = home_by_order();
        let plan = json!({"name": "v2", "height": 50, "switch": mode});
        home.write_plans(&plan.to_string());
        let _supervisor = home.start();
        let node = home.node();
        node.set_head(below);
        home.sees_head(below);
        let status = home.sees("nothing happens yet", |status| status["upgrade"].is_null());
        assert_eq!(status["upgrades"][0]["name"], "v2", "{mode}: {status:#}");
        node.set_head(beyond);
        assert_eq!(home.committed("v2")["head"], beyond, "{mode}");
    }
}

#[test]
fn a7_with_a_subscription_the_exact_height_is_hit() {
    let home = home();
    let _supervisor = home.start();
    let head = home.sees_head(2)["chain"]["head"].as_u64().unwrap();
    home.schedule("v2", head + 15);
    let entry = home.committed("v2");
    // Not before, and on a busy machine at most a block late.
    let fired = entry["head"].as_u64().unwrap();
    assert!((head + 15..=head + 17).contains(&fired), "fired at {fired} for {}", head + 15);
    let stopped = &home.facts("signal")[0];
    assert!(stopped["head"].as_u64() >= Some(head + 15), "{stopped}");
}
