//! How much room there is, and whether one may write.

use std::io;
use std::path::{Path, PathBuf};

/// What a file system offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// The size of the file system in bytes.
    pub total: u64,
    /// Files that can still be made; `None` where there is no such limit.
    pub free_files: Option<u64>,
}

/// A place whose space is unknown or where nothing can be written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system did not answer.
    #[error("cannot tell the free space at {}", path.display())]
    Unknown {
        /// The place.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be made there.
    #[error("cannot write in {}", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The space on the file system of `path`; when nothing is there yet, of the nearest directory above it.
///
/// # Errors
/// [`DiskError::Unknown`].
pub fn space(path: &Path) -> Result<Space, DiskError> {
    let unknown = |source| DiskError::Unknown { path: path.into(), source };
    let absolute = std::path::absolute(path).map_err(unknown)?;
    let mut place = absolute.as_path();
    let found = loop {
        match (rustix::fs::statvfs(place), place.parent()) {
            (Err(rustix::io::Errno::NOENT), Some(above)) => place = above,
            (answer, _) => break answer.map_err(|error| unknown(error.into()))?,
        }
    };
    Ok(Space {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free_files: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// Whether files can be made and written in a directory: tried with a file that has no name and is gone at
/// once. Permission bits alone do not tell (read-only mounts, quotas, full disks).
///
/// # Errors
/// [`DiskError::NotWritable`].
pub fn writable(dir: &Path) -> Result<(), DiskError> {
    use io::Write as _;
    tempfile::tempfile_in(dir)
        .and_then(|mut file| file.write_all(b"wemixvisor").and_then(|()| file.sync_all()))
        .map_err(|source| DiskError::NotWritable { path: dir.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_of_a_place_that_is_not_there_yet_is_that_of_the_directory_above() {
        let dir = tempfile::tempdir().unwrap();
        let here = space(dir.path()).unwrap();
        assert!(here.total >= here.free && here.free > 0);
        assert_eq!(space(&dir.path().join("not/there/yet")).unwrap().total, here.total);
    }

    #[test]
    fn a_directory_is_writable_and_stays_empty_and_a_missing_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        writable(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(matches!(writable(&dir.path().join("gone")), Err(DiskError::NotWritable { .. })));
        assert!(matches!(writable(Path::new("/proc")), Err(DiskError::NotWritable { .. })));
    }

    #[test]
    fn a_place_that_cannot_be_asked_about_is_named() {
        let name = "x".repeat(300);
        let error = space(&Path::new("/").join(&name)).unwrap_err();
        assert!(matches!(&error, DiskError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}
