//! Upgrades: the list, the next one, the history.

use jiff::tz::TimeZone;
use wemixvisor_core::readiness::State;
use wemixvisor_daemon::api::wire::{Finished, Moment, Upgrade, UpgradeStatus};

use super::checklist::{checklist, outcome};
use super::table::table;
use super::{date, harmless, minute, number, short_date, span, wrap};
use crate::screen::{Paint, Tone};

/// The scheduled upgrades as a table.
pub fn list(upgrades: &[Upgrade], zone: &TimeZone) -> String {
    if upgrades.is_empty() {
        return "no upgrade is scheduled\n".into();
    }
    let heading = ["NAME", "HEIGHT", "SWITCH", "LEFT", "EXPECTED", "READY"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(upgrades.iter().map(|upgrade| {
        vec![
            upgrade.name.clone(),
            number(upgrade.height),
            upgrade.switch.clone(),
            upgrade.blocks_left.map_or_else(|| "-".into(), number),
            upgrade.expected_at.map_or_else(|| "-".into(), |at| minute(at, zone)),
            readiness_word(upgrade).into(),
        ]
    }));
    table(&rows)
}

fn readiness_word(upgrade: &Upgrade) -> &'static str {
    match upgrade {
        Upgrade { refused: true, .. } => "too late",
        Upgrade { pinned: true, .. } => "pinned",
        Upgrade { blocked: Some(_), .. } => "blocked",
        Upgrade { ready: Some(true), .. } => "yes",
        Upgrade { ready: Some(false), .. } => "NO",
        _ => "?",
    }
}

/// One waiting upgrade: when it comes, and whether it is ready.
pub fn next(upgrade: &Upgrade, now: Moment, paint: Paint, zone: &TimeZone) -> String {
    let heading = format!("{} ", paint.tone(Tone::Strong, "NEXT UPGRADE"));
    let what = format!("{} at {} ({})", upgrade.name, number(upgrade.height), when_words(&upgrade.switch));
    let mut text = wrap(&heading, 2, &what);
    if let Some(description) = &upgrade.description {
        text.push_str(&wrap("  ", 2, &harmless(description)));
    }
    match (upgrade.blocks_left, upgrade.expected_at) {
        (Some(left), Some(at)) => {
            let countdown = span(at.0.saturating_sub(now.0));
            let (left, at) = (blocks(left), date(at, zone));
            text.push_str(&format!("  {left} left, expected {at}, in {countdown}\n"));
        }
        (Some(left), None) => text.push_str(&format!("  {} left\n", blocks(left))),
        (None, _) if upgrade.switch == "manual" => {
            text.push_str(&format!("  to carry it out: wemixvisor upgrade apply {}\n", upgrade.name));
        }
        (None, _) => text.push_str("  it is not known when: no height is known\n"),
    }
    text.push_str(&readiness(upgrade, paint));
    text
}

/// A number of blocks.
pub fn blocks(count: u64) -> String {
    if count == 1 { "1 block".into() } else { format!("{} blocks", number(count)) }
}

/// When an upgrade fires, in words.
pub fn when_words(switch: &str) -> String {
    match switch {
        "at" => "when the head is there".into(),
        "before" => "one block before, for a fork".into(),
        "halted" => "when the chain halts before it".into(),
        "manual" => "only by hand".into(),
        window => match window.strip_prefix("window:") {
            Some(blocks) => format!("within the {blocks} blocks before"),
            None => window.into(),
        },
    }
}

fn readiness(upgrade: &Upgrade, paint: Paint) -> String {
    let mut text = String::new();
    let version = upgrade.program_version.as_deref().map(harmless);
    match upgrade.ready {
        Some(true) => {
            let version = version.map(|version| format!(": version {version}")).unwrap_or_default();
            text.push_str(&format!("  {}{version}\n", paint.tone(Tone::Good, "ready")));
        }
        Some(false) => text.push_str(&format!("  {}\n", paint.tone(Tone::Bad, "NOT READY"))),
        None => text.push_str(&format!("  {}\n", paint.tone(Tone::Dim, "not checked yet"))),
    }
    for finding in &upgrade.findings {
        let tone = match finding.state {
            State::Ok => continue,
            State::Warning => Tone::Warn,
            State::Failed => Tone::Bad,
        };
        text.push_str(&wrap(&format!("  {} ", paint.tone(tone, "!")), 4, &harmless(&finding.detail)));
    }
    for words in obstacles(upgrade) {
        text.push_str(&wrap(&format!("  {} ", paint.tone(Tone::Bad, "!")), 4, &words));
    }
    text
}

/// Why an upgrade will not fire, whatever its preparation found.
pub fn obstacles(upgrade: &Upgrade) -> Vec<String> {
    let mut found = Vec::new();
    if upgrade.refused {
        found.push("it came too late and is refused (upgrade.late = refuse)".into());
    }
    if upgrade.pinned {
        let words =
            "its version failed before and is pinned as bad; to try it again: wemixvisor upgrade retry";
        found.push(words.into());
    }
    if let Some(blocked) = &upgrade.blocked {
        found.push(format!("blocked: {}", harmless(blocked)));
    }
    found
}

/// `upgrade status`: under way, next, last.
pub fn status(status: &UpgradeStatus, now: Moment, paint: Paint, zone: &TimeZone) -> String {
    let mut parts = Vec::new();
    if let Some(stuck) = &status.stuck {
        parts.push(wrap(&format!("{}: ", paint.tone(Tone::Bad, "STUCK")), 2, &harmless(stuck)));
    }
    if let Some(under_way) = &status.upgrade {
        parts.push(super::status::under_way(under_way, now, paint, zone));
    }
    match &status.pending_upgrade {
        Some(upgrade) => parts.push(next(upgrade, now, paint, zone)),
        None => parts.push("no upgrade is scheduled\n".into()),
    }
    if let Some(last) = &status.last_upgrade {
        let heading = paint.tone(Tone::Strong, "LAST UPGRADE");
        parts.push(format!("{heading} {}\n", date(last.finished_at, zone)) + &wrap("  ", 2, &outcome(last)));
    }
    parts.join("\n")
}

/// The finished upgrades.
pub fn history(history: &[Finished], zone: &TimeZone) -> String {
    if history.is_empty() {
        return "no upgrade has been carried out yet\n".into();
    }
    let heading = ["FINISHED", "NAME", "HEIGHT", "FROM", "TO", "OUTCOME", "DOWN"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(history.iter().map(|entry| {
        vec![
            short_date(entry.finished_at, zone),
            entry.name.clone(),
            entry.height.map_or_else(|| "-".into(), number),
            entry.from.clone(),
            entry.to.clone(),
            entry.outcome.replace('_', " "),
            entry.downtime_ms.map_or_else(|| "-".into(), span),
        ]
    }));
    let mut text = table(&rows);
    if let Some(newest) = history.first().filter(|newest| newest.outcome != "committed") {
        text.push('\n');
        text.push_str(&wrap("", 0, &outcome(newest)));
        text.push_str(&checklist(&newest.steps, newest.finished_at, Paint::Plain, zone));
    }
    text
}

#[cfg(test)]
mod tests;
