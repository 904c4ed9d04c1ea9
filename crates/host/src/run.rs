//! Running a short-lived program to its end, whatever it does: hooks and `<program> version`.
//!
//! It gets its own process group, no input, and one pipe for all its output. The pipe is read all the time, so
//! any amount of output neither blocks it nor fills memory. When its time is up, or nobody waits for it any more,
//! everything of it gets SIGTERM, then SIGKILL. When it ends, what it left behind is ended too. The group's id cannot be taken by a stranger
//! meanwhile: the program is reaped last of all.
//!
//! What is "of it": its group, whoever descends from these, and, because a session of its own and the death of a
//! parent hide a process from both, whoever has the run's mark in its environment. By the mark the next supervisor
//! also finds what one that was killed left running ([`end_left_running`]). Only what has wiped its environment
//! *and* lost its parent is not seen.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::children::{self, Awaited};
use crate::process::{ProcessStat, group, trees, with_variable};
use crate::trial::fault;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// From SIGKILL to giving up: a process that hangs in the kernel cannot be ended.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Children that end in the same moment as their parent are not "left behind".
const CHILDREN_MAY_END: Duration = Duration::from_millis(200);

/// How often the process group is looked at while waiting for it to be empty.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a process needs to become another program, on any but a swapping machine.
const BECOMES_ANOTHER: Duration = Duration::from_millis(2);

/// The variable that marks what a run starts: the place it runs in, the process that started it, a number.
pub const MARK: &str = "WEMIXVISOR_RUN";

/// After the end at most this much is still read from the pipe, in bytes: the most a pipe can hold.
const LAST_WORDS: usize = 1024 * 1024;

/// What is to be run.
pub(crate) struct Run<'a> {
    pub program: &'a Path,
    pub args: &'a [&'a OsStr],
    pub cwd: &'a Path,
    /// The whole environment: nothing is inherited.
    pub env: &'a [(OsString, OsString)],
    pub limit: Duration,
    /// Ends it before its time is up.
    pub called_off: &'a CancellationToken,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Signalled(i32),
    TimedOut,
    /// It was called off, and ended in the same way.
    CalledOff,
}

pub(crate) struct Ran {
    pub ended: Ended,
    pub took: Duration,
    /// Whether processes of its group outlived it and had to be ended.
    pub left_behind: bool,
}

/// A program that could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was not started.
    #[error("it could not be started")]
    NotStarted(#[source] io::Error),
    /// It was started, could not be watched, and was killed.
    #[error("it could not be watched and was killed")]
    NotWatched(#[source] io::Error),
    /// Not even SIGKILL ended it.
    #[error("process {pid} was killed but does not end: it hangs in the kernel")]
    Unkillable {
        /// Its process id.
        pid: u32,
    },
}

impl Run<'_> {
    /// Starts it and waits for its end; every piece of output is shown to `on_output`. Dropping the future
    /// kills the group.
    pub async fn until_end(&self, on_output: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Ran, RunError> {
        let started = Instant::now();
        let (mut group, output) = self.spawn().map_err(RunError::NotStarted)?;
        let mut output = Receiver::from_owned_fd(output).map_err(RunError::NotWatched)?;
        let cut_off = group.wait(started + self.limit, self.called_off, &mut output, on_output).await?;
        let left_behind = group.end_the_rest().await;
        last_words(&output, on_output);
        let status = group.reap().map_err(RunError::NotWatched)?;
        let ended = match (cut_off, status.code(), status.signal()) {
            (Some(cut_off), _, _) => cut_off,
            (None, Some(code), _) => Ended::Exited(code),
            (None, None, signal) => Ended::Signalled(signal.unwrap_or_default()),
        };
        Ok(Ran { ended, took: started.elapsed(), left_behind })
    }

    #[allow(clippy::disallowed_methods)] // One of the rooms where processes are started.
    fn spawn(&self) -> io::Result<(Group, OwnedFd)> {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        fault("hook.start")?;
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}{}-{number}", place(self.cwd)?, std::process::id());
        let (ours, theirs) = io::pipe()?;
        let mut command = Command::new(self.program);
        command
            .args(self.args)
            .current_dir(self.cwd)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            .process_group(0);
        let started = children::start(|| command.spawn(), |child| Some(child.id()))?;
        // Their end of the pipe must be closed here, or it never ends.
        drop(command);
        let since = ProcessStat::of(started.0.id()).map_or(0, |stat| stat.start_time);
        Ok((Group { child: Some(started), since, mark: format!("{MARK}={mark}") }, ours.into()))
    }
}

/// What is said of a program's output where there is room for one line, in characters.
pub(crate) const LINE: usize = 200;

/// The end of a program's output, where the reason of a failure stands, in one line of at most [`LINE`] characters.
pub(crate) fn in_line(output: &str) -> String {
    let words: Vec<&str> = output.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match line.chars().count() {
        0..=LINE => line,
        count => "…".chars().chain(line.chars().skip(count - LINE + 1)).collect(),
    }
}

/// The beginning of every mark of runs in this directory, whatever it is called.
fn place(cwd: &Path) -> io::Result<String> {
    let data = fs::metadata(cwd)?;
    Ok(format!("{:x}-{:x}-", data.dev(), data.ino()))
}

/// Ends what runs of other processes (of a supervisor that was killed) have left running in the directory `cwd`: by
/// SIGTERM, 5 s later by SIGKILL. The answer is whom. Asks every process of the machine for its environment, for
/// which a process that hangs in the kernel can keep the calling thread waiting.
///
/// # Errors
/// [`RunError::Unkillable`]: not all of them end.
pub async fn end_left_running(cwd: &Path) -> Result<Vec<u32>, RunError> {
    // Of a place that is not there nothing runs.
    let Ok(place) = place(cwd) else { return Ok(Vec::new()) };
    let (theirs, own) = (format!("{MARK}={place}"), format!("{MARK}={place}{}-", std::process::id()));
    let is_theirs =
        |variable: &[u8]| variable.starts_with(theirs.as_bytes()) && !variable.starts_with(own.as_bytes());
    let members = || trees(&with_variable(0, is_theirs));
    let found = members();
    if !found.is_empty() {
        end_gently(&members).await?;
    }
    Ok(found)
}

/// Ends processes by SIGTERM, then by SIGKILL.
async fn end_gently(members: &impl Fn() -> Vec<u32>) -> Result<(), RunError> {
    signal_all(members, Signal::TERM);
    if are_gone_within(GRACE, members, || {}).await {
        return Ok(());
    }
    // Again and again: they may go on forking.
    match are_gone_within(KILL_LIMIT, members, || signal_all(members, Signal::KILL)).await {
        true => Ok(()),
        false => Err(RunError::Unkillable { pid: members().first().copied().unwrap_or_default() }),
    }
}

/// Looks until they are gone; the answer is whether they are within the limit. `meanwhile` is done before each look.
async fn are_gone_within(limit: Duration, members: &impl Fn() -> Vec<u32>, meanwhile: impl Fn()) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        meanwhile();
        if members().is_empty() {
            // A process has no environment to be seen while it becomes another program.
            sleep(BECOMES_ANOTHER).await;
            if members().is_empty() {
                return true;
            }
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Signals each of them. With a pidfd held an id cannot pass on: whoever is still a member then is the one meant.
fn signal_all(members: &impl Fn() -> Vec<u32>, signal: Signal) {
    let open = |pid: u32| {
        let id = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some((pid, rustix::process::pidfd_open(id, PidfdFlags::empty()).ok()?))
    };
    let held: Vec<(u32, OwnedFd)> = members().into_iter().filter_map(open).collect();
    if held.is_empty() {
        return;
    }
    let still = members();
    for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        // One that has just ended is no failure.
        let _ = rustix::process::pidfd_send_signal(pidfd, signal);
    }
}

/// All of one started program, whose leader, the first process, is not reaped yet.
struct Group {
    child: Option<(Child, Awaited)>,
    /// When the leader started, in clock ticks since boot: nothing of the run is older.
    since: u64,
    /// The variable that all of the run have in their environment.
    mark: String,
}

impl Group {
    /// Waits until the leader has ended, reading its output; the answer is why it had to be ended, if so.
    async fn wait(
        &self,
        deadline: Instant,
        called_off: &CancellationToken,
        output: &mut Receiver,
        on_output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Option<Ended>, RunError> {
        let Some(pid) = self.pid() else { return Ok(None) };
        let ended = exit_of(pid).map_err(RunError::NotWatched)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut output_open = true;
        let mut next = Some((Signal::TERM, GRACE));
        let mut cut_off = None;
        let timer = sleep_until(deadline);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                ready = ended.readable() => return ready.map(|_| cut_off).map_err(RunError::NotWatched),
                () = called_off.cancelled(), if cut_off.is_none() => {
                    cut_off = Some(Ended::CalledOff);
                    timer.as_mut().reset(Instant::now());
                }
                () = &mut timer => {
                    cut_off = cut_off.or(Some(Ended::TimedOut));
                    let Some((signal, patience)) = next else {
                        return Err(RunError::Unkillable { pid: pid.as_raw_nonzero().get().unsigned_abs() });
                    };
                    self.signal(signal);
                    next = (signal == Signal::TERM).then_some((Signal::KILL, KILL_LIMIT));
                    timer.as_mut().reset(Instant::now() + patience);
                }
                read = output.read(&mut buffer), if output_open => match read {
                    Ok(count) if count > 0 => on_output(&buffer[..count]),
                    _ => output_open = false,
                },
            }
        }
    }

    /// Ends what is left after the leader; the answer is whether there was anything.
    async fn end_the_rest(&self) -> bool {
        let members = || self.members();
        if are_gone_within(CHILDREN_MAY_END, &members, || {}).await {
            return false;
        }
        // One that hangs in the kernel is no reason to hide how its leader ended.
        let _ = end_gently(&members).await;
        true
    }

    /// All living processes of the run.
    fn members(&self) -> Vec<u32> {
        let Some(pid) = self.pid() else { return Vec::new() };
        let leader = pid.as_raw_nonzero().get().unsigned_abs();
        let mut roots = group(leader);
        roots.push(leader);
        roots.extend(with_variable(self.since, |variable| variable == self.mark.as_bytes()));
        trees(&roots)
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        // The group as a whole, so that none is missed that is just being forked. The leader is not reaped, so it is
        // still this group; that it is empty is no failure.
        let _ = rustix::process::kill_process_group(pid, signal);
        let grouped = group(pid.as_raw_nonzero().get().unsigned_abs());
        let others = || self.members().into_iter().filter(|pid| !grouped.contains(pid)).collect();
        signal_all(&others, signal);
    }

    fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(|(child, _)| Pid::from_child(child))
    }

    /// Takes the exit status of the leader, which has ended.
    fn reap(&mut self) -> io::Result<std::process::ExitStatus> {
        self.signal(Signal::KILL);
        match self.child.take() {
            Some((mut child, _awaited)) => child.wait(),
            None => Err(io::Error::other("reaped already")),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some((mut child, awaited)) = self.child.take() {
            // Whoever dropped the run must not wait for a process that hangs in the kernel.
            std::thread::spawn(move || {
                let _ = child.wait();
                drop(awaited);
            });
        }
    }
}

/// Becomes readable when the process ends.
#[allow(unsafe_code)]
fn exit_of(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` is open, and always the same descriptor, for as long as the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// What is still in the pipe after the end. Whoever escaped from the group may keep it open: no waiting.
fn last_words(output: &Receiver, on_output: &mut (dyn FnMut(&[u8]) + Send)) {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    while let Ok(count @ 1..) = output.try_read(&mut buffer) {
        on_output(&buffer[..count]);
        total += count;
        if total >= LAST_WORDS {
            return;
        }
    }
}
