//! The running node: what its parts share. All of it lives on one thread.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, Fork};
use crate::faults::Faults;
use crate::flags::Flags;
use crate::header::header;
use crate::journal::{Journal, now_ms};
use crate::pace::{self, Circumstances};
use crate::store::{Store, StoreError};
use crate::{death, log, noise};

/// The number of peers when no fault says another.
const PEERS: u64 = 3;
/// How many heads a subscriber may fall behind before it loses some, as real nodes' notifiers do.
const HEADS_KEPT: usize = 1024;

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) flags: Flags,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    /// The forks that this program has rules and heights for.
    pub(crate) forks: Vec<Fork>,
    pub(crate) around: Circumstances,
    /// The how-many-th start of this version on this data directory.
    pub(crate) starts: u64,
    /// Ends when the node begins to stop.
    pub(crate) stopping: CancellationToken,
    /// The headers of new heads, as JSON.
    pub(crate) heads: broadcast::Sender<Rc<str>>,
    pub(crate) requests: RefCell<BTreeMap<String, u64>>,
    pub(crate) subscriptions: Cell<u64>,
    /// The name of the etcd leader (go-wemix).
    pub(crate) leader: RefCell<String>,
    chain: RefCell<Chain>,
    faults: RefCell<Faults>,
    changed: watch::Sender<u64>,
    stuck_since_ms: Cell<Option<u64>>,
}

impl Node {
    /// A node on an open data directory. `faults` are those that are shown at this start.
    pub(crate) fn new(flags: Flags, faults: Faults, journal: Journal, opened: Opened) -> Rc<Self> {
        Rc::new(Self {
            flags,
            journal,
            store: opened.store,
            forks: opened.forks,
            around: opened.around,
            starts: opened.starts,
            stopping: CancellationToken::new(),
            heads: broadcast::channel(HEADS_KEPT).0,
            requests: RefCell::default(),
            subscriptions: Cell::new(0),
            leader: RefCell::new("wemix1".to_owned()),
            chain: RefCell::new(opened.chain),
            faults: RefCell::new(faults),
            changed: watch::channel(0).0,
            stuck_since_ms: Cell::new(None),
        })
    }

    /// The chain as it is now.
    pub(crate) fn chain(&self) -> Ref<'_, Chain> {
        self.chain.borrow()
    }

    /// The chain as the node shows it: another genesis, if the faults say so.
    pub(crate) fn seen(&self) -> Chain {
        let mut chain = self.chain().clone();
        if let Some(salt) = &self.faults().answer_genesis {
            chain.genesis_salt.clone_from(salt);
        }
        chain
    }

    /// The faults as they are now.
    pub(crate) fn faults(&self) -> Ref<'_, Faults> {
        self.faults.borrow()
    }

    /// Tells whenever faults or chain were changed by order.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sets other faults.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.faults.replace(faults);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Changes the chain by order: the head may go anywhere. A network goes on from there.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Chain, &[Fork], u64)) {
        let now = now_ms();
        let before = self.chain().head;
        {
            let mut chain = self.chain.borrow_mut();
            change(&mut chain, &self.forks, now);
            if self.around.follows {
                let step_ms = self.around.step_ms;
                chain.network = Some(crate::chain::Anchor { height: chain.head, at_ms: now, step_ms });
            }
        }
        if self.around.follows {
            self.remember_network();
        }
        self.head_moved(before);
        self.changed.send_modify(|count| *count += 1);
    }

    /// The network does not forget where it is when this node is killed.
    fn remember_network(&self) {
        if let Ok(Some(mut flushed)) = self.store.chain() {
            flushed.network = self.chain().network;
            self.warn_if(self.store.put_chain(&flushed));
        }
    }

    /// Makes the blocks that are due and says when to look again, in milliseconds since the epoch.
    pub(crate) fn make_blocks(&self) -> Option<u64> {
        let now = now_ms();
        let next = pace::next(&self.chain(), &self.faults(), &self.around, now);
        if next.stuck != self.stuck_since_ms.get().is_some() {
            self.stuck_since_ms.set(next.stuck.then_some(now));
            if next.stuck {
                log::warn("########## BAD BLOCK #########");
            }
        }
        let before = self.chain().head;
        if next.target > before {
            {
                let mut chain = self.chain.borrow_mut();
                chain.extend(next.target, next.pace, &self.forks);
                let live = if self.faults().no_seal { 0 } else { next.live };
                if next.target - before > live {
                    chain.miss(before + 1, next.target - live);
                }
            }
            self.head_moved(before);
        }
        next.wake_ms
    }

    /// Makes one block at once, if its rules allow one: that which was on its way when the node was told to stop.
    pub(crate) fn seal_one_more(&self) {
        let before = self.chain().head;
        let halted = self.faults().halt_at.is_some_and(|at| at <= before);
        if halted || pace::wall(&self.around, &self.faults()).is_some_and(|first| first <= before + 1) {
            return;
        }
        self.chain.borrow_mut().burst(1, now_ms(), &self.forks);
        self.head_moved(before);
    }

    fn head_moved(&self, before: u64) {
        let (head, text) = {
            let chain = self.seen();
            (chain.head, Rc::<str>::from(header(self, &chain, chain.head).to_string()))
        };
        if self.flags.record.journal_blocks {
            self.journal.fact("block", json!({"height": head, "before": before}));
        }
        if head > before {
            log::info(&format!(
                "Imported new chain segment               number={head} blocks={}",
                head - before
            ));
        } else {
            log::warn(&format!("Chain head went back                     from={before} number={head}"));
        }
        let _ = self.heads.send(text);
        let every = self.flags.network.flush_every;
        if head / every > before / every {
            self.flush(false);
        }
        death::at_height(self, head);
    }

    /// Writes the state to the disk, `clean` when the node is about to end.
    pub(crate) fn flush(&self, clean: bool) {
        self.chain.borrow_mut().clean = clean;
        self.warn_if(self.store.put_chain(&self.chain()));
    }

    fn warn_if(&self, result: Result<(), StoreError>) {
        if let Err(error) = result {
            log::warn(&format!("Failed to write the database err={error:?}"));
        }
    }

    /// The number of peers: a node that cannot import loses one a block.
    pub(crate) fn peers(&self) -> u64 {
        let peers = self.faults().peers.unwrap_or(PEERS);
        match self.stuck_since_ms.get() {
            Some(since) => peers.saturating_sub(now_ms().saturating_sub(since) / self.around.step_ms + 1),
            None => peers,
        }
    }

    /// Whether the next block cannot be imported.
    pub(crate) fn stuck(&self) -> bool {
        self.stuck_since_ms.get().is_some()
    }

    /// The state in full, for the control port.
    pub(crate) fn state(&self) -> Value {
        let chain = self.chain();
        json!({
            "pid": std::process::id(), "version": self.flags.client_version(), "starts": self.starts,
            "head": chain.head, "hash": crate::chain::hex(&chain.hash(chain.head)),
            "genesis": crate::chain::hex(&chain.hash(0)), "chain-id": chain.chain_id,
            "forks": chain.forks, "peers": self.peers(), "stuck": self.stuck(),
            "subscriptions": self.subscriptions.get(), "requests": *self.requests.borrow(),
            "faults": *self.faults(),
        })
    }
}

/// The data directory as a starting node found and prepared it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) chain: Chain,
    pub(crate) forks: Vec<Fork>,
    pub(crate) around: Circumstances,
    pub(crate) starts: u64,
}

/// Makes blocks until the node stops.
pub(crate) async fn produce(node: Rc<Node>) {
    let mut changes = node.changes();
    loop {
        let wake_ms = node.make_blocks();
        let pause = wake_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms())));
        tokio::select! {
            () = node.stopping.cancelled() => return,
            _ = changes.changed() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Sleeps for `pause`; for ever without one.
pub(crate) async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Writes the lines that the faults ask for, until the node stops.
pub(crate) async fn chatter(node: Rc<Node>) {
    let mut changes = node.changes();
    noise::burst(node.faults().log_burst, node.faults().log_long_line);
    loop {
        let rate = node.faults().log_lines_per_s.filter(|&rate| rate > 0);
        let pause = rate.map(|rate| Duration::from_millis((1000 / rate).clamp(10, 1000)));
        tokio::select! {
            () = node.stopping.cancelled() => return,
            _ = changes.changed() => {}
            () = sleep(pause) => noise::lines(rate.unwrap_or(0), pause.unwrap_or_default()),
        }
    }
}
