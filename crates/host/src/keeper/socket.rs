//! The keeper's socket. A Unix socket's address holds 107 bytes, a home's path may be longer: both sides go through
//! an open descriptor of the directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

/// The socket's name in the wemixvisor directory.
const SOCKET: &str = "keeper.sock";

/// Opens the socket for its owner alone. The caller holds the keeper's lock: what is in the place is a leftover.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    let directory = File::open(dir)?;
    let path = short_path(&directory);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = umask(Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(&path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the keeper of the wemixvisor directory `dir`. Does not wait: a Unix socket answers at once.
pub(super) fn connect(dir: &Path) -> io::Result<UnixStream> {
    let directory = File::open(dir)?;
    let stream = UnixStream::connect(short_path(&directory))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

pub(super) fn remove(dir: &Path) {
    let _ = fs::remove_file(dir.join(SOCKET));
}

fn short_path(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}
