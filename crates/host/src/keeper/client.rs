//! The supervisor's side: finding, starting and ordering about a keeper.

use std::fs::{File, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::facts::{AdoptHint, KeeperState, Launch, NodeExit, NodeProcess};
use super::link::{self, Order};
use super::place::open_log;
use super::protocol::{Answer, Ask, OfLaunch, SpawnFailure};
use super::{KEEPER_LOCK, KEEPER_LOG, MODE, adopt, launch::NODE_LOCK, records, socket};
use crate::children;
use crate::lock::read_pid;
use crate::process::{ProcessStat, holders_of_removed};
use crate::run;
use crate::trial::fault;

/// How long a keeper may take for a small thing. It needs microseconds; this is for a machine that swaps.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the start of a node may take: reading a large program from a slow disk.
const SPAWN_LIMIT: Duration = Duration::from_secs(60);
/// How long leftover processes get after SIGTERM, and again after SIGKILL.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(2);
/// How often a fact that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// A keeper that stands still for so long is one that does not answer.
const STILL_LIMIT: Duration = Duration::from_secs(1);
/// Events that wait for the supervisor. There is one for each launch.
const EVENTS: usize = 64;

/// A connection to a running keeper. When it is dropped, the keeper sees a supervisor that left, and carries on.
#[derive(Debug)]
pub struct Keeper {
    orders: mpsc::Sender<Order>,
    events: Option<mpsc::Receiver<KeeperEvent>>,
}

/// What happens without being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperEvent {
    /// The node has ended.
    Exited(NodeExit),
    /// The connection to the keeper is lost: it was killed. The node runs on; find out what is there.
    Lost,
}

/// What there is in a wemixvisor directory.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // There is one at a time.
pub enum Found {
    /// No keeper and no node.
    Nothing,
    /// A keeper that answers, and what it knows.
    Running(Keeper, KeeperState),
    /// A node, or something that it started, without a keeper: start one that adopts it.
    OrphanedNode {
        /// The processes that hold the node's lock.
        holders: Vec<u32>,
    },
    /// A keeper that holds its lock but does not answer (stopped, or a disk that hangs). Never start a second one.
    Unresponsive {
        /// Its process id, where it wrote it down.
        pid: Option<u32>,
    },
}

/// What can go wrong with a keeper.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// A file or a process could not be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The keeper was started and said why it cannot serve.
    #[error("the keeper cannot serve: {0}")]
    Refused(String),
    /// The connection broke: the keeper has ended. What was asked for may have been done or not.
    #[error("the connection to the keeper is lost")]
    Lost,
    /// No answer in time. What was asked for may yet be done.
    #[error("the keeper did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// There is no node to do it to: it has ended.
    #[error("no node runs")]
    NoNode,
    /// The keeper is of another version and does not know the order, or its answer is not known here.
    #[error("the running keeper is of another version and does not understand the order")]
    Unsupported,
    /// The keeper tried and failed.
    #[error("the keeper failed: {0}")]
    Failed(String),
    /// Processes that the last node left behind do not end, not even by SIGKILL.
    #[error("processes left behind by the node do not end: {0:?}")]
    Leftovers(Vec<u32>),
}

/// Why no node was started. In every case but [`SpawnError::Keeper`] it is certain that none was.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A node, or something that a node started, still runs and holds a lock.
    #[error("a node still runs: {} is held by {holders:?}", lock.display())]
    NodeStillRuns {
        /// The lock file.
        lock: PathBuf,
        /// The processes that hold it; empty when they are not to be seen (another container, another user).
        holders: Vec<u32>,
    },
    /// A lock file cannot be used.
    #[error("cannot lock {}: {error}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        error: String,
    },
    /// The program's file is not the one that was verified. Whatever was executed is dead again.
    #[error("{} was changed after it was verified", program.display())]
    Changed {
        /// The program.
        program: PathBuf,
    },
    /// The program cannot be executed.
    #[error("cannot execute {}: {error}", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        error: String,
        /// Its number: 2 not there, 8 no program for this machine, 13 not executable.
        errno: Option<i32>,
    },
    /// Something that a launch needs could not be had.
    #[error("cannot {what}: {error}")]
    Prepare {
        /// What was tried.
        what: String,
        /// The system's answer.
        error: String,
    },
    /// The keeper did not answer, so it is not known whether the node was started: ask for its state.
    #[error("it is not known whether the node was started")]
    Keeper(#[from] KeeperError),
}

impl From<SpawnFailure> for SpawnError {
    fn from(why: SpawnFailure) -> Self {
        match why {
            SpawnFailure::StillRuns { lock, holders } => Self::NodeStillRuns { lock, holders },
            SpawnFailure::Lock { path, error } => Self::Lock { path, error },
            SpawnFailure::Changed { program } => Self::Changed { program },
            SpawnFailure::Exec { program, error, errno } => Self::Exec { program, error, errno },
            SpawnFailure::Prepare { what, error } => Self::Prepare { what, error },
        }
    }
}

impl Keeper {
    /// Looks what there is in the wemixvisor directory `dir` and connects to a keeper that runs. Waits at most
    /// about `limit` for its answer.
    pub async fn find(dir: &Path, limit: Duration) -> Result<Found, KeeperError> {
        match timeout(limit, Self::look(dir)).await {
            Ok(found) => found,
            Err(_) => Ok(Found::Unresponsive { pid: keeper_pid(dir) }),
        }
    }

    /// Ends when there is no keeper, or with its answer. A keeper that is about to begin or to end has the lock
    /// and no socket for a moment; one whose lock file or socket was removed makes them anew within seconds.
    async fn look(dir: &Path) -> Result<Found, KeeperError> {
        loop {
            if let Ok(stream) = socket::connect(dir) {
                let keeper = Self::over(stream, dir)?;
                match keeper.ask(Ask::State, Duration::MAX).await {
                    Ok(Answer::State { state }) => return Ok(Found::Running(keeper, *state)),
                    Ok(answer) => return Err(unexpected(answer)),
                    Err(KeeperError::Lost) => {}
                    Err(error) => return Err(error),
                }
            }
            let lock = dir.join(KEEPER_LOCK);
            // Looked at twice: it may be made anew between the two looks before.
            if !is_locked(&lock)? && holders_of_removed(&lock).is_empty() && !is_locked(&lock)? {
                break;
            }
            sleep(LOOK).await;
        }
        let mut holders = adopt::all_holders(dir);
        // The record knows the node whatever became of its lock file.
        let recorded = records::last_node(dir).filter(NodeProcess::alive);
        holders.extend(recorded.map(|node| node.pid).filter(|pid| !holders.contains(pid)));
        if holders.is_empty() && !is_locked(&dir.join(NODE_LOCK))? {
            return Ok(Found::Nothing);
        }
        Ok(Found::OrphanedNode { holders })
    }

    /// Starts a keeper for the wemixvisor directory `dir`: `program` is the shipped program, whose mode
    /// [`MODE`] is [`main`](super::main). With a hint it takes over the node that it finds. This process's standard
    /// input becomes that of the nodes.
    pub async fn start(
        dir: &Path,
        program: &Path,
        adopt: Option<AdoptHint>,
    ) -> Result<(Self, KeeperState), KeeperError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| KeeperError::Io { what, path, source }
        };
        let (ours, theirs) = StdStream::pair().map_err(failed("make a socket for", dir))?;
        let dir = &std::path::absolute(dir).map_err(failed("find", dir))?;
        spawn_keeper(dir, program, theirs.into()).map_err(failed("start a keeper with", program))?;
        ours.set_nonblocking(true).map_err(failed("make a socket for", dir))?;
        let keeper = Self::over(ours, dir)?;
        let ask = adopt.map_or(Ask::State, |hint| Ask::Adopt { hint });
        match keeper.ask(ask, ANSWER_LIMIT).await? {
            Answer::State { state } => Ok((keeper, *state)),
            answer => Err(unexpected(answer)),
        }
    }

    fn over(stream: StdStream, dir: &Path) -> Result<Self, KeeperError> {
        let stream = UnixStream::from_std(stream).map_err(|source| KeeperError::Io {
            what: "use the keeper's socket in",
            path: dir.to_owned(),
            source,
        })?;
        let (orders, to_send) = mpsc::channel(EVENTS);
        let (tell, events) = mpsc::channel(EVENTS);
        tokio::spawn(link::serve(stream, to_send, tell));
        Ok(Self { orders, events: Some(events) })
    }

    /// The events, in order: to be taken once, soon, and read always. Taken again it is an empty, closed channel.
    pub fn take_events(&mut self) -> mpsc::Receiver<KeeperEvent> {
        self.events.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// What the keeper knows now.
    pub async fn state(&self) -> Result<KeeperState, KeeperError> {
        match self.ask(Ask::State, ANSWER_LIMIT).await? {
            Answer::State { state } => Ok(*state),
            answer => Err(unexpected(answer)),
        }
    }

    /// Starts the node; returns once its program is executed and proved to be the verified file.
    pub async fn spawn(&self, launch: Launch) -> Result<NodeProcess, SpawnError> {
        match self.ask(Ask::Spawn { launch: Box::new(launch) }, SPAWN_LIMIT).await? {
            Answer::Started { node } => Ok(node),
            Answer::SpawnFailed { why } => Err(why.into()),
            answer => Err(unexpected(answer).into()),
        }
    }

    /// Sends the node its one SIGTERM. However often this is called, and by how many supervisors one after the
    /// other: one launch gets one. With a launch, it is for none other: [`KeeperError::NoNode`] when that has ended.
    pub async fn terminate(&self, launch_id: Option<u64>) -> Result<(), KeeperError> {
        self.order(Ask::Terminate { of: OfLaunch { launch_id } }).await
    }

    /// Sends the node SIGKILL; with a launch, none other.
    pub async fn kill(&self, launch_id: Option<u64>) -> Result<(), KeeperError> {
        self.order(Ask::Kill { of: OfLaunch { launch_id } }).await
    }

    /// Sends the node SIGQUIT: a Go program writes its stacks to its output and exits 2.
    pub async fn quit(&self) -> Result<(), KeeperError> {
        self.order(Ask::Quit).await
    }

    /// Ends what the last node left behind: SIGTERM, and after 2 s SIGKILL. Does nothing while a node runs.
    /// Returns when all are gone.
    pub async fn end_leftovers(&self) -> Result<(), KeeperError> {
        let mut left = Vec::new();
        for gently in [true, false] {
            let Answer::Rest { .. } = self.ask(Ask::ReapRest { gently }, ANSWER_LIMIT).await? else {
                return Err(KeeperError::Unsupported);
            };
            let all_gone = async {
                loop {
                    left = self.state().await?.leftovers;
                    if left.is_empty() {
                        return Ok(());
                    }
                    sleep(LOOK).await;
                }
            };
            match timeout(LEFTOVER_LIMIT, all_gone).await {
                Ok(result) => return result,
                Err(_) => continue,
            }
        }
        Err(KeeperError::Leftovers(left))
    }

    /// Leaves in good order. The keeper ends if no node runs.
    pub async fn bye(&self) {
        let _ = self.order(Ask::Bye).await;
    }

    /// Waits until no keeper is there in the wemixvisor directory `dir`, at most for `limit`; the answer is whether
    /// that is so.
    pub async fn is_gone(dir: &Path, limit: Duration) -> bool {
        let gone = async {
            while is_locked(&dir.join(KEEPER_LOCK)).is_ok_and(|locked| locked) {
                sleep(LOOK).await;
            }
        };
        timeout(limit, gone).await.is_ok()
    }

    async fn order(&self, what: Ask) -> Result<(), KeeperError> {
        match self.ask(what, ANSWER_LIMIT).await? {
            Answer::Done => Ok(()),
            answer => Err(unexpected(answer)),
        }
    }

    async fn ask(&self, what: Ask, limit: Duration) -> Result<Answer, KeeperError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.orders.send(Order { what, reply }).await.map_err(|_| KeeperError::Lost)?;
            answer.await.map_err(|_| KeeperError::Lost)
        };
        timeout(limit, asked).await.map_err(|_| KeeperError::NoAnswer(limit))?
    }
}

fn unexpected(answer: Answer) -> KeeperError {
    match answer {
        Answer::NoNode => KeeperError::NoNode,
        Answer::Failed { why } => KeeperError::Failed(why),
        Answer::Refused { why } => KeeperError::Refused(why),
        _ => KeeperError::Unsupported,
    }
}

/// The keeper is a child until we die; collecting it is then the business of whoever gets it.
#[allow(clippy::disallowed_methods)] // This is the place where the keeper is started.
fn spawn_keeper(dir: &Path, program: &Path, socket: OwnedFd) -> io::Result<()> {
    fault("keeper.start")?;
    let log = open_log(&dir.join(KEEPER_LOG));
    let mut command = Command::new(program);
    command.arg(MODE).arg("--dir").arg(dir).stdin(Stdio::inherit()).stdout(socket);
    // A supervisor that was started by a hook has its mark; keeper and node are nothing that hook started.
    command.env_remove(run::MARK);
    command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
    // SAFETY: the closure makes one system call, setsid: from its first moment on no terminal and no signal to our
    // process group reaches the keeper.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    let (mut child, awaited) = children::start(|| command.spawn(), tokio::process::Child::id)?;
    tokio::spawn(async move {
        let _ = child.wait().await;
        drop(awaited);
    });
    Ok(())
}

/// A keeper that is there and cannot answer, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandsStill {
    /// It was stopped.
    Stopped(u32),
    /// It has been waiting for the kernel all the time that was looked.
    Hangs(u32),
}

impl StandsStill {
    /// The keeper's process id.
    pub fn pid(&self) -> u32 {
        let (Self::Stopped(pid) | Self::Hangs(pid)) = self;
        *pid
    }
}

impl fmt::Display for StandsStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(pid) => write!(f, "it is stopped (SIGSTOP); let it go on: kill -CONT {pid}"),
            Self::Hangs(_) => f.write_str("it hangs in the kernel, as on a disk that does not answer"),
        }
    }
}

/// Whether the keeper of the wemixvisor directory `dir` stands still, and why. It is only looked at, for at most a
/// second: a second connection would take the place of the supervisor's own.
pub async fn stands_still(dir: &Path) -> Option<StandsStill> {
    let pid = written_pid(dir).filter(|_| keeper_is_there(dir))?;
    let look = || still(pid);
    let goes_on = async {
        while look().is_some() {
            sleep(LOOK).await;
        }
    };
    match timeout(STILL_LIMIT, goes_on).await {
        Ok(()) => None,
        Err(_) => look(),
    }
}

/// The process id of the keeper of `dir`, if it is stopped (SIGSTOP) at this moment. Nothing is waited for.
pub fn stopped(dir: &Path) -> Option<u32> {
    // Not `t`: whoever traces it (strace, a debugger) has it stand for instants, and SIGCONT would not help.
    let is_stopped = |pid: &u32| ProcessStat::of(*pid).is_ok_and(|stat| stat.state == b'T');
    // The id may be another's by now, where no keeper holds the lock.
    written_pid(dir).filter(is_stopped).filter(|_| keeper_is_there(dir))
}

fn keeper_is_there(dir: &Path) -> bool {
    is_locked(&dir.join(KEEPER_LOCK)).is_ok_and(|locked| locked)
}

/// Why this keeper cannot answer at this moment, if so.
fn still(pid: u32) -> Option<StandsStill> {
    match ProcessStat::of(pid).ok()?.state {
        b'T' | b't' => Some(StandsStill::Stopped(pid)),
        b'D' => Some(StandsStill::Hangs(pid)),
        _ => None,
    }
}

/// Whether somebody holds the lock file. Looks by taking it for a moment, shared, which a keeper that is about to
/// take it waits out.
fn is_locked(path: &Path) -> Result<bool, KeeperError> {
    let failed = |source| KeeperError::Io { what: "look at", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// As it wrote down; where that file is gone, who holds it.
fn keeper_pid(dir: &Path) -> Option<u32> {
    written_pid(dir).or_else(|| holders_of_removed(&dir.join(KEEPER_LOCK)).first().copied())
}

/// The process id in the keeper's lock file.
fn written_pid(dir: &Path) -> Option<u32> {
    File::open(dir.join(KEEPER_LOCK)).ok().and_then(|mut file| read_pid(&mut file))
}
