//! `stop`: the node and the supervisor end.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval};

use super::{Context, LEFT};
use crate::failure::{Failure, Kind};
use crate::files::Files;
use crate::live::Live;
use crate::render::span;

/// How often it is said that the node is still stopping.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How often the socket is looked at, where the process itself cannot be watched.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What `stop --json` prints.
#[derive(Debug, Serialize)]
struct StopJson {
    stopped: bool,
    supervisor_pid: u32,
    node_pid: Option<u32>,
}

pub(super) async fn stop(context: &Context) -> Result<u8, Failure> {
    let (settings, home, live) = context.place()?;
    let Some(status) = live.status().await? else {
        let files = Files::read(&home, &settings)?;
        return Err(not_running(files.snapshot().node.pid));
    };
    let pid = status.supervisor.as_ref().map_or(0, |supervisor| supervisor.pid);
    // Opened before the order: the number cannot have been given to another process yet.
    let process = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    match live.post("/api/v1/supervisor/stop").await {
        Ok(message) => context.screen.note(&message),
        // Another stop was a moment earlier: the same end is waited for.
        Err(failure) if failure.kind == Kind::NotRunning || matches!(live.status().await, Ok(None)) => {
            context.screen.note("the supervisor is ending already");
        }
        Err(failure) => return Err(failure),
    }
    let over = tokio::select! {
        () = ended(&live, process) => true,
        () = say_so(context) => false,
        _ = tokio::signal::ctrl_c() => false,
    };
    if !over {
        context.screen.note("the stop goes on without this command; see: wemixvisor status");
        return Ok(LEFT);
    }
    let json = StopJson { stopped: true, supervisor_pid: pid, node_pid: status.node.pid };
    context.screen.result("the node and the supervisor have ended", &json)?;
    Ok(0)
}

fn not_running(node: Option<u32>) -> Failure {
    Failure::not_running(match node {
        Some(pid) => format!(
            "no supervisor runs for this home, but the node does (pid {pid}), and its keeper looks after it. To stop it \
             in order: wemixvisor start, which takes it over, then wemixvisor stop"
        ),
        None => "no supervisor runs for this home, and no node either: there is nothing to stop".into(),
    })
}

/// Returns when the supervisor's process is gone.
async fn ended(live: &Live, process: Option<OwnedFd>) {
    if let Some(process) = process {
        let (gone, is_gone) = oneshot::channel();
        // A thread of its own: this command does not wait for it when it is left.
        std::thread::spawn(move || {
            let seen = poll(&mut [PollFd::new(&process, PollFlags::IN)], None);
            gone.send(seen.is_ok())
        });
        if is_gone.await == Ok(true) {
            return;
        }
    }
    // A process of another container, or a system that does not tell.
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if matches!(live.status().await, Ok(None)) {
            return;
        }
    }
}

/// Says now and then that it is not over yet; never returns.
async fn say_so(context: &Context) {
    let begun = Instant::now();
    let mut saying = interval(SAY_EVERY);
    saying.tick().await;
    loop {
        saying.tick().await;
        let so_far = span(begun.elapsed().as_secs() * 1000);
        context.screen.note(&format!("the node is still stopping, for {so_far}; it may have much to write"));
    }
}
