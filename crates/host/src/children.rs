//! This process's children, told apart: those that it has started and waits for, and those that came to it.
//!
//! Children come to a process that is number 1 of a container, whenever a parent anywhere in it ends before them; and
//! to a supervisor that has taken the place of another one in the same process ([`crate::successor`]), which leaves
//! it its keeper. Nobody else collects them. [`collect_strangers`] does, and leaves alone whoever is waited for by id:
//! every start in this crate goes through `start`.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::process::own_children;

/// The children that somebody here waits for.
static AWAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn awaited() -> MutexGuard<'static, BTreeSet<u32>> {
    // A set of numbers is whole at every moment.
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a child is waited for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Awaited(u32);

impl Drop for Awaited {
    fn drop(&mut self) {
        awaited().remove(&self.0);
    }
}

/// Starts a child that its starter waits for. To be dropped when that is done, not before.
pub(crate) fn start<T>(
    spawn: impl FnOnce() -> io::Result<T>,
    pid: impl FnOnce(&T) -> Option<u32>,
) -> io::Result<(T, Awaited)> {
    // Held from before the start: no child is seen that is not yet written down.
    let mut awaited = awaited();
    let child = spawn()?;
    let pid = pid(&child).ok_or(io::ErrorKind::NotFound)?;
    awaited.insert(pid);
    Ok((child, Awaited(pid)))
}

/// Collects every child that has ended and that nobody here waits for; the answer is how many. Never waits.
pub fn collect_strangers() -> usize {
    let awaited = awaited();
    let ended = |pid: &u32| {
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw)?;
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok().flatten()
    };
    let mut collected = 0;
    loop {
        // The kernel's list may leave some out while others go.
        let more = own_children().iter().filter(|pid| !awaited.contains(pid)).filter_map(ended).count();
        collected += more;
        if more == 0 {
            return collected;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::process::ProcessStat;

    #[allow(clippy::disallowed_methods)]
    fn ending() -> io::Result<Child> {
        Command::new("true").spawn()
    }

    #[allow(clippy::disallowed_methods)]
    fn is_a_zombie(pid: u32) {
        let begun = Instant::now();
        while !ProcessStat::of(pid).unwrap().ended() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn strangers_are_collected_and_the_awaited_keep_their_status() {
        let (mut ours, awaited) = start(ending, |child| Some(child.id())).unwrap();
        let theirs = ending().unwrap().id();
        is_a_zombie(ours.id());
        is_a_zombie(theirs);
        assert_eq!(collect_strangers(), 1);
        assert!(ProcessStat::of(theirs).is_err());
        assert!(ours.wait().unwrap().success());
        drop(awaited);
        assert!(!super::awaited().contains(&ours.id()));
    }
}
