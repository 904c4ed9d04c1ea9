//! What one client wants to hear, and what it has heard: so that a snapshot or a replay and the live stream fit
//! together, without a gap and without an event twice.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::broadcast;

use super::error::ApiError;
use super::frame::Frame;
use super::topic::{Topic, Topics};
use super::{Api, logs};
use crate::handle::RecordedEvent;

/// So many events of a replay are read from the store at a time.
const PAGE: usize = 100;

/// What waits of a replay for one client, in bytes: frames are put there until it is reached. So it is at most this
/// and one frame more, whatever the events hold.
const PAGE_BYTES: usize = 64 * 1024;

/// So many lines of the node's output are in its snapshot.
const FIRST_LINES: usize = 50;

/// The topics of one client, and up to which event it has heard each of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    topics: Topics,
    heard: [u64; Topic::ALL.len()],
    replay: Option<Replay>,
    /// The number with which the client would come back now.
    told: u64,
}

/// A replay that is not at its end: the live stream of its topics begins behind it.
#[derive(Debug, Clone, Copy)]
struct Replay {
    topics: Topics,
    /// The last event that was read.
    at: u64,
}

impl Shown {
    pub(super) fn of(topics: Topics) -> Self {
        Self { topics, ..Self::default() }
    }

    pub(super) fn topics(&self) -> Topics {
        self.topics
    }

    /// The last number that the client was given.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Whether there is more to replay before the live stream is listened to.
    pub(super) fn replays(&self) -> bool {
        self.replay.is_some()
    }

    pub(super) fn leave(&mut self, topics: Topics) {
        self.topics = self.topics.without(topics);
    }

    /// Takes more topics in, heard up to the event `seq`.
    fn take(&mut self, topics: Topics, seq: u64) {
        self.topics = self.topics.with(topics);
        topics.iter().for_each(|topic| self.heard[topic as usize] = seq);
        self.told = seq;
    }

    /// Whether a frame is wanted and not heard yet; it counts as heard then.
    pub(super) fn lets_pass(&mut self, frame: &Frame) -> bool {
        if !self.topics.contains(frame.topic) {
            return false;
        }
        let heard = &mut self.heard[frame.topic as usize];
        if frame.durable {
            if frame.seq <= *heard {
                return false;
            }
            *heard = frame.seq;
        }
        self.told = frame.seq;
        true
    }

    /// Begins to hear `topics`: how each of them stands.
    pub(super) async fn begin(&mut self, api: &Api, topics: Topics) -> Result<Vec<Arc<Frame>>, ApiError> {
        // Before the picture is taken: what happens in between is in it, and told once more.
        let last = api.hub.last();
        let snapshot = api.asked.snapshot().await?;
        let mut frames = Vec::new();
        for topic in topics.iter() {
            frames.push(Arc::new(match topic {
                Topic::Logs => {
                    let (lines, _) = logs::last_lines(api, FIRST_LINES, logs::FRAME_BYTES).await?;
                    Frame::passing(topic, "snapshot", &json!({"lines": lines}), last)
                }
                topic => Frame::snapshot(topic, &snapshot, api.about.as_deref().cloned(), last),
            }));
        }
        self.take(topics, last);
        Ok(frames)
    }

    /// Begins to hear `topics`: every event after `since`, the first page of them. Where those are not kept any
    /// more, or there never was such a number, that is said, and how everything stands.
    pub(super) async fn go_on(
        &mut self,
        api: &Api,
        topics: Topics,
        since: u64,
    ) -> Result<Vec<Arc<Frame>>, ApiError> {
        self.replay = Some(Replay { topics, at: since });
        self.next_page(api).await
    }

    /// Before a further page is read: what waits in the rings is let go. The page, or one behind it, has every event
    /// of it, so that a long replay is not cut off for the live stream that nobody reads meanwhile. Who hears other
    /// topics already has those in the ring only, and keeps it.
    pub(super) fn let_go(&self, rings: &mut [Option<&mut broadcast::Receiver<Arc<Frame>>>]) {
        if self.replay.is_some_and(|replay| self.topics.without(replay.topics) == Topics::default()) {
            rings.iter_mut().flatten().for_each(|ring| **ring = ring.resubscribe());
        }
    }

    /// The next page of the replay, to be asked for when the one before was taken. The live stream has to be listened
    /// to before: what is in both is dropped by its number. After an error the replay is over.
    pub(super) async fn next_page(&mut self, api: &Api) -> Result<Vec<Arc<Frame>>, ApiError> {
        let Some(Replay { topics, at: from }) = self.replay.take() else { return Ok(Vec::new()) };
        // One page at a time for all clients: before it is cut to size it can be large.
        let turn = api.hub.turn_to_read().await;
        let events = api.asked.events_since(from, PAGE).await?;
        let is_gap = match events.first() {
            Some(first) => first.seq != from + 1,
            None => from > api.hub.last() && from > api.asked.newest_event().await?,
        };
        if is_gap {
            let kept = api.asked.events_since(0, 1).await?;
            drop(turn);
            let oldest = kept.first().map_or(0, |event| event.seq);
            let data = json!({"since": from, "oldest": oldest});
            let gap = Frame::passing(Topic::System, "gap", &data, api.hub.last());
            let snapshots = self.begin(api, topics).await?;
            return Ok(std::iter::once(Arc::new(gap)).chain(snapshots).collect());
        }
        let mut page = Page { at: from, is_last: events.len() < PAGE, bytes: 0, frames: Vec::new() };
        page.fill(&events, topics);
        drop(turn);
        if page.is_last {
            self.take(topics, page.at);
        } else {
            self.replay = Some(Replay { topics, at: page.at });
            self.told = page.at;
        }
        Ok(page.frames)
    }
}

/// A page of a replay.
struct Page {
    at: u64,
    is_last: bool,
    bytes: usize,
    frames: Vec<Arc<Frame>>,
}

impl Page {
    /// Takes events until there are enough bytes; what does not go in is read again with the next page.
    fn fill(&mut self, events: &[RecordedEvent], topics: Topics) {
        for event in events {
            if self.bytes >= PAGE_BYTES {
                self.is_last = false;
                return;
            }
            self.at = event.seq;
            if topics.contains(Topic::of_event(&event.topic)) {
                let frame = Frame::event(event);
                self.bytes += frame.text.len();
                self.frames.push(Arc::new(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wemixvisor_core::time::WallMs;

    use super::*;

    fn event(seq: u64, size: usize) -> RecordedEvent {
        let topic = if seq.is_multiple_of(2) { "node" } else { "upgrades" };
        let data = json!({"text": "x".repeat(size)});
        RecordedEvent { seq, at: WallMs(seq), topic: topic.into(), kind: "x".into(), data }
    }

    fn page(events: &[RecordedEvent], topics: &str) -> Page {
        let mut page = Page { at: 0, is_last: true, bytes: 0, frames: Vec::new() };
        page.fill(events, Topics::named(topics.split(',')).unwrap());
        page
    }

    #[test]
    fn a_page_holds_so_many_bytes_and_one_frame_more() {
        let small: Vec<_> = (1..=100).map(|seq| event(seq, 10)).collect();
        let all = page(&small, "node,upgrades");
        assert_eq!((all.at, all.is_last, all.frames.len()), (100, true, 100));
        let some = page(&small, "node");
        assert_eq!((some.at, some.is_last, some.frames.len()), (100, true, 50));
        let large: Vec<_> = (1..=100).map(|seq| event(seq, PAGE_BYTES / 2)).collect();
        let cut = page(&large, "node,upgrades");
        assert_eq!((cut.at, cut.is_last, cut.frames.len()), (2, false, 2));
        let huge = page(&[event(1, PAGE_BYTES * 20), event(2, 1)], "node,upgrades");
        assert_eq!((huge.at, huge.is_last, huge.frames.len()), (1, false, 1));
    }

    #[test]
    fn an_event_passes_once_and_its_number_is_the_one_to_come_back_with() {
        let mut shown = Shown::default();
        shown.take(Topics::named(["node"]).unwrap(), 4);
        assert_eq!(shown.told(), 4);
        let passed: Vec<u64> =
            (1..=9).filter(|seq| shown.lets_pass(&Frame::event(&event(*seq, 1)))).collect();
        assert_eq!((passed, shown.told()), (vec![6, 8], 8), "only of its topic");
        assert!(!shown.lets_pass(&Frame::event(&event(8, 1))));
        assert!(!shown.lets_pass(&Frame::passing(Topic::Heights, "height", &json!({}), 9)));
        assert_eq!(shown.told(), 8);
        assert!(shown.lets_pass(&Frame::passing(Topic::Node, "snapshot", &json!({}), 9)));
        assert_eq!(shown.told(), 9);
    }
}
