//! The keeper's place in the wemixvisor directory: its lock, its socket and its log, for as long as it lives.
//!
//! They are how the next supervisor finds it. Whatever of them is removed while the keeper runs is made anew at the
//! next look; until then a removed lock is still seen by its name in `/proc`.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::socket::{self, Listening};
use super::{KEEPER_LOCK, KEEPER_LOG};
use crate::lock::{is_at, read_pid, write_pid};
use crate::trial::crash_point;

/// How often it is looked whether all is still there: a supervisor that begins waits 5 s for its keeper.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How often a lock that somebody may just be looking at is tried, a millisecond apart.
const LOCK_TRIES: u32 = 50;

#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    lock: File,
    listening: Listening,
    next_look: Instant,
}

impl Place {
    /// Takes the place in `dir`, which no other keeper may have.
    pub(super) fn take(dir: &Path, now: Instant) -> Result<Self, String> {
        let failed = |what: &str| {
            let what = format!("cannot {what} in {}", dir.display());
            move |error: io::Error| format!("{what}: {error}")
        };
        let lock = lock(&dir.join(KEEPER_LOCK)).map_err(failed("lock keeper.lock"))?;
        crash_point("keeper.locked");
        let listening =
            File::open(dir).and_then(|dir| socket::listen(&dir)).map_err(failed("open keeper.sock"))?;
        crash_point("keeper.ready");
        Ok(Self { dir: dir.to_owned(), lock, listening, next_look: now + LOOK_EVERY })
    }

    /// When [`Place::tend`] is to be called at the latest.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Makes anew what is no longer there, when it is time to look.
    pub(super) fn tend(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let path = self.dir.join(KEEPER_LOCK);
        if !is_at(&self.lock, &path) {
            match lock(&path) {
                Ok(lock) => {
                    self.lock = lock;
                    say("keeper.lock was removed or replaced; it is made anew");
                }
                // The directory is gone, or another keeper has the place: what lies there is not ours to touch.
                Err(_) => return,
            }
        }
        // Where it cannot be had now, the next look tries again.
        let Ok(directory) = File::open(&self.dir) else { return };
        if !self.listening.is_in_place(&directory)
            && let Ok(listening) = socket::listen(&directory)
        {
            self.listening = listening;
            say("keeper.sock was removed or replaced; it is made anew");
        }
        tend_log(&self.dir.join(KEEPER_LOG));
    }

    /// A supervisor that has connected.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        self.listening.listener.accept().map(|(socket, _)| socket)
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listening.listener.as_fd()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(directory) = File::open(&self.dir)
            && self.listening.is_in_place(&directory)
        {
            socket::remove(&directory);
        }
    }
}

/// A diagnostic, for `keeper.log`. Never worth dying for: the disk that takes it may be the one that is full.
pub(super) fn say(what: &str) {
    let _ = writeln!(io::stderr(), "wemixvisor keeper: {what}");
}

/// Standard error is the log file, if it could be opened. A removed one takes no lines that anybody reads.
fn tend_log(path: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else { return };
    let is_removed_file = stderr.metadata().is_ok_and(|data| data.is_file() && data.nlink() == 0);
    if is_removed_file && let Ok(log) = open_log(path) {
        let _ = rustix::stdio::dup2_stderr(&log);
    }
}

/// The log, in a directory that is made where it is missing.
pub(super) fn open_log(path: &Path) -> io::Result<File> {
    make_parent(path);
    OpenOptions::new().append(true).create(true).open(path)
}

/// Where it cannot be made, opening the file says so.
fn make_parent(path: &Path) {
    if let Some(parent) = path.parent().filter(|parent| !fs::exists(parent).unwrap_or(true)) {
        let _ = DirBuilder::new().recursive(true).mode(0o755).create(parent);
    }
}

/// Takes the keeper's lock and writes our process id into it.
fn lock(path: &Path) -> io::Result<File> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => {
                // The pid is for people; a full disk must not keep a node from its keeper.
                if let Err(error) = write_pid(&mut file) {
                    say(&format!("cannot write down its process id: {error}"));
                }
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    let holder = read_pid(&mut file).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    Err(io::Error::other(format!("another keeper{holder} holds it")))
}
