//! `start`: the supervisor in the background.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wemixvisor_core::engine::snapshot::NodeState;
use wemixvisor_core::settings::Settings;
use wemixvisor_daemon::api::wire::Status;
use wemixvisor_host::home::Home;
use wemixvisor_host::{durable, output};

use super::{Context, LEFT};
use crate::failure::{Failure, Kind};
use crate::follow::{self, Until, Watched};
use crate::live::Live;
use crate::log;

/// How long a node is waited for to answer. Opening a large database takes a while.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// How long another command that starts or stops is waited for, until it can be seen what came of it.
const OTHER_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// So much of the log's end is looked at for the reason of a supervisor that ended, in bytes.
const REASON: u64 = 4096;

pub(super) async fn start(context: &Context) -> Result<u8, Failure> {
    let (settings, home, live) = context.place()?;
    let begun = Instant::now();
    loop {
        let tried = match live.status().await {
            Ok(Some(status)) => start_node(context, &live, &status).await?,
            Ok(None) => start_supervisor(context, &settings, &home, &live).await?,
            // It has just ended: at the next look there is none, or another one.
            Err(failure) if failure.is_broken_off() => Tried::Overtaken(failure),
            Err(failure) => return Err(failure),
        };
        match tried {
            Tried::Ended(code) => return Ok(code),
            // Another `start` was a moment earlier, or a supervisor is about to end: seen as it is at the next look.
            Tried::Overtaken(failure) if begun.elapsed() >= OTHER_LIMIT => return Err(failure),
            Tried::Overtaken(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

/// What came of an attempt.
enum Tried {
    /// The command is over, with this exit code.
    Ended(u8),
    /// Somebody else was faster; what to say where that does not clear up.
    Overtaken(Failure),
}

/// A supervisor runs already: its node is started, if it is down.
async fn start_node(context: &Context, live: &Live, status: &Status) -> Result<Tried, Failure> {
    let pid = status.supervisor.as_ref().map_or(0, |supervisor| supervisor.pid);
    let given: Vec<String> =
        context.node_args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if !given.is_empty() && given != status.node.args {
        return Err(Failure::refused(format!(
            "a supervisor runs already (pid {pid}) and starts the node with other arguments. To change them: wemixvisor \
             stop, then wemixvisor start with the new ones"
        )));
    }
    let running = status.node.state == NodeState::Running && !follow::is_held(status);
    if running && status.node.answering {
        let text = format!("the supervisor (pid {pid}) and the node run already");
        context.screen.result(&text, status)?;
        return Ok(Tried::Ended(0));
    }
    if status.shutting_down {
        return Err(Failure::refused(format!(
            "the supervisor (pid {pid}) is stopping the node and ends then: nothing new is begun. When it has ended: \
             wemixvisor start"
        )));
    }
    if running || status.node.state == NodeState::Starting {
        context.screen.note(&format!("a supervisor runs already (pid {pid})"));
        return wait_for_node(context, live).await;
    }
    order_start(context, live).await
}

/// Has a supervisor that runs start the node, or go on with an upgrade that waits for this order.
async fn order_start(context: &Context, live: &Live) -> Result<Tried, Failure> {
    match live.post("/api/v1/node/start").await {
        Ok(message) => context.screen.note(&message),
        // It has ended between the look and the order.
        Err(failure) if failure.kind == Kind::NotRunning || failure.is_broken_off() => {
            return Ok(Tried::Overtaken(failure));
        }
        Err(failure) => return Err(failure),
    }
    wait_for_node(context, live).await
}

async fn wait_for_node(context: &Context, live: &Live) -> Result<Tried, Failure> {
    let gone = |answers: bool| (!answers).then(follow::supervisor_gone);
    finish(context, follow::node(live, &context.screen, Until::Answers, ANSWER_LIMIT, gone).await?)
}

async fn start_supervisor(
    context: &Context,
    settings: &Settings,
    home: &Home,
    live: &Live,
) -> Result<Tried, Failure> {
    if !home.wemixvisor().is_dir() {
        let root = home.root().display();
        return Err(Failure::failed(format!(
            "there is no home of a node at {root}; lay it out with: wemixvisor init <binary>"
        )));
    }
    let log = log::file(home);
    let (out, begin) = open_log(home, settings, &log)?;
    let mut child = spawn(context, out)?;
    let mut overtaken = None;
    let ended = |_| {
        let status = child.try_wait().ok().flatten()?;
        let failure = did_not_stay(status, reason(&log, begin), &log);
        // By its exit code: the lock is another's.
        overtaken = (failure.kind == Kind::Refused).then(|| failure.clone());
        Some(failure)
    };
    match follow::node(live, &context.screen, Until::AnswersOrIsHeld, ANSWER_LIMIT, ended).await {
        Err(failure) => overtaken.map(Tried::Overtaken).ok_or(failure),
        // An upgrade of the last supervisor waits for exactly this command.
        Ok(Watched::Over(status)) if follow::is_held(&status) => order_start(context, live).await,
        Ok(watched) => finish(context, watched),
    }
}

/// Why the supervisor that was just started is not there.
fn did_not_stay(status: ExitStatus, reason: Option<String>, log: &Path) -> Failure {
    let why = reason.unwrap_or_else(|| format!("see {}", log.display()));
    match status.code() {
        Some(0) => Failure::failed("the supervisor was told to end meanwhile, and has ended with its node"),
        Some(code) if code == Kind::Refused as i32 => Failure::refused(why),
        _ => Failure::failed(format!("the supervisor did not stay up ({status}): {why}")),
    }
}

fn finish(context: &Context, watched: Watched<Status>) -> Result<Tried, Failure> {
    match watched {
        Watched::Over(status) => {
            let supervisor = status.supervisor.as_ref().map_or(0, |supervisor| supervisor.pid);
            let node = status.node.pid.unwrap_or(0);
            let text = format!("the node runs (pid {node}), supervised by wemixvisor (pid {supervisor})");
            context.screen.result(&text, &status)?;
            Ok(Tried::Ended(0))
        }
        Watched::Waits(_) | Watched::Left => {
            context.screen.note("the start goes on without this command; see: wemixvisor status");
            Ok(Tried::Ended(LEFT))
        }
    }
}

/// The log, open for appending, and its length so far. A full one is moved away first: the reason of a supervisor
/// that ends at once is then looked for in the right part.
fn open_log(home: &Home, settings: &Settings, log: &Path) -> Result<(File, u64), Failure> {
    durable::create_dirs(&home.logs()).map_err(|error| Failure::from_error(&error))?;
    let open = || -> io::Result<(File, u64)> {
        let file = output::open(&log::policy(home, settings))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    open().map_err(|error| Failure::failed(format!("cannot open {}: {error}", log.display())))
}

/// This program again, as `run`, with the same flags and the same arguments for the node.
#[allow(clippy::disallowed_methods)] // The one process that the command line starts is itself.
fn spawn(context: &Context, log: File) -> Result<Child, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot start the supervisor: {error}"));
    let program = context.own_program()?;
    let flags = context.own_args.iter().filter(|word| *word != "start" && *word != "--json");
    Command::new(program)
        .arg("--background")
        .args(flags)
        .arg("run")
        .arg("--")
        .args(&context.node_args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)
}

/// The last line that the supervisor wrote since it was started.
fn reason(log: &Path, begin: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(begin.max(length.saturating_sub(REASON)))).ok()?;
    let mut bytes = Vec::new();
    file.take(REASON).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.strip_prefix("wemixvisor: ").unwrap_or(line).to_owned())
}
