//! What the practice nodes of a home wrote down of themselves: the other side's word on what was done to them.

use std::path::Path;

use serde_json::Value;

use crate::home::TestHome;

/// One line of the record.
pub type Fact = Value;

/// All facts of a file, oldest first; a line that is just being written is left out.
pub(crate) fn read(file: &Path) -> Vec<Fact> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl TestHome {
    /// The facts of one kind, oldest first: `start`, `stop`, `signal`, `stdin`, `block`, `init`, `datadir-locked`.
    pub fn facts(&self, kind: &str) -> Vec<Fact> {
        let mut facts = read(&self.journal());
        facts.retain(|fact| fact["fact"] == kind);
        facts
    }

    /// The starts of nodes, as the version each one had: `1.0.0`.
    pub fn started(&self) -> Vec<String> {
        self.facts("start").iter().map(version).collect()
    }

    /// How often the node process `pid` was sent this signal (SIGTERM, SIGINT, SIGQUIT; others kill it unseen).
    pub fn signals(&self, pid: u32, name: &str) -> usize {
        counted(&self.facts("signal"), pid, name)
    }

    /// Judges by what every node of the home saw: none ever met another one on its data, and none was sent more than
    /// one signal to stop.
    ///
    /// # Panics
    /// When a node has seen otherwise.
    pub fn judge(&self) {
        let (met, signals) = (self.facts("datadir-locked"), self.facts("signal"));
        assert!(met.is_empty(), "two nodes on one data directory: {met:?}");
        for start in self.facts("start") {
            let pid = u32::try_from(start["pid"].as_u64().unwrap_or_default()).unwrap_or_default();
            let (terms, ints) = (counted(&signals, pid, "SIGTERM"), counted(&signals, pid, "SIGINT"));
            assert!(terms <= 1, "node {pid} was sent {terms} SIGTERM");
            assert_eq!(ints, 0, "node {pid} was sent SIGINT");
        }
    }
}

fn counted(signals: &[Fact], pid: u32, name: &str) -> usize {
    signals.iter().filter(|fact| fact["pid"] == pid && fact["name"] == name).count()
}

/// `testnode/v1.0.0-stable-53273fcb/linux-amd64/rust` is `1.0.0`.
fn version(start: &Fact) -> String {
    let text = start["version"].as_str().unwrap_or_default();
    let version = text.strip_prefix("testnode/v").and_then(|rest| rest.split("-stable").next());
    version.unwrap_or(text).to_owned()
}
