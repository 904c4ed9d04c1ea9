//! The node's output on disk: written by the keeper, read by `logs` and by `run`. The supervisor's own log is rotated
//! in the same way.

mod follow;
mod log;
mod tail;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use follow::Follow;
pub(crate) use log::NodeLog;
pub use log::open;
pub use tail::tail;

/// The `number`th older part of the log: 1 is the newest of them, 0 the live file itself.
fn part(log: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = OsString::from(log);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
