//! The keeper as the engine needs it: one that is always there, found again when it was lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
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

/// What was asked of a keeper that was lost is asked of the next one, if there is one within this time.
const NEXT_WITHIN: Duration = Duration::from_secs(15);

/// A keeper that is not needed any more ends within milliseconds; this is for a machine that swaps.
const GONE_WITHIN: Duration = Duration::from_secs(5);

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
    keeper: watch::Sender<Arc<Keeper>>,
    node: watch::Sender<Launched>,
}

/// The launch under way or running.
#[derive(Debug, Clone, Copy)]
struct Launched {
    launch: u64,
    /// Its SIGTERM was sent, as a keeper has confirmed: what a new one must know.
    term_sent: bool,
    /// When that was, if this supervisor sent it.
    term_at: Option<tokio::time::Instant>,
    /// It is being started: whether there is a node is told by who starts it.
    being_started: bool,
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
        let (launch, term_sent) =
            state.node.as_ref().map_or((0, false), |node| (node.launch_id, node.term_sent));
        let node = watch::Sender::new(Launched { launch, term_sent, term_at: None, being_started: false });
        let shared = Shared { dir, own_program, log, keeper: watch::Sender::new(Arc::new(keeper)), node };
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
                    let launch = if end.launch_id == 0 { self.node().launch } else { end.launch_id };
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

    /// Starts the node; what a former one left behind is ended first. A keeper that is killed meanwhile is no reason
    /// not to have it: the next one knows whether it runs, and starts it if it does not.
    pub(crate) async fn spawn(&self, launch: Launch) -> Result<u32, SpawnError> {
        let launch_id = launch.launch_id;
        let launched = Launched { launch: launch_id, term_sent: false, term_at: None, being_started: true };
        self.shared.node.send_replace(launched);
        let mut result = Err(KeeperError::Lost.into());
        for _ in 0..=LOST_TRIES {
            let keeper = self.keeper();
            result = self.spawn_by(&keeper, launch.clone()).await;
            if !matches!(result, Err(SpawnError::Keeper(KeeperError::Lost)))
                || !self.next_after(&keeper).await
            {
                break;
            }
            let state = self.keeper().state().await;
            let node = state.ok().and_then(|state| state.node);
            // One that was adopted without a record has no number; it can be no other than this.
            if let Some(node) = node.filter(|node| [0, launch_id].contains(&node.launch_id)) {
                result = Ok(node.pid);
                break;
            }
        }
        self.shared.node.send_modify(|node| node.being_started = false);
        result
    }

    async fn spawn_by(&self, keeper: &Keeper, launch: Launch) -> Result<u32, SpawnError> {
        let (lock, holders) = match keeper.spawn(launch.clone()).await {
            Ok(node) => return Ok(node.pid),
            Err(SpawnError::NodeStillRuns { lock, holders }) => (lock, holders),
            Err(error) => return Err(error),
        };
        // Who holds a data directory may be of another home. Our own are known, whatever became of their lock file.
        let own = keeper.state().await.map(|state| state.leftovers).unwrap_or_default();
        if !lock.starts_with(&self.shared.dir) && !holders.iter().any(|pid| own.contains(pid)) {
            return Err(SpawnError::NodeStillRuns { lock, holders });
        }
        tracing::warn!("processes of the last node still run ({holders:?}): they are ended first");
        match keeper.end_leftovers().await {
            Ok(()) => keeper.spawn(launch).await.map(|node| node.pid),
            Err(_) => Err(SpawnError::NodeStillRuns { lock, holders }),
        }
    }

    /// The launch under way or running.
    pub(crate) fn launch(&self) -> u64 {
        self.node().launch
    }

    /// Sends this launch its one SIGTERM.
    pub(crate) async fn terminate(&self, launch: u64) {
        crash_point("term.asked");
        if self.order("SIGTERM", launch, async |keeper, of| keeper.terminate(of).await).await {
            let now = tokio::time::Instant::now();
            self.shared.node.send_modify(|node| {
                if node.launch == launch {
                    node.term_sent = true;
                    node.term_at = node.term_at.or(Some(now));
                }
            });
        }
        crash_point("term.answered");
    }

    /// Sends this launch SIGKILL, but not before it has had its SIGTERM for the grace: a keeper that stood still may
    /// not have delivered it yet.
    pub(crate) async fn kill(&self, launch: u64, grace: Duration) {
        crash_point("kill.asked");
        // It may end, and another one be started, whenever this waits.
        while self.node().launch == launch && !self.node().term_sent {
            self.terminate(launch).await;
            if self.keeper().state().await.is_ok_and(|state| state.node.is_none()) {
                return;
            }
            if self.node().launch == launch && !self.node().term_sent {
                tracing::error!(
                    "the keeper has not confirmed SIGTERM, so SIGKILL is not sent either; tried again"
                );
                tokio::time::sleep(RECOVER_EVERY).await;
            }
        }
        if let Some(term_at) = self.node().term_at {
            tokio::time::sleep_until(term_at + grace).await;
        }
        self.order("SIGKILL", launch, async |keeper, of| keeper.kill(of).await).await;
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

    /// For a supervisor that ends after its node: what the node left behind is ended, and the keeper is waited for,
    /// which has its last notes to write. Where this is process 1 of a container, the kernel would kill them.
    pub(crate) async fn leave(&self) {
        let keeper = self.keeper();
        match keeper.state().await {
            Ok(state) if state.node.is_some() => return,
            Ok(state) if !state.leftovers.is_empty() => self.end_leftovers().await,
            _ => {}
        }
        keeper.bye().await;
        if !Keeper::is_gone(&self.shared.dir, GONE_WITHIN).await {
            tracing::warn!("the node's keeper has not ended within {} s", GONE_WITHIN.as_secs());
        }
    }

    fn keeper(&self) -> Arc<Keeper> {
        self.shared.keeper.borrow().clone()
    }

    fn node(&self) -> Launched {
        *self.shared.node.borrow()
    }

    /// Has a keeper do something to the node of this launch, and to no later one; the answer is whether it was done.
    async fn order(
        &self,
        what: &str,
        launch: u64,
        give: impl AsyncFn(Arc<Keeper>, Option<u64>) -> Result<(), KeeperError>,
    ) -> bool {
        let mut result = Err(KeeperError::NoNode);
        for _ in 0..=LOST_TRIES {
            if self.node().launch != launch {
                break;
            }
            let keeper = self.keeper();
            result = give(keeper.clone(), (launch != 0).then_some(launch)).await;
            if !matches!(result, Err(KeeperError::Lost)) || !self.next_after(&keeper).await {
                break;
            }
        }
        let done = result.is_ok();
        said(what, result);
        done
    }

    /// Waits for the keeper after this one, which was lost; the answer is whether there is one.
    async fn next_after(&self, lost: &Arc<Keeper>) -> bool {
        let mut keepers = self.shared.keeper.subscribe();
        let next = keepers.wait_for(|keeper| !Arc::ptr_eq(keeper, lost));
        tokio::time::timeout(NEXT_WITHIN, next).await.is_ok_and(|next| next.is_ok())
    }

    /// Tells the engine that the node is gone, if it is, once nobody is about to start it.
    async fn tell_if_gone(self, mailbox: mpsc::Sender<Message>) {
        let mut node = self.shared.node.subscribe();
        let Ok(Launched { launch, term_sent, .. }) =
            node.wait_for(|node| !node.being_started).await.map(|node| *node)
        else {
            return;
        };
        // A keeper that is lost as well is told of by the next.
        let Ok(state) = self.keeper().state().await else { return };
        if state.node.is_none() && self.node().launch == launch && !self.node().being_started {
            let exit = state.last_exit.as_ref().filter(|end| end.launch_id == launch).map(node_exit);
            let exit = exit.unwrap_or_else(|| unseen_end(term_sent));
            // Nobody reads it any more when the supervisor ends.
            let _ = mailbox.send(Message::Happened(Input::NodeExited { launch, exit })).await;
        }
    }

    async fn recover(&self, mailbox: &mpsc::Sender<Message>) -> Option<mpsc::Receiver<KeeperEvent>> {
        let Shared { dir, own_program, log, .. } = &*self.shared;
        tracing::warn!("the node's keeper is gone; the node is looked for");
        loop {
            let term_sent = self.node().term_sent;
            match find_or_start(dir, own_program, log, term_sent).await {
                Ok((mut keeper, state)) => {
                    let events = keeper.take_events();
                    self.shared.keeper.send_replace(Arc::new(keeper));
                    if let Some(node) = &state.node {
                        tracing::warn!("the node (pid {}) ran on and has a new keeper", node.pid);
                    }
                    tokio::spawn(self.clone().tell_if_gone(mailbox.clone()));
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

/// The end of a node that nobody saw.
pub(crate) fn unseen_end(term_sent: bool) -> exit::NodeExit {
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
