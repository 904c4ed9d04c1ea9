//! What others may change in the home while the node runs, looked at now and then: it is said when it can still
//! be mended, not when it is needed.

use std::time::Duration;

use super::Engine;
use super::port::{Decision, Effect, Surroundings};
use crate::time::{MonoMs, Now};

/// The home is looked at so often. It costs a few calls of `stat`.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn look_around(&mut self, now: Now, out: &mut Decision) {
        if now.mono >= self.look_at && !self.ended {
            self.look_at = now.mono.after(LOOK_EVERY);
            out.effects.push(Effect::LookAround);
        }
    }

    pub(super) fn next_look(&self) -> Option<MonoMs> {
        (!self.ended).then_some(self.look_at)
    }

    pub(super) fn looked_around(&mut self, found: Surroundings, now: Now, out: &mut Decision) {
        match found.keeper_stopped {
            None => self.clear("keeper", out),
            Some(pid) => {
                let text = format!(
                    "the node's keeper (pid {pid}) is stopped (SIGSTOP): the node's output is not taken, and the node \
                     can be neither stopped nor upgraded; let it go on: kill -CONT {pid}"
                );
                self.raise("keeper", text, out);
            }
        }
        if self.shutdown {
            // Only the keeper still stands between the node and its end.
            return;
        }
        let own = self.target.clone();
        match (found.link, found.program) {
            // During a switch the link belongs to its step, which tells of it by itself.
            _ if self.upgrade.is_some() => {}
            (Ok(target), Ok(())) if target == own => self.clear("link", out),
            (Ok(target), Err(problem)) if target == own => {
                let text = format!(
                    "the node could not be started again: {problem}. A node that runs is left alone; put the program \
                     of {own} back there, or go back with: wemixvisor upgrade rollback"
                );
                self.raise("link", text, out);
            }
            (Ok(target), _) => {
                let text = format!(
                    "`current` was pointed to {target} by another hand; {own} is what runs and what a restart of the \
                     node starts, but the next supervisor would start {target}. Point it back to {own}; another \
                     program is brought in by: wemixvisor upgrade schedule"
                );
                self.raise("link", text, out);
            }
            (Err(problem), _) => {
                let text = format!(
                    "no upgrade can be carried out, and no supervisor could start: {problem}. The node runs on; point \
                     `current` to {own}, or go back with: wemixvisor upgrade rollback"
                );
                self.raise("link", text, out);
            }
        }
        match found.store {
            Ok(()) => self.clear("store_gone", out),
            Err(problem) => {
                let text = format!(
                    "the next supervisor would not know what was carried out and what is under way: {problem}. Put it \
                     back under its name; the node runs on"
                );
                self.raise("store_gone", text, out);
            }
        }
        match found.log {
            Ok(()) => self.clear("log", out),
            Err(problem) => {
                let text = format!(
                    "the node's output is not kept: {problem}. Take that away, or set `logs.file` to the path of a file \
                     and restart the node"
                );
                self.raise("log", text, out);
            }
        }
        self.prepare_again(&found.replaced, now);
    }
}
