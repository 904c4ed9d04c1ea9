//! One supervisor a home. The lock is the kernel's (flock), so it goes with the process that holds it, however
//! that ends; the text in the file only says whom to look for.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::ProcessStat;

/// The lock's name in the wemixvisor directory.
pub const SUPERVISOR_LOCK: &str = "wemixvisor.lock";

/// A child that was just forked becomes another program within milliseconds; this is for a machine that swaps.
const CHILD_LETS_GO: Duration = Duration::from_secs(2);

/// How often the lock is tried meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The right to be the supervisor of a home, held until dropped.
#[derive(Debug)]
pub struct SupervisorLock {
    _file: File,
}

/// Why this process may not be the supervisor.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another supervisor is there.
    #[error("another wemixvisor{} already supervises this home: {} is locked", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display())]
    Held {
        /// The other's process id, as it wrote it down; `None` when it cannot be read.
        pid: Option<u32>,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("cannot {what} the lock file {}", path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl SupervisorLock {
    /// Takes the lock in the wemixvisor directory `dir` and writes this process's id into it.
    ///
    /// A supervisor that is killed while it starts a child leaves the lock to that child for as long as the child
    /// needs to become another program: where the holder that is written down has ended, that is waited for.
    #[allow(clippy::disallowed_methods)] // A limit on waiting, measured where one waits.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(SUPERVISOR_LOCK);
        let failed = |what| {
            let path = path.clone();
            move |source| LockError::Io { what, path, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open"))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let pid = read_pid(&mut file);
                    if begun.elapsed() >= CHILD_LETS_GO || pid.is_none_or(is_another) {
                        return Err(LockError::Held { pid, path });
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
            }
        }
        write_pid(&mut file).map_err(failed("write"))?;
        Ok(Self { _file: file })
    }
}

/// Whether another process runs under this id. Who has just taken a supervisor's place has its id.
fn is_another(pid: u32) -> bool {
    pid != std::process::id() && ProcessStat::of(pid).is_ok_and(|stat| !stat.ended())
}

/// The process id that the holder of a lock file wrote into it.
pub(crate) fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Writes this process's id into a lock file that it holds.
pub(crate) fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test has its own clock.
mod tests {
    use super::*;

    #[test]
    fn the_second_supervisor_is_refused_and_told_the_firsts_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = SupervisorLock::acquire(dir.path()).unwrap();
        match SupervisorLock::acquire(dir.path()) {
            Err(LockError::Held { pid, path }) => {
                assert_eq!(pid, Some(std::process::id()));
                assert_eq!(path, dir.path().join(SUPERVISOR_LOCK));
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        // A process that another test is just forking holds a copy until its exec.
        let start = Instant::now();
        while SupervisorLock::acquire(dir.path()).is_err() {
            assert!(start.elapsed().as_secs() < 10, "the lock is not free in time");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A process that has ended, to name its id.
    fn a_dead_supervisors_child_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let mut file = File::create(dir.path().join(SUPERVISOR_LOCK)).unwrap();
        file.write_all(format!("{}\n", dead.id()).as_bytes()).unwrap();
        file.try_lock().unwrap();
        assert!(
            matches!(SupervisorLock::acquire(dir.path()), Err(LockError::Held { pid, .. }) if pid == Some(dead.id()))
        );
        let other = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| SupervisorLock::acquire(dir.path()));
            drop(file);
            waiting.join().unwrap()
        });
        other.unwrap();
    }

    #[test]
    fn a_stale_text_does_not_hold_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join(SUPERVISOR_LOCK)).unwrap().write_all(b"99999999999999999999\n").unwrap();
        SupervisorLock::acquire(dir.path()).unwrap();
    }
}
