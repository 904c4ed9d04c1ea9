//! What goes over the wire, as clients may rely on it: types of their own, made from the engine's picture and never
//! the picture itself. Fields are added, not renamed. A client ignores the fields it does not know.

mod chain;
mod moment;
mod node;
mod place;
mod secrets;
mod upgrade;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use wemixvisor_core::engine::port::Pin;
use wemixvisor_core::engine::snapshot::Snapshot;

use super::openapi::words;
pub use super::verdict::Level;
use super::verdict::verdict;
use crate::handle::RecordedEvent;
pub use chain::{Chain, Source};
pub use moment::Moment;
pub use node::{Exit, Node};
pub use place::{Change, Changed, NodeLog, Setting, Settings};
pub use upgrade::{Finding, Finished, Mark, UnderWay, Upgrade, UpgradeStatus};

/// The version of this API, as in `/api/v1`.
pub const API_VERSION: u32 = 1;

/// `GET /api/v1/status`: am I fine, and what comes next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// `ok`, `attention` or `down`.
    pub verdict: Level,
    /// The verdict in a sentence.
    pub headline: String,
    /// When this picture was taken.
    pub at: Moment,
    /// The supervisor; `null` when none runs and the picture was made from the files.
    pub supervisor: Option<Supervisor>,
    /// The version that `current` points to: `genesis` or an upgrade's name.
    pub installed: String,
    /// The node's process.
    pub node: Node,
    /// The chain as the node shows it.
    pub chain: Chain,
    /// The scheduled upgrades, by height.
    pub upgrades: Vec<Upgrade>,
    /// Why the plan file cannot be used, if so; the plans read before stay in force.
    pub plan_problem: Option<String>,
    /// The upgrade under way.
    pub upgrade: Option<UnderWay>,
    /// The last finished upgrade.
    pub last_upgrade: Option<Finished>,
    /// Versions that are not tried again without force.
    pub pinned: Vec<Pinned>,
    /// What a person should know, each with what to do.
    pub alerts: Vec<Alert>,
    /// Why an earlier upgrade cannot be followed, if so.
    pub stuck: Option<String>,
    /// Upgrades are carried out, not only watched.
    pub upgrades_enabled: bool,
    /// The supervisor is ending.
    pub shutting_down: bool,
}

/// The supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Supervisor {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Since when it runs.
    pub started_at: Moment,
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Its kind, a stable word.
    pub kind: String,
    /// In words, with what to do.
    pub text: String,
}

/// A version pinned as bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pinned {
    /// The upgrade's name.
    pub name: String,
    /// The SHA-256 of the program that failed.
    pub sha256: String,
    /// Why.
    pub reason: String,
}

/// `GET /api/v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The running supervisor's version.
    pub wemixvisor: String,
    /// The version of the API.
    pub api: u32,
    /// The version that `current` points to.
    pub installed: String,
    /// The version that runs.
    pub running: Option<String>,
    /// What the node calls itself.
    pub client_version: Option<String>,
}

/// `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// `GET /ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ready {
    /// The verdict in a sentence.
    pub headline: String,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// In words.
    pub message: String,
}

/// `GET /api/v1/upgrades`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Upgrades {
    /// The scheduled upgrades, by height.
    pub upgrades: Vec<Upgrade>,
    /// How many they are.
    pub count: usize,
}

impl Upgrades {
    /// The list and its length.
    pub fn new(upgrades: Vec<Upgrade>) -> Self {
        Self { count: upgrades.len(), upgrades }
    }
}

/// `POST /api/v1/upgrades`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scheduled {
    /// What was done, in words.
    pub message: String,
    /// The upgrade as it is scheduled now; `null` when it has fired already.
    pub upgrade: Option<Upgrade>,
}

/// `GET /api/v1/history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The finished upgrades, newest first.
    pub history: Vec<Finished>,
    /// How many are in this answer.
    pub count: usize,
}

impl History {
    /// The list and its length.
    pub fn new(history: Vec<Finished>) -> Self {
        Self { count: history.len(), history }
    }
}

/// `GET /api/v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// The number to ask on from.
    pub last: u64,
    /// Events behind `since` are missing: they are not kept any more, or there never was such a number. How everything
    /// stands is at `/api/v1/status`.
    pub gap: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number: rising, without gaps, durable.
    pub seq: u64,
    /// When it was recorded.
    pub timestamp: Moment,
    /// `upgrades`, `heights`, `node`, `alerts`, `system`.
    #[schema(value_type = words::Topic)]
    pub topic: String,
    /// Its kind, a stable word.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its particulars; `message` says it in words.
    #[schema(value_type = Object)]
    pub data: Value,
}

impl Status {
    /// The wire's picture. `supervisor` is `None` when the picture comes from the files of a home.
    pub fn of(snapshot: &Snapshot, supervisor: Option<Supervisor>) -> Self {
        let (verdict, headline) = verdict(snapshot, supervisor.is_some());
        let alert = |(kind, text): (&String, &String)| Alert { kind: kind.clone(), text: text.clone() };
        Self {
            verdict,
            headline,
            at: snapshot.at.into(),
            supervisor,
            installed: snapshot.version.clone(),
            node: Node::of(snapshot),
            chain: Chain::of(&snapshot.chain),
            upgrades: snapshot.plans.iter().map(Upgrade::of).collect(),
            plan_problem: snapshot.plan_problem.clone(),
            upgrade: snapshot.upgrade.as_ref().map(UnderWay::of),
            last_upgrade: snapshot.last_upgrade.as_ref().map(Finished::of),
            pinned: snapshot.pins.iter().map(Pinned::of).collect(),
            alerts: snapshot.alerts.iter().map(alert).collect(),
            stuck: snapshot.stuck.clone(),
            upgrades_enabled: snapshot.upgrades_enabled,
            shutting_down: snapshot.shutting_down,
        }
    }
}

impl Supervisor {
    /// This process, beginning now.
    pub(crate) fn here() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id(), started_at: Moment::now() }
    }
}

impl Pinned {
    fn of(pin: &Pin) -> Self {
        Self { name: pin.name.to_string(), sha256: pin.sha256.clone(), reason: pin.reason.clone() }
    }
}

impl Event {
    /// The wire's form of a recorded event.
    pub fn of(event: &RecordedEvent) -> Self {
        Self {
            seq: event.seq,
            timestamp: event.at.into(),
            topic: event.topic.clone(),
            kind: event.kind.clone(),
            data: event.data.clone(),
        }
    }
}
