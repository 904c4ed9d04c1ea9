//! The keeper's socket. A Unix socket's address holds 107 bytes, a home's path may be longer: both sides go through
//! an open descriptor of the directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

/// The socket's name in the wemixvisor directory.
const SOCKET: &str = "keeper.sock";

/// The keeper's socket, and which file it is.
#[derive(Debug)]
pub(super) struct Listening {
    pub listener: UnixListener,
    file: Option<(u64, u64)>,
}

impl Listening {
    /// Whether it still lies in the directory.
    pub(super) fn is_in_place(&self, directory: &File) -> bool {
        self.file.is_some() && self.file == identity(&short_path(directory))
    }
}

/// Opens the socket for its owner alone. The caller holds the keeper's lock: what is in the place is a leftover.
pub(super) fn listen(directory: &File) -> io::Result<Listening> {
    let path = short_path(directory);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = umask(Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(&path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(Listening { listener, file: identity(&path) })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

/// Connects to the keeper of the wemixvisor directory `dir`. Does not wait: a Unix socket answers at once.
pub(super) fn connect(dir: &Path) -> io::Result<UnixStream> {
    let directory = File::open(dir)?;
    let stream = UnixStream::connect(short_path(&directory))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

pub(super) fn remove(directory: &File) {
    let _ = fs::remove_file(short_path(directory));
}

fn short_path(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}
