//! The tip of the chain, watched over a list of sources.
//!
//! The sources are endpoints in order of preference. One of them is followed: the first that works. It is polled
//! (`eth_blockNumber`) always, and where it can notify (WebSocket, Unix socket) a `newHeads` subscription runs
//! beside the poll: the subscription is for speed, the poll for certainty, since a subscription has no replay,
//! skips heads and can fall silent. When the followed source fails, the first of the others that works takes
//! over; the better ones are tried again and again, and followed again once they work.
//!
//! What is seen goes to the engine as [`SourceEvent`]s. A height comes only from an answer of the right shape,
//! from a source of the right chain; everything else is a [`SourceEvent::Failed`] or
//! [`SourceEvent::WrongChain`], told once for each change of state.

use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wemixvisor_core::head::Head;

use crate::endpoint::Endpoint;
use crate::follow::Watch;

/// After the node's start its sources are tried again at short intervals for so long. A node that takes longer
/// is tried at the usual pace.
const QUICK_FOR: Duration = Duration::from_secs(30);

/// How the tip is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// From one poll to the next; can be changed later ([`HeadWatch::set_poll_interval`]).
    pub poll_interval: Duration,
    /// The time limit of every answer.
    pub answer_limit: Duration,
    /// A subscription that says nothing for so long after the poll has seen a new head is made anew.
    pub silent_after: Duration,
    /// The id of the chain. `None`: the one that the first source to answer says.
    pub chain_id: Option<u64>,
}

/// How a head became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The node told it by itself.
    Subscription,
    /// The node was asked. The hash is not known.
    Poll,
}

/// What the watch saw. `source` is the place in the list of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// The head of the source that is followed, new or confirmed. May repeat, skip and go down.
    Head {
        /// Who said it.
        source: usize,
        /// The head.
        head: Head,
        /// How.
        via: Via,
    },
    /// Another source is followed from now on.
    Following {
        /// Which.
        source: usize,
    },
    /// A source does not answer, or not as a node does.
    Failed {
        /// Which.
        source: usize,
        /// Why, for people.
        reason: String,
    },
    /// A source that failed works again.
    Recovered {
        /// Which.
        source: usize,
    },
    /// A source belongs to another chain: its heights are not used.
    WrongChain {
        /// Which.
        source: usize,
        /// The chain's id as configured, or as the first source said.
        expected: u64,
        /// The id that this source said.
        found: u64,
    },
}

/// What the watch is told while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) poll_interval: Duration,
    /// Sources on this machine are tried at short intervals until then.
    pub(crate) quick_until: Option<Instant>,
    /// The supervised node is known to be stopped.
    pub(crate) node_down: bool,
    /// How often the node has been started.
    pub(crate) starts: u64,
}

/// A running watch. Ends when it is stopped, dropped, or nobody receives its events.
pub struct HeadWatch {
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

impl HeadWatch {
    /// Starts to watch `sources` and to report to `events`. Must be called within a tokio runtime.
    pub fn start(sources: Vec<Endpoint>, pace: Pace, events: Sender<SourceEvent>) -> Self {
        let orders =
            Orders { poll_interval: pace.poll_interval, quick_until: None, node_down: false, starts: 0 };
        let (orders, received) = watch::channel(orders);
        let task = tokio::spawn(Watch::new(sources, &pace, received, events).run());
        Self { orders, task }
    }

    /// Sets the time from one poll to the next. Counts from the last poll, and takes effect at once.
    pub fn set_poll_interval(&self, every: Duration) {
        self.orders.send_if_modified(|orders| {
            let modified = orders.poll_interval != every;
            orders.poll_interval = every;
            modified
        });
    }

    /// The node has just been started: asks at once, and for 30 s tries the sources on this machine at short
    /// intervals (20 ms).
    pub fn reconnect_now(&self) {
        self.orders.send_modify(|orders| {
            orders.quick_until = Some(Instant::now() + QUICK_FOR);
            orders.node_down = false;
            orders.starts += 1;
        });
    }

    /// The node is known to be stopped: the sources on this machine are tried at long intervals only.
    pub fn node_down(&self) {
        self.orders.send_modify(|orders| {
            orders.quick_until = None;
            orders.node_down = true;
        });
    }

    /// Ends the watch and closes its connections. Returns when both is done, which is at once.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled, or ended by itself before: gone in any case.
        let _ = (&mut self.task).await;
    }
}

impl Drop for HeadWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
