//! Am I fine? One word and one sentence, the same for the command line, the API and the page.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot, UpgradeView};

/// A head that has not gone up for so many block times …
const STILL_BLOCKS: u64 = 20;

/// … and for so long, in milliseconds, stands still: a healthy network does not pause like that.
const STILL_MS: u64 = 60_000;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The node runs, follows the chain, and nothing needs a person.
    Ok,
    /// The node runs or is about to, and a person should look.
    Attention,
    /// The node does not run.
    Down,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Attention => "ATTENTION",
            Self::Down => "DOWN",
        })
    }
}

/// The verdict over a picture; `supervised` when a supervisor runs.
pub(super) fn verdict(snapshot: &Snapshot, supervised: bool) -> (Level, String) {
    if !supervised {
        return unsupervised(snapshot.node.pid);
    }
    if let (Some(text), None) = (snapshot.alerts.get("store_failed"), snapshot.node.pid) {
        return (Level::Down, text.clone());
    }
    if let Some(under_way) = &snapshot.upgrade {
        // While it is held nothing but a person starts the next one.
        let down = under_way.held && snapshot.node.pid.is_none();
        return (if down { Level::Down } else { Level::Attention }, upgrading(under_way));
    }
    if let Some((level, text)) = process(snapshot) {
        return (level, text);
    }
    match trouble(snapshot) {
        Some(trouble) => (Level::Attention, trouble),
        None => (Level::Ok, "the node runs and follows the chain".into()),
    }
}

fn unsupervised(node: Option<u32>) -> (Level, String) {
    match node {
        Some(pid) => {
            let text = format!("no supervisor runs; the node does (pid {pid}), but nobody watches over it");
            (Level::Attention, text)
        }
        None => (Level::Down, "neither the supervisor nor the node runs".into()),
    }
}

fn upgrading(under_way: &UpgradeView) -> String {
    let name = &under_way.label;
    match &under_way.failure {
        Some(failure) => format!("upgrade {name} goes back: {failure}"),
        None if under_way.held => {
            format!("no node runs: upgrade {name} waits for you to start the new program: wemixvisor start")
        }
        None => format!("upgrade {name} is being carried out: {}", under_way.step),
    }
}

/// What there is to say of the process, unless it runs. The alert knows why it is down also where no process came
/// to be.
fn process(snapshot: &Snapshot) -> Option<(Level, String)> {
    let node = &snapshot.node;
    let down = |what: &str| {
        let last =
            node.last_exit.as_ref().map(|exit| format!(": it {}", exit.describe())).unwrap_or_default();
        let alert = snapshot.alerts.get("node_down").cloned();
        (Level::Down, alert.unwrap_or_else(|| format!("the node is down and {what}{last}")))
    };
    Some(match node.state {
        NodeState::Failed => down("is not started again"),
        NodeState::Waiting => down("will be started again"),
        NodeState::Stopped => (Level::Down, "the node is stopped; to start it: wemixvisor start".into()),
        NodeState::Starting => (Level::Attention, "the node is being started".into()),
        NodeState::Stopping => (Level::Attention, "the node is being stopped".into()),
        NodeState::Running => return None,
    })
}

/// What needs a person while the node runs.
fn trouble(snapshot: &Snapshot) -> Option<String> {
    let Snapshot { chain, alerts, .. } = snapshot;
    let still_limit = chain.block_time_ms.unwrap_or(0).saturating_mul(STILL_BLOCKS).max(STILL_MS);
    let still = chain.still_ms.filter(|still| *still >= still_limit);
    if snapshot.shutting_down {
        return Some("the supervisor is ending".into());
    }
    let what = match (&snapshot.stuck, alerts.keys().next(), still) {
        (Some(stuck), ..) => format!("an earlier upgrade is stuck: {stuck}"),
        (_, Some(kind), _) if alerts.len() == 1 => in_short(kind).into(),
        (_, Some(_), _) => format!("{} things need you", alerts.len()),
        _ if chain.head.is_none() => "it has not told its height yet".into(),
        (.., Some(still)) => format!("its head has stood still for {} s", still / 1000),
        _ if !snapshot.upgrades_enabled && !snapshot.plans.is_empty() => {
            "upgrades are only watched: upgrade.enabled is false".into()
        }
        _ => return None,
    };
    Some(format!("the node runs, but {what}"))
}

/// An alert in a few words; its text says it all.
fn in_short(kind: &str) -> &'static str {
    match kind {
        "plan_file" => "the plan file cannot be used",
        "settings" => "the settings file cannot be used",
        "store_failed" => "its decisions cannot be written down",
        "not_ready" => "an upgrade is not ready",
        "blocked" => "an upgrade is due and cannot be carried out",
        "refused_late" => "an upgrade came too late",
        "upgrade_failed" => "an upgrade failed",
        "heights_silent" => "no source tells its height",
        "stands_before_height" => "its head stands still just before an upgrade",
        "stalled" => "the chain does not go on after the upgrade",
        "data_dir" => "its data directory is not the one where plans are looked for",
        "arguments" => "it was started with other arguments",
        "link" => "`current` does not name the program that runs",
        "log" => "its output is not kept",
        "keeper" => "its keeper is stopped",
        "store_gone" => "its journal was moved away",
        "disabled" => "an upgrade is due and upgrades are only watched",
        "node_down" => "it was down a moment ago",
        "stop_overdue" => "its stop took too long",
        "held" => "an upgrade waits for you",
        "rollback_barred" => "an upgrade cannot be taken back",
        "stuck" => "an earlier upgrade is stuck",
        _ => "one thing needs you",
    }
}

#[cfg(test)]
pub(crate) mod tests;
