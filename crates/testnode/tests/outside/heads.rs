//! Heads over HTTP, WebSocket and IPC, and where the head goes.

use std::net::TcpStream;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::client};

use crate::rig::{Home, LIMIT, number, wait_for};

#[test]
fn http_tells_the_head_and_its_block() {
    let home = Home::new();
    let node = home.start(&[]);
    wait_for("three blocks", || (node.head() >= 3).then_some(()));
    let block = node.call("eth_getBlockByNumber", json!(["0x2", false]));
    let parent = node.call("eth_getBlockByNumber", json!(["0x1", false]));
    assert_eq!(block["parentHash"], parent["hash"]);
    assert_eq!(node.call("eth_getBlockByHash", json!([block["hash"], false])), block);
    let latest = node.call("eth_getBlockByNumber", json!(["latest", false]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(number(&latest["timestamp"]).abs_diff(now) <= 2, "{latest}");
    assert_eq!(node.call("eth_getBlockByNumber", json!(["0xffffff", false])), Value::Null);
    assert_eq!(node.call("eth_chainId", json!([])), "0x458");
    assert_eq!(node.call("net_version", json!([])), "1112");
    assert_eq!(node.call("net_peerCount", json!([])), "0x3");
    assert_eq!(node.call("eth_syncing", json!([])), false);
    let version = node.call("web3_clientVersion", json!([]));
    assert!(version.as_str().unwrap().starts_with("testnode/v1.0.0-stable-53273fcb/linux-"), "{version}");
}

#[test]
fn a_batch_is_answered_in_order_and_what_is_unknown_is_32601() {
    let home = Home::new();
    let node = home.start(&["--no-blocks"]);
    let batch = r#"[{"id":1,"method":"eth_blockNumber"},{"id":2,"method":"istanbul_status"},{"method":"eth_chainId"}]"#;
    let answers: Value = serde_json::from_str(&node.raw(batch).1).unwrap();
    assert_eq!(answers.as_array().unwrap().len(), 2);
    assert_eq!((&answers[0]["id"], &answers[0]["result"]), (&json!(1), &json!("0x0")));
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(node.call("admin_nodeInfo", json!([]))["code"], -32601, "HTTP has eth, net, web3 only");
    let parse: Value = serde_json::from_str(&node.raw("no json").1).unwrap();
    assert_eq!(parse["error"]["code"], -32700);
}

#[test]
fn websocket_sends_heads() {
    let home = Home::new();
    let node = home.start(&["--no-blocks"]);
    let stream = TcpStream::connect(node.address("ws")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut socket, _) = client(format!("ws://{}/", node.address("ws")), stream).unwrap();
    let read = |socket: &mut tokio_tungstenite::tungstenite::WebSocket<TcpStream>| -> Value {
        serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap()
    };
    socket.send(Message::text(r#"{"id":1,"method":"eth_subscribe","params":["newHeads"]}"#)).unwrap();
    let id = read(&mut socket)["result"].clone();
    node.order("/mine", json!({"blocks": 1}));
    let head = read(&mut socket);
    assert_eq!((&head["params"]["subscription"], &head["params"]["result"]["number"]), (&id, &json!("0x1")));
    node.order("/set-head", json!({"height": i64::MAX}));
    assert_eq!(read(&mut socket)["params"]["result"]["number"], "0x7fffffffffffffff");
    node.order("/reorg", json!({"depth": 2}));
    assert_eq!(read(&mut socket)["params"]["result"]["number"], "0x7ffffffffffffffd");
    node.order("/set", json!({"ws-drop-every": 4}));
    node.order("/mine", json!({"blocks": 1}));
    assert_eq!(read(&mut socket)["params"]["result"]["number"], "0x7ffffffffffffffe");
    assert!(socket.read().is_err(), "dropped after the fourth head");
}

#[test]
fn ipc_serves_everything_and_sends_heads() {
    let home = Home::new();
    let node = home.start(&["--no-blocks", "--validator"]);
    let mut ipc = node.ipc();
    ipc.send(r#"{"id":1,"method":"eth_subscribe","params":["newHeads"]}{"id":2,"method":"admin_nodeInfo"}"#);
    let id = ipc.line().unwrap()["result"].clone();
    assert_eq!(ipc.line().unwrap()["result"]["protocols"]["eth"]["network"], 1112);
    node.order("/mine", json!({"blocks": 5}));
    let head = ipc.line().unwrap();
    assert_eq!((&head["params"]["subscription"], &head["params"]["result"]["number"]), (&id, &json!("0x5")));
    assert_eq!(ipc.call("eth_unsubscribe", json!([id])), true);
    let validators = ipc.call("istanbul_getValidators", json!([]));
    assert_eq!(validators.as_array().unwrap().len(), 4);
    assert!(validators.as_array().unwrap().contains(&ipc.call("istanbul_nodeAddress", json!([]))));
    assert_eq!(ipc.call("admin_peers", json!([])).as_array().unwrap().len(), 3);
    assert_eq!(ipc.call("debug_getBadBlocks", json!([])), json!([]));
    assert_eq!(ipc.call("admin_wemixInfo", json!([]))["code"], -32601);
}

#[test]
fn a_seal_is_in_the_first_quorum_or_in_the_next_block() {
    let home = Home::new();
    let node = home.start(&["--no-blocks", "--validator", "--ws.api=eth,istanbul"]);
    node.order("/mine", json!({"blocks": 9}));
    let mut ipc = node.ipc();
    let own = ipc.call("istanbul_nodeAddress", json!([]));
    let has = |list: &Value| list.as_array().unwrap().contains(&own);
    let mut absent = 0;
    for height in 1..=8 {
        let signers = ipc.call("istanbul_getCommitSignersFromBlock", json!([format!("{height:#x}")]));
        assert_eq!(signers["Committers"].as_array().unwrap().len(), 3);
        absent += u64::from(!has(&signers["Committers"]));
        let next = ipc.call("istanbul_getWbftExtraInfo", json!([format!("{:#x}", height + 1)]));
        assert!(has(&next["prevCommittedSeal"]["sealers"]), "{next}");
    }
    assert_eq!(absent, 2, "a quarter of the blocks");
    let status = ipc.call("istanbul_status", json!(["0x1", "0x9"]));
    assert_eq!(status["sealerActivity"]["prevCommitted"][own.as_str().unwrap()], 8);
    assert_eq!(status["blockRange"]["totalBlocks"], 9);
    assert_eq!(ipc.call("istanbul_getWbftExtraInfo", json!(["latest"]))["code"], -32000);
}

#[test]
fn a_go_wemix_member_tells_who_mines() {
    let home = Home::new();
    let node = home.start(&["--no-blocks", "--wemix"]);
    let mut ipc = node.ipc();
    let own = ipc.call("admin_wemixInfo", json!([]))["self"]["name"].clone();
    let mines = |ipc: &mut crate::rig::Ipc| -> bool {
        let token: Value =
            serde_json::from_str(ipc.call("debug_etcdGet", json!(["token"])).as_str().unwrap()).unwrap();
        token["miner"] == own
    };
    assert!(mines(&mut ipc));
    node.order("/mine", json!({}));
    assert!(!mines(&mut ipc), "not two blocks in a row");
    ipc.call("admin_etcdMoveLeader", json!(["wemix2"]));
    assert_eq!(ipc.call("admin_wemixInfo", json!([]))["etcd"]["leader"]["name"], "wemix2");
    assert_eq!(ipc.call("istanbul_status", json!([]))["code"], -32601);
}

#[test]
fn a_network_goes_on_without_the_node_and_a_validator_stands_before_it_catches_up() {
    let home = Home::new();
    let flags = ["--network-follows", "--validator", "--catch-up-after=2s"];
    let mut node = home.start(&flags);
    wait_for("in step", || (node.head() >= 3).then_some(()));
    assert!(node.terminated().success());
    let stopped = home.facts("stop")[0]["head"].as_u64().unwrap();
    wait_for("the network is ten blocks on", || {
        let at = home.facts("stop")[0]["at_ms"].as_u64().unwrap();
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        (now > at + 500).then_some(())
    });
    let node = home.start(&flags);
    assert_eq!(node.head(), stopped, "every answer healthy, but at the old head");
    assert_eq!(node.call("eth_syncing", json!([])), false);
    let mut ipc = node.ipc();
    let jumped = wait_for("the jump", || Some(node.head()).filter(|&head| head > stopped));
    assert!(jumped >= stopped + 25, "{stopped} {jumped}");
    let own = ipc.call("istanbul_nodeAddress", json!([]));
    let missed = ipc.call("istanbul_getCommitSignersFromBlock", json!([format!("{:#x}", stopped + 4)]));
    assert!(!missed["Committers"].as_array().unwrap().contains(&own));
}

#[test]
fn a_kill_sends_the_head_back_and_a_stop_does_not() {
    let home = Home::new();
    let mut node = home.start(&["--no-blocks"]);
    node.order("/mine", json!({"blocks": 50}));
    let hash = node.call("eth_getBlockByNumber", json!(["0x32", false]))["hash"].clone();
    assert!(node.terminated().success());
    let mut node = home.start(&["--no-blocks"]);
    assert_eq!(node.head(), 50);
    assert_eq!(node.call("eth_getBlockByNumber", json!(["0x32", false]))["hash"], hash);
    node.order("/mine", json!({"blocks": 30}));
    let lost = node.call("eth_getBlockByNumber", json!(["0x33", false]))["hash"].clone();
    node.killed();
    let mut node = home.start(&["--no-blocks"]);
    assert_eq!(node.head(), 50);
    node.order("/mine", json!({"blocks": 1}));
    assert_eq!(
        node.call("eth_getBlockByNumber", json!(["0x33", false]))["hash"],
        lost,
        "the same block again"
    );
    node.killed();
    let mut node = home.start(&["--no-blocks", "--unclean-forks", "--flush-every=10"]);
    node.order("/mine", json!({"blocks": 25}));
    assert_ne!(node.call("eth_getBlockByNumber", json!(["0x33", false]))["hash"], lost, "another chain");
    node.killed();
    assert_eq!(home.start(&["--no-blocks"]).head(), 75);
}
