//! Writing the node's output: whatever happens to the file, the node is never held up.
//!
//! Bytes that cannot be written are dropped and counted. The file is tried again at the latest [`RETRY`] later,
//! and the first thing then written is how much is missing and why. A file that was removed or replaced from
//! outside is noticed within the same time, because a log cleaner must not make the log vanish.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use super::part;
use crate::keeper::LogPolicy;
use crate::trial::fault;

/// How long a file that cannot be written is left alone, and how often the file's place is looked at.
const RETRY: Duration = Duration::from_secs(1);

/// A log that is written by one process and rotated by size.
#[derive(Debug)]
pub(crate) struct NodeLog {
    policy: LogPolicy,
    state: State,
    /// Not before this moment is a broken file tried again, or the place of a working one looked at.
    next_look: Option<Instant>,
}

#[derive(Debug)]
enum State {
    New,
    Working(Open),
    Broken(Lost),
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Whether the last byte ended a line.
    at_line_start: bool,
    /// Only plain files are rotated; a link to /dev/null is left in peace.
    plain: bool,
}

/// Bytes dropped since the file last worked, and what went wrong last.
#[derive(Debug)]
struct Lost {
    bytes: u64,
    error: io::Error,
}

impl NodeLog {
    pub(crate) fn new(policy: LogPolicy) -> Self {
        Self { policy, state: State::New, next_look: None }
    }

    pub(crate) fn policy(&self) -> &LogPolicy {
        &self.policy
    }

    /// When [`NodeLog::mend`] should be called although there is nothing to write.
    pub(crate) fn next_mend(&self) -> Option<Instant> {
        matches!(self.state, State::Broken(_)).then_some(self.next_look).flatten()
    }

    /// Takes all of `bytes`: to the file, or to the count of the lost.
    pub(crate) fn write(&mut self, bytes: &[u8], now: Instant) {
        self.mend(now);
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.state {
                State::Working(open) => match write_some(&self.policy, open, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) => {
                        self.state = State::Broken(Lost { bytes: 0, error });
                        self.next_look = Some(now + RETRY);
                    }
                },
                State::Broken(lost) => {
                    lost.bytes += rest.len() as u64;
                    return;
                }
                State::New => return,
            }
        }
    }

    /// Opens the file when it is time: the first time, after trouble, and when it is no longer where it was.
    pub(crate) fn mend(&mut self, now: Instant) {
        if self.next_look.is_some_and(|moment| now < moment) {
            return;
        }
        self.next_look = Some(now + RETRY);
        let lost = match &self.state {
            State::Working(open) if in_place(&self.policy, open) => return,
            State::Broken(lost) => Some(lost),
            State::New | State::Working(_) => None,
        };
        self.state = match begin(&self.policy, lost) {
            Ok(open) => State::Working(open),
            Err(error) => State::Broken(Lost { bytes: lost.map_or(0, |lost| lost.bytes), error }),
        };
    }
}

/// Whether the open file is still the one at the log's path.
fn in_place(policy: &LogPolicy, open: &Open) -> bool {
    let (Ok(there), Ok(ours)) = (fs::metadata(&policy.path), open.file.metadata()) else { return false };
    (there.dev(), there.ino()) == (ours.dev(), ours.ino())
}

/// Opens a log for appending, a full one moved away first. Whoever writes to it opens it anew when it is full.
///
/// # Errors
/// Those of the system; the parts that were moved by then stay moved.
pub fn open(policy: &LogPolicy) -> io::Result<File> {
    Ok(open_with_room(policy)?.file)
}

fn open_with_room(policy: &LogPolicy) -> io::Result<Open> {
    let open = open_file(policy)?;
    if open.room(policy) == 0 { next_file(policy) } else { Ok(open) }
}

/// Opens the file, a full one moved away first, and says in it what is missing.
fn begin(policy: &LogPolicy, lost: Option<&Lost>) -> io::Result<Open> {
    let mut open = open_with_room(policy)?;
    if let Some(Lost { bytes, error }) = lost {
        let note =
            format!("[wemixvisor: {bytes} bytes of the node's output could not be written: {error}]\n");
        open.file.write_all(note.as_bytes())?;
        open.size += note.len() as u64;
    }
    Ok(open)
}

/// Non-blocking, so that a pipe or a terminal in the file's place cannot hold us up.
fn open_file(policy: &LogPolicy) -> io::Result<Open> {
    fault("keeper.log.open")?;
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).custom_flags(flags);
    let file = match (options.open(&policy.path), policy.path.parent()) {
        // Somebody removed the directory.
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            options.open(&policy.path)?
        }
        (opened, _) => opened?,
    };
    let metadata = file.metadata()?;
    Ok(Open { file, size: metadata.len(), at_line_start: true, plain: metadata.is_file() })
}

/// Moves every part one on, the last one out, and opens a new live file.
fn next_file(policy: &LogPolicy) -> io::Result<Open> {
    let keep = policy.keep.max(1);
    // What an earlier setting with more parts left behind.
    for number in keep.. {
        if fs::remove_file(part(&policy.path, number)).is_err() {
            break;
        }
    }
    for number in (0..keep).rev() {
        let from = part(&policy.path, number);
        let moved = if number + 1 == keep {
            fs::remove_file(&from)
        } else {
            fs::rename(&from, part(&policy.path, number + 1))
        };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    open_file(policy)
}

/// Writes a first part of `bytes` and says how much; turns to a new file where the present one is full.
fn write_some(policy: &LogPolicy, open: &mut Open, bytes: &[u8]) -> io::Result<usize> {
    let cut = cut(bytes, open.room(policy), open.at_line_start && open.size > 0);
    if cut == 0 {
        *open = next_file(policy)?;
        return Ok(0);
    }
    fault("keeper.log.write")?;
    let written = open.file.write(&bytes[..cut])?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    open.size += written as u64;
    open.at_line_start = bytes[written - 1] == b'\n';
    Ok(written)
}

impl Open {
    /// How many bytes fit before the next rotation.
    fn room(&self, policy: &LogPolicy) -> usize {
        if !self.plain {
            return usize::MAX;
        }
        usize::try_from(policy.max_bytes.max(1).saturating_sub(self.size)).unwrap_or(usize::MAX)
    }
}

/// How many of `bytes` go into a file with `room` left: all, else up to the last line end that fits, else none
/// when a new file can begin with a whole line, else as many as fit.
fn cut(bytes: &[u8], room: usize, can_move_on: bool) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    match bytes[..room].iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None if can_move_on => 0,
        None => room,
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
