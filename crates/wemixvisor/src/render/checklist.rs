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
    let lead = format!("{}  ", clock(end, zone));
    wrap(&lead, lead.len(), &format!("{} {how} ({took}){words}", mark.text)).trim_end().to_owned()
}

/// How an upgrade ended, in a sentence or two.
pub fn outcome(finished: &Finished) -> String {
    let Finished { name, from, to, .. } = finished;
    let down = finished.downtime_ms.map(|ms| format!("; no node ran for {}", span(ms))).unwrap_or_default();
    let sentence = |text: &Option<String>| {
        let text =
            text.as_deref().map(|text| text.trim().trim_end_matches('.')).filter(|text| !text.is_empty());
        harmless(text.unwrap_or("no reason was recorded"))
    };
    let (reason, trouble) = (sentence(&finished.reason), sentence(&finished.trouble));
    match finished.outcome.as_str() {
        "committed" => format!("{name} is committed: {to} runs and is proven{down}"),
        "rolled_back" => match &finished.trouble {
            None => format!("{name} was rolled back: {reason}. {from} runs again{down}"),
            Some(_) => format!(
                "{name} was rolled back: {reason}. {from} is back, but cannot follow the chain: {trouble}"
            ),
        },
        "cancelled" => format!("{name} was called off: {reason}. {from} runs on"),
        "rollback_failed" => {
            format!("{name} failed: {reason}. Going back failed too, the node does not run: {trouble}")
        }
        other => format!("{name} ended: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(how: &str, reason: Option<&str>, trouble: Option<&str>) -> String {
        let at = Moment(0);
        outcome(&Finished {
            id: 1,
            name: "v2".into(),
            height: Some(7),
            from: "genesis".into(),
            to: "v2".into(),
            sha256: String::new(),
            head: None,
            fired_at: at,
            finished_at: at,
            downtime_ms: Some(40),
            outcome: how.into(),
            reason: reason.map(str::to_owned),
            trouble: trouble.map(str::to_owned),
            steps: Vec::new(),
        })
    }

    #[test]
    fn every_end_is_said_for_what_it_is() {
        for (how, reason, trouble, text) in [
            ("committed", None, None, "v2 is committed: v2 runs and is proven; no node ran for 40 ms"),
            (
                "rolled_back",
                Some("it died"),
                None,
                "v2 was rolled back: it died. genesis runs again; no node ran for 40 ms",
            ),
            (
                "rolled_back",
                Some("it died"),
                Some("a fork"),
                "v2 was rolled back: it died. genesis is back, but cannot follow the chain: a fork",
            ),
            (
                "rolled_back",
                Some("the hook said no.\n"),
                None,
                "v2 was rolled back: the hook said no. genesis runs again; no node ran for 40 ms",
            ),
            ("cancelled", Some("  "), None, "v2 was called off: no reason was recorded. genesis runs on"),
            ("cancelled", Some("by hand"), None, "v2 was called off: by hand. genesis runs on"),
            (
                "rollback_failed",
                Some("it died"),
                Some("so did the other"),
                "v2 failed: it died. Going back failed too, the node does not run: so did the other",
            ),
            ("other", None, None, "v2 ended: other"),
        ] {
            assert_eq!(said(how, reason, trouble), text);
        }
    }

    #[test]
    fn a_step_is_said_when_it_begins_and_when_it_ends() {
        let mut mark = Mark {
            step: wemixvisor_core::upgrade::Step::Switch,
            text: "switch the link".into(),
            started: Moment(1000),
            ended: None,
            failed: None,
            note: None,
        };
        let zone = TimeZone::UTC;
        assert_eq!(began(&mark, &zone), "00:00:01  switch the link ...");
        mark.ended = Some(Moment(1012));
        mark.note = Some("swift".into());
        assert_eq!(ended(&mark, &zone), "00:00:01  switch the link done (12 ms): swift");
        mark.note = Some("a reason in so many words that they do not fit on one line of a terminal".into());
        assert_eq!(
            ended(&mark, &zone),
            "00:00:01  switch the link done (12 ms): a reason in so many words that they do\n          not fit on one \
             line of a terminal"
        );
        mark.failed = Some("no space".into());
        assert_eq!(ended(&mark, &zone), "00:00:01  switch the link failed (12 ms): no space");
        let line = checklist(&[mark], Moment(2000), Paint::Plain, &zone);
        assert_eq!(line, "  [x] switch the link          00:00:01  12 ms\n      no space\n");
    }
}
