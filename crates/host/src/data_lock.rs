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
use crate::lock::{is_another, is_held, take_when_let_go};

/// The lock's name in the data directory.
pub const DATA_SUPERVISOR_LOCK: &str = "wemixvisor-supervisor.lock";

/// The longest text that is read, in bytes.
const MAX_TEXT: u64 = 16 * 1024;

/// The right to carry out what is planned in a data directory, held until dropped.
#[derive(Debug)]
pub struct DataDirLock {
    data: PathBuf,
    /// `None` where the file system locks nothing, or nothing can be written: then the node's lock has to do.
    file: Option<File>,
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
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let Ok(file) = opened else {
            return Ok(Self { data: data.into(), file: None, before: None });
        };
        let taken = take_when_let_go(&file, || read(&file).is_some_and(|owner| is_another(owner.pid)));
        let owner = read(&file);
        match taken {
            Ok(()) => Ok(Self { data: data.into(), file: Some(file), before: owner }),
            Err(TryLockError::Error(_)) => Ok(Self { data: data.into(), file: None, before: owner }),
            Err(TryLockError::WouldBlock) => Err(DataDirTaken::Supervised { data: data.into(), owner }),
        }
    }

    /// Makes the directory the one of the home `home`, which has no node that runs.
    ///
    /// # Errors
    /// [`DataDirTaken::NodeRuns`]: it was another home's before, and a node holds it.
    pub fn claim_without_node(&mut self, home: &Path) -> Result<(), DataDirTaken> {
        let other = self.before.take().filter(|before| !same_place(&before.home, home));
        match other.filter(|_| is_held(&self.data.join(DATA_DIR_LOCK))) {
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
        // The text is for who comes next: a full disk keeps nobody from being the supervisor.
        if let Some(file) = &mut self.file
            && let Err(error) = write(file, &owner)
        {
            tracing::warn!("cannot write down whose {} is: {error}", self.data.display());
        }
    }
}

fn read(mut file: &File) -> Option<Owner> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(MAX_TEXT).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write(file: &mut File, owner: &Owner) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", serde_json::to_string(owner)?).as_bytes())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files will do for what a test lays out.
mod tests {
    use super::*;

    #[test]
    fn the_second_supervisor_is_refused_and_told_the_firsts_home() {
        let data = tempfile::tempdir().unwrap();
        let mut first = DataDirLock::acquire(data.path()).unwrap();
        first.claim_without_node(Path::new("/one")).unwrap();
        let Err(DataDirTaken::Supervised { owner, .. }) = DataDirLock::acquire(data.path()) else { panic!() };
        assert_eq!(owner, Some(Owner { pid: std::process::id(), home: "/one".into() }));
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
    fn what_cannot_be_locked_or_read_keeps_nobody_out() {
        let data = tempfile::tempdir().unwrap();
        DataDirLock::acquire(&data.path().join("missing")).unwrap();
        std::fs::write(data.path().join(DATA_SUPERVISOR_LOCK), "nonsense").unwrap();
        DataDirLock::acquire(data.path()).unwrap().claim_without_node(Path::new("/one")).unwrap();
    }
}
