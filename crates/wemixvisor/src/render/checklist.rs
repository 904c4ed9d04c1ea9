//! The steps of an upgrade, as a checklist and as they happen.

use jiff::tz::TimeZone;
use wemixvisor_daemon::api::wire::{Finished, Mark, Moment};

use super::{clock, harmless, span, wrap};
use crate::screen::{Paint, Tone};

/// The width of a step's name.
const NAME: usize = 24;

/// One line a step, as of `now`.
pub fn checklist(steps: &[Mark], now: Moment, paint: Paint, zone: &TimeZone) -> String {
    steps.iter().map(|mark| line(mark, now, paint, zone)).collect()
}

fn line(mark: &Mark, now: Moment, paint: Paint, zone: &TimeZone) -> String {
    let took = span(mark.ended.unwrap_or(now).0.saturating_sub(mark.started.0));
    let (sign, tone) = match (&mark.failed, mark.ended) {
        (Some(_), _) => ("[x]", Tone::Bad),
        (None, Some(_)) => ("[✓]", Tone::Good),
        (None, None) => ("[…]", Tone::Warn),
    };
    let mut text =
        format!("  {} {:<NAME$} {}  {took}\n", paint.tone(tone, sign), mark.text, clock(mark.started, zone));
    if let Some(words) = mark.failed.as_ref().or(mark.note.as_ref()) {
        text.push_str(&wrap("      ", 6, &harmless(words)));
    }
    text
}

/// The beginning of a step, when it happens.
pub fn began(mark: &Mark, zone: &TimeZone) -> String {
    format!("{}  {} ...", clock(mark.started, zone), mark.text)
}

/// The end of a step, when it happens.
pub fn ended(mark: &Mark, zone: &TimeZone) -> String {
    let end = mark.ended.unwrap_or(mark.started);
    let took = span(end.0.saturating_sub(mark.started.0));
    let (how, words) = match (&mark.failed, &mark.note) {
        (Some(reason), _) => ("failed", Some(reason)),
        (None, note) => ("done", note.as_ref()),
    };
    let words = words.map(|words| format!(": {}", harmless(words))).unwrap_or_default();
    format!("{}  {} {how} ({took}){words}", clock(end, zone), mark.text)
}

/// How an upgrade ended, in a sentence or two.
pub fn outcome(finished: &Finished) -> String {
    let Finished { name, from, to, .. } = finished;
    let down = finished.downtime_ms.map(|ms| format!("; no node ran for {}", span(ms))).unwrap_or_default();
    let reason = harmless(finished.reason.as_deref().unwrap_or("no reason was recorded"));
    let trouble = |lead: &str| {
        finished.trouble.as_ref().map(|why| format!(" {lead}: {}", harmless(why))).unwrap_or_default()
    };
    match finished.outcome.as_str() {
        "committed" => format!("{name} is committed: {to} runs and is proven{down}"),
        "rolled_back" => format!(
            "{name} was rolled back: {reason}. {from} runs again{down}.{}",
            trouble("It cannot follow the chain")
        ),
        "cancelled" => format!("{name} was called off: {reason}. {from} runs on"),
        "rollback_failed" => {
            format!("{name} failed: {reason}. Going back failed too.{}", trouble("The node does not run"))
        }
        other => format!("{name} ended: {other}"),
    }
}
