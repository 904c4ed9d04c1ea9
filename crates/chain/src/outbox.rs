//! The way to the engine's mailbox, which is bounded and may be full.
//!
//! Changes of state wait until there is room. Heads never make the reader of a subscription wait: while the
//! mailbox is full only the newest head is kept, and it goes out as soon as there is room.

use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::heads::SourceEvent;
use crate::locked;

pub(crate) struct Outbox {
    events: Sender<SourceEvent>,
    newest_head: Mutex<Option<SourceEvent>>,
    head_waits: Notify,
}

impl Outbox {
    pub(crate) fn new(events: Sender<SourceEvent>) -> Self {
        Self { events, newest_head: Mutex::default(), head_waits: Notify::new() }
    }

    /// Passes on a head: at once if there is room, else when there is, unless a newer one has come by then.
    pub(crate) fn head(&self, head: SourceEvent) {
        let mut waiting = locked(&self.newest_head);
        let head = match *waiting {
            Some(_) => head,
            None => match self.events.try_send(head) {
                Err(TrySendError::Full(head)) => head,
                Ok(()) | Err(TrySendError::Closed(_)) => return,
            },
        };
        *waiting = Some(head);
        self.head_waits.notify_one();
    }

    /// Passes on a change of state; waits while the mailbox is full.
    pub(crate) async fn notice(&self, notice: SourceEvent) {
        // Closed means that nobody listens any more: `deliver` ends, and with it the whole watch.
        let _ = self.events.send(notice).await;
    }

    /// Sends heads that have found no room. Ends when the mailbox is closed.
    pub(crate) async fn deliver(&self) {
        loop {
            tokio::select! {
                () = self.head_waits.notified() => {}
                () = self.events.closed() => return,
            }
            let Ok(room) = self.events.reserve().await else { return };
            if let Some(head) = locked(&self.newest_head).take() {
                room.send(head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use wemixvisor_core::head::Head;

    use super::*;
    use crate::heads::Via;

    fn head(height: u64) -> SourceEvent {
        SourceEvent::Head {
            source: 0,
            head: Head { height, hash: None, block_time: None },
            via: Via::Subscription,
        }
    }

    #[tokio::test]
    async fn a_full_mailbox_keeps_the_newest_head_only() {
        let (events, mut mailbox) = mpsc::channel(1);
        let outbox = Outbox::new(events);
        for height in 1..=100 {
            outbox.head(head(height));
        }
        let reader = async {
            assert_eq!(mailbox.recv().await, Some(head(1)));
            assert_eq!(mailbox.recv().await, Some(head(100)));
            outbox.head(head(101));
            assert_eq!(mailbox.try_recv(), Ok(head(101)));
            drop(mailbox);
        };
        tokio::join!(outbox.deliver(), reader);
    }
}
