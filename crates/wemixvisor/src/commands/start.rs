//! `start`: the supervisor in the background.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wemixvisor_core::engine::snapshot::NodeState;
use wemixvisor_daemon::api::wire::Status;
use wemixvisor_host::durable;
use wemixvisor_host::home::Home;

use super::{Context, LEFT};
use crate::failure::Failure;
use crate::follow::{self, Until, Watched};
use crate::live::Live;

/// How long a node is waited for to answer. Opening a large database takes a while.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// The supervisor's own log begins anew when it is longer than this, in bytes.
const MAX_LOG: u64 = 10 * 1024 * 1024;

/// So much of the log's end is looked at for the reason of a supervisor that ended, in bytes.
const REASON: u64 = 4096;

pub(super) async fn start(context: &Context) -> Result<u8, Failure> {
    let (_, home, live) = context.place()?;
    match live.status().await? {
        Some(status) => start_node(context, &live, &status).await,
        None => start_supervisor(context, &home, &live).await,
    }
}

/// A supervisor runs already: its node is started, if it is down.
async fn start_node(context: &Context, live: &Live, status: &Status) -> Result<u8, Failure> {
    let pid = status.supervisor.as_ref().map_or(0, |supervisor| supervisor.pid);
    let given: Vec<String> =
        context.node_args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if !given.is_empty() && given != status.node.args {
        return Err(Failure::refused(format!(
            "a supervisor runs already (pid {pid}) and starts the node with other arguments. To change them: wemixvisor \
             stop, then wemixvisor start with the new ones"
        )));
    }
    let held = status.upgrade.as_ref().is_some_and(|under_way| under_way.held);
    if status.node.state == NodeState::Running && !held {
        let text = format!("the supervisor (pid {pid}) and the node run already");
        context.screen.result(&text, status)?;
        return Ok(0);
    }
    context.screen.note(&live.post("/api/v1/node/start").await?);
    let until = Until::RunsAnew { before: None };
    finish(context, follow::node(live, &context.screen, until, ANSWER_LIMIT, || None).await?)
}

async fn start_supervisor(context: &Context, home: &Home, live: &Live) -> Result<u8, Failure> {
    if !home.wemixvisor().is_dir() {
        let root = home.root().display();
        return Err(Failure::failed(format!(
            "there is no home of a node at {root}; lay it out with: wemixvisor init <binary>"
        )));
    }
    let log = home.logs().join("supervisor.log");
    let (out, begin) = open_log(home, &log)?;
    let mut child = spawn(context, out)?;
    let ended = || match child.try_wait() {
        Ok(Some(status)) => Some(Failure::failed(format!(
            "the supervisor did not stay up ({status}): {}",
            reason(&log, begin).unwrap_or_else(|| format!("see {}", log.display()))
        ))),
        _ => None,
    };
    finish(context, follow::node(live, &context.screen, Until::Answers, ANSWER_LIMIT, ended).await?)
}

fn finish(context: &Context, watched: Watched<Status>) -> Result<u8, Failure> {
    match watched {
        Watched::Over(status) => {
            let supervisor = status.supervisor.as_ref().map_or(0, |supervisor| supervisor.pid);
            let node = status.node.pid.unwrap_or(0);
            let text = format!("the node runs (pid {node}), supervised by wemixvisor (pid {supervisor})");
            context.screen.result(&text, &status)?;
            Ok(0)
        }
        Watched::Waits(_) | Watched::Left => {
            context.screen.note("the start goes on without this command; see: wemixvisor status");
            Ok(LEFT)
        }
    }
}

/// The log, open for appending, and its length so far.
fn open_log(home: &Home, log: &Path) -> Result<(File, u64), Failure> {
    durable::create_dirs(&home.logs()).map_err(|error| Failure::from_error(&error))?;
    if fs::metadata(log).is_ok_and(|data| data.len() > MAX_LOG) {
        // The one before is enough; when it cannot be kept, the log grows on.
        let _ = fs::rename(log, log.with_extension("log.1"));
    }
    let open = || -> io::Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
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
