//! The task of the watch: which source is followed, and how. The model is told in [`crate::heads`].

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use wemixvisor_core::head::{Head, Height};

use crate::client::{Client, RpcError};
use crate::endpoint::Endpoint;
use crate::heads::{Orders, Pace, SourceEvent, Via};
use crate::locked;
use crate::outbox::Outbox;
use crate::subscription::Subscription;

/// Between two tries of a source on this machine, just after the node was started.
const QUICK_RETRY: Duration = Duration::from_millis(20);

/// Before the second try of a source; doubles from try to try.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest time between two tries of a source on this machine.
const LOCAL_RETRY: Duration = Duration::from_secs(1);

/// The longest time between two tries of any other source, of one that is not needed at the moment, and of one
/// on this machine while the node is stopped.
const SLOW_RETRY: Duration = Duration::from_secs(5);

/// When a source has answered, the better ones are given so much longer before it is followed. At the start all
/// are asked at once, and the transports of one node answer within a few milliseconds of each other.
const BETTER_MAY_BE_LATER: Duration = Duration::from_millis(50);

/// The whole state of the watch.
pub(crate) struct Watch {
    sources: Vec<Source>,
    answer_limit: Duration,
    silent_after: Duration,
    chain_id: Mutex<Option<u64>>,
    orders: watch::Receiver<Orders>,
    outbox: Outbox,
}

struct Source {
    client: Client,
    local: bool,
    condition: Mutex<Condition>,
    /// How many connections the client had opened when the chain's id was last checked.
    checked: AtomicU64,
}

/// What was last reported of a source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Unknown,
    Works,
    Failed,
    WrongChain(u64),
}

/// Why a source cannot be followed.
enum Trouble {
    Failed(String),
    WrongChain { expected: u64, found: u64 },
}

impl From<RpcError> for Trouble {
    fn from(error: RpcError) -> Self {
        Self::Failed(error.full_text())
    }
}

/// Why a source is no longer followed.
enum End {
    Lost(Trouble),
    Better(Found),
}

/// A source that works, and its height.
struct Found {
    source: usize,
    height: Height,
}

/// What poll and subscription of the followed source know of each other.
struct Tip {
    polled: watch::Sender<Height>,
    notified: Mutex<Notified>,
    poll_now: Notify,
}

/// What the subscription has brought.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Notified {
    count: u64,
    height: Height,
}

impl Watch {
    /// Nothing is connected before [`Watch::run`].
    pub(crate) fn new(
        sources: Vec<Endpoint>,
        pace: &Pace,
        orders: watch::Receiver<Orders>,
        events: Sender<SourceEvent>,
    ) -> Self {
        let source = |endpoint: Endpoint| Source {
            local: endpoint.is_local(),
            client: Client::new(endpoint),
            condition: Mutex::new(Condition::Unknown),
            checked: AtomicU64::new(0),
        };
        Self {
            sources: sources.into_iter().map(source).collect(),
            answer_limit: pace.answer_limit,
            silent_after: pace.silent_after,
            chain_id: Mutex::new(pace.chain_id),
            orders,
            outbox: Outbox::new(events),
        }
    }

    /// Watches until nobody receives the events any more.
    pub(crate) async fn run(self) {
        tokio::select! {
            biased;
            () = self.outbox.deliver() => {}
            never = self.watch() => match never {},
        }
    }

    async fn watch(&self) -> Infallible {
        let all = 0..self.sources.len();
        let mut followed = None;
        let mut found = self.first_that_works(all.clone(), true).await;
        loop {
            let source = found.source;
            for (_, other) in self.sources.iter().enumerate().filter(|(other, _)| *other != source) {
                other.client.hang_up();
            }
            if followed != Some(source) {
                followed = Some(source);
                self.outbox.notice(SourceEvent::Following { source }).await;
            }
            found = match self.follow(found).await {
                End::Better(better) => better,
                End::Lost(trouble) => {
                    self.fails(source, trouble).await;
                    self.first_that_works(all.clone(), true).await
                }
            };
        }
    }

    /// Asks the sources in `range` until one of them works. Never ends for an empty range.
    async fn first_that_works(&self, range: Range<usize>, needed: bool) -> Found {
        let mut tries: FuturesUnordered<_> =
            range.clone().map(|source| self.until_works(source, needed)).collect();
        let Some(mut best) = tries.next().await else { return std::future::pending().await };
        let deadline = Instant::now() + BETTER_MAY_BE_LATER;
        while best.source > range.start {
            tokio::select! {
                () = sleep_until(deadline) => break,
                Some(other) = tries.next() => if other.source < best.source { best = other },
            }
        }
        best
    }

    async fn until_works(&self, source: usize, needed: bool) -> Found {
        let mut failures = 0;
        loop {
            let starts = self.orders.borrow().starts;
            match self.check(source).await {
                Ok(height) => {
                    self.works(source).await;
                    return Found { source, height };
                }
                Err(trouble) => self.fails(source, trouble).await,
            }
            failures = self.pause(source, failures, needed, starts).await;
        }
    }

    /// Waits before the next try. Brings the number of failures in a row: none, once the node has been started
    /// again (`starts` is how often it had been before the failure).
    async fn pause(&self, source: usize, failures: u32, needed: bool, starts: u64) -> u32 {
        let failed_at = Instant::now();
        let mut orders = self.orders.clone();
        loop {
            let (delay, restarted) = {
                let orders = orders.borrow_and_update();
                let restarted = orders.starts != starts;
                let failures = if restarted { 0 } else { failures };
                (self.retry_delay(source, failures, needed, &orders), restarted)
            };
            tokio::select! {
                () = sleep_until(failed_at + delay) => return if restarted { 0 } else { failures.saturating_add(1) },
                () = changed(&mut orders) => {}
            }
        }
    }

    fn retry_delay(&self, source: usize, failures: u32, needed: bool, orders: &Orders) -> Duration {
        let local = self.sources[source].local;
        let quick = orders.quick_until.is_some_and(|until| Instant::now() < until);
        match (local, quick, orders.node_down) {
            (true, true, _) => QUICK_RETRY,
            (true, false, true) => SLOW_RETRY,
            _ => {
                let longest = if local && needed { LOCAL_RETRY } else { SLOW_RETRY };
                FIRST_RETRY.saturating_mul(1 << failures.min(8)).min(longest)
            }
        }
    }

    /// Asks for chain and height.
    async fn check(&self, source: usize) -> Result<Height, Trouble> {
        self.check_chain(source).await?;
        Ok(self.sources[source].client.block_number(self.answer_limit).await?)
    }

    async fn check_chain(&self, source: usize) -> Result<(), Trouble> {
        let Source { client, checked, .. } = &self.sources[source];
        match client.chain_id(self.answer_limit).await {
            Ok(found) => self.is_our_chain(found)?,
            // It cannot be asked, so it cannot be wrong.
            Err(RpcError::Unsupported { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        checked.store(client.opened(), Ordering::Relaxed);
        Ok(())
    }

    fn is_our_chain(&self, found: u64) -> Result<(), Trouble> {
        match *locked(&self.chain_id).get_or_insert(found) {
            expected if expected == found => Ok(()),
            expected => Err(Trouble::WrongChain { expected, found }),
        }
    }

    /// Follows a source until it fails or a better one works.
    async fn follow(&self, Found { source, height }: Found) -> End {
        let tip = Tip::new(height);
        self.polled_head(source, height);
        tokio::select! {
            biased;
            never = self.keep_subscribed(source, &tip) => match never {},
            trouble = self.poll(source, &tip) => End::Lost(trouble),
            better = self.first_that_works(0..source, false) => End::Better(better),
        }
    }

    fn polled_head(&self, source: usize, height: Height) {
        let head = Head { height, hash: None, block_time: None };
        self.outbox.head(SourceEvent::Head { source, head, via: Via::Poll });
    }

    /// Polls until the source fails.
    async fn poll(&self, source: usize, tip: &Tip) -> Trouble {
        let mut orders = self.orders.clone();
        let mut starts = orders.borrow().starts;
        loop {
            self.until_next_poll(&mut orders, &mut starts, tip).await;
            let before = tip.notified();
            match self.ask_height(source).await {
                Ok(height) => {
                    let newer = tip.notified();
                    // A notification that came while the poll was on its way is newer than its answer.
                    if newer.count == before.count || newer.height < height {
                        self.polled_head(source, height);
                    }
                    tip.polled.send_replace(height);
                }
                // It may be slow, but it still tells its heads.
                Err(Trouble::Failed(_)) if tip.notified() != before => {}
                Err(trouble) => return trouble,
            }
        }
    }

    /// Waits for the end of the interval, a changed one, a start of the node, or the subscription's wish.
    async fn until_next_poll(&self, orders: &mut watch::Receiver<Orders>, starts: &mut u64, tip: &Tip) {
        let polled_at = Instant::now();
        loop {
            let interval = {
                let orders = orders.borrow_and_update();
                if std::mem::replace(starts, orders.starts) != orders.starts {
                    return;
                }
                orders.poll_interval
            };
            tokio::select! {
                () = sleep_until(polled_at + interval) => return,
                () = tip.poll_now.notified() => return,
                () = changed(orders) => {}
            }
        }
    }

    /// The height, from a node whose chain has been checked: after a reconnect it may be another one.
    async fn ask_height(&self, source: usize) -> Result<Height, Trouble> {
        let Source { client, checked, .. } = &self.sources[source];
        let height = client.block_number(self.answer_limit).await?;
        if client.opened() != checked.load(Ordering::Relaxed) {
            self.check_chain(source).await?;
        }
        Ok(height)
    }

    /// Subscribes again whenever the subscription ends.
    async fn keep_subscribed(&self, source: usize, tip: &Tip) -> Infallible {
        if let Endpoint::Http(_) = self.sources[source].client.endpoint() {
            return std::future::pending().await;
        }
        let mut failures = 0;
        loop {
            let starts = self.orders.borrow().starts;
            let before = tip.notified();
            let reason = match self.subscribed(source, tip).await {
                Ok(never) => match never {},
                Err(reason) => reason,
            };
            if tip.notified() != before {
                failures = 0;
            }
            // Until there is one again, heads are for the poll to find; or that the whole node is gone.
            tip.poll_now.notify_one();
            let endpoint = self.sources[source].client.endpoint();
            tracing::debug!(source, %endpoint, reason, failures, "no subscription to new heads; the poll goes on");
            failures = self.pause(source, failures, true, starts).await;
        }
    }

    /// Runs one subscription until it breaks or falls silent.
    async fn subscribed(&self, source: usize, tip: &Tip) -> Result<Infallible, String> {
        let endpoint = self.sources[source].client.endpoint();
        let mut subscription = Subscription::open(endpoint, self.answer_limit).await?;
        if let Some(id) = subscription.chain_id {
            self.is_our_chain(id).map_err(|_| format!("chain id {id}"))?;
        }
        // Heads that came before it began are for the poll to find.
        tip.poll_now.notify_one();
        let mut polled = tip.polled.subscribe();
        let mut known = None;
        let mut behind_since: Option<Instant> = None;
        loop {
            let silent_at = behind_since.map(|since| since + self.silent_after);
            tokio::select! {
                biased;
                head = subscription.next() => {
                    let head = head?;
                    tip.notify(head.height);
                    self.outbox.head(SourceEvent::Head { source, head, via: Via::Subscription });
                    (known, behind_since) = (Some(head.height), None);
                }
                Ok(()) = polled.changed() => {
                    let height = *polled.borrow_and_update();
                    // The first poll only says where the subscription began.
                    if height > *known.get_or_insert(height) {
                        behind_since.get_or_insert_with(Instant::now);
                    }
                }
                () = until(silent_at) => {
                    return Err(format!("silent for {:?} while the head moved", self.silent_after));
                }
            }
        }
    }

    async fn works(&self, source: usize) {
        let before = std::mem::replace(&mut *locked(&self.sources[source].condition), Condition::Works);
        if matches!(before, Condition::Failed | Condition::WrongChain(_)) {
            self.outbox.notice(SourceEvent::Recovered { source }).await;
        }
    }

    async fn fails(&self, source: usize, trouble: Trouble) {
        let (condition, event) = match trouble {
            Trouble::Failed(reason) => (Condition::Failed, SourceEvent::Failed { source, reason }),
            Trouble::WrongChain { expected, found } => {
                (Condition::WrongChain(found), SourceEvent::WrongChain { source, expected, found })
            }
        };
        let before = std::mem::replace(&mut *locked(&self.sources[source].condition), condition);
        if before != condition {
            self.outbox.notice(event).await;
        }
    }
}

impl Tip {
    fn new(height: Height) -> Self {
        Self { polled: watch::Sender::new(height), notified: Mutex::default(), poll_now: Notify::new() }
    }

    fn notified(&self) -> Notified {
        *locked(&self.notified)
    }

    fn notify(&self, height: Height) {
        let mut notified = locked(&self.notified);
        *notified = Notified { count: notified.count + 1, height };
    }
}

/// Waits for new orders. When nobody can give any, the watch is about to be ended.
async fn changed(orders: &mut watch::Receiver<Orders>) {
    if orders.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits for a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_quick_after_a_start_and_rare_while_the_node_is_down() {
        let orders =
            |quick_until, node_down| Orders { poll_interval: FIRST_RETRY, quick_until, node_down, starts: 0 };
        let sources = ["/a.ipc", "http://node.example"].map(|source| source.parse().unwrap()).to_vec();
        let pace = Pace {
            poll_interval: FIRST_RETRY,
            answer_limit: FIRST_RETRY,
            silent_after: FIRST_RETRY,
            chain_id: None,
        };
        let (_to, received) = watch::channel(orders(None, false));
        let (events, _mailbox) = tokio::sync::mpsc::channel(1);
        let watch = Watch::new(sources, &pace, received, events);
        let (local, remote) = (0, 1);
        let soon = Some(Instant::now() + Duration::from_secs(60));
        let past = Some(Instant::now());

        let usual = orders(None, false);
        let delays: Vec<_> =
            (0..6).map(|failures| watch.retry_delay(local, failures, true, &usual).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(watch.retry_delay(local, 1000, false, &usual), SLOW_RETRY);
        assert_eq!(watch.retry_delay(remote, 1000, true, &usual), SLOW_RETRY);
        assert_eq!(watch.retry_delay(local, 9, true, &orders(soon, false)), QUICK_RETRY);
        assert_eq!(watch.retry_delay(local, 9, true, &orders(past, false)), LOCAL_RETRY);
        assert_eq!(watch.retry_delay(remote, 9, true, &orders(soon, false)), SLOW_RETRY);
        assert_eq!(watch.retry_delay(local, 0, true, &orders(None, true)), SLOW_RETRY);
        assert_eq!(watch.retry_delay(remote, 0, true, &orders(None, true)), FIRST_RETRY);
    }
}
