//! Upgrades: planned, under way, finished.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wemixvisor_core::engine::port::HistoryEntry;
use wemixvisor_core::engine::snapshot::{NodeState, PlanView, Snapshot, UpgradeView};
use wemixvisor_core::readiness;
use wemixvisor_core::upgrade::{self, Outcome, Step};

use super::{Moment, secrets};
use crate::api::openapi::words;

/// A scheduled upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Upgrade {
    /// Its name.
    pub name: String,
    /// The height it is bound to.
    #[schema(minimum = 1)]
    pub height: u64,
    /// `at`, `before`, `window:<blocks>`, `halted` or `manual`.
    #[schema(pattern = "^(at|before|halted|manual|window:[1-9][0-9]*)$", example = "at")]
    pub switch: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// Download addresses by platform, without passwords.
    pub binaries: BTreeMap<String, String>,
    /// Checksums by platform.
    pub checksums: BTreeMap<String, String>,
    /// The new program's arguments, without secrets; `null` keeps the present ones.
    pub args: Option<Vec<String>>,
    /// Variables set in addition for the new program, without secrets.
    pub env: BTreeMap<String, String>,
    /// A text that the new program's version must contain.
    pub expect_version: Option<String>,
    /// The first height at which it fires, if it fires by height.
    pub fires_at: Option<u64>,
    /// How many blocks are left until then.
    pub blocks_left: Option<u64>,
    /// The expected wall-clock time of that.
    pub expected_at: Option<Moment>,
    /// Whether it is ready; `null` while that is not known.
    pub ready: Option<bool>,
    /// What its preparation found.
    pub findings: Vec<Finding>,
    /// The version that the new program gives itself.
    pub program_version: Option<String>,
    /// The SHA-256 of the new program.
    pub sha256: Option<String>,
    /// Why it did not fire although it was due.
    pub blocked: Option<String>,
    /// It came too late and is refused.
    pub refused: bool,
    /// Its version is pinned as bad.
    pub pinned: bool,
}

/// One finding of a preparation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// `ok`, `warning` or `failed`.
    #[schema(value_type = words::FindingState)]
    pub state: readiness::State,
    /// In words, with what to do.
    pub detail: String,
}

/// The upgrade under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UnderWay {
    /// Its name, or what it is.
    pub name: String,
    /// The height it is bound to, if it has a plan.
    pub height: Option<u64>,
    /// The program before.
    pub from: String,
    /// The program it brings.
    pub to: String,
    /// When it fired.
    pub fired_at: Moment,
    /// The step under way.
    #[schema(value_type = words::Step)]
    pub step: Step,
    /// The same in words.
    pub step_text: String,
    /// The steps so far.
    pub steps: Vec<Mark>,
    /// It goes back to the program before.
    pub going_back: bool,
    /// Why it goes back, if it does.
    pub failure: Option<String>,
    /// What the new program still has to prove.
    pub waiting_for: Vec<String>,
    /// It waits for the operator to start the new program.
    pub held: bool,
    /// It can still be called off.
    pub can_cancel: bool,
}

/// One step as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mark {
    /// `pre_stop`, `stop`, `pre_upgrade`, `switch`, `start`, `probation`, `post_upgrade`, `back_stop`,
    /// `back_switch`, `back_start`, `back_probation`.
    #[schema(value_type = words::Step)]
    pub step: Step,
    /// The same in words.
    pub text: String,
    /// When it began.
    pub started: Moment,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// What is worth knowing about it.
    pub note: Option<String>,
}

/// A finished upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finished {
    /// Its number: rising, unique.
    pub id: u64,
    /// Its name, or what it was.
    pub name: String,
    /// The height it was bound to, if it had a plan.
    pub height: Option<u64>,
    /// The program before.
    pub from: String,
    /// The program it was to bring.
    pub to: String,
    /// The SHA-256 of that program.
    pub sha256: String,
    /// The head when it fired.
    pub head: Option<u64>,
    /// When it fired.
    pub fired_at: Moment,
    /// When it was over.
    pub finished_at: Moment,
    /// How long no node ran, in milliseconds.
    pub downtime_ms: Option<u64>,
    /// `committed`, `rolled_back`, `cancelled` or `rollback_failed`.
    #[schema(value_type = words::Outcome)]
    pub outcome: String,
    /// Why it was not committed.
    pub reason: Option<String>,
    /// Why the node does not run, or why the old program cannot follow the chain, after a rollback.
    pub trouble: Option<String>,
    /// Its steps.
    pub steps: Vec<Mark>,
}

/// `GET /api/v1/upgrades/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeStatus {
    /// The next scheduled upgrade.
    pub pending_upgrade: Option<Upgrade>,
    /// Whether one is under way.
    pub upgrading: bool,
    /// The head.
    pub current_height: Option<u64>,
    /// The state of the node's process.
    #[schema(value_type = words::NodeState)]
    pub node_state: NodeState,
    /// Whether the next one is ready.
    pub ready: Option<bool>,
    /// The expected wall-clock time of the next one.
    pub expected_at: Option<Moment>,
    /// The step of the one under way.
    #[schema(value_type = Option<words::Step>)]
    pub step: Option<Step>,
    /// The one under way.
    pub upgrade: Option<UnderWay>,
    /// The last finished one.
    pub last_upgrade: Option<Finished>,
    /// Why an earlier one cannot be followed, if so.
    pub stuck: Option<String>,
}

impl Upgrade {
    /// The wire's form of a waiting plan.
    pub fn of(view: &PlanView) -> Self {
        let plan = view.plan.clone();
        let check = view.readiness.as_ref();
        let finding = |finding: &readiness::Finding| Finding {
            what: finding.what.clone(),
            state: finding.state,
            detail: finding.detail.clone(),
        };
        Self {
            name: plan.name.to_string(),
            height: plan.height,
            switch: plan.switch.to_string(),
            description: plan.info.description,
            binaries: plan
                .info
                .binaries
                .into_iter()
                .map(|(platform, from)| (platform, secrets::address(&from)))
                .collect(),
            checksums: plan.info.checksums,
            args: plan.args.map(secrets::args),
            env: secrets::env(plan.env),
            expect_version: plan.expect_version,
            fires_at: view.fires_at,
            blocks_left: view.blocks_left,
            expected_at: view.expected_at.map(Moment::from),
            ready: view.ready,
            findings: check.iter().flat_map(|check| &check.findings).map(finding).collect(),
            program_version: check.and_then(|check| check.version.clone()),
            sha256: check.and_then(|check| check.sha256.clone()),
            blocked: view.blocked.clone(),
            refused: view.refused,
            pinned: view.pinned,
        }
    }
}

impl UnderWay {
    pub(crate) fn of(view: &UpgradeView) -> Self {
        Self {
            name: view.label.clone(),
            height: view.plan.as_ref().map(|plan| plan.height),
            from: view.from.clone(),
            to: view.to.clone(),
            fired_at: view.fired_at.into(),
            step: view.step,
            step_text: view.step.to_string(),
            steps: view.steps.iter().map(Mark::of).collect(),
            going_back: view.step.is_back(),
            failure: view.failure.clone(),
            waiting_for: view.waiting_for.clone(),
            held: view.held,
            can_cancel: view.can_cancel,
        }
    }
}

impl Mark {
    fn of(mark: &upgrade::Mark) -> Self {
        Self {
            step: mark.step,
            text: mark.step.to_string(),
            started: mark.started.into(),
            ended: mark.ended.map(Moment::from),
            failed: mark.failed.clone(),
            note: mark.note.clone(),
        }
    }
}

impl Finished {
    /// The wire's form of an entry of the history.
    pub fn of(entry: &HistoryEntry) -> Self {
        let (outcome, reason, trouble) = match entry.outcome.clone() {
            Outcome::Committed => ("committed", None, None),
            Outcome::RolledBack { reason, stranded } => ("rolled_back", Some(reason), stranded),
            Outcome::Cancelled { reason } => ("cancelled", Some(reason), None),
            Outcome::RollbackFailed { reason, failure } => ("rollback_failed", Some(reason), Some(failure)),
        };
        Self {
            id: entry.id,
            name: entry.label.clone(),
            height: entry.plan.as_ref().map(|plan| plan.height),
            from: entry.from.to_string(),
            to: entry.to.to_string(),
            sha256: entry.sha256.clone(),
            head: entry.head,
            fired_at: entry.fired_at.into(),
            finished_at: entry.finished_at.into(),
            downtime_ms: entry.downtime_ms,
            outcome: outcome.into(),
            reason,
            trouble,
            steps: entry.steps.iter().map(Mark::of).collect(),
        }
    }
}

impl UpgradeStatus {
    /// The part of the picture that is about upgrades.
    pub fn of(snapshot: &Snapshot) -> Self {
        let pending = snapshot.plans.first().map(Upgrade::of);
        let under_way = snapshot.upgrade.as_ref().map(UnderWay::of);
        Self {
            upgrading: under_way.is_some(),
            current_height: snapshot.chain.head,
            node_state: snapshot.node.state,
            ready: pending.as_ref().and_then(|upgrade| upgrade.ready),
            expected_at: pending.as_ref().and_then(|upgrade| upgrade.expected_at),
            step: under_way.as_ref().map(|under_way| under_way.step),
            pending_upgrade: pending,
            upgrade: under_way,
            last_upgrade: snapshot.last_upgrade.as_ref().map(Finished::of),
            stuck: snapshot.stuck.clone(),
        }
    }
}
