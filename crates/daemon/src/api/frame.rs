//! What a subscriber gets: one JSON text an event, made once for all of them.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use wemixvisor_core::engine::snapshot::Snapshot;

use super::topic::Topic;
use super::wire::{self, Moment};
use crate::handle::{HeadMoved, RecordedEvent};

/// The longest frame, in bytes. The largest there are hold the whole plan file twice, which has 1 MiB at most.
pub(crate) const MAX_FRAME: usize = 4 * 1024 * 1024;

/// What a client hears to which a frame cannot be sent.
pub(crate) const TOO_LARGE: &str = "what is to be told is longer than 4 MiB; ask for it over HTTP";

/// One event on its way to subscribers.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) topic: Topic,
    pub(crate) kind: String,
    /// Its own number where it is durable, otherwise that of the newest durable event before it.
    pub(crate) seq: u64,
    pub(crate) durable: bool,
    pub(crate) text: Utf8Bytes,
}

#[derive(Serialize)]
struct Text<'a> {
    r#type: &'a str,
    topic: &'static str,
    data: &'a Value,
    timestamp: Moment,
    seq: u64,
}

impl Frame {
    fn new(topic: Topic, kind: &str, data: &Value, timestamp: Moment, seq: u64, durable: bool) -> Self {
        let text = Text { r#type: kind, topic: topic.as_str(), data, timestamp, seq };
        let text = serde_json::to_string(&text).unwrap_or_default().into();
        Self { topic, kind: kind.into(), seq, durable, text }
    }

    /// Whether it is short enough to be sent.
    pub(crate) fn fits(&self) -> bool {
        self.text.len() <= MAX_FRAME
    }

    /// A recorded event.
    pub(crate) fn event(event: &RecordedEvent) -> Self {
        let topic = Topic::of_event(&event.topic);
        Self::new(topic, &event.kind, &event.data, event.at.into(), event.seq, true)
    }

    /// What is told and not recorded; `last` is the number of the newest recorded event.
    pub(crate) fn passing(topic: Topic, kind: &str, data: &Value, last: u64) -> Self {
        Self::new(topic, kind, data, Moment::now(), last, false)
    }

    /// The head has moved.
    pub(crate) fn head(head: &HeadMoved, last: u64) -> Self {
        let data = json!({"height": head.height, "block_time_ms": head.block_time_ms});
        Self::passing(Topic::Heights, "height", &data, last)
    }

    /// Lines of the node's output; `skipped` came before them and are too many to be shown.
    pub(crate) fn lines(lines: &[String], skipped: usize, last: u64) -> Self {
        Self::passing(Topic::Logs, "lines", &json!({"lines": lines, "skipped": skipped}), last)
    }

    /// How everything of a topic stands.
    pub(crate) fn snapshot(
        topic: Topic,
        snapshot: &Snapshot,
        about: Option<wire::Supervisor>,
        last: u64,
    ) -> Self {
        let status = wire::Status::of(snapshot, about);
        let data = match topic {
            Topic::Upgrades => {
                json!({"status": wire::UpgradeStatus::of(snapshot), "upgrades": status.upgrades})
            }
            Topic::Heights => json!(status.chain),
            Topic::Node => json!(status.node),
            Topic::Alerts => json!({"alerts": status.alerts}),
            Topic::Metrics => super::metrics::values(snapshot),
            Topic::System => json!({
                "verdict": status.verdict, "headline": status.headline, "supervisor": status.supervisor,
                "installed": status.installed, "shutting_down": status.shutting_down,
            }),
            Topic::Logs => json!({"lines": []}),
        };
        Self::passing(topic, "snapshot", &data, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_measured_as_it_is_sent() {
        let frame = |length| Frame::passing(Topic::Node, "x", &json!("x".repeat(length)), 0);
        assert!(frame(MAX_FRAME - 200).fits());
        assert!(!frame(MAX_FRAME).fits());
    }
}
