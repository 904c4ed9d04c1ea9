//! The keeper as the engine needs it: one that is always there, found again when it was lost.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use wemixvisor_core::command_line::CommandLine;
use wemixvisor_core::engine::port::Input;
use wemixvisor_core::exit;
use wemixvisor_host::keeper::{
    AdoptHint, Found, Keeper, KeeperError, KeeperEvent, KeeperState, Launch, LogPolicy, SpawnError,
};
use wemixvisor_host::trial::crash_point;

use crate::handle::Message;
use crate::recorded::node_exit;

/// A keeper answers within microseconds; this is for a machine that swaps.
const FIND_LIMIT: Duration = Duration::from_secs(5);

/// So often a keeper may be lost in the middle of the first words before that counts as an error: once is an
/// accident, a keeper that always dies has a cause.
const LOST_TRIES: u32 = 3;

/// A keeper that cannot be had again is tried for so often.
const RECOVER_EVERY: Duration = Duration::from_secs(1);

/// The keeper, whichever it is at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    own_program: PathBuf,
    log: LogPolicy,
    keeper: Mutex<Arc<Keeper>>,
    /// The launch under way or running, and whether its SIGTERM was asked for: what a new keeper must know.
    node: Mutex<(u64, bool)>,
}

/// The keeper cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeepingError {
    /// It is there but stands still.
    #[error(
        "the node's keeper{} holds its lock but does not answer; it may be stopped (SIGSTOP) or wait for a disk that \
         hangs. Nothing was started beside it. Let it go on (kill -CONT) or look at the disk, then start again",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Unresponsive {
        /// Its process id, where it is known.
        pid: Option<u32>,
    },
    /// Anything else.
    #[error("cannot start the node's keeper")]
    Keeper(#[from] KeeperError),
}

impl Keeping {
    /// Finds the keeper of the home, or starts one; a node without a keeper is taken over.
    pub(crate) async fn find(
        dir: PathBuf,
        own_program: PathBuf,
        log: LogPolicy,
    ) -> Result<(Self, KeeperState, mpsc::Receiver<KeeperEvent>), KeepingError> {
        let (mut keeper, state) = find_or_start(&dir, &own_program, &log, false).await?;
        let events = keeper.take_events();
        let node = state.node.as_ref().map_or((0, false), |node| (node.launch_id, node.term_sent));
        let shared =
            Shared { dir, own_program, log, keeper: Mutex::new(Arc::new(keeper)), node: Mutex::new(node) };
        Ok((Self { shared: Arc::new(shared) }, state, events))
    }

    /// Passes the keeper's events on to the mailbox for ever, and finds a new keeper when it is lost.
    pub(crate) async fn listen(
        self,
        mut events: mpsc::Receiver<KeeperEvent>,
        mailbox: mpsc::Sender<Message>,
    ) {
        loop {
            match events.recv().await {
                Some(KeeperEvent::Exited(end)) => {
                    // A node that was adopted without a record has no number of its own.
                    let launch = if end.launch_id == 0 { lock(&self.shared.node).0 } else { end.launch_id };
                    let input = Input::NodeExited { launch, exit: node_exit(&end) };
                    if mailbox.send(Message::Happened(input)).await.is_err() {
                        return;
                    }
                }
                Some(KeeperEvent::Lost) | None => match self.recover(&mailbox).await {
                    Some(again) => events = again,
                    None => return,
                },
            }
        }
    }

    /// Starts the node; what a former one left behind is ended first.
    pub(crate) async fn spawn(&self, launch: Launch) -> Result<u32, SpawnError> {
        let keeper = self.keeper();
        *lock(&self.shared.node) = (launch.launch_id, false);
        match keeper.spawn(launch.clone()).await {
            Ok(node) => Ok(node.pid),
            Err(SpawnError::NodeStillRuns { lock, holders }) if lock.starts_with(&self.shared.dir) => {
                tracing::warn!("processes of the last node still run ({holders:?}): they are ended first");
                match keeper.end_leftovers().await {
                    Ok(()) => keeper.spawn(launch).await.map(|node| node.pid),
                    Err(_) => Err(SpawnError::NodeStillRuns { lock, holders }),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the one SIGTERM.
    pub(crate) async fn terminate(&self) {
        lock(&self.shared.node).1 = true;
        crash_point("term.asked");
        said("SIGTERM", self.keeper().terminate().await);
        crash_point("term.answered");
    }

    /// Sends SIGKILL.
    pub(crate) async fn kill(&self) {
        crash_point("kill.asked");
        said("SIGKILL", self.keeper().kill().await);
        crash_point("kill.answered");
    }

    /// Sends SIGQUIT.
    pub(crate) async fn quit(&self) {
        said("SIGQUIT", self.keeper().quit().await);
    }

    /// Ends what the node left behind.
    pub(crate) async fn end_leftovers(&self) {
        said("the end of leftover processes", self.keeper().end_leftovers().await);
    }

    fn keeper(&self) -> Arc<Keeper> {
        lock(&self.shared.keeper).clone()
    }

    async fn recover(&self, mailbox: &mpsc::Sender<Message>) -> Option<mpsc::Receiver<KeeperEvent>> {
        let Shared { dir, own_program, log, .. } = &*self.shared;
        tracing::warn!("the node's keeper is gone; the node is looked for");
        loop {
            let (launch, term_sent) = *lock(&self.shared.node);
            match find_or_start(dir, own_program, log, term_sent).await {
                Ok((mut keeper, state)) => {
                    let events = keeper.take_events();
                    *lock(&self.shared.keeper) = Arc::new(keeper);
                    match &state.node {
                        Some(node) => {
                            tracing::warn!("the node (pid {}) ran on and has a new keeper", node.pid)
                        }
                        None => {
                            let exit =
                                state.last_exit.as_ref().filter(|end| end.launch_id == launch).map(node_exit);
                            let exit = exit.unwrap_or_else(|| unseen(term_sent));
                            let input = Input::NodeExited { launch, exit };
                            mailbox.send(Message::Happened(input)).await.ok()?;
                        }
                    }
                    return Some(events);
                }
                Err(error) => tracing::error!("{error}; tried again in {} s", RECOVER_EVERY.as_secs()),
            }
            if mailbox.is_closed() {
                return None;
            }
            tokio::time::sleep(RECOVER_EVERY).await;
        }
    }
}

async fn find_or_start(
    dir: &std::path::Path,
    own_program: &std::path::Path,
    log: &LogPolicy,
    term_sent: bool,
) -> Result<(Keeper, KeeperState), KeepingError> {
    let mut lost = 0;
    loop {
        match find_or_start_once(dir, own_program, log, term_sent).await {
            // It was killed while it was spoken to. What it had begun is found by the next look.
            Err(KeepingError::Keeper(KeeperError::Lost)) if lost < LOST_TRIES => lost += 1,
            done => return done,
        }
    }
}

async fn find_or_start_once(
    dir: &std::path::Path,
    own_program: &std::path::Path,
    log: &LogPolicy,
    term_sent: bool,
) -> Result<(Keeper, KeeperState), KeepingError> {
    match Keeper::find(dir, FIND_LIMIT).await? {
        Found::Running(keeper, state) => Ok((keeper, state)),
        Found::Nothing => Ok(Keeper::start(dir, own_program, None).await?),
        Found::OrphanedNode { .. } => {
            let hint = AdoptHint { term_sent, log: log.clone() };
            Ok(Keeper::start(dir, own_program, Some(hint)).await?)
        }
        Found::Unresponsive { pid } => Err(KeepingError::Unresponsive { pid }),
    }
}

fn unseen(term_sent: bool) -> exit::NodeExit {
    exit::NodeExit {
        status: exit::WaitStatus::Unknown,
        term_sent,
        kill_sent: false,
        out_of_memory: false,
        tail: String::new(),
    }
}

/// The engine's command line as the keeper takes it.
pub(crate) fn words(line: &CommandLine) -> Vec<std::ffi::OsString> {
    line.args.iter().map(|word| word.as_os_str().to_owned()).collect()
}

fn said(what: &str, result: Result<(), KeeperError>) {
    match result {
        Ok(()) | Err(KeeperError::NoNode) => {}
        Err(error) => tracing::error!("{what} was not delivered to the node: {error}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
