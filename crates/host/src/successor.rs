//! A supervisor gives its place to its program's file as it is on the disk now: the same process, with the same
//! arguments, becomes another program (execve). So the process id stays, and with it whoever looks after it: a
//! service manager, a container, a terminal. The node is its keeper's child and sees nothing of it.
//!
//! Nothing is lost on the way: a signal that comes in between is held back ([`hold_signals`]) and reaches the
//! successor, once it listens ([`release_signals`]). The locks go with the exec, and the successor takes them again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::keeper::{self, StandsStill};
use crate::run::{Ended, Run, RunError, in_line};

/// How long a successor may take to read its settings.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// So much of the end of what it says is read, in bytes: its answer is one line, with every fault of the settings.
const MAX_SAID: usize = 64 * 1024;

/// The signals that a supervisor acts on.
const SIGNALS: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// What takes the place of this program: the file it was called by, and with what.
#[derive(Debug, Clone)]
pub struct Successor {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The arguments with which it only checks its settings, and says so as [`Checked`], in one line of JSON.
    pub check: Vec<OsString>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it was started.
    pub cwd: PathBuf,
    /// The wemixvisor directory, whose keeper it has to speak to before anything else.
    pub keeper_in: PathBuf,
}

/// What `config validate --json` says, as far as it is read here. Only a supervisor's program answers like this.
#[derive(Debug, Deserialize)]
pub struct Checked {
    valid: bool,
    errors: Vec<String>,
}

/// Why the program on the disk cannot take the place of this one.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be run.
    #[error("{} cannot be run", program.display())]
    NotRun {
        /// The program.
        program: PathBuf,
        /// Why.
        source: RunError,
    },
    /// It refuses what it is given.
    #[error("{} could not begin: {said}", program.display())]
    Refuses {
        /// The program.
        program: PathBuf,
        /// What it says, in one line.
        said: String,
    },
    /// It does not answer as a supervisor's program does.
    #[error("{} is no program to supervise with: `config validate --json` was not answered as wemixvisor does{}",
        program.display(), if said.is_empty() { String::new() } else { format!(", but with: {said}") })]
    Another {
        /// The program.
        program: PathBuf,
        /// What it says, in one line.
        said: String,
    },
    /// It would wait for the keeper in vain.
    #[error("the keeper (pid {}) does not answer: {why}", why.pid())]
    Keeper {
        /// What is the matter with it.
        why: StandsStill,
    },
}

impl Successor {
    /// Whether the program on the disk could begin: it is a supervisor's, accepts the settings, and the keeper can
    /// answer it. What it says in full goes to the log.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn is_fit(&self) -> Result<(), Unfit> {
        if let Some(why) = keeper::stands_still(&self.keeper_in).await {
            return Err(Unfit::Keeper { why });
        }
        let program = || self.program.clone();
        let args: Vec<&OsStr> = self.check.iter().map(OsString::as_os_str).collect();
        let check = Run {
            program: &self.program,
            args: &args,
            cwd: &self.cwd,
            env: &self.environment,
            limit: CHECK_LIMIT,
            called_off: &CancellationToken::new(),
        };
        let mut output: Vec<u8> = Vec::new();
        let mut keep = |bytes: &[u8]| {
            output.extend_from_slice(bytes);
            output.drain(..output.len().saturating_sub(MAX_SAID));
        };
        let ran = check.until_end(&mut keep).await;
        let ran = ran.map_err(|source| Unfit::NotRun { program: program(), source })?;
        let words = String::from_utf8_lossy(&output);
        let checked = words.lines().rev().find_map(|line| serde_json::from_str::<Checked>(line).ok());
        let how = match ran.ended {
            Ended::Exited(0) if checked.as_ref().is_some_and(|checked| checked.valid) => return Ok(()),
            Ended::Exited(0) => {
                self.log_words(&words);
                return Err(Unfit::Another { program: program(), said: in_line(&words) });
            }
            Ended::Exited(code) => format!("exit code {code}"),
            Ended::Signalled(signal) => format!("ended by signal {signal}"),
            // Nobody calls it off.
            Ended::TimedOut | Ended::CalledOff => format!("no answer within {} s", CHECK_LIMIT.as_secs()),
        };
        self.log_words(&words);
        let words = match checked {
            Some(Checked { errors, .. }) => in_line(&errors.join("; ")),
            None => in_line(&words),
        };
        let said = if words.is_empty() { how } else { format!("{words} ({how})") };
        Err(Unfit::Refuses { program: program(), said })
    }

    /// A refusal has room for one line only.
    fn log_words(&self, words: &str) {
        words.lines().filter(|line| !line.trim().is_empty()).for_each(|line| {
            tracing::warn!("{}: {line}", self.program.display());
        });
    }

    /// Becomes that program. Returns only when that cannot be done, with the reason; everything is then as before.
    #[allow(clippy::disallowed_methods)] // No process is started: this one goes on as another program.
    pub fn take_over(&self) -> io::Error {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.cwd).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.exec()
    }
}

/// Holds back the signals that a supervisor acts on, in this thread and across [`Successor::take_over`]. What was
/// caught before reaches those who listen; what comes later waits for [`release_signals`].
pub fn hold_signals() {
    set_mask(libc::SIG_BLOCK);
}

/// Lets them through. To be called once somebody listens to each of them.
pub fn release_signals() {
    set_mask(libc::SIG_UNBLOCK);
}

/// Sends SIGTERM to this process: for an order to end that came too late for this program.
pub fn pass_on_term() {
    // Always allowed to oneself.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

fn set_mask(how: libc::c_int) {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; pthread_sigmask only reads it, and writes
    // nothing back to a null pointer.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in SIGNALS {
            libc::sigaddset(signals.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(how, signals.as_ptr(), std::ptr::null_mut());
    }
}
