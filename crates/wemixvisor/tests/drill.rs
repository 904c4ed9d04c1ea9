//! `wemixvisor drill` from its beginning to its end, and broken off in the middle: real processes, as users see it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(clippy::disallowed_methods)] // Tests have their own clock, files and processes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The whole takes a quarter of a minute on an idle machine, and has to stay well under a minute.
const LIMIT: Duration = Duration::from_secs(55);

/// A drill that was started, with a directory of its own for its home.
struct Started {
    child: Child,
    temporary: tempfile::TempDir,
}

fn drill(flags: &[&str]) -> Started {
    // Short, or the drill takes another place.
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_wemixvisor"))
        .arg("drill")
        .args(flags)
        .env("TMPDIR", temporary.path())
        // What the user has set for his own node must not reach the drill.
        .env("DAEMON_HOME", temporary.path().join("nobody"))
        .env("DAEMON_UPGRADE_ENABLED", "false")
        .env("VALIDATOR_MODE", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Started { child, temporary }
}

impl Started {
    /// Reads its lines of JSON until one is as wished for.
    fn read_until(&mut self, wished: impl Fn(&Value) -> bool) {
        let mut lines = BufReader::new(self.child.stdout.as_mut().unwrap()).lines();
        let found = lines.any(|line| wished(&serde_json::from_str(&line.unwrap()).unwrap()));
        assert!(found, "the drill ended before");
    }

    /// Its exit code and what it wrote to standard output and to standard error, from here on.
    fn end(self) -> (i32, String, String, tempfile::TempDir) {
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr), self.temporary)
    }
}

/// Neither a process nor a file of the drill is there any more.
fn assert_nothing_left(temporary: &Path) {
    let left: Vec<PathBuf> =
        std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    let path = temporary.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(!text.contains(path), "{} still runs: {text}", entry.path().display());
        }
    }
}

#[test]
fn a_drill_shows_its_three_acts_and_every_check_holds() {
    let began = Instant::now();
    let (code, out, err, temporary) = drill(&["--json"]).end();
    let took = began.elapsed();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdict = lines.last().unwrap();
    assert_eq!(
        (code, &verdict["type"], &verdict["passed"]),
        (0, &"verdict".into(), &true.into()),
        "{out}{err}"
    );
    assert!(verdict["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true), "{verdict:#}");
    assert_eq!(verdict["home"], Value::Null);
    assert_eq!(err, "");
    assert!(took < LIMIT, "{took:?}");

    let of_type = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of_type("begin"), of_type("act"), of_type("verdict")), (1, 3, 1));
    assert!(of_type("countdown") >= 9, "{out}");
    let told = |act: u64, part: &str| {
        let is = |line: &&Value| {
            line["act"] == act && line["text"].as_str().is_some_and(|text| text.contains(part))
        };
        assert!(lines.iter().any(|line| is(&line)), "act {act}: {part}\n{out}");
    };
    told(1, "upgrade v2.0.0 is complete");
    told(2, "prove the new program: failed");
    told(2, "upgrade v3.0.0 was rolled back");
    told(3, "kill -9");
    told(3, "lives on");
    told(3, "upgrade v4.0.0 is complete");
    let times: Vec<u64> = lines.iter().map(|line| line["at_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_nothing_left(temporary.path());
}

#[test]
fn ctrl_c_in_the_middle_of_an_upgrade_ends_everything_and_removes_the_home() {
    let mut started = drill(&["--json"]);
    started.read_until(|line| line["text"].as_str().is_some_and(|text| text.contains("on probation")));
    let pid = Pid::from_child(&started.child);
    kill_process(pid, Signal::INT).unwrap();
    let (code, _, err, temporary) = started.end();
    assert_eq!(code, 1);
    assert!(err.contains("the drill was broken off: Ctrl-C"), "{err}");
    assert_nothing_left(temporary.path());
}

#[test]
fn a_reader_that_goes_away_ends_everything() {
    let mut started = drill(&[]);
    drop(started.child.stdout.take());
    let (code, _, err, temporary) = started.end();
    assert_eq!(code, 1);
    assert!(err.contains("nobody reads its output"), "{err}");
    assert_nothing_left(temporary.path());
}

#[test]
fn a_home_that_is_kept_is_named_when_it_is_broken_off() {
    let mut started = drill(&["--json", "--keep"]);
    started.read_until(|line| line["type"] == "act");
    kill_process(Pid::from_child(&started.child), Signal::TERM).unwrap();
    let (code, _, err, temporary) = started.end();
    let home = std::fs::read_dir(temporary.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(code, 1);
    assert!(err.contains(&format!("The home is kept: {}", home.display())), "{err}");
    assert!(home.join("data/testnode/journal.log").is_file());
}

#[test]
fn a_place_that_cannot_be_used_is_said_and_nothing_is_started() {
    let output = Command::new(env!("CARGO_BIN_EXE_wemixvisor"))
        .args(["drill", "--json"])
        .env("TMPDIR", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said["error"].as_str().unwrap().contains("TMPDIR"), "{said}");
}
