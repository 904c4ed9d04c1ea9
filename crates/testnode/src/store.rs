//! The data directory: `D/testnode/` with the lock, the chain, the count of starts and the ports.
//!
//! Files are replaced by rename, so that a kill leaves the old or the new one. They are not forced to the disk:
//! what this node models is the loss of a process, not of the machine.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chain::Chain;

/// What went wrong in the data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another node has it open.
    #[error("datadir already used by another process")]
    Locked,
    /// A file cannot be read or written.
    #[error("{what} {}: {source}", .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// A file holds something else than it should.
    #[error("{} is damaged: {source}", .path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// The open data directory; nobody else has it open meanwhile.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes the directory if need be and takes its lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { what, path, source }
        };
        fs::create_dir_all(dir).map_err(io("cannot make", dir))?;
        let path = dir.join("LOCK");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("cannot open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
            Err(TryLockError::Error(error)) => Err(io("cannot lock", &path)(error)),
        }
    }

    /// The chain as it was last written, if there is one.
    pub(crate) fn chain(&self) -> Result<Option<Chain>, StoreError> {
        self.read("chain.json")
    }

    /// Writes the chain.
    pub(crate) fn put_chain(&self, chain: &Chain) -> Result<(), StoreError> {
        self.write("chain.json", chain)
    }

    /// Counts a start of `version` and says the how-many-th it is, from 1.
    pub(crate) fn count_start(&self, version: &str) -> Result<u64, StoreError> {
        let mut counts: BTreeMap<String, u64> = self.read("starts.json")?.unwrap_or_default();
        let count = counts.entry(version.to_owned()).or_default();
        *count += 1;
        let count = *count;
        self.write("starts.json", &counts)?;
        Ok(count)
    }

    /// Tells where the node listens.
    pub(crate) fn put_ports(&self, ports: &impl Serialize) -> Result<(), StoreError> {
        self.write("ports.json", ports)
    }

    /// Takes the ports back: nobody listens there any more.
    pub(crate) fn remove_ports(&self) {
        let _ = fs::remove_file(self.dir.join("ports.json"));
    }

    /// A file for the bytes that a working stop writes.
    pub(crate) fn scratch(&self) -> io::Result<File> {
        File::create(self.dir.join("flush.tmp"))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| StoreError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { what: "cannot read", path, source }),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let bytes =
            serde_json::to_vec(value).map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        let fresh = self.dir.join(format!("{name}.new"));
        fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &path)).map_err(|source| StoreError::Io {
            what: "cannot write",
            path,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_at_a_time_and_the_chain_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("testnode")).unwrap();
        assert!(matches!(Store::open(&dir.path().join("testnode")), Err(StoreError::Locked)));
        assert_eq!(store.chain().unwrap(), None);
        let chain = Chain::new(1112, "salt", 5, 1000);
        store.put_chain(&chain).unwrap();
        assert_eq!(store.chain().unwrap(), Some(chain));
        let counts: Vec<u64> = ["a", "b", "a"].iter().map(|v| store.count_start(v).unwrap()).collect();
        assert_eq!(counts, [1, 1, 2]);
        drop(store);
        Store::open(&dir.path().join("testnode")).unwrap();
    }
}
