//! The watch over the tip, with nodes that do not behave: no height out of them, a reason once, recovery alone.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use wemixvisor_chain::{Endpoint, Pace, SourceEvent, Via};

use crate::node::{Door, Fault, Node};
use crate::watch::{NEVER, Watched, failed, pace, recovered};

const OFTEN: Duration = Duration::from_millis(20);

fn is_head(event: &SourceEvent) -> bool {
    matches!(event, SourceEvent::Head { .. })
}

fn wrong_chain(source: usize) -> impl Fn(&SourceEvent) -> bool {
    move |event| matches!(event, SourceEvent::WrongChain { source: s, .. } if *s == source)
}

async fn everywhere(folder: &TempDir) -> Vec<(Arc<Node>, Door)> {
    let nodes = [Node::new(7), Node::new(7), Node::new(7)];
    let doors = [nodes[0].http().await, nodes[1].ws().await, nodes[2].ipc(&folder.path().join("geth.ipc"))];
    nodes.into_iter().zip(doors).collect()
}

#[tokio::test]
async fn a_source_that_is_wrong_from_the_start_gives_no_height_and_recovers() {
    let folder = TempDir::new_in("/tmp").unwrap();
    for (node, door) in everywhere(&folder).await {
        for fault in [
            Fault::Hang,
            Fault::Html,
            Fault::Status500,
            Fault::ErrorObject,
            Fault::TenMegabytes,
            Fault::Nonsense,
            Fault::OtherJson,
            Fault::DropMidway,
        ] {
            node.set_fault(fault);
            let mut watched = Watched::start(&[&door.endpoint], pace(OFTEN));
            watched.until("the failure", failed(0)).await;
            let opened = node.tally().opened;
            let asked = node.asked("eth_chainId");
            let tried_again =
                |tally: &crate::node::Tally| tally.opened > opened || tally.asked["eth_chainId"] > asked;
            node.until("it is tried again", tried_again).await;
            node.set_fault(Fault::None);
            watched.until("it works again", recovered(0)).await;
            assert_eq!(watched.count(is_head), 0, "{} {fault:?}: {:?}", door.endpoint, watched.seen);
            assert_eq!(watched.count(failed(0)), 1, "once, not per try: {:?}", watched.seen);
            watched.until_head(0, 7).await;
            watched.watch.stop().await;
        }
    }
}

#[tokio::test]
async fn a_source_that_goes_wrong_later_says_so_once_and_recovers() {
    let folder = TempDir::new_in("/tmp").unwrap();
    for (node, door) in everywhere(&folder).await {
        for fault in [Fault::Hang, Fault::Html, Fault::Nonsense, Fault::TenMegabytes, Fault::DropMidway] {
            let mut watched = Watched::start(&[&door.endpoint], pace(OFTEN));
            watched.until_head(0, 7).await;
            node.set_fault(fault);
            watched.until("the failure", failed(0)).await;
            let heads = watched.count(is_head);
            node.set_fault(Fault::None);
            watched.until("it works again", recovered(0)).await;
            assert_eq!(watched.count(is_head), heads, "{} {fault:?}: {:?}", door.endpoint, watched.seen);
            watched.until_head(0, 7).await;
            assert_eq!(watched.count(failed(0)), 1, "{:?}", watched.seen);
            watched.watch.stop().await;
        }
    }
}

#[tokio::test]
async fn a_node_that_is_slow_to_answer_but_tells_its_heads_has_not_failed() {
    let node = Node::new(7);
    let door = node.ws().await;
    let mut watched = Watched::start(&[&door.endpoint], pace(OFTEN));
    watched.until_subscribed(0, &node).await;
    node.set(|state| {
        (state.fault, state.only, state.tells_anyway) = (Fault::Hang, Some("eth_blockNumber"), true);
    });
    let asked = node.asked("eth_blockNumber");
    // Blocks come all the time, until three polls have run into their time limit.
    while node.asked("eth_blockNumber") < asked + 3 {
        let height = node.next_height();
        assert_eq!(watched.until_head(0, height).await, Via::Subscription);
    }
    assert_eq!(watched.count(failed(0)), 0, "{:?}", watched.seen);
}

#[tokio::test]
async fn another_chain_than_the_configured_one_gives_no_height() {
    let folder = TempDir::new_in("/tmp").unwrap();
    for (node, door) in everywhere(&folder).await {
        let pace = Pace { chain_id: Some(1112), ..pace(OFTEN) };
        let mut watched = Watched::start(&[&door.endpoint], pace);
        let event = watched.until("the wrong chain", wrong_chain(0)).await;
        assert_eq!(event, SourceEvent::WrongChain { source: 0, expected: 1112, found: 1111 });
        let asked = node.asked("eth_chainId");
        node.until("tried again", |tally| tally.asked["eth_chainId"] > asked + 1).await;
        node.set(|state| state.chain_id = 1112);
        watched.until("the right chain", recovered(0)).await;
        assert_eq!((watched.count(is_head), watched.count(wrong_chain(0))), (0, 1), "{:?}", watched.seen);
        watched.until_head(0, 7).await;
    }
}

#[tokio::test]
async fn a_spare_source_of_another_chain_is_not_used() {
    let (own, other) = (Node::new(100), Node::new(200));
    other.set(|state| state.chain_id = 1);
    let (own_door, other_door) = (own.http().await, other.http().await);
    let Endpoint::Http(address) = &own_door.endpoint else { unreachable!() };
    let port = address.port();
    let sources = [&own_door.endpoint.clone(), &other_door.endpoint];
    let mut watched = Watched::start(&sources, Pace { chain_id: Some(1111), ..pace(OFTEN) });
    watched.until_head(0, 100).await;
    assert_eq!(watched.count(wrong_chain(1)), 1, "{:?}", watched.seen);
    own_door.close().await;
    watched.until("the own one has failed", failed(0)).await;
    let asked = other.asked("eth_chainId");
    other.until("the spare one is tried", |tally| tally.asked["eth_chainId"] > asked + 1).await;
    let _own_door = own.http_at(port).await;
    watched.until("the own one is back", recovered(0)).await;
    watched.until_head(0, 100).await;
    let of_other = |event: &SourceEvent| matches!(event, SourceEvent::Head { source: 1, .. });
    assert_eq!(watched.count(of_other), 0, "{:?}", watched.seen);
}

#[tokio::test]
async fn a_node_that_comes_back_with_another_chain_gives_no_height() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let path = folder.path().join("geth.ipc");
    let (ours, strange) = (Node::new(100), Node::new(5_000_000));
    strange.set(|state| state.chain_id = 1);
    for over_ipc in [true, false] {
        let door = if over_ipc { ours.ipc(&path) } else { ours.http().await };
        let endpoint = door.endpoint.clone();
        // Both ways of meeting it: polls that go on, and an order to connect again.
        for interval in [OFTEN, NEVER] {
            let mut watched = Watched::start(&[&endpoint], pace(interval));
            watched.until_head(0, 100).await;
            watched.watch.stop().await;
        }
        let mut watched = Watched::start(&[&endpoint], pace(OFTEN));
        watched.until_head(0, 100).await;
        door.close().await;
        let _strange_door = match &endpoint {
            Endpoint::Http(address) => strange.http_at(address.port()).await,
            _ => strange.ipc(&path),
        };
        watched.watch.reconnect_now();
        watched.until("another chain", wrong_chain(0)).await;
        let of_strange =
            |event: &SourceEvent| matches!(event, SourceEvent::Head { head, .. } if head.height > 100);
        assert_eq!(watched.count(of_strange), 0, "{:?}", watched.seen);
        watched.watch.stop().await;
    }
}

#[tokio::test]
async fn a_notification_that_is_nonsense_is_no_height() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let node = Node::new(7);
    let door = node.ipc(&folder.path().join("geth.ipc"));
    let mut watched = Watched::start(&[&door.endpoint], pace(NEVER));
    watched.until_subscribed(0, &node).await;
    let subscriptions = node.asked("eth_subscribe");
    node.set(|state| state.strange_head = true);
    let height = node.next_height();
    // The subscription is given up, and the poll looks what there is.
    assert_eq!(watched.until_head(0, height).await, Via::Poll);
    node.set(|state| state.strange_head = false);
    node.until("a new subscription", |tally| tally.asked["eth_subscribe"] > subscriptions).await;
    watched.until_subscribed(0, &node).await;
}
