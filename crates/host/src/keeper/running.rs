//! The node as its keeper holds it: signals through its pidfd, each kind once, and the watch for its end.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::process::{Signal, pidfd_send_signal};

use super::facts::NodeProcess;

#[derive(Debug)]
pub(super) struct Running {
    pub process: NodeProcess,
    pub pidfd: OwnedFd,
    pub since: Instant,
    /// The count of memory kills at its start.
    pub memory_kills: Option<u64>,
    /// An adopted node's end was seen at this moment, but not yet how it ended.
    pub end_seen: Option<Instant>,
}

impl Running {
    /// Sends SIGTERM, once in the node's life: a geth node panics on the eleventh (NODES.md section 2).
    pub(super) fn terminate(&mut self) {
        if !self.process.term_sent {
            self.process.term_sent = true;
            self.signal(Signal::TERM);
        }
    }

    /// Sends SIGKILL; again does no harm.
    pub(super) fn kill(&mut self) {
        self.process.kill_sent = true;
        self.signal(Signal::KILL);
    }

    pub(super) fn quit(&self) {
        self.signal(Signal::QUIT);
    }

    /// A process that has already ended cannot be signalled, and its end is on its way to us: nothing to report.
    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}
