//! The node's output on disk: written by the keeper, read by `logs` and by `run`. The supervisor's own log is rotated
//! in the same way.

mod follow;
mod log;
mod tail;

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub use follow::Follow;
pub(crate) use log::NodeLog;
pub use log::open;
pub use tail::tail;

/// Something else than a file is where a log is to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is a {what}, not a file", path.display())]
pub struct NotAFile {
    /// The log's path.
    pub path: PathBuf,
    /// What is there.
    pub what: &'static str,
}

/// Whether a log at this path would keep what is written to it, as far as can be told by what is there now. Nothing
/// is fine, and so is `/dev/null`: who sets that wants no log.
///
/// # Errors
/// [`NotAFile`].
pub fn can_be_log(path: &Path) -> Result<(), NotAFile> {
    // What cannot be looked at is told by who writes to it.
    let Ok(data) = fs::metadata(path) else { return Ok(()) };
    other_than_file(&data).map_or(Ok(()), |what| Err(NotAFile { path: path.to_owned(), what }))
}

/// Opens a log for reading; something else than a file is an error and holds nobody up, as the opening of a FIFO does
/// until somebody writes to it.
fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match other_than_file(&file.metadata()?) {
        None => Ok(file),
        Some(what) => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is a {what}, not a file"))),
    }
}

/// What this is, if it is neither a file nor `/dev/null`.
fn other_than_file(data: &Metadata) -> Option<&'static str> {
    let kind = data.file_type();
    let is_null = || fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == data.rdev());
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_char_device() && is_null() => None,
        _ if kind.is_dir() => Some("directory"),
        _ if kind.is_fifo() => Some("FIFO"),
        _ if kind.is_socket() => Some("socket"),
        _ => Some("device"),
    }
}

/// The `number`th older part of the log: 1 is the newest of them, 0 the live file itself.
fn part(log: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = OsString::from(log);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files will do for a test.
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_file_or_nothing_keeps_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        for good in [at("file"), at("nothing"), at("file/below"), "/dev/null".into()] {
            assert_eq!(can_be_log(&good), Ok(()));
        }
        for (bad, what) in [
            (at("directory"), "directory"),
            (at("fifo"), "FIFO"),
            (at("link"), "FIFO"),
            (at("socket"), "socket"),
            ("/dev/full".into(), "device"),
        ] {
            let said = can_be_log(&bad).unwrap_err().to_string();
            assert_eq!(said, format!("{} is a {what}, not a file", bad.display()));
            // Nor does anybody wait for it.
            assert!(open_to_read(&bad).is_err());
            assert!(Follow::from_end(&bad).is_ok() && tail(&bad, 1).is_err());
        }
    }
}
