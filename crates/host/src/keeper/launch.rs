//! Starting the node: locks, pipe, exec, and the proof that the right file was executed.
//!
//! # Never two
//!
//! Each lock file is opened afresh and locked, and the node inherits the descriptor; the keeper closes its own copy
//! after the spawn. The kernel keeps an flock for as long as any copy of that descriptor is open: the node's, and
//! that of everything the node starts. So the lock goes when the last of them goes, neither earlier nor later,
//! whatever happens to keeper and supervisor.
//!
//! A lock file can be removed while it is held; the next start would then lock another file. So the directory of
//! every lock but `node.lock` (that is, the data directory) is locked and inherited as well.
//!
//! # Never another file
//!
//! The program's identity (see [`FileIdentity`]) is compared before the exec and again, through
//! `/proc/<pid>/exe`, after it. A file that is executed cannot be written (ETXTBSY), a change before shows in its
//! `ctime`; so an unchanged identity after the exec proves that the verified bytes run. For a script, for a program
//! that has already ended and for one that has already executed another, `/proc/<pid>/exe` cannot tell; there the
//! path itself must lead to the unchanged file both before and after.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdOptions, pidfd_open, pidfd_send_signal};

use super::facts::{FileIdentity, Launch};
use super::protocol::SpawnFailure;
use super::records;
use crate::process::{ProcessStat, holders_of};
use crate::trial::{crash_point, fault};

/// The lock file in the wemixvisor directory that a node holds while it lives.
pub(super) const NODE_LOCK: &str = "node.lock";

/// The wished size of the output pipe: what a node can write while the keeper is busy. The kernel's default limit
/// for users without privileges.
const PIPE_BYTES: usize = 1 << 20;

/// A busy lock is tried again this often, a millisecond apart: a supervisor may just be looking at it.
const LOCK_TRIES: u32 = 20;

/// A program file that is open for writing is tried again this often, this far apart.
const BUSY_TRIES: u32 = 50;
const BUSY_WAIT: Duration = Duration::from_millis(2);

/// A node that was just started.
#[derive(Debug)]
pub(super) struct Launched {
    pub pid: u32,
    pub start_time: u64,
    pub pidfd: OwnedFd,
    /// The reading end of its output.
    pub output: OwnedFd,
}

/// Starts the node of the wemixvisor directory `dir`.
pub(super) fn launch(dir: &Path, launch: &Launch) -> Result<Launched, SpawnFailure> {
    if let Some(node) = records::last_node(dir).filter(|node| node.alive()) {
        // Whatever the lock says (somebody may have removed its file): it runs.
        return Err(SpawnFailure::StillRuns { lock: dir.join(NODE_LOCK), holders: vec![node.pid] });
    }
    crash_point("keeper.spawn.begun");
    let locks = take_locks(dir, &launch.locks)?;
    crash_point("keeper.spawn.locked");
    check_path(launch)?;
    let (output, node_end) = output_pipe().map_err(|error| prepare("make the output pipe", error))?;
    if !launch.cwd.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(prepare(&format!("enter the working directory {}", launch.cwd.display()), error));
    }
    records::announce_node(dir, launch).map_err(|error| prepare("forget the last node", error))?;
    crash_point("keeper.spawn.announced");
    let pid = execute(launch, node_end, &locks)?;
    crash_point("keeper.spawn.executed");
    drop(locks);
    let watched = fault("keeper.spawn.watch").and_then(|()| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    let pidfd = watched.map_err(|error| {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        prepare("watch the new process", error)
    })?;
    let number = pid.as_raw_nonzero().get() as u32;
    if !executes(number, launch) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        // It must be gone before the next launch finds its locks held. NOWAIT: collecting it is the main loop's.
        let _ = rustix::process::waitid(
            rustix::process::WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        return Err(SpawnFailure::Changed { program: launch.program.clone() });
    }
    let start_time = ProcessStat::of(number).map(|stat| stat.start_time).unwrap_or_default();
    Ok(Launched { pid: number, start_time, pidfd, output })
}

fn prepare(what: &str, error: io::Error) -> SpawnFailure {
    SpawnFailure::Prepare { what: what.to_owned(), error: error.to_string() }
}

/// Takes `node.lock`, all further locks and the directories of these; two paths to one file are one lock.
fn take_locks(dir: &Path, further: &[PathBuf]) -> Result<Vec<File>, SpawnFailure> {
    let mut taken: Vec<File> = Vec::new();
    let own = dir.join(NODE_LOCK);
    for path in std::iter::once(&own).chain(further) {
        let failed = |error: io::Error| SpawnFailure::Lock { path: path.clone(), error: error.to_string() };
        let file = open_lock(path).map_err(failed)?;
        if taken.iter().any(|other| is_same(other, &file)) {
            continue;
        }
        if !lock(&file).map_err(failed)? {
            return Err(SpawnFailure::StillRuns { lock: path.clone(), holders: holders(&file, path) });
        }
        taken.push(file);
    }
    // The wemixvisor directory itself is the supervisor's lock.
    let wemixvisor = File::open(dir).ok();
    for directory in further.iter().filter_map(|path| path.parent()) {
        let Ok(file) = File::open(directory) else { continue };
        if taken.iter().chain(&wemixvisor).any(|other| is_same(other, &file)) {
            continue;
        }
        match lock(&file) {
            Ok(true) => taken.push(file),
            Ok(false) => {
                let (lock, holders) = (directory.to_owned(), holders(&file, directory));
                return Err(SpawnFailure::StillRuns { lock, holders });
            }
            // A file system that locks no directories (some of the network) has the file's lock only.
            Err(_) => {}
        }
    }
    Ok(taken)
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    fault("keeper.spawn.lock")?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether the lock was had.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(false)
}

fn holders(file: &File, path: &Path) -> Vec<u32> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real.file_name().map(|name| holders_of(file, Path::new(name))).unwrap_or_default()
}

/// The program's path must lead to the verified file.
fn check_path(launch: &Launch) -> Result<(), SpawnFailure> {
    let program = launch.program.clone();
    match FileIdentity::at(&program) {
        Ok(identity) if identity == launch.identity => Ok(()),
        Ok(_) => Err(SpawnFailure::Changed { program }),
        Err(error) => {
            Err(SpawnFailure::Exec { program, error: error.to_string(), errno: error.raw_os_error() })
        }
    }
}

/// A pipe whose reading end does not block, and whose other end is opened for reading *and* writing: the node is
/// then a reader of its own pipe, and without a keeper its writes fill the pipe instead of killing it (SIGPIPE).
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    fault("keeper.spawn.pipe")?;
    let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Best effort: a smaller pipe works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES);
    let path = format!("/proc/self/fd/{}", input.as_raw_fd());
    let node_end = OpenOptions::new().read(true).write(true).open(path)?;
    Ok((output, node_end.into()))
}

/// Forks and executes; returns once the program's image has been replaced, or with the reason why not.
///
/// The exec is our own: the one of `Command` is execvp(3), which hands a file that is no program (a web page saved
/// under its name, say) to the shell.
#[allow(clippy::disallowed_methods)] // This is the place where the node is started.
fn execute(launch: &Launch, node_end: OwnedFd, locks: &[File]) -> Result<Pid, SpawnFailure> {
    let errors = node_end.try_clone().map_err(|error| prepare("make the output pipe", error))?;
    let inherited: Vec<RawFd> = locks.iter().map(AsRawFd::as_raw_fd).collect();
    let image = Image::of(launch).map_err(|error| prepare("pass on arguments and environment", error))?;
    let mut command = Command::new(&launch.program);
    command.current_dir(&launch.cwd).stdin(Stdio::inherit()).stdout(node_end).stderr(errors);
    let in_child = move || {
        rustix::process::setsid()?;
        super::signals::default_all();
        for &fd in &inherited {
            // SAFETY: the lock files are open in the parent until after the spawn, so the numbers are theirs here.
            #[allow(unsafe_code)]
            let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        crash_point("keeper.spawn.forked");
        Err(image.execute())
    };
    // SAFETY: the keeper has one thread, so at the fork nothing is locked or half changed by another one, and the
    // closure may do what any code may: system calls, and two small allocations.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(in_child);
    }
    let child = spawn(&mut command).map_err(|error| SpawnFailure::Exec {
        program: launch.program.clone(),
        error: error.to_string(),
        errno: error.raw_os_error(),
    })?;
    Pid::from_raw(child.id() as i32).ok_or_else(|| prepare("start", io::ErrorKind::InvalidData.into()))
}

/// Spawns. A program that was just written may still be open for writing in a process that some other program is
/// about to execute; that passes in a moment.
fn spawn(command: &mut Command) -> io::Result<Child> {
    fault("keeper.spawn.fork")?;
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::sleep(BUSY_WAIT),
            result => return result,
        }
    }
    command.spawn()
}

/// What execve(2) takes, made before the fork.
struct Image {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    /// Fails when there is a zero byte in a text: that cannot be passed on.
    fn of(launch: &Launch) -> io::Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let program = launch.program.as_os_str();
        Ok(Self {
            program: text(program.as_bytes())?,
            args: std::iter::once(program)
                .chain(launch.args.iter().map(OsString::as_os_str))
                .map(|arg| text(arg.as_bytes()))
                .collect::<io::Result<_>>()?,
            env: launch
                .env
                .iter()
                .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
                .collect::<io::Result<_>>()?,
        })
    }

    /// Becomes the program; returns only when that fails.
    fn execute(&self) -> io::Error {
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (args, env) = (pointers(&self.args), pointers(&self.env));
        // SAFETY: both lists end with a null pointer, and they and the texts that they point to outlive the call.
        #[allow(unsafe_code)]
        unsafe {
            libc::execve(self.program.as_ptr(), args.as_ptr(), env.as_ptr());
        }
        io::Error::last_os_error()
    }
}

/// Whether process `pid`, which was just executed, runs the verified file.
fn executes(pid: u32, launch: &Launch) -> bool {
    let image = fs::metadata(format!("/proc/{pid}/exe")).map(|metadata| FileIdentity::of(&metadata));
    image.is_ok_and(|image| image == launch.identity) || check_path(launch).is_ok()
}
