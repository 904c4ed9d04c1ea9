//! `wemixvisor drill`: an upgrade to be watched before one matters.
//!
//! A drill lays out a temporary home ([`stage`]) with four versions of the built-in practice node, starts this very
//! program as the supervisor on it, and plays three [`acts`]: a good upgrade, a bad one that is rolled back, and one
//! in which the supervisor is killed with SIGKILL. Nothing is simulated: real processes, real signals, a real chain of
//! blocks. In the end it judges ([`checks`]) by what the practice nodes wrote down about themselves ([`journal`]) and
//! by what the supervisor says. [`story`] is what is told, [`show`] how it looks, [`processes`] how everything is
//! found that has to be ended.
//!
//! With `--json` every line is one object with `at_ms` (milliseconds since the beginning), `act` (0 before the
//! first) and `type`:
//!
//! | `type` | further fields |
//! |---|---|
//! | `begin` | `home`, `kept` |
//! | `act` | `number`, `title`, `why` |
//! | `step` | `mark` (`plain`, `good`, `bad`), `text` |
//! | `countdown` | `name`, `head`, `blocks_left` |
//! | `verdict` | `passed`, `checks` (of `what`, `passed`, `fact`), `took_ms`, `home` (`null` when removed) |
//!
//! A drill that is broken off ends, as every command does, with `{"error", "code"}` instead of the verdict.

mod acts;
mod checks;
mod journal;
mod processes;
mod show;
mod stage;
mod story;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use wemixvisor_daemon::control::ClientError;
use wemixvisor_host::durable::DurableError;
use wemixvisor_host::home::HomeError;

use crate::failure::{Failure, said};
use crate::screen::Screen;
use acts::Play;
use show::Show;
use stage::Stage;
use story::Told;

/// What is asked for.
#[derive(Debug)]
pub struct Drill {
    /// Leave the home where it is.
    pub keep: bool,
    /// This program's own file: it plays the supervisor, the keeper and the practice node.
    pub own_program: PathBuf,
    /// The environment of this process.
    pub environment: Vec<(OsString, OsString)>,
}

/// Why a drill was broken off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// There is no place for the home.
    #[error("no temporary directory can be made in {}; name another place with TMPDIR", dir.display())]
    NoPlace {
        /// Where it was tried.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Programs cannot be run where the home is.
    #[error(
        "{} cannot be run; if the file system is mounted noexec, name another place with TMPDIR",
        program.display()
    )]
    CannotRun {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The home cannot be laid out, for one of many reasons that the place may have.
    #[error("the drill's home cannot be laid out here; another place can be named with TMPDIR")]
    Home(#[from] HomeError),
    /// A file cannot be written.
    #[error("the home cannot be laid out")]
    Durable(#[from] DurableError),
    /// A file or process is not to be had.
    #[error("cannot {doing} ({})", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The supervisor gives no good answer.
    #[error("the drill's supervisor did not do as it was told")]
    Client(#[from] ClientError),
    /// The supervisor ended when it should not.
    #[error("the drill's supervisor ended by itself ({status})")]
    SupervisorEnded {
        /// How.
        status: ExitStatus,
    },
    /// Something did not happen in time.
    #[error("waited {} s in vain for {what}; the machine may be too busy", limit.as_secs())]
    TooLong {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// A signal.
    #[error("{0}")]
    Interrupted(&'static str),
    /// Nobody reads what is told.
    #[error("nobody reads its output any more")]
    ReaderGone,
    /// It cannot be told.
    #[error(transparent)]
    Untold(#[from] Failure),
}

impl Broken {
    /// Whether the supervisor's log may say more.
    fn is_about_the_supervisor(&self) -> bool {
        matches!(self, Self::Client(_) | Self::SupervisorEnded { .. } | Self::TooLong { .. })
    }
}

/// Plays a drill. The answer is the exit code: 0 only if every check holds, else 1. Whatever happens, all processes
/// that were started have ended when this returns, and the home is removed unless it is to be kept.
///
/// # Errors
/// When it is broken off: by a signal, by the machine, or by a supervisor that does not do what it should.
pub async fn play(drill: &Drill, screen: &Screen) -> Result<u8, Failure> {
    let mut signals =
        Signals::catch().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let mut stage = Stage::build(&std::env::temp_dir(), &drill.own_program, &drill.environment)
        .map_err(|broken| Failure::from_error(&broken))?;
    let mut show = Show::new(screen);
    let played = tokio::select! {
        biased;
        signal = signals.next() => Err(Broken::Interrupted(signal)),
        played = perform(drill, &mut stage, &mut show) => played,
    };
    show.close();
    // Read before the end of the node adds to it.
    let last_words = stage.last_words();
    stage.clear().await;
    let home = drill.keep.then(|| stage.keep().display().to_string());
    drop(stage);
    let broken_off = |broken: &Broken| {
        let mut text = format!("the drill was broken off: {}", said(broken));
        if broken.is_about_the_supervisor() && !last_words.is_empty() {
            text.push_str(&format!("\nThe last that was logged:\n{last_words}"));
        }
        if let Some(home) = &home {
            text.push_str(&format!("\nThe home is kept: {home}"));
        }
        Failure::failed(text)
    };
    let checks = played.map_err(|broken| broken_off(&broken))?.checks();
    let passed = checks.iter().all(|check| check.passed);
    let verdict = Told::Verdict { passed, checks, took_ms: show.at_ms(), home: home.clone() };
    show.tell(&verdict).map_err(|broken| broken_off(&broken))?;
    Ok(u8::from(!passed))
}

async fn perform(drill: &Drill, stage: &mut Stage, show: &mut Show<'_>) -> Result<checks::Played, Broken> {
    show.tell(&Told::Begin { home: stage.home().root().display().to_string(), kept: drill.keep })?;
    stage.try_program().await?;
    Play::new(stage, show).through().await
}

/// The signals that break a drill off.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C (SIGINT)",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP: the terminal is gone",
        }
    }
}
