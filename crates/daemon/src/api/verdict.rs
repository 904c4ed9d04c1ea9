//! Am I fine? One word and one sentence, the same for the command line, the API and the page.

use std::fmt;

use serde::{Deserialize, Serialize};
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot};

/// A head that has not gone up for so many block times …
const STILL_BLOCKS: u64 = 20;

/// … and for so long, in milliseconds, stands still: less happens on a healthy network.
const STILL_MS: u64 = 60_000;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    let node = &snapshot.node;
    if !supervised {
        return match node.pid {
            Some(pid) => (
                Level::Attention,
                format!("no supervisor runs; the node does (pid {pid}), but nobody watches over it"),
            ),
            None => (Level::Down, "neither the supervisor nor the node runs".into()),
        };
    }
    if let Some(under_way) = &snapshot.upgrade {
        let name = &under_way.label;
        return (
            Level::Attention,
            match &under_way.failure {
                Some(failure) => format!("upgrade {name} goes back: {failure}"),
                None if under_way.held => {
                    format!("upgrade {name} waits for you to start the new program: wemixvisor start")
                }
                None => format!("upgrade {name} is being carried out: {}", under_way.step),
            },
        );
    }
    let last = || node.last_exit.as_ref().map(|exit| format!(": it {}", exit.describe())).unwrap_or_default();
    match node.state {
        NodeState::Failed => {
            return (Level::Down, format!("the node is down and is not started again{}", last()));
        }
        NodeState::Stopped => {
            return (Level::Down, "the node is stopped; to start it: wemixvisor start".into());
        }
        NodeState::Waiting => {
            return (Level::Down, format!("the node is down and will be started again{}", last()));
        }
        NodeState::Starting => return (Level::Attention, "the node is being started".into()),
        NodeState::Stopping => return (Level::Attention, "the node is being stopped".into()),
        NodeState::Running => {}
    }
    match trouble(snapshot) {
        Some(trouble) => (Level::Attention, trouble),
        None => (Level::Ok, "the node runs and follows the chain".into()),
    }
}

/// What needs a person while the node runs.
fn trouble(snapshot: &Snapshot) -> Option<String> {
    let chain = &snapshot.chain;
    if snapshot.shutting_down {
        return Some("the supervisor is ending".into());
    }
    if let Some(stuck) = &snapshot.stuck {
        return Some(format!("the node runs, but an earlier upgrade is stuck: {stuck}"));
    }
    match (snapshot.alerts.len(), snapshot.alerts.values().next()) {
        (0, _) | (_, None) => {}
        (1, Some(only)) => return Some(format!("the node runs, but: {only}")),
        (several, _) => return Some(format!("the node runs, but {several} things need you")),
    }
    if chain.head.is_none() {
        return Some("the node runs, but has not told its height yet".into());
    }
    let still_limit = chain.block_time_ms.unwrap_or(0).saturating_mul(STILL_BLOCKS).max(STILL_MS);
    if let Some(still) = chain.still_ms.filter(|still| *still >= still_limit) {
        return Some(format!("the node runs, but its head has stood still for {} s", still / 1000));
    }
    if !snapshot.upgrades_enabled && !snapshot.plans.is_empty() {
        return Some("the node runs, but upgrades are only watched: upgrade.enabled is false".into());
    }
    None
}
