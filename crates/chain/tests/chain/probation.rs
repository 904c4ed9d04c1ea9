//! The round of questions that probation judges.

use std::time::Duration;

use serde_json::json;
use wemixvisor_chain::{Client, OwnSeal, ProbeRequest, probe};
use wemixvisor_core::observation::Answer;

use crate::node::{Fault, Node, hash};

const LIMIT: Duration = Duration::from_secs(5);
const OURS: &str = "0x00000000000000000000000000000000000000Aa";

fn seal_after(after: u64) -> ProbeRequest {
    ProbeRequest { own_seal: Some(OwnSeal { address: OURS.into(), after }), ..ProbeRequest::default() }
}

#[tokio::test]
async fn one_round_brings_all_answers() {
    let node = Node::new(50);
    node.answer("net_peerCount", json!("0x19"));
    let door = node.http().await;
    let client = Client::new(door.endpoint.clone());
    let request = ProbeRequest { pinned: Some(40), want_peers: true, own_seal: None };
    for _ in 0..3 {
        let seen = probe(&client, &request, LIMIT).await;
        assert_eq!(seen.client_version.known().unwrap(), "gwemix/v0.10.9-stable/linux-amd64/go1.19");
        assert_eq!(seen.chain_id, Answer::Known(1111));
        assert_eq!(seen.genesis, Answer::Known(hash(0).parse().unwrap()));
        assert_eq!(seen.pinned, Answer::Known(Some(hash(40).parse().unwrap())));
        assert_eq!(seen.head.known().unwrap().height, 50);
        assert_eq!(seen.peers, Answer::Known(25));
        assert_eq!(seen.own_seal, Answer::NotAsked);
    }
    assert!(node.tally().opened <= 6, "connections are kept: {:?}", node.tally());
}

#[tokio::test]
async fn what_the_node_cannot_say_is_neither_good_nor_bad() {
    let node = Node::new(50);
    let door = node.http().await;
    let request = ProbeRequest { pinned: Some(60), want_peers: true, ..seal_after(40) };
    let seen = probe(&Client::new(door.endpoint.clone()), &request, LIMIT).await;
    assert_eq!(seen.pinned, Answer::Known(None));
    assert_eq!((seen.peers, seen.own_seal), (Answer::Unsupported, Answer::Unsupported));
}

#[tokio::test]
async fn a_method_that_hangs_costs_its_own_answer_only() {
    let node = Node::new(50);
    node.set(|state| (state.fault, state.only) = (Fault::Hang, Some("eth_chainId")));
    let door = node.http().await;
    let seen =
        probe(&Client::new(door.endpoint.clone()), &ProbeRequest::default(), Duration::from_millis(500))
            .await;
    assert!(matches!(seen.chain_id, Answer::Failed(_)), "{seen:?}");
    assert!(seen.client_version.known().is_some() && seen.head.known().is_some(), "{seen:?}");
}

#[tokio::test]
async fn nobody_there_fails_every_answer() {
    let seen = probe(&Client::new("http://127.0.0.1:1".parse().unwrap()), &seal_after(0), LIMIT).await;
    assert!(matches!(seen.head, Answer::Failed(_)), "{seen:?}");
    assert!(matches!(seen.own_seal, Answer::Failed(_)), "{seen:?}");
}

#[tokio::test]
async fn our_seal_is_found_early_or_late_and_only_in_new_blocks() {
    let node = Node::new(50);
    let door = node.http().await;
    let client = Client::new(door.endpoint.clone());
    let others = json!(["0x00000000000000000000000000000000000000bb"]);
    let ours = json!([OURS.to_lowercase()]);
    for (early, late, sealed) in [
        (&ours, &others, true),
        (&others, &ours, true),
        (&others, &others, false),
        (&others, &json!(null), false),
    ] {
        node.answer("istanbul_getCommitSignersFromBlock", json!({"Number": 49, "Committers": early}));
        node.answer(
            "istanbul_getWbftExtraInfo",
            json!({"prevCommittedSeal": {"sealers": late, "signature": "0x1"}}),
        );
        assert_eq!(probe(&client, &seal_after(48), LIMIT).await.own_seal, Answer::Known(sealed));
        // Block 49 was there before the restart: a seal in it proves nothing.
        assert_eq!(probe(&client, &seal_after(49), LIMIT).await.own_seal, Answer::Known(false));
    }
    node.answer("istanbul_getCommitSignersFromBlock", json!({"Number": 49}));
    assert!(matches!(probe(&client, &seal_after(48), LIMIT).await.own_seal, Answer::Failed(_)));
}

#[tokio::test]
async fn the_mining_token_is_compared_with_the_nodes_own_name() {
    let node = Node::new(50);
    let door = node.http().await;
    let client = Client::new(door.endpoint.clone());
    node.answer("admin_wemixInfo", json!({"self": {"name": "node1"}}));
    for (token, holds) in [
        (json!({"miner": "node1", "height": 50}), true),
        (json!({"miner": "node2"}), false),
        (json!(r#"{"miner":"node1"}"#), true),
        (json!(""), false),
        (json!(null), false),
    ] {
        node.answer("debug_etcdGet", token.clone());
        assert_eq!(client.holds_mining_token(LIMIT).await.unwrap(), holds, "{token}");
    }
    node.answer("debug_etcdGet", json!("nonsense"));
    assert!(client.holds_mining_token(LIMIT).await.is_err());
}
