//! Heights for subscribers: the live page, event streams, tests.
//!
//! Each subscriber has a small buffer of its own. One that does not read loses the oldest heights and can see
//! how many; the publisher and the other subscribers never wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;
use wemixvisor_core::head::Head;

use crate::locked;

/// So many heights wait for a slow subscriber (PRODUCT.md section 6).
pub const FEED_BUFFER: usize = 10;

/// Hands every published head to every subscriber. Dropping it ends all subscriptions.
#[derive(Default)]
pub struct HeightFeed {
    subscribers: Mutex<Vec<Weak<Inbox>>>,
}

/// One subscriber's side. Dropping it ends the subscription.
pub struct HeightSubscriber {
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Notify,
}

#[derive(Default)]
struct InboxState {
    waiting: VecDeque<Head>,
    lost: u64,
    ended: bool,
}

impl HeightFeed {
    /// A feed without subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `head` to all subscribers. Never waits.
    pub fn publish(&self, head: Head) {
        locked(&self.subscribers).retain(|subscriber| {
            let Some(inbox) = subscriber.upgrade() else { return false };
            inbox.put(head);
            true
        });
    }

    /// A new subscription: it sees the heads that are published from now on.
    pub fn subscribe(&self) -> HeightSubscriber {
        let inbox = Arc::new(Inbox::default());
        locked(&self.subscribers).push(Arc::downgrade(&inbox));
        HeightSubscriber { inbox }
    }
}

impl Drop for HeightFeed {
    fn drop(&mut self) {
        for inbox in locked(&self.subscribers).iter().filter_map(Weak::upgrade) {
            locked(&inbox.state).ended = true;
            inbox.changed.notify_one();
        }
    }
}

impl Inbox {
    fn put(&self, head: Head) {
        let mut state = locked(&self.state);
        if state.waiting.len() == FEED_BUFFER {
            state.waiting.pop_front();
            state.lost += 1;
        }
        state.waiting.push_back(head);
        self.changed.notify_one();
    }
}

impl HeightSubscriber {
    /// The oldest head not yet seen; waits for one. `None` when the feed is gone and all has been seen.
    pub async fn next(&mut self) -> Option<Head> {
        loop {
            {
                let mut state = locked(&self.inbox.state);
                if let Some(head) = state.waiting.pop_front() {
                    return Some(head);
                }
                if state.ended {
                    return None;
                }
            }
            self.inbox.changed.notified().await;
        }
    }

    /// How many heads this subscriber has lost by being slow.
    pub fn lost(&self) -> u64 {
        locked(&self.inbox.state).lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(height: u64) -> Head {
        Head { height, hash: None, block_time: None }
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_harms_nobody() {
        let feed = HeightFeed::new();
        let (mut slow, mut quick) = (feed.subscribe(), feed.subscribe());
        for height in 1..=25 {
            feed.publish(head(height));
            assert_eq!(quick.next().await, Some(head(height)));
        }
        assert_eq!((slow.lost(), quick.lost()), (15, 0));
        for height in 16..=25 {
            assert_eq!(slow.next().await, Some(head(height)));
        }
        drop(feed);
        assert_eq!((slow.next().await, quick.next().await), (None, None));
    }

    #[tokio::test]
    async fn a_waiting_subscriber_is_woken_and_one_that_left_is_forgotten() {
        let feed = HeightFeed::new();
        let mut waiting = feed.subscribe();
        drop(feed.subscribe());
        let (seen, ()) = tokio::join!(waiting.next(), async { feed.publish(head(1)) });
        assert_eq!(seen, Some(head(1)));
        assert_eq!(locked(&feed.subscribers).len(), 1);
        let (seen, ()) = tokio::join!(waiting.next(), async { drop(feed) });
        assert_eq!(seen, None);
    }
}
