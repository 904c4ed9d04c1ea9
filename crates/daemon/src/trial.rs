//! The names of the crash points in the supervisor (see [`wemixvisor_host::trial`]): before, inside and after every
//! batch, by the newest journal record in it, and before and after every effect, by its kind.

use wemixvisor_core::engine::port::{Effect, Entry, PlanEdit};
use wemixvisor_core::upgrade::{Outcome, Record, Step};

/// The crash points with a name of their own.
const OWN: [&str; 13] = [
    "boot.locked",
    "boot.store",
    "boot.keeper",
    "boot.decided",
    "boot.written",
    "launch.asked",
    "launch.answered",
    "hook.begun",
    "hook.ended",
    "term.asked",
    "term.answered",
    "kill.asked",
    "kill.answered",
];

/// What [`effect`] can say.
const EFFECTS: [&str; 17] = [
    "launch",
    "terminate",
    "kill",
    "sample-work",
    "switch-link",
    "run-hook",
    "end-hook",
    "probe",
    "ask-sealing",
    "prepare",
    "verify",
    "put-plan",
    "remove-plan",
    "remove-finished-plan",
    "poll-every",
    "sources-up",
    "sources-down",
];

const STEPS: [Step; 11] = [
    Step::PreStop,
    Step::Stop,
    Step::PreUpgrade,
    Step::Switch,
    Step::Start,
    Step::Probation,
    Step::PostUpgrade,
    Step::BackStop,
    Step::BackSwitch,
    Step::BackStart,
    Step::BackProbation,
];

/// All crash points of the supervisor, without those of the crate host.
pub fn points() -> Vec<String> {
    let batches =
        ["triggered", "committed", "rolled-back", "rollback-failed", "cancelled", "step-ended", "facts"];
    let batches = batches.into_iter().map(str::to_owned).chain(STEPS.into_iter().map(begun));
    let batches = batches.chain(["events".to_owned()]);
    let around =
        |batch: String| ["before", "inside", "after"].map(|moment| format!("batch.{batch}.{moment}"));
    let effects = EFFECTS
        .into_iter()
        .flat_map(|kind| ["before", "after"].map(|moment| format!("effect.{kind}.{moment}")));
    OWN.into_iter().map(str::to_owned).chain(batches.flat_map(around)).chain(effects).collect()
}

/// The point at this moment of the writing of a batch.
pub(crate) fn batch(entries: &[Entry], moment: &str) -> String {
    let newest = entries.iter().rev().find_map(|entry| match entry {
        Entry::Journal { record, .. } => Some(record),
        _ => None,
    });
    let facts = || entries.iter().any(|entry| matches!(entry, Entry::Facts(_)));
    let name = match newest {
        Some(Record::Triggered(_)) => "triggered".into(),
        Some(Record::Started { step }) => begun(*step),
        Some(Record::Done { .. } | Record::Failed { .. }) => "step-ended".into(),
        Some(Record::Finished(Outcome::Committed)) => "committed".into(),
        Some(Record::Finished(Outcome::RolledBack { .. })) => "rolled-back".into(),
        Some(Record::Finished(Outcome::Cancelled { .. })) => "cancelled".into(),
        Some(Record::Finished(Outcome::RollbackFailed { .. })) => "rollback-failed".into(),
        None if facts() => "facts".to_owned(),
        None => "events".into(),
    };
    format!("batch.{name}.{moment}")
}

/// The point at this moment of an effect.
pub(crate) fn effect(effect: &Effect) -> &'static str {
    match effect {
        Effect::Launch(_) => "effect.launch",
        Effect::Terminate => "effect.terminate",
        Effect::Kill => "effect.kill",
        Effect::SampleWork => "effect.sample-work",
        Effect::SwitchLink(_) => "effect.switch-link",
        Effect::RunHook { .. } => "effect.run-hook",
        Effect::EndHook { .. } => "effect.end-hook",
        Effect::Probe(_) => "effect.probe",
        Effect::AskSealing => "effect.ask-sealing",
        Effect::Prepare(_) => "effect.prepare",
        Effect::Verify { .. } => "effect.verify",
        Effect::EditPlans { edit: PlanEdit::Put(_), .. } => "effect.put-plan",
        Effect::EditPlans { edit: PlanEdit::Remove(_), .. } => "effect.remove-plan",
        Effect::EditPlans { edit: PlanEdit::RemoveFinished { .. }, .. } => "effect.remove-finished-plan",
        Effect::PollEvery(_) => "effect.poll-every",
        Effect::SourcesUp => "effect.sources-up",
        Effect::SourcesDown => "effect.sources-down",
        // The loop's own.
        Effect::LookAround | Effect::Reply { .. } | Effect::Exit(_) => "effect.none",
    }
}

fn begun(step: Step) -> String {
    format!("{step} begun").replace([' ', '_'], "-")
}
