//! Wrong answers, silence, and heads that stand.

use std::io::Read;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::{Home, PROGRAM, wait_for};

const ASK: &str = r#"{"id":1,"method":"eth_blockNumber"}"#;

#[test]
fn every_wrong_answer_by_order_and_back() {
    let home = Home::new();
    let node = home.start(&["--no-blocks"]);
    let set = |faults: Value| assert!(node.order("/set", faults).get("error").is_none());
    set(json!({"rpc-fault": "html"}));
    let (head, body) = node.raw(ASK);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/html") && body.starts_with("<!DOCTYPE"));
    set(json!({"rpc-fault": "error"}));
    assert_eq!(node.call("eth_blockNumber", json!([]))["code"], -32000);
    set(json!({"rpc-fault": "huge"}));
    assert!(node.raw(ASK).1.len() > 10_000_000);
    set(json!({"rpc-fault": "nonsense"}));
    assert_eq!(node.call("eth_blockNumber", json!([])), "0xnonsense");
    set(json!({"rpc-fault": "empty"}));
    assert_eq!(node.raw(ASK).1, "");
    set(json!({"rpc-fault": "slow:150ms"}));
    let begin = Instant::now();
    assert_eq!(node.call("eth_blockNumber", json!([])), "0x0");
    assert!(begin.elapsed() >= Duration::from_millis(150));
    let genesis = json!(["0x0", false]);
    let before = node.call("eth_getBlockByNumber", genesis.clone())["hash"].clone();
    set(json!({"rpc-fault": null, "answer-chain-id": 5, "answer-genesis": "other", "client-version": "x/y",
        "syncing": true, "no-method": ["net_peerCount"]}));
    assert_eq!(node.call("eth_chainId", json!([])), "0x5");
    assert_ne!(node.call("eth_getBlockByNumber", genesis.clone())["hash"], before);
    assert_eq!(node.call("web3_clientVersion", json!([])), "x/y");
    assert!(node.call("eth_syncing", json!([])).is_object());
    assert_eq!(node.call("net_peerCount", json!([]))["code"], -32601);
    set(json!({"answer-chain-id": null, "answer-genesis": null, "no-method": null}));
    assert_eq!(node.call("eth_getBlockByNumber", genesis)["hash"], before);
    assert!(node.order("/set", json!({"no-such": 1})).get("error").is_some());
    assert!(node.order("/nowhere", json!({})).get("error").is_some());
}

#[test]
fn silence_and_refusal() {
    let home = Home::new();
    let node = home.start(&["--no-blocks", "--rpc-hang"]);
    let mut stream = TcpStream::connect(node.address("http")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{ASK}", ASK.len()).as_bytes(),
    )
    .unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "no answer");
    node.order("/set", json!({"rpc-hang": false, "http-refuse": true}));
    wait_for("refused", || TcpStream::connect(node.address("http")).err());
    node.order("/set", json!({"http-refuse": false}));
    wait_for("open again", || TcpStream::connect(node.address("http")).ok());
    assert_eq!(node.head(), 0);
}

#[test]
fn the_rpc_can_open_late() {
    let home = Home::new();
    let begin = Instant::now();
    let node = home.start(&["--rpc-after=300ms"]);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    wait_for("blocks", || (node.head() > 0).then_some(()));
}

#[test]
fn heads_that_stand_or_halt() {
    let home = Home::new();
    let mut node = home.start(&["--head-still=400ms", "--halt-at=3"]);
    assert_eq!(node.head(), 0);
    wait_for("the halt", || (node.head() == 3).then_some(()));
    node.order("/set", json!({"halt-at": null}));
    wait_for("it goes on", || (node.head() > 3).then_some(()));
    node.order("/set", json!({"no-blocks": true}));
    let head = node.head();
    node.order("/set-head", json!({"height": head + 6}));
    assert_eq!(node.head(), head + 6);
    node.order("/set-head", json!({"height": 2}));
    assert_eq!(node.head(), 2);
    node.order("/set", json!({"no-blocks": false, "exit-at-height": 3, "exit-code": 9}));
    assert_eq!(node.ended().code(), Some(9));
}

#[test]
fn too_much_output() {
    let home = Home::new();
    let flags =
        ["--log-burst=1000000", "--log-long-line=500000", "--log-lines-per-s=1000", "--exit-after=1s"];
    let mut command = home.command(std::path::Path::new(PROGRAM), &flags);
    let out = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(out.stderr.len() > 1_500_000, "{}", out.stderr.len());
    assert!(out.stderr.split(|&byte| byte == b'\n').any(|line| line.len() >= 500_000));
}
