//! The command line with a supervisor that runs: every command as a person types it and as a script reads it, how
//! it ends, and what becomes of the work when whoever watches it leaves.

mod at_once;
mod carrying_out;
mod leaving;
mod running;
mod schedule;
mod socket;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, kill_process};
use serde_json::Value;
use testkit::{Said, Signal, TestHome};

/// Asserts that a text has every one of these parts.
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// A command that is refused or fails: its exit code, its word for programs, and parts of its sentence; the same
/// sentence with and without `--json`.
fn fails(home: &TestHome, args: &[&str], code: i32, word: &str, parts: &[&str]) {
    let said = home.cli(&[&["--json"], args].concat()).expect(code);
    let json = said.json();
    assert_eq!(json["code"], word, "{args:?}: {json}");
    has(json["error"].as_str().unwrap_or_default(), parts);
    let said = home.cli(args).expect(code);
    has(&said.err, parts);
    assert_eq!(said.out, "", "{args:?}");
}

/// The JSON result of a command that ends with `code`.
fn json(home: &TestHome, args: &[&str], code: i32) -> Value {
    home.cli(&[&["--json"], args].concat()).expect(code).json()
}

/// A command that goes on while the test does other things. What it says goes to files.
struct Following<'home> {
    home: &'home TestHome,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl<'home> Following<'home> {
    fn begin(home: &'home TestHome, args: &[&str]) -> Self {
        let name = format!("said-{}", fastrand::u64(..));
        let (out, err) = (home.root().join(format!("{name}.out")), home.root().join(format!("{name}.err")));
        let child = home
            .command()
            .args(args)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { home, child, out, err }
    }

    fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn err(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until it has said `part` on standard error.
    fn says(&self, part: &str) {
        self.home.wait(&format!("it says {part:?}"), || self.err().contains(part).then_some(()));
    }

    /// Sends Ctrl-C once the command is prepared for it.
    fn leave(&self) {
        let heeds = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (caught & 1 << (Signal::INT.as_raw() - 1) != 0).then_some(())
        };
        self.home.wait("the command heeds Ctrl-C", heeds);
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    fn ends(mut self) -> Said {
        let status = self.home.wait("the command ends", || self.child.try_wait().unwrap());
        let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap();
        Said { code, out: self.out(), err: self.err() }
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the command said\n{}{}", self.out(), self.err());
        }
        // It has ended already, or is ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Words as a command takes them.
fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
