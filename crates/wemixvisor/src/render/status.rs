//! The screen that answers "am I fine, and what comes next".

use jiff::tz::TimeZone;
use wemixvisor_core::engine::snapshot::NodeState;
use wemixvisor_daemon::api::wire::{Alert, Chain, Level, Moment, Node, Status, UnderWay, Upgrade};

use super::checklist::{checklist, outcome};
use super::{date, harmless, number, span, upgrade, wrap};
use crate::screen::{Paint, Tone};

/// What the screen shows beside the status.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The home.
    pub home: &'a str,
    /// The network's profile.
    pub network: &'a str,
    /// Colours.
    pub paint: Paint,
    /// The local zone.
    pub zone: &'a TimeZone,
}

/// The whole screen.
pub fn screen(status: &Status, setting: &Setting<'_>) -> String {
    let Setting { paint, zone, .. } = *setting;
    let now = status.at;
    let mut parts = vec![verdict(status, paint), facts(status, setting)];
    if let Some(under_way) = &status.upgrade {
        parts.push(self::under_way(under_way, now, paint, zone));
    }
    parts.extend(coming(status, paint, zone));
    parts.extend(alerts(status, paint));
    if let Some(last) = &status.last_upgrade {
        let heading = paint.tone(Tone::Strong, "LAST UPGRADE");
        parts.push(format!("{heading} {}\n", date(last.finished_at, zone)) + &wrap("  ", 2, &outcome(last)));
    }
    parts.join("\n")
}

fn verdict(status: &Status, paint: Paint) -> String {
    let tone = match status.verdict {
        Level::Ok => Tone::Good,
        Level::Attention => Tone::Warn,
        Level::Down => Tone::Bad,
    };
    let word = status.verdict.to_string();
    let text = wrap(&format!("{word}  "), word.len() + 2, &harmless(&status.headline));
    text.replacen(&word, &paint.tone(tone, &word), 1)
}

fn facts(status: &Status, setting: &Setting<'_>) -> String {
    let now = status.at;
    let mut rows = vec![("home", format!("{} ({})", setting.home, network(status, setting)))];
    rows.push((
        "supervisor",
        match &status.supervisor {
            Some(supervisor) => format!(
                "wemixvisor {}, pid {}, up {}",
                supervisor.version,
                supervisor.pid,
                span(now.0.saturating_sub(supervisor.started_at.0))
            ),
            None => "not running; to start it: wemixvisor start [node arguments]".into(),
        },
    ));
    rows.extend(node(&status.node, &status.installed, now));
    if status.supervisor.is_some() && (status.node.pid.is_some() || status.chain.head.is_some()) {
        rows.extend(chain(&status.chain, now));
    }
    rows.into_iter().map(|(name, value)| wrap(&format!("  {name:<11} "), 14, &harmless(&value))).collect()
}

fn network(status: &Status, setting: &Setting<'_>) -> String {
    match status.chain.chain_id {
        Some(id) => format!("{}, chain id {id}", setting.network),
        None => setting.network.into(),
    }
}

/// The node's process, in rows of a name and a text; a row without a name belongs to the one above.
pub fn node(node: &Node, installed: &str, now: Moment) -> Vec<(&'static str, String)> {
    let version = node.version.as_deref().unwrap_or(installed);
    let pid = node.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let up =
        node.since.map(|since| format!(", up {}", span(now.0.saturating_sub(since.0)))).unwrap_or_default();
    let state = match node.state {
        NodeState::Running => "running",
        NodeState::Starting => "starting",
        NodeState::Waiting => "down, will be started again",
        NodeState::Stopping => "stopping",
        NodeState::Stopped => "stopped",
        NodeState::Failed => "FAILED, not started again",
    };
    let mut rows = vec![("node", format!("{version}, {state}{pid}{up}"))];
    if let Some(client) = &node.client_version {
        rows.push(("", client.clone()));
    }
    if let Some(at) = node.starts_at {
        let seconds = span(at.0.saturating_sub(now.0));
        rows.push(("", format!("starts in {seconds} (restart {} of {})", node.restarts, node.max_restarts)));
    }
    // Where it is down against its will the headline says how it ended.
    let stopped = node.pid.is_none() && !matches!(node.state, NodeState::Waiting | NodeState::Failed);
    if let Some(exit) = node.last_exit.as_ref().filter(|_| stopped) {
        rows.push(("", format!("last: it {}", exit.text)));
    }
    rows
}

/// The chain and its sources, in such rows.
pub fn chain(chain: &Chain, now: Moment) -> Vec<(&'static str, String)> {
    let head = match (chain.head, chain.seen_at) {
        (Some(head), Some(seen)) => {
            format!("{}, {} ago", number(head), span(now.0.saturating_sub(seen.0)))
        }
        _ => "not known yet".into(),
    };
    let pace = chain.block_time_ms.map(|ms| format!("; a block every {}", span(ms))).unwrap_or_default();
    let lag = chain.lag_ms.map(|ms| format!("; {} behind", span(ms))).unwrap_or_default();
    let mut rows = vec![("head", format!("{head}{pace}{lag}"))];
    let followed = chain.sources.iter().find(|source| source.followed);
    rows.push((
        "source",
        match followed {
            Some(source) => source.address.clone(),
            None => "none has answered yet".into(),
        },
    ));
    for source in &chain.sources {
        if let Some(failure) = &source.failure {
            // Most reasons begin with the address.
            let reason = failure.strip_prefix(source.address.as_str()).map(|reason| reason.trim_start());
            let reason = reason.map_or_else(|| format!(": {failure}"), |reason| format!(" {reason}"));
            rows.push(("", format!("silent: {}{reason}", source.address)));
        }
    }
    rows
}

/// The upgrade under way, as a checklist.
pub fn under_way(under_way: &UnderWay, now: Moment, paint: Paint, zone: &TimeZone) -> String {
    let UnderWay { name, from, to, .. } = under_way;
    let since = span(now.0.saturating_sub(under_way.fired_at.0));
    let (heading, tone) = match under_way.going_back {
        true => ("UPGRADE GOES BACK", Tone::Bad),
        false => ("UPGRADE UNDER WAY", Tone::Warn),
    };
    let mut text = format!("{} {name}: {from} -> {to}, for {since}\n", paint.tone(tone, heading));
    if let Some(failure) = &under_way.failure {
        text.push_str(&wrap("  because: ", 4, &harmless(failure)));
    }
    text.push_str(&checklist(&under_way.steps, now, paint, zone));
    if !under_way.waiting_for.is_empty() {
        text.push_str(&wrap("      still to prove: ", 6, &under_way.waiting_for.join(", ")));
    }
    if under_way.held {
        text.push_str("  it waits for you; to start the new program: wemixvisor start\n");
    }
    if under_way.can_cancel {
        text.push_str(&format!("  to call it off: wemixvisor upgrade cancel {name}\n"));
    }
    text
}

fn coming(status: &Status, paint: Paint, zone: &TimeZone) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(problem) = &status.plan_problem {
        let lead = format!("{}: ", paint.tone(Tone::Bad, "PLAN FILE"));
        parts.push(wrap(&lead, 2, &harmless(problem)));
    }
    let waiting = waiting(status);
    let Some((first, rest)) = waiting.split_first() else {
        if status.upgrade.is_none() && status.plan_problem.is_none() {
            parts.push("no upgrade is scheduled\n".into());
        }
        return parts;
    };
    let mut text = upgrade::next(first, status.at, paint, zone);
    if !rest.is_empty() {
        let names: Vec<_> =
            rest.iter().map(|plan| format!("{} at {}", plan.name, number(plan.height))).collect();
        text.push_str(&wrap("  then: ", 8, &names.join(", ")));
    }
    parts.push(text);
    parts
}

/// The scheduled upgrades, but for the one under way.
pub fn waiting(status: &Status) -> Vec<&Upgrade> {
    let under_way = status.upgrade.as_ref().map(|under_way| under_way.name.as_str());
    status.upgrades.iter().filter(|upgrade| Some(upgrade.name.as_str()) != under_way).collect()
}

/// The alerts, but for those that say what stands elsewhere on the screen.
pub fn shown_alerts(status: &Status) -> Vec<&Alert> {
    let only_one = status.upgrades.len() == 1;
    let is_headline = |text: &str| text == status.headline;
    let shown = |kind: &str| match kind {
        "plan_file" => true,
        "not_ready" | "blocked" | "refused_late" => only_one,
        _ => false,
    };
    status.alerts.iter().filter(|alert| !shown(&alert.kind) && !is_headline(&alert.text)).collect()
}

fn alerts(status: &Status, paint: Paint) -> Option<String> {
    let alerts = shown_alerts(status);
    if alerts.is_empty() {
        return None;
    }
    let mut text = format!("{}\n", paint.tone(Tone::Warn, "ALERTS"));
    for alert in alerts {
        text.push_str(&wrap(&format!("  {} ", paint.tone(Tone::Warn, "!")), 4, &harmless(&alert.text)));
    }
    Some(text)
}

#[cfg(test)]
pub(crate) mod tests;
