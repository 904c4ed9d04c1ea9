//! A supervisor that is process 1 of a PID namespace of its own, as in a container.
//!
//! Inside it has other process ids than outside. What it and its node say (status, journal) are the ids inside; the
//! namespace's own `/proc` is looked at through the root directory of its first process.

use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::home::TestHome;

/// What every process in it is a child of.
const UNSHARE: [&str; 4] = ["--fork", "--pid", "--mount-proc", "--kill-child"];

/// A process as the namespace shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Its process id there.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its program's name.
    pub name: String,
    /// Whether it has ended and nobody has collected it.
    pub zombie: bool,
}

/// A supervisor in a PID namespace. Dropped, all of it is killed.
#[derive(Debug)]
pub struct Container<'home> {
    home: &'home TestHome,
    unshare: Child,
    first: u32,
}

impl TestHome {
    /// Starts `wemixvisor run` as process 1 of a namespace and waits until it answers. `None`, and a line that says
    /// so, where namespaces are not allowed.
    pub fn start_contained(&self, more: &[&str]) -> Option<Container<'_>> {
        let tried = Command::new("unshare").args(UNSHARE).arg("true").stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            println!("skipped: PID namespaces (unshare) are not permitted here");
            return None;
        }
        let file =
            |path| OpenOptions::new().append(true).create(true).open(path).expect("a log can be opened");
        let run = self.command();
        let unshare = Command::new("unshare")
            .args(UNSHARE)
            .arg(run.get_program())
            .args(run.get_args())
            .arg("run")
            .args(self.node_args(more))
            .env_clear()
            .envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.root())
            .stdin(Stdio::null())
            .stdout(file(self.root().join("supervisor.out")))
            .stderr(file(self.supervisor_log()))
            .process_group(0)
            .spawn()
            .expect("unshare starts");
        let mut container = Container { home: self, unshare, first: 0 };
        container.first = self.wait("the supervisor is process 1", || {
            let id = container.unshare.id();
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
            children.trim().parse().ok()
        });
        self.sees("the supervisor answers", |status| status["supervisor"]["pid"] == 1);
        Some(container)
    }
}

impl Container<'_> {
    /// Sends process 1 a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.first).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the first process can be signalled");
    }

    /// Runs a shell script inside, to its end. Its parent is outside; what it leaves behind comes to process 1.
    pub fn run(&self, script: &str) {
        let status = Command::new("nsenter")
            .args(["-t", &self.first.to_string(), "-p", "-m", "/bin/sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("nsenter starts");
        assert!(status.success(), "{script}: {status}");
    }

    /// The processes inside.
    pub fn processes(&self) -> Vec<Inside> {
        let proc = PathBuf::from(format!("/proc/{}/root/proc", self.first));
        let Ok(entries) = fs::read_dir(&proc) else { return Vec::new() };
        let inside = |pid: u32| {
            let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            let mut fields = rest.split_ascii_whitespace();
            let zombie = fields.next()? == "Z";
            Some(Inside { pid, parent: fields.next()?.parse().ok()?, name: name.to_owned(), zombie })
        };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(inside).collect()
    }

    /// Waits until the namespace is gone; the answer is the exit code of process 1.
    pub fn ends(&mut self) -> i32 {
        let unshare = &mut self.unshare;
        let status = self.home.wait("process 1 ends", || unshare.try_wait().expect("a child"));
        status.code().or_else(|| Some(128 + status.signal()?)).expect("by exit or by signal")
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.home.report();
        }
        // With it goes process 1 (--kill-child), and with that everything inside.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
