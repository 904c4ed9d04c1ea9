//! One supervisor a home.
//!
//! The lock is the kernel's (flock), so it goes with the process that holds it, however that ends. What is locked is
//! the wemixvisor directory itself: a lock file can be removed, moved or replaced by a copy while its holder runs, and
//! whoever comes next then locks another file. The file is locked as well, for versions that know no other lock, and
//! its text says whom to look for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{ProcessStat, holders_of};

/// The lock's name in the wemixvisor directory.
pub const SUPERVISOR_LOCK: &str = "wemixvisor.lock";

/// A child that was just forked becomes another program within milliseconds; this is for a machine that swaps.
const CHILD_LETS_GO: Duration = Duration::from_secs(2);

/// Whoever only looks whether there is a supervisor holds the lock for an instant.
const LOOKER_LETS_GO: Duration = Duration::from_millis(50);

/// How often the lock is tried meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The right to be the supervisor of a home, held until dropped.
#[derive(Debug)]
pub struct SupervisorLock {
    path: PathBuf,
    directory: File,
    file: File,
}

/// The supervisor that holds a home's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; `None` when it cannot be seen from here.
    pub pid: Option<u32>,
}

/// What became of the lock's file while the lock was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFile {
    /// It is where it was.
    InPlace,
    /// It had been removed or replaced, and was made anew.
    MadeAnew,
    /// The whole directory is no longer where it was: what lies there now is not ours to touch.
    DirectoryGone,
}

/// Why this process may not be the supervisor.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another supervisor is there.
    #[error("another wemixvisor{} already supervises this home: {} is locked", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display())]
    Held {
        /// The other's process id; `None` when it cannot be told.
        pid: Option<u32>,
        /// What is locked.
        path: PathBuf,
    },
    /// The lock cannot be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// The directory or the lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl SupervisorLock {
    /// Takes the lock of the wemixvisor directory `dir`, and writes this process's id into its file where there is
    /// room for it.
    ///
    /// A supervisor that is killed while it starts a child leaves the lock to that child for as long as the child
    /// needs to become another program: where the holder that is written down has ended, that is waited for.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { what, path, source }
        };
        let directory = File::open(dir).map_err(failed("open", dir))?;
        match take(dir, &directory) {
            // A file system that locks no directories (some of the network) has the file's lock only.
            Err(LockError::Io { .. }) | Ok(()) => {}
            Err(held) => return Err(held),
        }
        let path = dir.join(SUPERVISOR_LOCK);
        let file = open(&path).map_err(failed("open", &path))?;
        take(dir, &file)?;
        let mut lock = Self { path, directory, file };
        lock.write_down();
        Ok(lock)
    }

    /// Looks whether the lock's file is still in its place, and makes it anew where it is not. The lock itself is not
    /// lost by that. Costs a few calls to the system.
    ///
    /// # Errors
    /// [`LockError`]: there is a file that cannot be used, or that somebody else has locked.
    pub fn tend(&mut self) -> Result<LockFile, LockError> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        if !is_at(&self.directory, dir) {
            return Ok(LockFile::DirectoryGone);
        }
        if is_at(&self.file, &self.path) {
            return Ok(LockFile::InPlace);
        }
        let failed = |source| LockError::Io { what: "make", path: self.path.clone(), source };
        let file = open(&self.path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { pid: None, path: self.path.clone() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(LockError::Io { what: "lock", path: self.path.clone(), source });
            }
        }
        self.file = file;
        self.write_down();
        Ok(LockFile::MadeAnew)
    }

    /// Whether the directory at the lock's path is the locked one: what lies there is ours to change.
    pub fn is_in_place(&self) -> bool {
        self.path.parent().is_some_and(|dir| is_at(&self.directory, dir))
    }

    /// The id is for people: a full disk keeps nobody from being the supervisor.
    fn write_down(&mut self) {
        if let Err(error) = write_pid(&mut self.file) {
            tracing::warn!("cannot write this process's id into {}: {error}", self.path.display());
        }
    }
}

/// The supervisor of the wemixvisor directory `dir`, if there is one: also while it begins or ends, and whatever
/// became of its files. Looks by taking the lock for an instant, shared.
pub fn holder(dir: &Path) -> Option<Holder> {
    (is_held(dir) || is_held(&dir.join(SUPERVISOR_LOCK))).then(|| Holder { pid: holder_pid(dir) })
}

/// Whether somebody else has locked what lies at this path. Looks by taking the lock for an instant, shared.
pub(crate) fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Who holds the lock: as it wrote down, else who has the directory open.
fn holder_pid(dir: &Path) -> Option<u32> {
    let written = File::open(dir.join(SUPERVISOR_LOCK)).ok().and_then(|mut file| read_pid(&mut file));
    if written.is_some_and(runs) {
        return written;
    }
    let real = fs::canonicalize(dir).ok()?;
    let name = Path::new(real.file_name()?);
    holders_of(&File::open(dir).ok()?, name).first().copied().or(written)
}

/// Locks a file or directory of the wemixvisor directory `dir`.
fn take(dir: &Path, file: &File) -> Result<(), LockError> {
    let path = dir.join(SUPERVISOR_LOCK);
    let holder_lives = || {
        let written = File::open(&path).ok().and_then(|mut file| read_pid(&mut file));
        written.is_none_or(is_another)
    };
    take_when_let_go(file, holder_lives).map_err(|error| match error {
        TryLockError::WouldBlock => LockError::Held { pid: holder_pid(dir), path: dir.to_owned() },
        TryLockError::Error(source) => LockError::Io { what: "lock", path: path.clone(), source },
    })
}

/// Takes a lock. Whoever only looks is waited for, and, where the holder does not live, the child that has its lock
/// yet: see [`SupervisorLock::acquire`].
///
/// # Errors
/// [`TryLockError`]: it is held, or what is locked cannot be.
#[allow(clippy::disallowed_methods)] // A limit on waiting, measured where one waits.
pub(crate) fn take_when_let_go(file: &File, holder_lives: impl Fn() -> bool) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        let tried = file.try_lock();
        let waited = begun.elapsed();
        let held = matches!(tried, Err(TryLockError::WouldBlock));
        if !held || waited >= CHILD_LETS_GO || (waited >= LOOKER_LETS_GO && holder_lives()) {
            return tried;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether what is open lies at this path.
pub(crate) fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether another process runs under this id. Who has just taken a supervisor's place has its id.
pub(crate) fn is_another(pid: u32) -> bool {
    pid != std::process::id() && runs(pid)
}

fn runs(pid: u32) -> bool {
    ProcessStat::of(pid).is_ok_and(|stat| !stat.ended())
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
                assert_eq!(path, dir.path());
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

    #[test]
    fn a_removed_moved_or_copied_lock_file_lets_nobody_in_and_is_made_anew() {
        type Spoil = fn(&Path) -> io::Result<()>;
        let spoilt: [(&str, Spoil); 3] = [
            ("removed", |file| fs::remove_file(file)),
            ("moved", |file| fs::rename(file, file.with_extension("old"))),
            ("a copy", |file| {
                fs::copy(file, file.with_extension("new"))?;
                fs::rename(file.with_extension("new"), file)
            }),
        ];
        for (what, spoil) in spoilt {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(SUPERVISOR_LOCK);
            let mut first = SupervisorLock::acquire(dir.path()).unwrap();
            assert_eq!(first.tend().unwrap(), LockFile::InPlace);
            spoil(&file).unwrap();
            assert!(matches!(SupervisorLock::acquire(dir.path()), Err(LockError::Held { .. })), "{what}");
            assert!(holder(dir.path()).is_some(), "{what}");
            assert_eq!(first.tend().unwrap(), LockFile::MadeAnew, "{what}");
            assert_eq!(first.tend().unwrap(), LockFile::InPlace, "{what}");
            let held = SupervisorLock::acquire(dir.path());
            assert!(
                matches!(held, Err(LockError::Held { pid, .. }) if pid == Some(std::process::id())),
                "{what}: {held:?}"
            );
        }
    }

    #[test]
    fn a_supervisor_of_a_version_that_locks_the_file_only_is_respected() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = File::create_new(dir.path().join(SUPERVISOR_LOCK)).unwrap();
        write_pid(&mut other).unwrap();
        other.try_lock().unwrap();
        assert!(matches!(SupervisorLock::acquire(dir.path()), Err(LockError::Held { .. })));
        assert_eq!(holder(dir.path()), Some(Holder { pid: Some(std::process::id()) }));
    }

    #[test]
    fn a_directory_that_was_replaced_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (home, moved) = (dir.path().join("wemixvisor"), dir.path().join("moved"));
        fs::create_dir(&home).unwrap();
        let mut lock = SupervisorLock::acquire(&home).unwrap();
        fs::rename(&home, &moved).unwrap();
        fs::create_dir(&home).unwrap();
        assert_eq!(lock.tend().unwrap(), LockFile::DirectoryGone);
        assert!(!lock.is_in_place());
        assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    }

    #[test]
    fn whoever_looks_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()), None);
        assert_eq!(holder(&dir.path().join("gone")), None);
        let looking = File::open(dir.path()).unwrap();
        looking.try_lock_shared().unwrap();
        let other = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| SupervisorLock::acquire(dir.path()));
            drop(looking);
            waiting.join().unwrap()
        });
        other.unwrap();
    }

    #[test]
    fn a_lock_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SupervisorLock::acquire(&dir.path().join("gone")).unwrap_err();
        assert!(missing.to_string().contains("gone"), "{missing}");
        fs::create_dir(dir.path().join(SUPERVISOR_LOCK)).unwrap();
        let error = SupervisorLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot open"), "{error}");
    }
}
