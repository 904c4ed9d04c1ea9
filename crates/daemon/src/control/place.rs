//! Where the socket lies, as the kernel takes it: an address of a Unix socket has at most 107 bytes, a home's path
//! may have more. So the socket is named through its directory, which is open for as long as the name is used.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// A directory and the name of a socket in it.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _directory: File,
}

impl Place {
    /// # Errors
    /// `NotFound` when the directory is not there.
    pub(super) fn of(socket: &Path) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no path of a socket"));
        };
        let directory = File::open(directory)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: directory })
    }

    /// A short path, valid in this process as long as this value lives.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the same directory.
    pub(super) fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }
}
