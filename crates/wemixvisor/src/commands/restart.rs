//! `restart`: the node is stopped and started again; or only the supervisor is replaced.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::{Instant, sleep};
use wemixvisor_core::engine::snapshot::NodeState;
use wemixvisor_daemon::api::wire::{Status, Supervisor};

use super::{Context, LEFT};
use crate::failure::Failure;
use crate::files::Files;
use crate::follow::{self, Until, Watched};
use crate::live::Live;

/// How long the new process is waited for: a node may take many minutes to stop in order.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How long a supervisor is waited for that takes the place of another one: it has a journal to read.
const PLACE_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn restart(context: &Context) -> Result<u8, Failure> {
    let (_, _, live) = context.place()?;
    let before = live.status_now().await?.node.pid;
    context.screen.note(&live.post("/api/v1/node/restart").await?);
    let gone = |answers: bool| (!answers).then(follow::supervisor_gone);
    match follow::node(&live, &context.screen, Until::RunsAnew { before }, LIMIT, gone).await? {
        Watched::Over(status) => {
            let pid = status.node.pid.unwrap_or(0);
            context.screen.result(&format!("the node runs again (pid {pid})"), &status)?;
            Ok(0)
        }
        Watched::Waits(_) | Watched::Left => {
            context.screen.note("the restart goes on without this command; see: wemixvisor status");
            Ok(LEFT)
        }
    }
}

/// `restart --supervisor-only`.
pub(super) async fn supervisor(context: &Context) -> Result<u8, Failure> {
    let (settings, home, live) = context.place()?;
    let Status { supervisor, node, .. } = live.status_now().await?;
    let Some(before) = supervisor else { return Err(live.not_running()) };
    // Opened before the order: the number cannot have been given to another process yet.
    let process = i32::try_from(before.pid)
        .ok()
        .and_then(Pid::from_raw)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    live.post("/api/v1/supervisor/restart").await?;
    let node_before = node.pid;
    let meanwhile = node_before.map_or("no node runs", |_| "the node runs on");
    let said = format!("the supervisor gives its place to its program as it is on the disk; {meanwhile}");
    context.screen.note(&said);
    let status = tokio::select! {
        taken = taken(&live, &before, process) => match taken {
            Ok(status) => status,
            // Who has taken nothing over has told nobody: what is true now stands in the files.
            Err(why) => return Err(not_taken(why, Files::read(&home, &settings)?.snapshot().node.pid)),
        },
        _ = tokio::signal::ctrl_c() => {
            context.screen.note("the supervisor is replaced without this command; see: wemixvisor status");
            return Ok(LEFT);
        }
    };
    let Supervisor { version, pid, .. } = status.supervisor.clone().unwrap_or(before);
    let node = what_of_the_node(node_before, &status);
    context.screen.result(&format!("wemixvisor {version} supervises now (pid {pid}); {node}"), &status)?;
    Ok(0)
}

/// What the new supervisor has found, or does, about the node.
fn what_of_the_node(before: Option<u32>, status: &Status) -> String {
    match status.node.pid {
        Some(pid) if before == Some(pid) => format!("the node runs on (pid {pid})"),
        Some(pid) => format!("the node runs (pid {pid})"),
        None if status.node.state == NodeState::Starting => "the node is being started".into(),
        None => "no node runs".into(),
    }
}

/// Why there is no other supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotTaken {
    /// The process is gone.
    Ended,
    /// It is there, and nobody answers.
    Silent,
}

/// What is true then, with the node that runs, if one does.
fn not_taken(why: NotTaken, node: Option<u32>) -> Failure {
    let runs_on = node.map(|pid| format!("the node runs on (pid {pid})"));
    Failure::failed(match (why, runs_on) {
        (NotTaken::Ended, Some(runs_on)) => format!(
            "the new supervisor has ended at once; {runs_on} without one. Its log says why. Mend the cause, then: \
             wemixvisor start (a service manager does so by itself)"
        ),
        (NotTaken::Ended, None) => {
            "the supervisor has ended meanwhile, and no node runs: it was told to end, or could not begin with its new \
             program. Its log says which. To start them: wemixvisor start"
                .into()
        }
        (NotTaken::Silent, runs_on) => format!(
            "after {} s no new supervisor answers; {}. See the supervisor's log",
            PLACE_LIMIT.as_secs(),
            runs_on.unwrap_or_else(|| "no node runs".into())
        ),
    })
}

/// Waits until another supervisor than the one before answers.
async fn taken(live: &Live, before: &Supervisor, process: Option<OwnedFd>) -> Result<Status, NotTaken> {
    let deadline = Instant::now() + PLACE_LIMIT;
    loop {
        // One that is just leaving may break off its answer.
        if let Ok(Some(status)) = live.status().await
            && status.supervisor.as_ref().is_some_and(|now| now.started_at != before.started_at)
        {
            return Ok(status);
        }
        if process.as_ref().is_some_and(has_ended) {
            return Err(NotTaken::Ended);
        }
        if Instant::now() >= deadline {
            return Err(NotTaken::Silent);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn has_ended(process: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_said_to_run_on_only_where_one_runs() {
        let said = |why, node| not_taken(why, node).message;
        assert!(said(NotTaken::Ended, Some(7)).contains("the node runs on (pid 7) without one"));
        assert!(
            said(NotTaken::Silent, Some(7)).contains("no new supervisor answers; the node runs on (pid 7).")
        );
        assert!(said(NotTaken::Silent, None).contains("no new supervisor answers; no node runs."));
        let ended = said(NotTaken::Ended, None);
        assert!(ended.contains("no node runs: it was told to end") && !ended.contains("runs on"), "{ended}");
    }
}
