//! What the practice node wrote down about itself: the evidence. It knows nothing of the supervisor, so it cannot
//! flatter it.

use serde_json::Value;

/// The record of all practice nodes of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    /// One life for each process, in the order of their starts.
    pub lives: Vec<Life>,
    /// Every block: when it was made (milliseconds since 1970) and its height.
    pub blocks: Vec<(u64, u64)>,
    /// Starts that failed because another node had the data directory open.
    pub locked_out: usize,
}

/// One process of the practice node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Life {
    /// Its process id.
    pub pid: u64,
    /// What it called itself.
    pub version: String,
    /// When it had opened its data directory, in milliseconds since 1970.
    pub started: u64,
    /// The signals it got, with its head at that moment.
    pub signals: Vec<(String, u64)>,
    /// Its end, if it could write one down: a killed node cannot.
    pub end: Option<End>,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Its exit code, if it exited.
    pub exit: Option<u64>,
}

impl Journal {
    /// Reads the record. A last line that is still being written is left out.
    pub fn read(text: &str) -> Self {
        let mut journal = Self::default();
        for fact in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            journal.take(&fact);
        }
        journal
    }

    fn take(&mut self, fact: &Value) {
        let number = |key: &str| fact[key].as_u64().unwrap_or_default();
        let text = |key: &str| fact[key].as_str().unwrap_or_default().to_owned();
        let (pid, at) = (number("pid"), number("at_ms"));
        match fact["fact"].as_str() {
            Some("start") => {
                let version = text("version");
                self.lives.push(Life { pid, version, started: at, ..Life::default() });
            }
            Some("block") => self.blocks.push((at, number("height"))),
            Some("datadir-locked") => self.locked_out += 1,
            Some("signal") => {
                if let Some(life) = self.life_of(pid) {
                    life.signals.push((text("name"), number("head")));
                }
            }
            Some("stop") => {
                if let Some(life) = self.life_of(pid) {
                    life.end = Some(End { at, exit: fact["exit"].as_u64() });
                }
            }
            _ => {}
        }
    }

    fn life_of(&mut self, pid: u64) -> Option<&mut Life> {
        self.lives.iter_mut().rev().find(|life| life.pid == pid)
    }

    /// The newest block's height; 0 before the first.
    pub fn head(&self) -> u64 {
        self.blocks.last().map_or(0, |&(_, height)| height)
    }

    /// The longest time between two blocks, in milliseconds, of those that overlap `from..=to`.
    pub fn longest_standstill(&self, from: u64, to: u64) -> Option<u64> {
        let pairs = self.blocks.windows(2).map(|pair| (pair[0].0, pair[1].0));
        pairs
            .filter(|&(before, after)| after >= from && before <= to)
            .map(|(before, after)| after.saturating_sub(before))
            .max()
    }

    /// The time from the end of the last process that ended at or after `from` to the next start, in milliseconds.
    pub fn downtime_after(&self, from: u64) -> Option<u64> {
        let place = self.lives.iter().position(|life| life.end.as_ref().is_some_and(|end| end.at >= from))?;
        let end = self.lives[place].end.as_ref()?.at;
        Some(self.lives.get(place + 1)?.started.saturating_sub(end))
    }
}

impl Life {
    /// How often it got this signal.
    pub fn count(&self, signal: &str) -> usize {
        self.signals.iter().filter(|(name, _)| name == signal).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"at_ms":100,"pid":7,"fact":"start","version":"testnode/v1.0.0-stable","head":0}
{"at_ms":200,"pid":7,"fact":"block","height":1,"before":0}
{"at_ms":450,"pid":7,"fact":"block","height":2,"before":1}
{"at_ms":460,"pid":7,"fact":"signal","name":"SIGTERM","count":1,"head":2}
{"at_ms":470,"pid":7,"fact":"stop","exit":0,"head":2,"by":"signal"}
{"at_ms":475,"pid":8,"fact":"datadir-locked"}
{"at_ms":480,"pid":7,"fact":"start","version":"testnode/v2.0.0-stable","head":2}
{"at_ms":900,"pid":7,"fact":"block","height":3,"before":2}
{"at_ms":910,"pid":7,"fa"#;

    #[test]
    fn lives_blocks_and_ends_are_read() {
        let journal = Journal::read(TEXT);
        assert_eq!(journal.lives.len(), 2);
        let first = &journal.lives[0];
        assert_eq!((first.pid, first.started, first.count("SIGTERM")), (7, 100, 1));
        assert_eq!(first.signals, [("SIGTERM".to_owned(), 2)]);
        assert_eq!(first.end, Some(End { at: 470, exit: Some(0) }));
        // The same process id again is another life.
        assert_eq!((journal.lives[1].started, journal.lives[1].end.clone()), (480, None));
        assert_eq!((journal.head(), journal.locked_out), (3, 1));
    }

    #[test]
    fn times_between_blocks_and_between_nodes_are_measured() {
        let journal = Journal::read(TEXT);
        assert_eq!(journal.longest_standstill(0, 1000), Some(450));
        assert_eq!(journal.longest_standstill(0, 300), Some(250));
        assert_eq!(journal.longest_standstill(2000, 3000), None);
        assert_eq!((journal.downtime_after(460), journal.downtime_after(471)), (Some(10), None));
    }
}
