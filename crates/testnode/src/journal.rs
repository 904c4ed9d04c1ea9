//! The record for the judge: one JSON line a fact, appended by one write, so that two nodes can share a file and a
//! killed node leaves whole lines only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::flags::Record;

/// The variables that are recorded without being asked for.
const TOLD: [&str; 5] = ["DAEMON_", "UPGRADE_", "WEMIXVISOR_", "GETH_", "TESTNODE_"];

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    whole(since_the_epoch().as_millis())
}

fn since_the_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The open record, or none.
#[derive(Debug)]
pub(crate) struct Journal(Option<File>);

impl Journal {
    /// Opens `file` for appending, and makes it if need be.
    pub(crate) fn open(file: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).open(file).map(|file| Self(Some(file)))
    }

    /// Records nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Appends `{"at_ms", "at_ns", "pid", "fact", ...more}`, both times since the Unix epoch. A record that cannot
    /// be written does not stop the node.
    pub(crate) fn fact(&self, fact: &str, more: Value) {
        let Some(mut file) = self.0.as_ref() else { return };
        let since = since_the_epoch();
        let (ms, ns) = (whole(since.as_millis()), whole(since.as_nanos()));
        let mut line = json!({"at_ms": ms, "at_ns": ns, "pid": std::process::id(), "fact": fact});
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }

    /// Records a start: how the process was made, as it sees itself.
    pub(crate) fn start(&self, record: &Record, version: &str, head: u64, count: u64) {
        let argv: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let mut line = json!({
            "argv": argv, "version": version, "head": head, "count": count,
            "cwd": std::env::current_dir().ok(), "exe": std::env::current_exe().ok(),
            "env": environment(record.journal_env),
        });
        if let Some(line) = line.as_object_mut() {
            line.extend(made_as());
        }
        self.fact("start", line);
    }
}

fn environment(all: bool) -> Map<String, Value> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| all || TOLD.iter().any(|told| name.starts_with(told)))
        .map(|(name, value)| (name, Value::String(value)))
        .collect()
}

/// What the parent gave besides arguments and environment: parent, session, signal masks, open files.
fn made_as() -> Map<String, Value> {
    let mut made = Map::new();
    // Behind the program's name, which can hold anything: state, parent, group, session. Each is 0 where its leader
    // lives in another process namespace, which the calls to the system cannot say through rustix.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().skip(1);
    for (name, field) in ["ppid", "pgid", "sid"].into_iter().zip(fields) {
        made.insert(name.to_owned(), field.parse::<u32>().ok().into());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (line, name) in [("SigBlk:", "blocked"), ("SigIgn:", "ignored")] {
        let mask = status.lines().find_map(|text| text.strip_prefix(line)).map(str::trim);
        made.insert(name.to_owned(), mask.map(str::to_owned).into());
    }
    let files: Map<String, Value> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                target.to_string_lossy().into_owned().into(),
            ))
        })
        .collect();
    made.insert("files".to_owned(), Value::Object(files));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_whole_lines_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.log");
        for count in 0..3 {
            Journal::open(&file).unwrap().fact("signal", json!({"name": "SIGTERM", "count": count}));
        }
        Journal::none().fact("unseen", json!({}));
        let lines: Vec<Value> = std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[2]["fact"], &lines[2]["count"]), (&json!("signal"), &json!(2)));
        assert_eq!(lines[0]["pid"], json!(std::process::id()));
    }
}
