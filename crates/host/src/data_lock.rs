//! One supervisor a data directory, also across homes: plans lie in it, and two that carry them out would each take
//! what the other one has not done yet off the file.
//!
//! The node's own lock on the directory is another one: it is the node's keeper that holds it, for as long as the node
//! runs. This one is the supervisor's, and its text says whose node it may be that runs without one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::home::same_place;
use crate::keeper::DATA_DIR_LOCK;
use crate::lock::{SUPERVISOR_LOCK, is_another, is_held, take_when_let_go};

/// The lock's name in the data directory.
pub const DATA_SUPERVISOR_LOCK: &str = "wemixvisor-supervisor.lock";

/// The longest text that is read, in bytes.
const MAX_TEXT: u64 = 16 * 1024;

/// The right to carry out what is planned in a data directory, held until dropped.
#[derive(Debug)]
pub struct DataDirLock {
    data: PathBuf,
    /// `None` where the file system locks nothing, or there is no file: then the node's lock has to do.
    file: Option<File>,
    /// Why the file can be locked, but not written.
    unwritable: Option<io::Error>,
    before: Option<Owner>,
}

/// Who has, or had, a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The supervisor's process id.
    pub pid: u32,
    /// Its home.
    pub home: PathBuf,
}

/// Another home's supervisor, or its node, has the data directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirTaken {
    /// Its supervisor runs.
    #[error(
        "{} belongs to another home{}, whose wemixvisor{} runs: one data directory has one supervisor. Nothing was \
         started, and its plans were not touched",
        data.display(),
        owner.as_ref().map(|owner| format!(", {}", owner.home.display())).unwrap_or_default(),
        owner.as_ref().map(|owner| format!(" (pid {})", owner.pid)).unwrap_or_default()
    )]
    Supervised {
        /// The data directory.
        data: PathBuf,
        /// Whose it is, where that can be told.
        owner: Option<Owner>,
    },
    /// Its node runs, without a supervisor.
    #[error(
        "{} belongs to another home, {}, whose node still runs without a supervisor: start that one, or stop its node \
         first. Nothing was started, and its plans were not touched",
        data.display(),
        home.display()
    )]
    NodeRuns {
        /// The data directory.
        data: PathBuf,
        /// The other home.
        home: PathBuf,
    },
}

impl DataDirLock {
    /// Takes the lock of the data directory `data`.
    ///
    /// # Errors
    /// [`DataDirTaken::Supervised`]. A lock that cannot be used is none.
    pub fn acquire(data: &Path) -> Result<Self, DataDirTaken> {
        let path = data.join(DATA_SUPERVISOR_LOCK);
        let unlocked = |error: &io::Error| {
            tracing::warn!(
                "cannot lock {}: {error}. Nothing keeps another home's supervisor from the plans there",
                path.display()
            );
            Self { data: data.into(), file: None, unwritable: None, before: None }
        };
        let (file, unwritable) = match open(&path) {
            Ok(opened) => opened,
            Err(error) => return Ok(unlocked(&error)),
        };
        match take_when_let_go(&file, || read(&file).is_some_and(|owner| is_another(owner.pid))) {
            Ok(()) => {
                let before = read(&file);
                Ok(Self { data: data.into(), file: Some(file), unwritable, before })
            }
            Err(TryLockError::Error(error)) => Ok(Self { before: read(&file), ..unlocked(&error) }),
            Err(TryLockError::WouldBlock) => {
                // Who has just taken the lock has not written itself down yet: the text may be the last one's.
                let owner = read(&file).filter(|owner| is_another(owner.pid));
                Err(DataDirTaken::Supervised { data: data.into(), owner })
            }
        }
    }

    /// Makes the directory the one of the home `home`, which has no node that runs.
    ///
    /// # Errors
    /// [`DataDirTaken::NodeRuns`]: it was another home's before, and a node holds it.
    pub fn claim_without_node(&mut self, home: &Path) -> Result<(), DataDirTaken> {
        let other = self.before.take().filter(|before| !same_place(&before.home, home));
        // The node's keeper locks the directory and a file in it: the file can be removed, and not every file system
        // locks directories. A wemixvisor directory is locked by its supervisor.
        let directory_is_held = || !self.data.join(SUPERVISOR_LOCK).exists() && is_held(&self.data);
        let node_runs = || is_held(&self.data.join(DATA_DIR_LOCK)) || directory_is_held();
        match other.filter(|_| node_runs()) {
            Some(Owner { home, .. }) => Err(DataDirTaken::NodeRuns { data: self.data.clone(), home }),
            None => {
                self.claim(home);
                Ok(())
            }
        }
    }

    /// Makes the directory the one of the home `home`, whose node runs.
    pub fn claim(&mut self, home: &Path) {
        let owner = Owner { pid: std::process::id(), home: home.into() };
        let Some(file) = &mut self.file else { return };
        // The text is for who comes next: a full disk keeps nobody from being the supervisor.
        if let Err(error) = self.unwritable.take().map_or_else(|| write(file, &owner), Err) {
            tracing::warn!("cannot write down whose {} is: {error}", self.data.display());
        }
    }
}

/// Opens the lock's file; beside it, why it can only be read. Whoever may read it can lock it, also when root made it.
fn open(path: &Path) -> io::Result<(File, Option<io::Error>)> {
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path) {
        Ok(file) => Ok((file, None)),
        Err(error) => match File::open(path) {
            Ok(file) => Ok((file, Some(error))),
            Err(_) => Err(error),
        },
    }
}

/// The text is one line: what follows is the rest of an older one that could not be cut off.
fn read(mut file: &File) -> Option<Owner> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(MAX_TEXT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(text.split(|byte| *byte == b'\n').next()?).ok()
}

/// Written over the last text, which a full disk then leaves as it is.
fn write(file: &mut File, owner: &Owner) -> io::Result<()> {
    let text = format!("{}\n", serde_json::to_string(owner)?);
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files will do for what a test lays out.
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{MemfdFlags, SealFlags};

    use super::*;

    /// A process that runs and is not this one.
    fn owner_that_runs(home: &str) -> Owner {
        Owner { pid: std::os::unix::process::parent_id(), home: home.into() }
    }

    #[test]
    fn the_second_supervisor_is_refused_and_told_the_firsts_home() {
        let data = tempfile::tempdir().unwrap();
        let mut first = DataDirLock::acquire(data.path()).unwrap();
        first.claim_without_node(Path::new("/one")).unwrap();
        let owner = owner_that_runs("/one");
        write(first.file.as_mut().unwrap(), &owner).unwrap();
        let Err(DataDirTaken::Supervised { owner: told, .. }) = DataDirLock::acquire(data.path()) else {
            panic!()
        };
        assert_eq!(told, Some(owner));
        drop(first);
        let mut second = DataDirLock::acquire(data.path()).unwrap();
        second.claim_without_node(Path::new("/two")).unwrap();
    }

    #[test]
    fn a_node_that_runs_without_its_supervisor_keeps_other_homes_out() {
        let data = tempfile::tempdir().unwrap();
        DataDirLock::acquire(data.path()).unwrap().claim(Path::new("/one"));
        let node = File::create(data.path().join(DATA_DIR_LOCK)).unwrap();
        node.try_lock().unwrap();
        let taken = DataDirLock::acquire(data.path()).unwrap().claim_without_node(Path::new("/two"));
        assert!(matches!(taken, Err(DataDirTaken::NodeRuns { home, .. }) if home == Path::new("/one")));
        // It may be what the home's own last node has left behind.
        DataDirLock::acquire(data.path()).unwrap().claim_without_node(Path::new("/one")).unwrap();
        drop(node);
        DataDirLock::acquire(data.path()).unwrap().claim_without_node(Path::new("/two")).unwrap();
    }

    #[test]
    fn the_text_of_a_supervisor_that_is_gone_names_nobody() {
        let data = tempfile::tempdir().unwrap();
        DataDirLock::acquire(data.path()).unwrap().claim(Path::new("/two"));
        // It has the lock and has not claimed the directory yet.
        let _first = DataDirLock::acquire(data.path()).unwrap();
        let taken = DataDirLock::acquire(data.path()).unwrap_err();
        assert!(matches!(taken, DataDirTaken::Supervised { owner: None, .. }), "{taken:?}");
        assert!(taken.to_string().contains("belongs to another home, whose wemixvisor runs: "), "{taken}");
    }

    #[test]
    fn a_node_whose_lock_file_was_removed_keeps_other_homes_out() {
        let data = tempfile::tempdir().unwrap();
        DataDirLock::acquire(data.path()).unwrap().claim(Path::new("/one"));
        let node = File::open(data.path()).unwrap();
        node.try_lock().unwrap();
        let taken = DataDirLock::acquire(data.path()).unwrap().claim_without_node(Path::new("/two"));
        assert!(matches!(taken, Err(DataDirTaken::NodeRuns { home, .. }) if home == Path::new("/one")));
    }

    #[test]
    fn a_file_that_can_only_be_read_is_locked_all_the_same() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(DATA_SUPERVISOR_LOCK);
        let owner = owner_that_runs("/one");
        write(&mut File::create(&path).unwrap(), &owner).unwrap();
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        // SAFETY: changes this thread's credentials for files, and nothing in memory. Without root it does nothing.
        #[allow(unsafe_code)]
        let become_user = |user| unsafe { libc::setfsuid(user) };
        std::thread::scope(|scope| {
            let other_user = scope.spawn(|| {
                become_user(65534);
                let first = DataDirLock::acquire(data.path()).unwrap();
                assert!(first.unwritable.is_some());
                assert_eq!(first.before, Some(owner.clone()));
                let taken = DataDirLock::acquire(data.path());
                assert!(matches!(taken, Err(DataDirTaken::Supervised { .. })), "{taken:?}");
            });
            other_user.join().unwrap();
        });
    }

    #[test]
    fn a_full_disk_leaves_the_last_text() {
        let file = rustix::fs::memfd_create("lock", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        let mut file = File::from(file);
        let owner = owner_that_runs("/one");
        write(&mut file, &owner).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        write(&mut file, &owner_that_runs("/a/longer/one")).unwrap_err();
        assert_eq!(read(&file), Some(owner));
        let shorter = owner_that_runs("/");
        write(&mut file, &shorter).unwrap();
        assert_eq!(read(&file), Some(shorter));
    }

    #[test]
    fn the_rest_of_an_older_text_does_no_harm() {
        let mut file = tempfile::tempfile().unwrap();
        let owner = owner_that_runs("/one");
        write(&mut file, &owner).unwrap();
        file.write_all(b"\xa9/home\"}\n").unwrap();
        assert_eq!(read(&file), Some(owner));
    }

    #[test]
    fn what_cannot_be_locked_or_read_keeps_nobody_out() {
        let data = tempfile::tempdir().unwrap();
        DataDirLock::acquire(&data.path().join("missing")).unwrap();
        std::fs::write(data.path().join(DATA_SUPERVISOR_LOCK), "nonsense").unwrap();
        DataDirLock::acquire(data.path()).unwrap().claim_without_node(Path::new("/one")).unwrap();
    }
}
