//! The watch over the tip, with nodes that behave: poll, subscription, failover, stop.

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wemixvisor_chain::{Endpoint, HeadWatch, Pace, SourceEvent, Via};

use crate::node::{Fault, Node, hash};
use crate::soon;

pub const NEVER: Duration = Duration::from_secs(3600);

/// A watch and what it reports.
pub struct Watched {
    pub watch: HeadWatch,
    pub events: mpsc::Receiver<SourceEvent>,
    pub seen: Vec<SourceEvent>,
}

pub fn pace(poll_interval: Duration) -> Pace {
    Pace { poll_interval, answer_limit: Duration::from_millis(300), silent_after: NEVER, chain_id: None }
}

impl Watched {
    pub fn start(sources: &[&Endpoint], pace: Pace) -> Self {
        let (to, events) = mpsc::channel(64);
        let watch = HeadWatch::start(sources.iter().map(|&source| source.clone()).collect(), pace, to);
        Self { watch, events, seen: Vec::new() }
    }

    /// The next event that `fact` is true of.
    pub async fn until(&mut self, what: &str, fact: impl Fn(&SourceEvent) -> bool) -> SourceEvent {
        let found = tokio::time::timeout(crate::PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("the watch goes on");
                self.seen.push(event.clone());
                if fact(&event) {
                    return event;
                }
            }
        });
        match found.await {
            Ok(event) => event,
            Err(_) => panic!("not seen in time: {what}; but {:?}", self.seen),
        }
    }

    pub async fn until_head(&mut self, source: usize, height: u64) -> Via {
        let what = format!("head {height} of source {source}");
        let is_it = |event: &SourceEvent| matches!(event, SourceEvent::Head { source: s, head, .. } if *s == source && head.height == height);
        match self.until(&what, is_it).await {
            SourceEvent::Head { via, .. } => via,
            other => unreachable!("{other:?}"),
        }
    }

    /// Moves the head until the watch tells one that it got by subscription.
    pub async fn until_subscribed(&mut self, source: usize, node: &Node) {
        node.until("a subscription", |tally| tally.asked.contains_key("eth_subscribe")).await;
        while self.until_head(source, node.next_height()).await != Via::Subscription {}
    }

    pub fn count(&self, fact: impl Fn(&SourceEvent) -> bool) -> usize {
        self.seen.iter().filter(|event| fact(event)).count()
    }
}

pub fn failed(source: usize) -> impl Fn(&SourceEvent) -> bool {
    move |event| matches!(event, SourceEvent::Failed { source: s, .. } if *s == source)
}

pub fn recovered(source: usize) -> impl Fn(&SourceEvent) -> bool {
    move |event| *event == SourceEvent::Recovered { source }
}

fn following(source: usize) -> impl Fn(&SourceEvent) -> bool {
    move |event| *event == SourceEvent::Following { source }
}

#[tokio::test]
async fn heads_are_noticed_and_the_interval_is_kept() {
    let node = Node::new(1);
    let door = node.http().await;
    let mut watched = Watched::start(&[&door.endpoint], pace(Duration::from_millis(40)));
    watched.until_head(0, 1).await;
    let (began, asked) = (Instant::now(), node.asked("eth_blockNumber"));
    for height in 2..7 {
        node.set_height(height);
        assert_eq!(watched.until_head(0, height).await, Via::Poll);
    }
    node.until("ten polls", |tally| tally.asked["eth_blockNumber"] >= asked + 10).await;
    assert!(began.elapsed() >= Duration::from_millis(9 * 40), "{:?}", began.elapsed());
    assert_eq!(node.tally().opened, 1, "one connection, kept alive");
    assert_eq!(watched.seen[0], SourceEvent::Following { source: 0 });
}

#[tokio::test]
async fn a_new_interval_takes_effect_at_once() {
    let node = Node::new(1);
    let door = node.http().await;
    let mut watched = Watched::start(&[&door.endpoint], pace(NEVER));
    watched.until_head(0, 1).await;
    node.set_height(2);
    watched.watch.set_poll_interval(Duration::from_millis(10));
    watched.until_head(0, 2).await;
}

#[tokio::test]
async fn heights_jump_repeat_fall_and_are_huge() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let node = Node::new(10);
    let door = node.ipc(&folder.path().join("geth.ipc"));
    let mut watched = Watched::start(&[&door.endpoint], pace(NEVER));
    watched.until_head(0, 10).await;
    watched.until_subscribed(0, &node).await;
    for height in [15, 9, 4, i64::MAX as u64, u64::MAX, 0] {
        node.set_height(height);
        assert_eq!(watched.until_head(0, height).await, Via::Subscription);
    }
    let Some(SourceEvent::Head { head, .. }) = watched.seen.last() else { unreachable!() };
    assert_eq!(head.hash.unwrap().to_string(), hash(0));
}

#[tokio::test]
async fn a_subscription_tells_heads_at_once_while_the_poll_goes_on() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let nodes = [Node::new(1), Node::new(1)];
    let doors = [nodes[0].ws().await, nodes[1].ipc(&folder.path().join("geth.ipc"))];
    for (node, door) in nodes.iter().zip(&doors) {
        let poll = Duration::from_millis(400);
        let mut watched = Watched::start(&[&door.endpoint], pace(poll));
        watched.until_subscribed(0, node).await;
        let mut delays = Vec::new();
        for _ in 0..50 {
            let asked = Instant::now();
            watched.until_subscribed(0, node).await;
            delays.push(asked.elapsed());
        }
        delays.sort();
        println!("{}: p50 {:?}, max {:?}", door.endpoint, delays[25], delays[49]);
        // By the poll alone it would be half its interval.
        assert!(delays[25] < poll / 4, "{delays:?}");
        let polls = node.asked("eth_blockNumber");
        node.until("the poll goes on", |tally| tally.asked["eth_blockNumber"] > polls + 1).await;
        assert_eq!(node.tally().opened, 2, "one to ask, one to listen");
    }
}

#[tokio::test]
async fn a_dropped_subscription_is_covered_by_the_poll_and_made_again() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let path = folder.path().join("geth.ipc");
    let node = Node::new(1);
    let door = node.ipc(&path);
    let mut watched = Watched::start(&[&door.endpoint], pace(NEVER));
    watched.until_subscribed(0, &node).await;
    // The subscription is refused for a while, questions are answered.
    node.set(|state| (state.fault, state.only) = (Fault::ErrorObject, Some("eth_subscribe")));
    let height = node.tally().open as u64 + 1000;
    door.close().await;
    let _door = node.ipc(&path);
    node.set_height(height);
    // Nobody waits for the poll interval, which is an hour.
    assert_eq!(watched.until_head(0, height).await, Via::Poll);
    let refused = node.asked("eth_subscribe");
    node.until("tried again", |tally| tally.asked["eth_subscribe"] > refused + 1).await;
    node.set_fault(Fault::None);
    let tried = node.asked("eth_subscribe");
    node.until("made again", |tally| tally.asked["eth_subscribe"] > tried).await;
    watched.until_subscribed(0, &node).await;
}

#[tokio::test]
async fn a_silent_subscription_is_made_again() {
    let node = Node::new(1);
    let door = node.ws().await;
    let silent_after = Duration::from_millis(60);
    let pace = Pace { silent_after, ..pace(Duration::from_millis(20)) };
    let mut watched = Watched::start(&[&door.endpoint], pace);
    watched.until_subscribed(0, &node).await;
    let before = node.asked("eth_subscribe");
    // While the head stands still, silence is right.
    let polls = node.asked("eth_blockNumber");
    node.until("ten polls", |tally| tally.asked["eth_blockNumber"] > polls + 10).await;
    assert_eq!(node.asked("eth_subscribe"), before);
    node.set(|state| state.silent = true);
    let height = node.next_height();
    assert_eq!(watched.until_head(0, height).await, Via::Poll);
    node.until("made again", |tally| tally.asked["eth_subscribe"] > before).await;
    node.set(|state| state.silent = false);
    watched.until_subscribed(0, &node).await;
    assert_eq!(watched.count(failed(0)), 0, "the source itself worked all the time");
}

#[tokio::test]
async fn the_next_source_takes_over_and_gives_back() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let path = folder.path().join("geth.ipc");
    let (own, other) = (Node::new(100), Node::new(200));
    let (own_door, other_door) = (own.ipc(&path), other.http().await);
    let mut watched =
        Watched::start(&[&own_door.endpoint, &other_door.endpoint], pace(Duration::from_millis(30)));
    watched.until("the first is preferred", following(0)).await;
    watched.until_head(0, 100).await;
    own_door.close().await;
    watched.until("its failure", failed(0)).await;
    watched.until("failover", following(1)).await;
    watched.until_head(1, 200).await;
    let _own_door = own.ipc(&path);
    watched.until("it works again", recovered(0)).await;
    watched.until("back", following(0)).await;
    watched.until_head(0, 100).await;
    assert_eq!(watched.count(failed(0)), 1, "{:?}", watched.seen);
    other.until("the other one is left alone", |tally| tally.open == 0).await;
}

#[tokio::test]
async fn a_node_that_was_started_is_found_at_once() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let path = folder.path().join("geth.ipc");
    let node = Node::new(5);
    let door = node.ipc(&path);
    let mut watched = Watched::start(&[&door.endpoint], pace(NEVER));
    watched.until_head(0, 5).await;
    watched.watch.node_down();
    door.close().await;
    watched.until("its failure", failed(0)).await;
    // It is started, but takes its time until it answers: it is tried again and again, at short intervals.
    node.set_fault(Fault::DropMidway);
    let _door = node.ipc(&path);
    watched.watch.reconnect_now();
    let (began, opened) = (Instant::now(), node.tally().opened);
    node.until("six tries", |tally| tally.opened >= opened + 6).await;
    // At the usual pace the sixth would come after more than two seconds.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    node.set_fault(Fault::None);
    watched.until_head(0, 5).await;
    watched.until_subscribed(0, &node).await;
    assert_eq!(watched.count(failed(0)), 1, "{:?}", watched.seen);
}

#[tokio::test]
async fn stopping_is_immediate_even_when_the_node_hangs() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let node = Node::new(5);
    let doors = [node.ipc(&folder.path().join("geth.ipc")), node.ws().await, node.http().await];
    let sources: Vec<&Endpoint> = doors.iter().map(|door| &door.endpoint).collect();
    for fault in [Fault::None, Fault::Hang] {
        node.set_fault(fault);
        let watched = Watched::start(&sources, Pace { answer_limit: NEVER, ..pace(NEVER) });
        node.until("it has connected", |tally| tally.open >= 2).await;
        let began = Instant::now();
        watched.watch.stop().await;
        // An answer would be waited for much longer.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        node.set_fault(Fault::None);
        node.until("its connections are closed", |tally| tally.open == 0).await;
    }
}

#[tokio::test]
async fn a_full_mailbox_holds_up_neither_the_node_nor_the_newest_head() {
    let node = Node::new(1);
    let door = node.ws().await;
    let (to, mut events) = mpsc::channel(1);
    let watch = HeadWatch::start(vec![door.endpoint.clone()], pace(NEVER), to);
    let following = soon("the source", events.recv()).await;
    assert_eq!(following, Some(SourceEvent::Following { source: 0 }));
    node.until("a subscription", |tally| tally.asked.contains_key("eth_subscribe")).await;
    // Nobody reads now; the node tells one head after the other, and none of it may get stuck at the node.
    for _ in 0..200 {
        let height = node.next_height();
        node.until_told(height).await;
    }
    let newest = node.next_height();
    let mut seen = 0;
    loop {
        let event = soon("the newest head", events.recv()).await;
        seen += 1;
        if matches!(event, Some(SourceEvent::Head { head, .. }) if head.height == newest) {
            break;
        }
    }
    assert!(seen < 10, "old heads were kept: {seen}");
    watch.stop().await;
}

#[tokio::test]
async fn the_watch_ends_when_nobody_listens_or_it_is_dropped() {
    let node = Node::new(1);
    let door = node.http().await;
    let mut watched = Watched::start(&[&door.endpoint], pace(Duration::from_millis(5)));
    watched.until_head(0, 1).await;
    let Watched { watch, events, .. } = watched;
    drop(events);
    node.until("closed, for nobody listens", |tally| tally.open == 0).await;
    drop(watch);
    let watched = Watched::start(&[&door.endpoint], pace(NEVER));
    node.until("connected", |tally| tally.open == 1).await;
    drop(watched.watch);
    node.until("closed, for it was dropped", |tally| tally.open == 0).await;
}

#[tokio::test]
async fn without_sources_there_is_silence() {
    let watched = Watched::start(&[], pace(Duration::from_millis(1)));
    watched.watch.stop().await;
    let Watched { mut events, .. } = Watched::start(&[], pace(Duration::from_millis(1)));
    assert_eq!(soon("its end", events.recv()).await, None);
}
