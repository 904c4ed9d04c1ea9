//! The machine under the supervisor: the node's process, its database, its answers, its ends.

use super::program::OnTerm;
use super::timeline::Due;
use super::world::{EPOCH, Process, World};
use crate::command_line::CommandLine;
use crate::engine::LastExit;
use crate::engine::port::Input;
use crate::exit::{NodeExit, WaitStatus};
use crate::head::Head;
use crate::target::Target;
use crate::time::millis;

impl World {
    pub fn block(&mut self) {
        self.soon(self.chain.block_ms, Due::Block);
        self.chain.grow(EPOCH + self.now);
        let Some(node) = &self.node else { return };
        let program = &self.programs[&node.target];
        let runs_for = self.now - node.since;
        if program.answers_after.is_some_and(|after| runs_for >= after + program.stands_for) {
            let reach = self.chain.height().min(program.last_block);
            if reach > self.database {
                self.database = reach;
                self.highest = self.highest.max(reach);
                self.report_head(2);
            }
        }
    }

    pub fn answers(&self) -> bool {
        self.rpc
            && self.node.as_ref().is_some_and(|node| {
                let after = self.programs[&node.target].answers_after;
                after.is_some_and(|after| self.now - node.since >= after)
            })
    }

    pub fn head(&self) -> Option<Head> {
        let node = self.node.as_ref().filter(|_| self.answers())?;
        Some(self.chain.head(self.database, &self.programs[&node.target]))
    }

    pub fn report_head(&mut self, in_ms: u64) {
        if let Some(head) = self.head().filter(|_| self.sources_up) {
            self.hear(in_ms, Input::Head { source: 0, head });
        }
    }

    pub fn poll(&mut self) {
        self.soon(self.poll_ms, Due::Poll(self.poll_series));
        if self.answers() {
            self.report_head(2);
        } else if self.node.is_some() {
            self.hear(2, Input::SourceFailed { source: 0, reason: "connection refused".into() });
        }
    }

    pub fn spawn(&mut self, launch: u64, target: Target, line: CommandLine) {
        assert!(self.node.is_none(), "two processes: {target} beside {:?}", self.node);
        let starts = self.starts.entry(target.clone()).or_default();
        *starts += 1;
        let program = &self.programs[&target];
        if let Some((after, status)) = program.dies.filter(|_| *starts >= program.dies_from_start) {
            self.soon(after, Due::Dies(launch, status));
        }
        self.next_pid += 1;
        self.launches.push((self.now, target.clone()));
        let (pid, since) = (self.next_pid, self.now);
        self.node = Some(Process { launch, pid, target, line, since, term_at: None, killed: false });
        self.hear(4, Input::NodeUp { launch, pid });
    }

    pub fn dies(&mut self, launch: u64, status: WaitStatus) {
        let Some(node) = self.node.take_if(|node| node.launch == launch) else { return };
        let program = &self.programs[&node.target];
        if matches!(status, WaitStatus::Signaled(9)) {
            self.database = self.database.saturating_sub(program.rewinds).max(1);
        }
        let tail = if matches!(status, WaitStatus::Exited(1)) { "Fatal: no\n" } else { "" }.to_owned();
        let (term_sent, kill_sent) = (node.term_at.is_some(), node.killed);
        let exit = NodeExit { status, term_sent, kill_sent, out_of_memory: false, tail };
        let last =
            LastExit { launch, target: Some(node.target), exit: exit.clone(), ago: Default::default() };
        self.disk.last_exit = Some((last, self.now));
        self.hear(1, Input::NodeExited { launch, exit });
    }

    /// The node hears SIGTERM, the first time it is sent.
    pub fn sigterm(&mut self) {
        let now = self.now;
        let node = self.node.as_mut().expect("SIGTERM needs a process");
        assert!(self.signalled.insert(node.launch), "a second SIGTERM by the same supervisor");
        if node.term_at.replace(node.term_at.unwrap_or(now)).is_some() {
            return;
        }
        self.terminations += 1;
        let launch = node.launch;
        match self.programs[&node.target].on_term {
            OnTerm::Ends(after) | OnTerm::Flushes(after) => {
                self.soon(after, Due::Dies(launch, WaitStatus::Exited(0)));
            }
            OnTerm::Hangs => {}
        }
    }

    pub fn sigkill(&mut self) {
        let node = self.node.as_mut().expect("SIGKILL needs a process");
        assert!(node.term_at.is_some(), "SIGKILL only after SIGTERM");
        assert!(!std::mem::replace(&mut node.killed, true), "SIGKILL twice");
        self.kills += 1;
        let launch = node.launch;
        self.soon(1, Due::Dies(launch, WaitStatus::Signaled(9)));
    }

    pub fn set_pace(&mut self, every: std::time::Duration) {
        self.poll_ms = millis(every);
        self.poll_paces.push(self.poll_ms);
        self.poll_series += 1;
        self.soon(self.poll_ms, Due::Poll(self.poll_series));
    }
}
