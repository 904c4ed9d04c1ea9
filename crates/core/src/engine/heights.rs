//! Heads as they are told, silence, and how often is asked.

use std::time::Duration;

use serde_json::json;

use super::Engine;
use super::port::{Decision, Effect};
use crate::head::Head;
use crate::height::Change;
use crate::time::{MonoMs, Now};

impl Engine {
    pub(super) fn head_told(&mut self, source: usize, head: Head, now: Now, out: &mut Decision) {
        // What was still under way when the node ended says nothing about the node that is to come.
        if !self.node.has_process() {
            return;
        }
        let before = self.heights.head();
        if self.heights.answered_at().is_none() {
            self.answering_since = now.mono;
        }
        let change = self.heights.head_seen(source, head, now);
        match change {
            Change::Same => {}
            Change::Up(_) => {
                // The first head that is seen may be of any age.
                if before.is_some() {
                    self.node.head_moved(now.mono, out);
                }
                self.own_head(source, now, out);
            }
            Change::Down(by) => {
                let data = json!({ "height": head.height, "by": by });
                let from = before.map_or(0, |seen| seen.head.height);
                self.event(
                    out,
                    "heights",
                    "head_went_down",
                    format!("the head went down from {from} to {}", head.height),
                    data,
                );
                self.own_head(source, now, out);
            }
            Change::Replaced => self.own_head(source, now, out),
        }
        if before.is_none() {
            self.probe.next = now.mono;
        }
    }

    fn own_head(&mut self, source: usize, now: Now, out: &mut Decision) {
        if self.sources.get(source).is_some_and(|source| source.own) {
            self.saga_head(now, out);
        }
    }

    pub(super) fn silence_due_at(&self) -> Option<MonoMs> {
        if !self.node.is_serving() || self.alerts.contains_key("heights_silent") {
            return None;
        }
        Some(self.silent_since()?.after(self.settings.heights.source_silent_after))
    }

    fn silent_since(&self) -> Option<MonoMs> {
        let up = self.node.up()?;
        Some(self.heights.answered_at().unwrap_or(up.since.max(self.started)))
    }

    pub(super) fn watch_heights(&mut self, now: Now, out: &mut Decision) {
        let limit = self.settings.heights.source_silent_after;
        let silent =
            self.silent_since().map(|since| now.mono.since(since)).filter(|_| self.node.is_serving());
        match silent {
            Some(silent) if silent >= limit => {
                let reasons: Vec<_> = self.heights.failures().iter().flatten().map(String::as_str).collect();
                let reasons = if reasons.is_empty() { "no answer".to_owned() } else { reasons.join("; ") };
                let text = format!(
                    "no source has told a height for {} s ({reasons}): no upgrade can fire before one does",
                    limit.as_secs()
                );
                self.raise_once("heights_silent", text, out);
            }
            _ => self.clear("heights_silent", out),
        }
    }

    /// Polls more often as the next plan comes near.
    pub(super) fn set_pace(&mut self, now: Now, out: &mut Decision) {
        let usual = self.settings.heights.poll_interval;
        let every = match self.time_to_next_plan(now) {
            Some(left) if left <= Duration::from_secs(10) => usual.min(Duration::from_millis(250)),
            Some(left) if left <= Duration::from_secs(60) => usual.min(Duration::from_secs(1)),
            _ => usual,
        };
        if every != self.poll_every {
            self.poll_every = every;
            out.effects.push(Effect::PollEvery(every));
        }
    }
}
