//! The operator's own programs at the steps of an upgrade: `pre-stop`, `pre-upgrade`, `post-upgrade`.
//!
//! A hook is executed as a file, never through a shell. It gets its own process group, no input, the given
//! environment and a time limit; its output goes to the log as it comes, and its end is kept for the record.
//! When it ends, nothing of it may live on: a process that could still write to the data directory while the
//! node runs makes the hook a failure, and is ended.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD};
use tokio_util::sync::CancellationToken;

use crate::run::{Ended, Run, in_line};
pub use crate::run::{MARK, RunError, end_left_running};

/// What is kept of a hook's output while it runs, in bytes: its end, where the reason of a failure stands.
const TAIL: usize = 4 * 1024;

/// The longest line that goes to the log, in bytes; the rest of a longer one is left out.
const MAX_LINE: usize = 1024;

/// How many lines of one hook go to the log.
const MAX_LINES: usize = 1000;

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookExit {
    /// Exit code 0, and nothing left behind.
    Success,
    /// An exit code of its own.
    Failed(i32),
    /// 126: what the hook wanted to run cannot be executed.
    NotExecutable,
    /// 127: what the hook wanted to run was not found.
    NotFound,
    /// Ended by a signal that we did not send.
    Signal(i32),
    /// Its time was up, in ms given; it was ended with everything it had started.
    TimedOut(u64),
    /// Nobody waits for it any more; it was ended with everything it had started.
    CalledOff,
    /// Exit code 0, but processes of it lived on and had to be ended.
    LeftProcesses,
}

impl fmt::Display for HookExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("succeeded"),
            Self::Failed(code) => write!(f, "failed with exit code {code}"),
            Self::NotExecutable => {
                f.write_str("failed with exit code 126: a command in it is not executable")
            }
            Self::NotFound => f.write_str("failed with exit code 127: a command in it was not found"),
            Self::Signal(number) => write!(f, "was ended by signal {number}"),
            Self::TimedOut(limit) => {
                write!(f, "did not end within {:?} and was killed", Duration::from_millis(*limit))
            }
            Self::CalledOff => f.write_str("was ended: its upgrade does not wait for it any more"),
            Self::LeftProcesses => f.write_str("left processes running in the background; they were ended"),
        }
    }
}

/// A hook that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOutcome {
    /// How it ended.
    pub exit: HookExit,
    /// The end of its output in one line of at most 200 characters; what is not UTF-8 is replaced.
    pub tail: String,
    /// How long it ran, with everything it left behind.
    pub took: Duration,
}

/// A hook that was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is configured but not there.
    #[error("there is no hook at {}", .0.display())]
    Missing(PathBuf),
    /// It is there but is no file.
    #[error("the hook {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// No execute permission.
    #[error("the hook {} is not executable (mode {mode:o}): chmod 755", path.display())]
    NotExecutable {
        /// The hook.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It could not be looked at.
    #[error("cannot look at the hook {}", path.display())]
    Unreadable {
        /// The hook.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It could not be started, watched or ended.
    #[error("cannot run the hook {}", path.display())]
    NotRun {
        /// The hook.
        path: PathBuf,
        /// Why not.
        source: RunError,
    },
}

/// Whether a configured hook is there and may be executed.
///
/// # Errors
/// [`HookError`] other than [`HookError::NotRun`].
pub fn check_hook(path: &Path) -> Result<(), HookError> {
    let data = match fs::metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HookError::Missing(path.into())),
        Err(source) => return Err(HookError::Unreadable { path: path.into(), source }),
    };
    if !data.is_file() {
        return Err(HookError::NotAFile(path.into()));
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(_) => {
            Err(HookError::NotExecutable { path: path.into(), mode: data.permissions().mode() & 0o7777 })
        }
    }
}

/// Runs a hook in the directory `cwd` with exactly this environment, for at most `limit`; every line of its
/// output goes to `log`, up to 1,000 lines. Once `called_off` is cancelled it is ended as if its time were up: by
/// SIGTERM, 5 s later by SIGKILL. Dropping the future kills the hook and its children.
///
/// # Errors
/// [`HookError`]. A hook that ran and failed is an outcome, not an error.
pub async fn run_hook(
    path: &Path,
    cwd: &Path,
    env: &[(OsString, OsString)],
    limit: Duration,
    called_off: &CancellationToken,
    log: &mut (dyn FnMut(&str) + Send),
) -> Result<HookOutcome, HookError> {
    check_hook(path)?;
    let mut output = Output { tail: VecDeque::new(), line: Vec::new(), lines: 0, log };
    let run = Run { program: path, args: &[], cwd, env, limit, called_off };
    let ran = run
        .until_end(&mut |bytes| output.take(bytes))
        .await
        .map_err(|source| HookError::NotRun { path: path.into(), source })?;
    let exit = match ran.ended {
        Ended::TimedOut => HookExit::TimedOut(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        Ended::CalledOff => HookExit::CalledOff,
        Ended::Signalled(number) => HookExit::Signal(number),
        Ended::Exited(126) => HookExit::NotExecutable,
        Ended::Exited(127) => HookExit::NotFound,
        Ended::Exited(0) if ran.left_behind => HookExit::LeftProcesses,
        Ended::Exited(0) => HookExit::Success,
        Ended::Exited(code) => HookExit::Failed(code),
    };
    Ok(HookOutcome { exit, tail: output.finish(), took: ran.took })
}

/// Keeps the end of the output and passes its beginning on, line by line.
struct Output<'a> {
    tail: VecDeque<u8>,
    line: Vec<u8>,
    lines: usize,
    log: &'a mut (dyn FnMut(&str) + Send),
}

impl Output<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.tail.extend(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.lines > MAX_LINES {
                return;
            }
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend(&text[..text.len().min(room)]);
            if text.len() < piece.len() {
                self.pass_on();
            }
        }
    }

    fn pass_on(&mut self) {
        match self.lines {
            MAX_LINES => (self.log)("(further output is not logged)"),
            _ => (self.log)(&String::from_utf8_lossy(&self.line)),
        }
        self.lines += 1;
        self.line.clear();
    }

    fn finish(mut self) -> String {
        if !self.line.is_empty() {
            self.pass_on();
        }
        in_line(&String::from_utf8_lossy(&Vec::from(self.tail)))
    }
}
