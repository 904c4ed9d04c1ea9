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
///
/// Every frame that a client gets carries a number with which it may come back: no event of its topics up to that
/// number is still on its way to it. So what waits in the ring of events is passed on before anything else is, and a
/// replay has the events of all its topics, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    topics: Topics,
    heard: [u64; Topic::ALL.len()],
    /// The last event that was read for a replay that is not at its end: the live stream begins behind it.
    replay: Option<u64>,
    /// The number of the last frame that the client was given.
    told: u64,
}

/// Lets what waits in the rings go, before a further page of a replay is read: that page, or one behind it, has every
/// event of it, so that a long replay is not cut off for the live stream that nobody reads meanwhile.
pub(super) fn let_go(rings: [Option<&mut broadcast::Receiver<Arc<Frame>>>; 2]) {
    rings.into_iter().flatten().for_each(|ring| *ring = ring.resubscribe());
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
    }

    /// Whether a frame is wanted and not heard yet; it counts as heard then.
    pub(super) fn lets_pass(&mut self, frame: &Frame) -> bool {
        self.topics.contains(frame.topic) && (!frame.durable || self.hears(frame.topic, frame.seq))
    }

    /// Whether an event of a wanted topic is not heard yet; it counts as heard then.
    fn hears(&mut self, topic: Topic, seq: u64) -> bool {
        let heard = &mut self.heard[topic as usize];
        let is_new = seq > *heard;
        *heard = seq.max(*heard);
        is_new
    }

    /// A frame is handed to the client.
    pub(super) fn gives(&mut self, frame: &Frame) {
        self.told = frame.seq;
    }

    /// Begins to hear `topics`: how each of them stands. Everything up to the event `known` has been passed on.
    pub(super) async fn begin(
        &mut self,
        api: &Api,
        topics: Topics,
        known: u64,
    ) -> Result<Vec<Arc<Frame>>, ApiError> {
        // What happened since `known` is in the picture, and told once more.
        let snapshot = api.asked.snapshot().await?;
        let mut frames = Vec::new();
        for topic in topics.iter() {
            frames.push(Arc::new(match topic {
                Topic::Logs => {
                    let (lines, _) = logs::last_lines(api, FIRST_LINES, logs::FRAME_BYTES).await?;
                    Frame::passing(topic, "snapshot", &json!({"lines": lines}), known)
                }
                topic => Frame::snapshot(topic, &snapshot, api.about.as_deref().cloned(), known),
            }));
        }
        self.take(topics, known);
        Ok(frames)
    }

    /// Begins to hear `topics`: every event after `since`, the first page of them. Where those are not kept any
    /// more, or there never was such a number, that is said, and how everything stands. Everything up to the event
    /// `known` has been passed on.
    pub(super) async fn go_on(
        &mut self,
        api: &Api,
        topics: Topics,
        since: u64,
        known: u64,
    ) -> Result<Vec<Arc<Frame>>, ApiError> {
        let is_beyond = since > known && since > api.asked.newest_event().await?;
        let before = self.clone();
        self.take(topics, since);
        let first = if is_beyond {
            self.begin_anew(api, since).await
        } else {
            self.replay = Some(since.min(known));
            self.next_page(api).await
        };
        // Who is refused hears what it heard.
        first.inspect_err(|_| *self = before)
    }

    /// The next page of the replay, to be asked for when the one before was taken. The live stream has to be listened
    /// to before: what is in both is dropped by its number. After an error the replay is over.
    pub(super) async fn next_page(&mut self, api: &Api) -> Result<Vec<Arc<Frame>>, ApiError> {
        let Some(from) = self.replay.take() else { return Ok(Vec::new()) };
        // One page at a time for all clients: before it is cut to size it can be large.
        let turn = api.hub.turn_to_read().await;
        let events = api.asked.events_since(from, PAGE).await?;
        if events.first().is_some_and(|first| first.seq != from + 1) {
            drop(turn);
            return self.begin_anew(api, from).await;
        }
        let mut page = Page { at: from, is_last: events.len() < PAGE, bytes: 0, frames: Vec::new() };
        page.fill(&events, self);
        drop(turn);
        if !page.is_last {
            self.replay = Some(page.at);
        }
        Ok(page.frames)
    }

    /// Not everything after `since` can be replayed: that is said, and how all topics stand.
    async fn begin_anew(&mut self, api: &Api, since: u64) -> Result<Vec<Arc<Frame>>, ApiError> {
        let known = api.hub.last();
        let kept = api.asked.events_since(0, 1).await?;
        let oldest = kept.first().map_or(0, |event| event.seq);
        let data = json!({"since": since, "oldest": oldest});
        // Who comes back before it has the snapshots needs them still.
        let gap = Frame::passing(Topic::System, "gap", &data, since.min(known));
        let snapshots = self.begin(api, self.topics, known).await?;
        Ok(std::iter::once(Arc::new(gap)).chain(snapshots).collect())
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
    fn fill(&mut self, events: &[RecordedEvent], shown: &mut Shown) {
        for event in events {
            if self.bytes >= PAGE_BYTES {
                self.is_last = false;
                return;
            }
            self.at = event.seq;
            let topic = Topic::of_event(&event.topic);
            if shown.topics.contains(topic) && shown.hears(topic, event.seq) {
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
        page.fill(events, &mut Shown::of(Topics::named(topics.split(',')).unwrap()));
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
    fn an_event_passes_once_and_only_of_its_topic() {
        let mut shown = Shown::default();
        shown.take(Topics::named(["node"]).unwrap(), 4);
        let passed: Vec<u64> =
            (1..=9).filter(|seq| shown.lets_pass(&Frame::event(&event(*seq, 1)))).collect();
        assert_eq!(passed, [6, 8]);
        assert!(!shown.lets_pass(&Frame::event(&event(8, 1))));
        assert!(!shown.lets_pass(&Frame::passing(Topic::Heights, "height", &json!({}), 9)));
        assert!(shown.lets_pass(&Frame::passing(Topic::Node, "snapshot", &json!({}), 9)));
    }

    #[test]
    fn a_replay_has_what_is_still_to_be_heard_of_all_topics() {
        let mut shown = Shown::default();
        shown.take(Topics::named(["node"]).unwrap(), 6);
        shown.take(Topics::named(["upgrades"]).unwrap(), 2);
        let events: Vec<_> = (3..=10).map(|seq| event(seq, 1)).collect();
        let mut page = Page { at: 2, is_last: true, bytes: 0, frames: Vec::new() };
        page.fill(&events, &mut shown);
        let told: Vec<u64> = page.frames.iter().map(|frame| frame.seq).collect();
        assert_eq!(told, [3, 5, 7, 8, 9, 10]);
        assert!((3..=10).all(|seq| !shown.lets_pass(&Frame::event(&event(seq, 1)))), "also in the ring");
    }
}
