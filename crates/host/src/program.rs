//! A program file: what it is, whether this machine can run it, and whether it is still the one that was
//! checked.
//!
//! [`inspect`] reads the file once, from one open descriptor, so that the sum and the verdict are about the
//! same bytes. [`ProgramFile::unchanged`] is the cheap question at the height: the file's identity, and its
//! sum only when the identity cannot vouch for it. [`version`] asks the program itself, under a time limit.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags};
use tokio_util::sync::CancellationToken;

use crate::digest::Digest;
use crate::elf::{self, ElfProblem};
pub use crate::keeper::FileIdentity;
pub use crate::run::RunError;
use crate::run::{self, Ended};

/// The usual limit for `<program> version`: it opens no database, so seconds are plenty even on a busy disk.
pub const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// What is kept of the output of `<program> version`, in bytes.
pub const VERSION_OUTPUT: usize = 64 * 1024;

/// The kernel looks no further for the interpreter of a script.
const SCRIPT_LINE: usize = 256;

/// File times are no finer than the kernel's tick (10 ms at most, seconds on some file systems): a file that
/// changed so short a time before it was looked at can change again without any trace in its identity.
const TICK: Duration = Duration::from_secs(2);

impl FileIdentity {
    /// Whether the last change is long enough past that any further one must show. Asked before the content
    /// is read.
    #[allow(clippy::disallowed_methods)] // Compared with a file's time, which is of the wall clock.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as i128 - i128::from(self.ctime_ns) > TICK.as_nanos() as i128
    }
}

/// What kind of program it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramKind {
    /// Machine code for this machine.
    Elf {
        /// The dynamic loader that it needs; `None` when it is static.
        loader: Option<PathBuf>,
    },
    /// Text that another program runs.
    Script {
        /// That program.
        interpreter: PathBuf,
    },
}

/// A file that passed [`inspect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Which file it is.
    pub identity: FileIdentity,
    /// The sum of its content.
    pub sha256: Digest,
    /// What kind of program it is.
    pub kind: ProgramKind,
    /// Whether the identity vouches for the content; see [`FileIdentity::is_settled`].
    settled: bool,
}

/// What a program said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionOutput {
    /// Standard output and error, at most [`VERSION_OUTPUT`] bytes; what is not UTF-8 is replaced.
    pub text: String,
    /// The exit code; 128 + n after signal n.
    pub exit: i32,
}

/// A file that cannot be the node's program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// There is nothing.
    #[error("there is no program at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A directory.
    #[error("{} is a directory, not a program", path.display())]
    IsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A device, a socket, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// No bytes at all.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No execute permission.
    #[error("{} is not executable (mode {mode:o}): chmod 755", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system forbids execution.
    #[error("{} lies on a file system that is mounted with noexec", path.display())]
    NoExecMount {
        /// The file.
        path: PathBuf,
    },
    /// The end is missing.
    #[error("{} is truncated: {size} bytes of at least {needed}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
        /// The length that its own headers speak of.
        needed: u64,
    },
    /// For another machine.
    #[error("{} is made for {found}, this machine is {host}", path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// What it is made for.
        found: String,
        /// What this machine is.
        host: &'static str,
    },
    /// A page that a web server sent instead of the program.
    #[error("{} is a web page saved under the program's name", path.display())]
    WebPage {
        /// The file.
        path: PathBuf,
    },
    /// Other bytes.
    #[error("{} is neither an executable for Linux nor a script with a #! line", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
    },
    /// A script whose interpreter is missing.
    #[error("{} is a script for {}, which cannot be run here", path.display(), interpreter.display())]
    NoInterpreter {
        /// The script.
        path: PathBuf,
        /// What its first line names.
        interpreter: PathBuf,
    },
    /// A dynamically linked program whose loader is missing.
    #[error("{} needs the dynamic loader {}, which is not on this machine", path.display(), loader.display())]
    NoLoader {
        /// The program.
        path: PathBuf,
        /// The loader.
        loader: PathBuf,
    },
    /// Somebody wrote to it while it was read.
    #[error("{} changed while it was being checked", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `version` could not be started or watched.
    #[error("cannot run {} version", path.display())]
    NotRun {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: RunError,
    },
    /// `version` did not end in time and was killed.
    #[error("{} version did not end within {limit:?} and was killed", path.display())]
    VersionLate {
        /// The program.
        path: PathBuf,
        /// The time it had.
        limit: Duration,
    },
}

impl ProgramError {
    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::IsDirectory { path }
            | Self::NotRegular { path }
            | Self::Empty { path }
            | Self::NotExecutable { path, .. }
            | Self::NoExecMount { path }
            | Self::Truncated { path, .. }
            | Self::OtherMachine { path, .. }
            | Self::WebPage { path }
            | Self::NotAProgram { path }
            | Self::NoInterpreter { path, .. }
            | Self::NoLoader { path, .. }
            | Self::Changing { path }
            | Self::Unreadable { path, .. }
            | Self::NotRun { path, .. }
            | Self::VersionLate { path, .. } => path,
        }
    }
}

/// Looks at a program file: that it is one, whole, for this machine, executable; and its sum. Reads the whole
/// file (about 1 s per GB).
///
/// # Errors
/// [`ProgramError`], each variant a reason of its own.
pub fn inspect(path: &Path) -> Result<ProgramFile, ProgramError> {
    let mut file = open(path)?;
    let data = file.metadata().map_err(|source| unreadable(path, source))?;
    let identity = FileIdentity::of(&data);
    let settled = identity.is_settled();
    if identity.size == 0 {
        return Err(ProgramError::Empty { path: path.into() });
    }
    let kind = kind(path, &mut file, identity.size)?;
    executable(path, &file, &data)?;
    let sha256 = file
        .rewind()
        .and_then(|()| Digest::of_reader(&mut file))
        .map(|(digest, _)| digest)
        .map_err(|source| unreadable(path, source))?;
    let after = file.metadata().map_err(|source| unreadable(path, source))?;
    if FileIdentity::of(&after) != identity {
        return Err(ProgramError::Changing { path: path.into() });
    }
    Ok(ProgramFile { path: path.into(), identity, sha256, kind, settled })
}

impl ProgramFile {
    /// Whether the file at the path is still this very file, untouched, as a `stat` tells.
    pub fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|data| FileIdentity::of(&data) == self.identity)
    }

    /// Whether the file at the path still has the content that was checked. A `stat` when its identity
    /// vouches for that; otherwise (it was replaced, touched, or had just been written when it was checked)
    /// its sum is taken again. A file that cannot be read has changed.
    pub fn unchanged(&self) -> bool {
        let identity = std::fs::metadata(&self.path).map(|data| FileIdentity::of(&data));
        match identity {
            Ok(identity) if identity == self.identity && self.settled => true,
            Ok(_) => inspect(&self.path).is_ok_and(|now| now.sha256 == self.sha256),
            Err(_) => false,
        }
    }
}

/// Runs `<path> version` with this environment and in this directory, without input, for at most `limit`. A
/// non-zero exit is an answer too.
///
/// # Errors
/// [`ProgramError::NotRun`], [`ProgramError::VersionLate`].
pub async fn version(
    path: &Path,
    cwd: &Path,
    env: &[(OsString, OsString)],
    limit: Duration,
) -> Result<VersionOutput, ProgramError> {
    let mut output = Vec::new();
    let mut keep = |bytes: &[u8]| {
        let room = VERSION_OUTPUT - output.len();
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    let called_off = &CancellationToken::new();
    let run = run::Run { program: path, args: &["version".as_ref()], cwd, env, limit, called_off };
    let ran = run
        .until_end(&mut keep)
        .await
        .map_err(|source| ProgramError::NotRun { path: path.into(), source })?;
    match ran.ended {
        // Nobody calls it off.
        Ended::TimedOut | Ended::CalledOff => Err(ProgramError::VersionLate { path: path.into(), limit }),
        Ended::Exited(exit) => {
            Ok(VersionOutput { text: String::from_utf8_lossy(&output).into_owned(), exit })
        }
        Ended::Signalled(signal) => {
            Ok(VersionOutput { text: String::from_utf8_lossy(&output).into_owned(), exit: 128 + signal })
        }
    }
}

fn open(path: &Path) -> Result<File, ProgramError> {
    // Not blocking: a pipe under the program's name must not hold us up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(ProgramError::Missing { path: path.into() }),
        Err(rustix::io::Errno::NXIO) => return Err(ProgramError::NotRegular { path: path.into() }),
        Err(error) => return Err(unreadable(path, error.into())),
    };
    let data = file.metadata().map_err(|source| unreadable(path, source))?;
    match data.file_type() {
        kind if kind.is_dir() => Err(ProgramError::IsDirectory { path: path.into() }),
        kind if !kind.is_file() => Err(ProgramError::NotRegular { path: path.into() }),
        _ => Ok(file),
    }
}

fn kind(path: &Path, file: &mut File, size: u64) -> Result<ProgramKind, ProgramError> {
    let mut start = Vec::new();
    file.take(SCRIPT_LINE as u64).read_to_end(&mut start).map_err(|source| unreadable(path, source))?;
    if start.starts_with(elf::MAGIC) {
        let loader = elf::check(file, size).map_err(|problem| elf_error(path, size, problem))?;
        return match loader {
            Some(loader) if !is_executable_file(&loader) => {
                Err(ProgramError::NoLoader { path: path.into(), loader })
            }
            loader => Ok(ProgramKind::Elf { loader }),
        };
    }
    if let Some(line) = start.strip_prefix(b"#!") {
        let interpreter = interpreter(line);
        return match is_executable_file(&interpreter) {
            true => Ok(ProgramKind::Script { interpreter }),
            false => Err(ProgramError::NoInterpreter { path: path.into(), interpreter }),
        };
    }
    match start.trim_ascii_start().first() {
        Some(b'<') => Err(ProgramError::WebPage { path: path.into() }),
        _ => Err(ProgramError::NotAProgram { path: path.into() }),
    }
}

/// The first word after `#!`, as the kernel takes it: a carriage return belongs to it.
fn interpreter(line: &[u8]) -> PathBuf {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    OsString::from_vec(words.next().unwrap_or_default().to_vec()).into()
}

fn executable(path: &Path, file: &File, data: &Metadata) -> Result<(), ProgramError> {
    let mount = rustix::fs::fstatvfs(file).map_err(|error| unreadable(path, error.into()))?;
    if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(ProgramError::NoExecMount { path: path.into() });
    }
    if !may_execute(path) {
        return Err(ProgramError::NotExecutable { path: path.into(), mode: data.mode() & 0o7777 });
    }
    Ok(())
}

fn is_executable_file(path: &Path) -> bool {
    path.is_file() && may_execute(path)
}

fn may_execute(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

fn elf_error(path: &Path, size: u64, problem: ElfProblem) -> ProgramError {
    let path = path.into();
    match problem {
        ElfProblem::Truncated { needed } => ProgramError::Truncated { path, size, needed },
        ElfProblem::OtherMachine { found, host } => ProgramError::OtherMachine { path, found, host },
        ElfProblem::NotExecutable => ProgramError::NotAProgram { path },
        ElfProblem::Read(source) => ProgramError::Unreadable { path, source },
    }
}

fn unreadable(path: &Path, source: io::Error) -> ProgramError {
    ProgramError::Unreadable { path: path.into(), source }
}
