//! Running a short-lived program to its end, whatever it does: hooks and `<program> version`.
//!
//! It gets its own process group, no input, and one pipe for all its output. The pipe is read all the time, so
//! any amount of output neither blocks it nor fills memory. When its time is up the whole group gets SIGTERM,
//! then SIGKILL. When it ends, what it left behind in the group is ended too. The group's id cannot be taken
//! by a stranger meanwhile: the program is reaped last of all.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

use crate::children::{self, Awaited};
use crate::trial::fault;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// From SIGKILL to giving up: a process that hangs in the kernel cannot be ended.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Children that end in the same moment as their parent are not "left behind".
const CHILDREN_MAY_END: Duration = Duration::from_millis(200);

/// How often the process group is looked at while waiting for it to be empty.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Signalled(i32),
    TimedOut,
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
    #[error("process {pid} was killed after its time limit but does not end: it hangs in the kernel")]
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
        let timed_out = group.wait(started + self.limit, &mut output, on_output).await?;
        let left_behind = group.end_the_rest().await;
        last_words(&output, on_output);
        let status = group.reap().map_err(RunError::NotWatched)?;
        let ended = match (timed_out, status.code(), status.signal()) {
            (true, _, _) => Ended::TimedOut,
            (false, Some(code), _) => Ended::Exited(code),
            (false, None, signal) => Ended::Signalled(signal.unwrap_or_default()),
        };
        Ok(Ran { ended, took: started.elapsed(), left_behind })
    }

    #[allow(clippy::disallowed_methods)] // One of the rooms where processes are started.
    fn spawn(&self) -> io::Result<(Group, OwnedFd)> {
        fault("hook.start")?;
        let (ours, theirs) = io::pipe()?;
        let mut command = Command::new(self.program);
        command
            .args(self.args)
            .current_dir(self.cwd)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            .process_group(0);
        let started = children::start(|| command.spawn(), |child| Some(child.id()))?;
        // Their end of the pipe must be closed here, or it never ends.
        drop(command);
        Ok((Group { child: Some(started) }, ours.into()))
    }
}

/// The process group of one started program, whose leader is not reaped yet.
struct Group {
    child: Option<(Child, Awaited)>,
}

impl Group {
    /// Waits until the leader has ended, reading its output; the answer is whether its time was up.
    async fn wait(
        &self,
        deadline: Instant,
        output: &mut Receiver,
        on_output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<bool, RunError> {
        let Some(pid) = self.pid() else { return Ok(false) };
        let ended = exit_of(pid).map_err(RunError::NotWatched)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut output_open = true;
        let mut next = Some((Signal::TERM, GRACE));
        let mut timed_out = false;
        let timer = sleep_until(deadline);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                ready = ended.readable() => return ready.map(|_| timed_out).map_err(RunError::NotWatched),
                () = &mut timer => {
                    timed_out = true;
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

    /// Ends what is left of the group after its leader; the answer is whether there was anything.
    async fn end_the_rest(&self) -> bool {
        if self.empties_within(CHILDREN_MAY_END).await {
            return false;
        }
        self.signal(Signal::TERM);
        if !self.empties_within(GRACE).await {
            self.signal(Signal::KILL);
            self.empties_within(KILL_LIMIT).await;
        }
        true
    }

    async fn empties_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.has_members() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Whether a process that is not yet a zombie belongs to the group.
    fn has_members(&self) -> bool {
        let (Some(pid), Ok(processes)) = (self.pid(), fs::read_dir("/proc")) else { return false };
        let group = pid.as_raw_nonzero().to_string();
        processes.flatten().any(|process| {
            let is_process = process.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
            let Some(stat) = is_process.then(|| fs::read(process.path().join("stat")).ok()).flatten() else {
                return false;
            };
            let stat = String::from_utf8_lossy(&stat);
            // "pid (name) state ppid pgrp …", where the name may hold anything.
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
            let (state, pgrp) = (fields.next(), fields.nth(1));
            pgrp == Some(group.as_str()) && !matches!(state, Some("Z" | "X") | None)
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // The leader is not reaped, so the group is still this one; that it is empty is no failure.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
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
