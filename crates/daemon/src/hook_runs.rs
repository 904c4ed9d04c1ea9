//! The runs of hooks. One that was called off may still be ending: the next one waits for its turn, so that never two
//! run at once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wemixvisor_core::engine::port::Input;
use wemixvisor_host::hooks::{HookExit, run_hook};
use wemixvisor_host::trial::crash_point;

use crate::handle::Message;
use crate::preparing::{said, with_words};

/// What one run does.
pub(crate) struct HookJob {
    /// The hooks, run one after the other until one fails.
    pub(crate) paths: Vec<PathBuf>,
    /// Where they run.
    pub(crate) home: PathBuf,
    /// The whole environment that they get.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// How long each may take.
    pub(crate) limit: Duration,
}

#[derive(Default)]
pub(crate) struct HookRuns {
    /// Held by the run whose processes live.
    turn: Arc<tokio::sync::Mutex<()>>,
    tasks: JoinSet<()>,
    /// The newest run, and how it is called off.
    newest: Option<(u64, CancellationToken)>,
}

impl HookRuns {
    /// Begins a run; the one before it, if it still lives, is waited for by nobody any more. Its end
    /// is told through the mailbox.
    pub(crate) fn begin(&mut self, run: u64, job: HookJob, mailbox: mpsc::Sender<Message>) {
        while self.tasks.try_join_next().is_some() {}
        let called_off = CancellationToken::new();
        if let Some((_, before)) = self.newest.replace((run, called_off.clone())) {
            before.cancel();
        }
        let turn = self.turn.clone();
        self.tasks.spawn(async move {
            let _turn = turn.lock().await;
            crash_point("hook.begun");
            let result = job.run(&called_off).await;
            crash_point("hook.ended");
            // Nobody reads it any more when the supervisor ends.
            let _ = mailbox.send(Message::Happened(Input::HookEnded { run, result })).await;
        });
    }

    /// Ends the hook of this run, if it is the newest.
    pub(crate) fn call_off(&mut self, run: u64) {
        if let Some((_, called_off)) = self.newest.take_if(|(newest, _)| *newest == run) {
            tracing::info!("the hook that runs is ended: its upgrade does not wait for it any more");
            called_off.cancel();
        }
    }

    /// Ends whatever runs.
    pub(crate) fn end(&mut self) {
        self.tasks.abort_all();
    }
}

impl HookJob {
    async fn run(self, called_off: &CancellationToken) -> Result<String, String> {
        for path in self.paths {
            if called_off.is_cancelled() {
                break;
            }
            let mut log = |line: &str| tracing::info!("{}: {line}", path.display());
            match run_hook(&path, &self.home, &self.environment, self.limit, called_off, &mut log).await {
                Ok(outcome) if outcome.exit == HookExit::Success => {}
                Ok(outcome) => {
                    return Err(with_words(format!("{} {}", path.display(), outcome.exit), &outcome.tail));
                }
                Err(error) => return Err(said(&error)),
            }
        }
        Ok(String::new())
    }
}
