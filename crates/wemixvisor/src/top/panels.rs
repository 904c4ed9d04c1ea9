//! What the overview says, in sections: the verdict, node, chain, the next upgrade, the steps of the one under way or
//! of the last one, the alerts.

use jiff::tz::TimeZone;
use ratatui::text::{Line, Span};
use tokio::time::Instant;
use wemixvisor_core::readiness::State;
use wemixvisor_daemon::api::wire::{Finished, Level, Mark, Moment, Status, UnderWay, Upgrade};

use super::lines::{LABEL, Pen, Section, fold, style, width};
use super::state::{Lost, View};
use crate::render::checklist::outcome;
use crate::render::status::{chain, node, shown_alerts, waiting};
use crate::render::upgrade::{blocks, obstacles, when_words};
use crate::render::{clock, date, harmless, number, span};
use crate::screen::{Paint, Tone};

/// Which home is looked at, and how.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The home.
    pub(crate) home: String,
    /// The network's profile.
    pub(crate) network: String,
    /// Colours.
    pub(crate) paint: Paint,
    /// The local zone.
    pub(crate) zone: TimeZone,
}

/// The width of a step's name.
const STEP: usize = 24;

/// The widths of a step's sign and of its times.
const SIGN: usize = 4;
const TIMES: usize = 20;

/// Room for the bars of the pace beside the numbers.
const BESIDE_BARS: usize = 30;

/// All of them, in the order in which they stand on the screen.
pub(super) fn sections(view: &View, setting: &Setting, pen: Pen, now: Instant) -> Vec<Section> {
    let mut sections = vec![title(view, setting, pen, now), verdict(view, pen, now)];
    let Some(status) = view.status() else { return sections };
    // Of what nobody tells any more it is not known how it went on.
    let clock = view.clock(now).filter(|_| view.lost.is_none()).unwrap_or(status.at);
    sections.push(supervisor(status, pen, clock));
    sections.push(rows(3, node(&status.node, &status.installed, clock), pen));
    sections.extend(heads(view, status, pen, clock));
    let coming = |rank| next(status, pen, clock, &setting.zone, rank);
    match (&status.upgrade, &status.last_upgrade) {
        (Some(upgrade), _) => {
            sections.push(under_way(upgrade, pen, clock, &setting.zone));
            sections.push(coming(8));
        }
        (None, Some(finished)) => {
            sections.push(coming(4));
            sections.push(last(finished, pen, &setting.zone));
        }
        (None, None) => sections.push(coming(4)),
    }
    sections.push(alerts(view, status, pen));
    sections
}

/// Whose view it is, and what time it is there.
fn title(view: &View, setting: &Setting, pen: Pen, now: Instant) -> Section {
    let mut section = Section::new(6, 1);
    let id = view.status().and_then(|status| status.chain.chain_id);
    let id = id.map(|id| format!(", chain id {id}")).unwrap_or_default();
    let home = format!("wemixvisor  {} ({}{id})", harmless(&setting.home), setting.network);
    let time = view.clock(now).map(|now| clock(now, &setting.zone)).unwrap_or_default();
    let gap = pen.width.saturating_sub(width(&home) + width(&time));
    if gap < 2 {
        section.push(Line::styled(home, style(pen.paint, Tone::Dim)));
    } else {
        section.push(Line::styled(format!("{home}{}{time}", " ".repeat(gap)), style(pen.paint, Tone::Dim)));
    }
    section
}

fn verdict(view: &View, pen: Pen, now: Instant) -> Section {
    let (word, tone, text) = match (&view.lost, view.status()) {
        (Some(lost), known) => ("NOT ANSWERING".into(), Tone::Bad, not_answering(lost, known.is_some(), now)),
        (None, None) => ("...".into(), Tone::Dim, "the supervisor is asked".into()),
        (None, Some(status)) => {
            let tone = match status.verdict {
                Level::Ok => Tone::Good,
                Level::Attention => Tone::Warn,
                Level::Down => Tone::Bad,
            };
            (status.verdict.to_string(), tone, status.headline.clone())
        }
    };
    let mut section = Section::new(0, 2);
    let indent = width(&word) + 2;
    let word = Span::styled(word, style(pen.paint, tone));
    // On a narrow screen the word is not worth an indented column.
    let beside = pen.width > 4 * indent;
    let hang = " ".repeat(if beside { indent } else { 2 });
    let mut pieces = fold(&text, pen.width.saturating_sub(hang.len())).into_iter();
    match beside.then(|| pieces.next()).flatten() {
        Some(first) => section.push(Line::from(vec![word, Span::raw(format!("  {first}"))])),
        None => section.push(Line::from(word)),
    }
    pieces.for_each(|piece| section.push(Line::raw(format!("{hang}{piece}"))));
    section
}

fn not_answering(lost: &Lost, was_known: bool, now: Instant) -> String {
    let since = now.duration_since(lost.since).as_secs();
    let below = if was_known { " Below is how it stood then." } else { "" };
    format!(
        "{}. For {} now; it is asked again every second.{below}",
        lost.why.trim_end_matches('.'),
        span(since * 1000)
    )
}

/// Rows of a name and a text, as `status` shows them.
fn rows(rank: u8, rows: Vec<(&'static str, String)>, pen: Pen) -> Section {
    let mut section = Section::new(rank, 1);
    for (name, text) in rows {
        section.say(pen, name, "", None, &text);
    }
    section
}

fn supervisor(status: &Status, pen: Pen, now: Moment) -> Section {
    let mut section = Section::new(10, 0);
    if let Some(supervisor) = &status.supervisor {
        let up = span(now.0.saturating_sub(supervisor.started_at.0));
        let text = format!("wemixvisor {}, pid {}, up {up}", supervisor.version, supervisor.pid);
        section.say(pen, "supervisor", "", None, &text);
    }
    section
}

/// The head, the pace, the sources.
fn heads(view: &View, status: &Status, pen: Pen, now: Moment) -> Vec<Section> {
    if status.node.pid.is_none() && status.chain.head.is_none() {
        return Vec::new();
    }
    let mut told = chain(&status.chain, now);
    let sources = told.split_off(1.min(told.len()));
    let mut pace = Section::new(7, 1);
    let room = pen.width.saturating_sub(LABEL + BESIDE_BARS);
    if let Some((bars, least, most)) = view.pace.bars(room) {
        pace.say(pen, "pace", "", None, &format!("{bars} {} to {} a block", span(least), span(most)));
    }
    let mut sources = rows(9, sources, pen);
    sources.least = 0;
    vec![rows(2, told, pen), pace, sources]
}

/// The next upgrade that waits, and those behind it.
fn next(status: &Status, pen: Pen, now: Moment, zone: &TimeZone, rank: u8) -> Section {
    let mut section = Section::new(rank, 3);
    if let Some(problem) = &status.plan_problem {
        section.say(pen, "plans", "! ", Some(Tone::Bad), &format!("the plan file cannot be used: {problem}"));
    }
    let waiting = waiting(status);
    let Some((first, rest)) = waiting.split_first() else {
        if status.upgrade.is_none() && status.plan_problem.is_none() {
            section.say(pen, "next", "", None, "no upgrade is scheduled");
        }
        return section;
    };
    let what = format!("{} at {} ({})", first.name, number(first.height), when_words(&first.switch));
    section.say(pen, "next", "", None, &what);
    section.say(pen, "", "", None, &countdown(first, now, zone));
    readiness(&mut section, first, pen);
    if !status.upgrades_enabled {
        section.say(pen, "", "! ", Some(Tone::Warn), "upgrades are only watched: upgrade.enabled = false");
    }
    if let Some(description) = &first.description {
        section.say(pen, "", "", None, description);
    }
    if !rest.is_empty() {
        let then: Vec<_> =
            rest.iter().map(|plan| format!("{} at {}", plan.name, number(plan.height))).collect();
        section.say(pen, "then", "", None, &then.join(", "));
    }
    section
}

fn countdown(upgrade: &Upgrade, now: Moment, zone: &TimeZone) -> String {
    match (upgrade.blocks_left, upgrade.expected_at) {
        (Some(left), Some(at)) if at > now => {
            format!("{} left, in {}: {}", blocks(left), span(at.0 - now.0), date(at, zone))
        }
        (Some(left), Some(at)) => format!("{} left, expected since {}", blocks(left), clock(at, zone)),
        (Some(left), None) => format!("{} left", blocks(left)),
        (None, _) if upgrade.switch == "manual" => "by hand only: a carries it out".into(),
        (None, _) => "it is not known when: no height is known".into(),
    }
}

fn readiness(section: &mut Section, upgrade: &Upgrade, pen: Pen) {
    let version = upgrade.program_version.as_ref().map(|version| format!(": version {version}"));
    let (lead, tone, text) = match upgrade.ready {
        Some(true) => ("ready", Tone::Good, version.unwrap_or_default()),
        Some(false) => ("NOT READY", Tone::Bad, String::new()),
        None => ("not checked yet", Tone::Dim, String::new()),
    };
    section.say(pen, "", lead, Some(tone), &text);
    for finding in &upgrade.findings {
        let tone = match finding.state {
            State::Ok => continue,
            State::Warning => Tone::Warn,
            State::Failed => Tone::Bad,
        };
        section.say(pen, "", "! ", Some(tone), &finding.detail);
    }
    for obstacle in obstacles(upgrade) {
        section.say(pen, "", "! ", Some(Tone::Bad), &obstacle);
    }
}

fn under_way(upgrade: &UnderWay, pen: Pen, now: Moment, zone: &TimeZone) -> Section {
    let mut section = Section::new(1, 4);
    section.keeps_end = true;
    let (label, lead, tone) = match upgrade.going_back {
        true => ("upgrade", "GOES BACK ", Tone::Bad),
        false => ("upgrade", "UNDER WAY ", Tone::Warn),
    };
    let UnderWay { name, from, to, .. } = upgrade;
    let since = span(now.0.saturating_sub(upgrade.fired_at.0));
    section.say(pen, label, lead, Some(tone), &format!("{name}: {from} -> {to}, for {since}"));
    if let Some(failure) = &upgrade.failure {
        section.say(pen, "", "because ", None, failure);
    }
    steps(&mut section, &upgrade.steps, pen, now, zone);
    if !upgrade.waiting_for.is_empty() {
        section.say(pen, "", "    still to prove: ", None, &upgrade.waiting_for.join(", "));
    }
    if upgrade.held {
        section.say(pen, "", "", None, "it waits for you: g starts the new program");
    }
    if upgrade.can_cancel {
        section.say(pen, "", "", None, "c calls it off");
    }
    section
}

fn last(finished: &Finished, pen: Pen, zone: &TimeZone) -> Section {
    let mut section = Section::new(8, 2);
    let lead = format!("{} ", clock(finished.finished_at, zone));
    section.say(pen, "last", &lead, Some(Tone::Dim), &outcome(finished));
    steps(&mut section, &finished.steps, pen, finished.finished_at, zone);
    section
}

fn steps(section: &mut Section, steps: &[Mark], pen: Pen, now: Moment, zone: &TimeZone) {
    let whole = LABEL + SIGN + STEP + TIMES;
    let indent = LABEL.saturating_sub(whole.saturating_sub(pen.width));
    for mark in steps {
        let took = span(mark.ended.unwrap_or(now).0.saturating_sub(mark.started.0));
        let (sign, tone) = match (&mark.failed, mark.ended) {
            (Some(_), _) => ("[x] ", Tone::Bad),
            (None, Some(_)) => ("[✓] ", Tone::Good),
            (None, None) => ("[…] ", Tone::Warn),
        };
        section.push(Line::from(vec![
            Span::raw(" ".repeat(indent)),
            Span::styled(sign, style(pen.paint, tone)),
            Span::raw(format!("{:<STEP$} {}  {took}", harmless(&mark.text), clock(mark.started, zone))),
        ]));
        if let Some(words) = mark.failed.as_ref().or(mark.note.as_ref()) {
            section.say(pen, "", "    ", None, words);
        }
    }
}

fn alerts(view: &View, status: &Status, pen: Pen) -> Section {
    let missing = view.no_events.as_ref();
    let missing =
        missing.map(|why| format!("nothing is told as it happens, it is only asked now and then: {why}"));
    let known = shown_alerts(status).into_iter().map(|alert| alert.text.clone());
    let mut section = Section::new(5, 1);
    for (at, text) in missing.into_iter().chain(known).enumerate() {
        section.say(pen, if at == 0 { "alerts" } else { "" }, "! ", Some(Tone::Warn), &text);
    }
    section
}
