//! `wemixvisor run` as a process of its own.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::home::TestHome;
use crate::waiting::LIMIT;

/// A supervisor. Dropped, it is ended at once and by its process id; the node is the [`TestHome`]'s to end.
#[derive(Debug)]
pub struct Supervisor<'home> {
    home: &'home TestHome,
    child: Child,
    ended: Option<ExitStatus>,
}

impl TestHome {
    /// Starts `wemixvisor run` with the home's node arguments and waits until it answers on its control socket.
    pub fn start(&self) -> Supervisor<'_> {
        self.start_with(&[])
    }

    /// The same with more arguments for the node.
    pub fn start_with(&self, more: &[&str]) -> Supervisor<'_> {
        let mut supervisor = self.spawn(&self.node_args(more), Stdio::null());
        supervisor.answers();
        supervisor
    }

    /// Starts `wemixvisor run` with exactly these arguments for the node, and waits for nothing.
    pub fn spawn(&self, node_args: &[String], stdin: Stdio) -> Supervisor<'_> {
        let file =
            |path| OpenOptions::new().append(true).create(true).open(path).expect("a log can be opened");
        let child = self
            .command()
            .arg("run")
            .args(node_args)
            .stdin(stdin)
            .stdout(file(self.root().join("supervisor.out")))
            .stderr(file(self.supervisor_log()))
            // A group of its own: a Ctrl-C for the tests is not meant for it.
            .process_group(0)
            .spawn()
            .expect("the program starts");
        Supervisor { home: self, child, ended: None }
    }
}

impl Supervisor<'_> {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers on its control socket.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn answers(&mut self) {
        let home = self.home;
        let pid = self.pid();
        home.wait("the supervisor answers", || {
            if let Some(status) = self.has_ended() {
                panic!("the supervisor ended ({status}):\n{}", home.supervisor_said());
            }
            home.status().filter(|status| status["supervisor"]["pid"] == pid)
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // Its status has not been collected, so the id is still its own.
        assert!(self.ended.is_none(), "the supervisor has ended");
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// Sends a signal to its whole process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        assert!(self.ended.is_none(), "the supervisor has ended");
        kill_process_group(Pid::from_child(&self.child), signal).expect("a child's group can be signalled");
    }

    /// Kills it (SIGKILL) and collects it.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ends();
    }

    /// Tells it to end (SIGTERM); the answer is its exit code.
    pub fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.ends()
    }

    /// Waits until it has ended; the answer is its exit code, or 128 + n after signal n.
    pub fn ends(&mut self) -> i32 {
        self.ends_within(LIMIT)
    }

    /// The same with another limit.
    pub fn ends_within(&mut self, limit: Duration) -> i32 {
        let status = self.home.wait_within("the supervisor ends", limit, || self.has_ended());
        status.code().or_else(|| Some(128 + status.signal()?)).expect("by exit or by signal")
    }

    /// How it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.ended = self.ended.or_else(|| self.child.try_wait().expect("a child can be waited for"));
        self.ended
    }

    /// Its standard input, if it was started with a pipe.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.home.report();
        }
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
