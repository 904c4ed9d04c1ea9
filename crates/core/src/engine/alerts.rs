//! What people hear: events, and the alerts that stand until their cause is gone.

use serde_json::{Value, json};

use super::Engine;
use super::port::{Decision, Entry, Event};

impl Engine {
    pub(super) fn event(
        &self,
        out: &mut Decision,
        topic: &str,
        kind: &str,
        message: impl Into<String>,
        mut data: Value,
    ) {
        if let Value::Object(fields) = &mut data {
            fields.insert("message".into(), Value::String(message.into()));
        }
        out.entries.push(Entry::Event(Event { topic: topic.into(), kind: kind.into(), data }));
    }

    /// Raises an alert, or changes its text.
    pub(super) fn raise(&mut self, kind: &'static str, text: String, out: &mut Decision) {
        if self.alerts.get(kind) != Some(&text) {
            self.event(out, "alerts", kind, text.clone(), json!({}));
            self.alerts.insert(kind, text);
        }
    }

    /// Raises an alert unless it stands already.
    pub(super) fn raise_once(&mut self, kind: &'static str, text: String, out: &mut Decision) {
        if !self.alerts.contains_key(kind) {
            self.raise(kind, text, out);
        }
    }

    pub(super) fn clear(&mut self, kind: &'static str, out: &mut Decision) {
        if let Some(text) = self.alerts.remove(kind) {
            self.event(out, "alerts", &format!("{kind}_over"), format!("over: {text}"), json!({}));
        }
    }

    /// The settings were read again and cannot be used (`None`: they can). Known in memory only.
    pub fn settings_refused(&mut self, why: Option<&str>) {
        match why {
            Some(why) => {
                let text = format!("the settings file cannot be used, the settings stay as they were: {why}");
                self.alerts.insert("settings", text);
            }
            None => drop(self.alerts.remove("settings")),
        }
    }

    /// The last decision could not be written down and was not made. Known in memory only, until one can be.
    pub fn store_failed(&mut self, why: &str, node_runs: bool) {
        let node = if node_runs { "the node runs on" } else { "NO NODE RUNS until one is" };
        let text = format!(
            "decisions cannot be written down, so none is made; {node}: {why}. Free space, or mend the disk: it is tried \
             again all the time, and goes on by itself"
        );
        self.alerts.insert("store_failed", text);
    }
}
