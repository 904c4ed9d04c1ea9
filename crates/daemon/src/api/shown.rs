//! What one client wants to hear, and what it has heard: so that a snapshot or a replay and the live stream fit
//! together, without a gap and without an event twice.

use std::sync::Arc;

use serde_json::json;

use super::Api;
use super::error::ApiError;
use super::frame::Frame;
use super::topic::{Topic, Topics};

/// So many events are read from the store at a time.
const PAGE: usize = 500;

/// So many lines of the node's output are in its snapshot.
const FIRST_LINES: usize = 50;

/// The topics of one client, and up to which event it has heard each of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    topics: Topics,
    heard: [u64; Topic::ALL.len()],
}

impl Shown {
    pub(super) fn of(topics: Topics) -> Self {
        Self { topics, ..Self::default() }
    }

    pub(super) fn topics(&self) -> Topics {
        self.topics
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
                    let lines = super::logs::last_lines(api, FIRST_LINES).await?;
                    Frame::passing(topic, "snapshot", &json!({"lines": lines}), last)
                }
                topic => Frame::snapshot(topic, &snapshot, api.about.as_deref().cloned(), last),
            }));
        }
        self.take(topics, last);
        Ok(frames)
    }

    /// Begins to hear `topics`: every event after `since`. Where those are not kept any more, or there never was
    /// such a number, that is said, and how everything stands.
    pub(super) async fn go_on(
        &mut self,
        api: &Api,
        topics: Topics,
        since: u64,
    ) -> Result<Vec<Arc<Frame>>, ApiError> {
        let mut frames = Vec::new();
        let mut at = since;
        loop {
            let events = api.asked.events_since(at, PAGE).await?;
            let gap = at == since
                && match events.first() {
                    Some(first) => first.seq != since + 1,
                    None => since > api.hub.last(),
                };
            if gap {
                let kept = api.asked.events_since(0, 1).await?;
                let oldest = kept.first().map_or(0, |event| event.seq);
                let data = json!({"since": since, "oldest": oldest});
                frames.push(Arc::new(Frame::passing(Topic::System, "gap", &data, api.hub.last())));
                frames.extend(self.begin(api, topics).await?);
                return Ok(frames);
            }
            for event in &events {
                let frame = Frame::event(event);
                if topics.contains(frame.topic) {
                    frames.push(Arc::new(frame));
                }
            }
            at = events.last().map_or(at, |event| event.seq);
            if events.len() < PAGE {
                break;
            }
        }
        self.take(topics, at);
        Ok(frames)
    }
}
