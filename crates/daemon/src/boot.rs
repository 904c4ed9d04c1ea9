//! The start of a supervisor, in the order in which nothing can go wrong twice: settings, lock, keeper, store,
//! link, then the core decides what comes first.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use wemixvisor_core::command_line::CommandLine;
use wemixvisor_core::engine::port::{ExitWith, Input};
use wemixvisor_core::engine::{Boot, Engine, LastExit, RunningNode};
use wemixvisor_core::exit::WaitStatus;
use wemixvisor_core::plan::PlanName;
use wemixvisor_core::settings::Settings;
use wemixvisor_core::target::Target;
use wemixvisor_core::time::WallMs;
use wemixvisor_host::children;
use wemixvisor_host::data_lock::{DataDirLock, DataDirTaken};
use wemixvisor_host::durable::{self, DurableError};
use wemixvisor_host::home::Home;
use wemixvisor_host::hooks;
use wemixvisor_host::keeper::KeeperState;
use wemixvisor_host::link::{self, LinkError};
use wemixvisor_host::lock::{LockError, SupervisorLock};
use wemixvisor_host::memory;
use wemixvisor_host::store::{Store, StoreError};
use wemixvisor_host::successor::{self, Successor};
use wemixvisor_host::trial::{self, crash_point};
use wemixvisor_host::watch::{FileWatch, WatchError, WatchedFile};

use crate::api::Place;
use crate::api::wire::Supervisor;
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::effects::{Effects, log_policy, tell_plans};
use crate::engine::{Loop, write};
use crate::handle::{Handle, Message};
use crate::keeping::{Keeping, KeepingError, unseen_end};
use crate::mirror::Mirror;
use crate::preparing::Programs;
use crate::presence::{Presence, write_pid};
use crate::recorded::{self, Recorded, RecordedError};
use crate::serving::Serving;
use crate::sources;
use crate::watching::Watching;

/// What waits to be decided. The sources, the keeper and people share it; each of them waits when it is full.
const MAILBOX: usize = 256;

/// A runtime that ends does not wait longer for a write to a blocked terminal.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// Memory that was needed once is given back so often.
const SMALL_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The hooks of the last supervisor are waited for so long: SIGTERM and SIGKILL need 10 s at most.
const LEFT_LIMIT: Duration = Duration::from_secs(15);

/// A signal that was caught has its listener told within this time.
const CAUGHT_ARRIVE: Duration = Duration::from_millis(5);

/// A settings file is read when it has been the same for so long: half of it would be other settings.
const SETTINGS_SETTLE: Duration = Duration::from_millis(500);

/// The key of this node's own number.
const STAGGER: &str = "stagger";

/// What a supervisor is started with.
#[derive(Clone)]
pub struct Start {
    /// The settings.
    pub settings: Settings,
    /// The home.
    pub home: Home,
    /// The node's arguments.
    pub node_args: Vec<OsString>,
    /// The environment that the node inherits.
    pub environment: Vec<(OsString, OsString)>,
    /// This program's own file and how it was called: the keeper is another mode of it, and what lies there can take
    /// this supervisor's place.
    pub successor: Successor,
    /// Whether the node's output also goes to standard output.
    pub mirror_output: bool,
    /// Where the settings come from, to be read again.
    pub configuration: Configuration,
}

/// Why a supervisor cannot begin. Nothing was started or changed.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The home is not laid out.
    #[error(
        "there is no home of a node at {}: lay it out with: wemixvisor init <binary>", .0.display()
    )]
    NoHome(PathBuf),
    /// Another supervisor is at work, or the lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The data directory is another home's.
    #[error(transparent)]
    DataDir(#[from] DataDirTaken),
    /// The link is not what it must be. Nothing is guessed: another program than the right one can fork the
    /// chain's history.
    #[error("it cannot be told which program is to run")]
    Link(#[from] LinkError),
    /// The store cannot be used. It is never replaced: it knows whether an upgrade is under way.
    #[error("the journal cannot be read, so nothing is started; a node that runs is left alone")]
    Store(#[from] StoreError),
    /// What the store holds cannot be understood: it says what was carried out already.
    #[error("nothing is started; a node that runs is left alone")]
    Recorded(#[from] RecordedError),
    /// A directory cannot be made.
    #[error("the home cannot be used")]
    Directory(#[from] DurableError),
    /// The keeper cannot be had.
    #[error(transparent)]
    Keeper(#[from] KeepingError),
    /// The plan file cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The runtime, the signals or the control socket cannot be had.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Supervises the node until it is told to end. The answer is the exit code of `run`: 0, or the node's own.
///
/// # Errors
/// [`BootError`]: what stands in the way, before anything was started.
pub fn run(start: Start) -> Result<u8, BootError> {
    let system = |what| move |source| BootError::System { what, source };
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // A signal is this thread's to catch, which alone holds it back for a successor.
            .on_thread_start(successor::hold_signals)
            .build()
            .map_err(system("start the runtime"))?;
        let result = runtime.block_on(supervise(start.clone()));
        runtime.shutdown_timeout(LAST_WAIT);
        match result? {
            ExitWith::Successor => {
                let error = start.successor.take_over();
                let program = start.successor.program.display();
                tracing::error!(
                    "{program} cannot take this supervisor's place, which goes on itself: {error}"
                );
            }
            exit => return Ok(exit_code(exit)),
        }
    }
}

fn exit_code(exit: ExitWith) -> u8 {
    match exit {
        ExitWith::Success | ExitWith::Successor => 0,
        ExitWith::Node(WaitStatus::Exited(code)) => u8::try_from(code).unwrap_or(1),
        ExitWith::Node(WaitStatus::Signaled(signal)) => u8::try_from(128 + signal).unwrap_or(1),
        ExitWith::Node(WaitStatus::Unknown) => 1,
    }
}

async fn supervise(start: Start) -> Result<ExitWith, BootError> {
    let Start { settings, home, node_args, environment, successor, mirror_output, configuration } = start;
    let clock = Clock::start();
    let system = |what| move |source| BootError::System { what, source };
    if !home.wemixvisor().is_dir() {
        return Err(BootError::NoHome(home.root().to_owned()));
    }
    let (tell, mailbox) = mpsc::channel(MAILBOX);
    // Before anything is started: a signal must not find us unprepared.
    listen_to_signals(&tell, &configuration).map_err(system("listen to signals"))?;
    let quits = signal(SignalKind::quit()).map_err(system("listen to signals"))?;
    collect_strangers().map_err(system("listen to signals"))?;
    let lock = SupervisorLock::acquire(home.wemixvisor())?;
    crash_point("boot.locked");
    write_pid(&home);
    durable::create_dirs(&home.logs())?;
    durable::create_dirs(home.data())?;
    let mut data_lock = DataDirLock::acquire(home.data())?;
    let target = link::current(&home)?;
    let log = log_policy(&settings);
    // Followed from here on, so that nothing that the node is about to say is missed.
    let mirror = match mirror_output {
        true => Some(Mirror::start(&log.path).map_err(system("follow the node's log"))?),
        false => None,
    };
    let root = home.root().to_owned();
    // On a thread of its own: to look at strange processes can take long.
    let left = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(end_what_was_left(root));
    });
    let finding =
        tokio::spawn(Keeping::find(home.wemixvisor().to_owned(), successor.program.clone(), log.clone()));
    // The keeper starts while the store is opened.
    tokio::task::yield_now().await;
    let mut store = Store::open(&home.state())?;
    crash_point("boot.store");
    let (keeping, state, events) = match finding.await {
        Ok(found) => found?,
        Err(error) => return Err(system("start the keeper")(std::io::Error::other(error))),
    };
    match state.node {
        Some(_) => data_lock.claim(home.root()),
        None => data_lock.claim_without_node(home.root())?,
    }
    crash_point("boot.keeper");
    let home = Arc::new(home);
    let settings = Arc::new(settings);
    let mut environment = trial::without_orders(environment);
    environment.retain(|(name, _)| name != hooks::MARK);
    let environment = Arc::new(environment);
    let recorded = Recorded::read(&store)?;
    // An upgrade's records are cleared with its end.
    let upgrading = recorded.journal.as_ref().is_ok_and(|records| !records.is_empty());
    let given_line = CommandLine::of(node_args);
    let line = match &recorded.facts.line {
        Some(over) if over.given == given_line => over.line.clone(),
        _ => given_line.clone(),
    };
    let endpoints = sources::endpoints(&settings, home.root(), &line);
    let _watch = watch_files(&home, &settings, &tell, configuration.clone())?;
    // They were read before they were watched.
    tokio::task::spawn_blocking({
        let (tell, configuration) = (tell.clone(), configuration.clone());
        move || configuration.tell(&tell)
    });
    let boot = Boot {
        sources: sources::described(&endpoints),
        settings: (*settings).clone(),
        given_line,
        target,
        running: running(&home, &state, clock.now().wall),
        last_exit: last_exit(&home, &state, clock.now().wall),
        plans: recorded::own_plans(&home).0,
        finished: recorded.finished(),
        last_upgrade: recorded.history.first().cloned(),
        last_committed: recorded.last_committed().cloned(),
        journal: recorded.journal,
        pins: recorded.pins,
        facts: recorded.facts,
        stagger: stagger(&mut store)?,
    };
    // A hook that is begun again must not meet itself. Without an upgrade none is begun so soon.
    if upgrading && tokio::time::timeout(LEFT_LIMIT, left).await.is_err() {
        tracing::error!(
            "it cannot be told whether a hook of the last supervisor still runs: /proc does not answer"
        );
    }
    let (core, first) = Engine::boot(boot, clock.now());
    crash_point("boot.decided");
    if upgrading {
        // The last supervisor may have switched it and gone before that was forced to the disk.
        link::force(&home)?;
    }
    write(&mut store, &first.entries)?;
    crash_point("boot.written");
    let data = home.data();
    if recorded.data_dir.is_none_or(|known| home.root().join(known) != data) {
        store.write(|batch| recorded::set_data_dir(batch, home.root(), data))?;
    }
    let custom_hook = settings.pre_upgrade_hook();
    let programs =
        Programs::new(home.clone(), environment.clone(), custom_hook, settings.upgrade.version_limit);
    let watching = Watching::new(endpoints, &settings, tell.clone());
    let place = Place { log: log.path.clone(), configuration: configuration.clone() };
    let handle = Handle::new(tell.clone(), successor, configuration);
    let about = Supervisor::here();
    let serving = Serving::start().map_err(system("start the thread of the API"))?;
    let tcp = serving.serve_tcp(handle.clone(), about.clone(), place.clone(), &home, settings.api.clone());
    let mut presence = Presence::begin(lock, home.clone(), handle, about, place, serving.runtime().clone())
        .map_err(system("open the control socket"))?;
    let listening = tokio::spawn(keeping.clone().listen(events, tell.clone()));
    tokio::spawn(quit_on_order(quits, keeping.clone()));
    tokio::spawn(stay_small());
    if !state.leftovers.is_empty() {
        keeping.end_leftovers().await;
    }
    let effects = Effects::new(
        home.clone(),
        settings,
        environment,
        log,
        keeping.clone(),
        programs,
        tell,
        watching,
        line,
    );
    let mut engine = Loop::new(core, store, effects, mailbox, clock, tcp);
    // Held back since this process began: the threads that it has by now never get one.
    successor::release_signals();
    let exit = tokio::select! {
        exit = engine.run(first.effects) => exit,
        never = presence.keep() => match never {},
    };
    presence.answer_the_last().await;
    if exit == ExitWith::Successor {
        successor::hold_signals();
        // What was caught before that reaches its listener.
        tokio::time::sleep(CAUGHT_ARRIVE).await;
        if engine.told_to_end() {
            successor::pass_on_term();
        }
    } else {
        // From here on a keeper that is gone is no loss.
        listening.abort();
        keeping.leave().await;
    }
    drop(engine);
    if let Some(mirror) = mirror {
        mirror.finish();
    }
    Ok(exit)
}

/// Hooks, and questions to programs, that a supervisor left running when it was killed.
async fn end_what_was_left(root: PathBuf) {
    match hooks::end_left_running(&root).await {
        Ok(ended) if ended.is_empty() => {}
        Ok(ended) => {
            tracing::warn!("a hook of the last supervisor still ran ({ended:?}): it was ended first")
        }
        Err(error) => tracing::error!("a hook of the last supervisor cannot be ended: {error}"),
    }
}

fn listen_to_signals(tell: &mpsc::Sender<Message>, configuration: &Configuration) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!("told to end: the node is stopped first");
                if tell.send(Message::Happened(Input::Shutdown)).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut hangups = signal(SignalKind::hangup())?;
    let (tell, configuration) = (tell.clone(), configuration.clone());
    tokio::spawn(async move {
        // Never passed on: it kills a node (NODES.md section 5).
        while hangups.recv().await.is_some() {
            let (tell, configuration) = (tell.clone(), configuration.clone());
            tokio::task::spawn_blocking(move || configuration.tell(&tell));
        }
    });
    Ok(())
}

/// Only starts and upgrades need most of the code, and only crowds most of the heap; the rest of the time the memory is
/// the node's.
async fn stay_small() {
    loop {
        tokio::time::sleep(SMALL_AGAIN_AFTER).await;
        memory::give_back_heap();
        if let Err(error) = memory::give_back_code() {
            tracing::debug!("the code in memory cannot be given back: {error}");
            return;
        }
    }
}

/// Collects who ends and has nobody else for it: orphans, where this is process 1 of a container, and what another
/// program that was this process before has started.
fn collect_strangers() -> std::io::Result<()> {
    let mut ends = signal(SignalKind::child())?;
    tokio::spawn(async move {
        loop {
            children::collect_strangers();
            if ends.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(())
}

async fn quit_on_order(mut quits: Signal, keeping: Keeping) {
    while quits.recv().await.is_some() {
        tracing::warn!("SIGQUIT is passed on to the node");
        keeping.quit().await;
    }
}

fn watch_files(
    home: &Arc<Home>,
    settings: &Settings,
    tell: &mpsc::Sender<Message>,
    configuration: Configuration,
) -> Result<FileWatch, WatchError> {
    let (home, tell) = (home.clone(), tell.clone());
    let plans = home.plan_file();
    let files = vec![
        // Half of a plan file makes no sense, and is read as that.
        WatchedFile { path: plans.clone(), settles_in: Duration::ZERO },
        WatchedFile { path: configuration.file.clone(), settles_in: SETTINGS_SETTLE },
    ];
    FileWatch::start(files, settings.upgrade.poll_interval, move |changed| {
        // On the watch's own thread: it may wait for the mailbox.
        if changed == plans {
            tell_plans(&home, &tell, |home| {
                let (plans, sum) = recorded::own_plans(home);
                (Input::Plans(plans), sum)
            })
        } else {
            configuration.tell(&tell)
        }
    })
}

/// Which of the home's programs this file is.
fn target_of(home: &Home, program: &std::path::Path) -> Option<Target> {
    if program == home.program(&Target::Genesis) {
        return Some(Target::Genesis);
    }
    let below = program.strip_prefix(home.upgrades()).ok()?;
    let name: PlanName = below.components().next()?.as_os_str().to_str()?.parse().ok()?;
    let target = Target::Upgrade(name);
    (home.program(&target) == program).then_some(target)
}

fn running(home: &Home, state: &KeeperState, now: WallMs) -> Option<RunningNode> {
    state.node.as_ref().map(|node| RunningNode {
        launch: node.launch_id,
        pid: node.pid,
        target: target_of(home, &node.program),
        uptime: now.since(WallMs(node.started_at_ms)),
        term_sent: node.term_sent,
    })
}

fn last_exit(home: &Home, state: &KeeperState, now: WallMs) -> Option<LastExit> {
    let last = wemixvisor_host::keeper::last_node(home.wemixvisor());
    if let Some(unseen) = last.filter(|node| {
        let its_end = state.last_exit.as_ref().is_some_and(|end| end.launch_id == node.launch_id);
        state.node.is_none() && !its_end && node.boot_id == wemixvisor_host::process::boot_id()
    }) {
        // Its keeper went down with it. It may have ended this very moment: the floor is counted from now.
        return Some(LastExit {
            launch: unseen.launch_id,
            target: target_of(home, &unseen.program),
            exit: unseen_end(unseen.term_sent),
            ago: Duration::ZERO,
        });
    }
    // The record of the end does not name the program; the record of the start before it does.
    let end = state.last_exit.as_ref()?;
    let begun =
        wemixvisor_host::keeper::last_node(home.wemixvisor()).filter(|node| node.launch_id == end.launch_id);
    Some(LastExit {
        launch: end.launch_id,
        target: begun.and_then(|node| target_of(home, &node.program)),
        exit: recorded::node_exit(end),
        ago: now.since(WallMs(end.exited_at_ms)),
    })
}

/// This node's own number: drawn once, kept for ever.
fn stagger(store: &mut Store) -> Result<u64, StoreError> {
    if let Some(known) = store.fact(STAGGER)? {
        return Ok(known);
    }
    use std::hash::{BuildHasher as _, RandomState};
    let drawn = RandomState::new().hash_one(());
    // SQLite's and JSON's numbers are signed.
    let drawn = drawn >> 1;
    store.write(|batch| batch.set_fact(STAGGER, &drawn))?;
    Ok(drawn)
}
