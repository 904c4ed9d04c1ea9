//! What a drill tells, as facts: the text on the terminal and the lines of `--json` are made of these.

use serde::Serialize;
use serde_json::Value;
use wemixvisor_daemon::api::wire::Event;

use super::checks::Check;

/// How a step is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It goes on.
    Plain,
    /// Something good is reached.
    Good,
    /// Something went wrong, here on purpose.
    Bad,
}

/// One thing that a drill tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told {
    /// It begins.
    Begin {
        /// The temporary home.
        home: String,
        /// Whether the home stays.
        kept: bool,
    },
    /// An act begins.
    Act {
        /// From 1.
        number: usize,
        /// What it is about.
        title: String,
        /// What is about to happen and why it matters.
        why: String,
    },
    /// Something happened.
    Step {
        /// How it is to be seen.
        mark: Mark,
        /// In words.
        text: String,
    },
    /// The chain comes nearer to the height.
    Countdown {
        /// The upgrade.
        name: String,
        /// The head.
        head: u64,
        /// How many blocks are left.
        blocks_left: u64,
    },
    /// It is over.
    Verdict {
        /// Whether all checks hold.
        passed: bool,
        /// The checks.
        checks: Vec<Check>,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// The home, if it was kept.
        home: Option<String>,
    },
}

impl Told {
    /// A step.
    pub fn step(mark: Mark, text: impl Into<String>) -> Self {
        Self::Step { mark, text: text.into() }
    }
}

/// What a supervisor's event means for the audience; `None` for what would only be noise.
pub fn of_event(event: &Event) -> Option<Told> {
    let message = text(&event.data, "message");
    let told = |mark, text: String| Some(Told::step(mark, text));
    match event.kind.as_str() {
        "node_started" | "node_start_failed" => told(Mark::Plain, message),
        "upgrade_triggered" | "upgrade_resumed" => told(Mark::Plain, message),
        "upgrade_ready" | "upgrade_completed" => told(Mark::Good, message),
        "upgrade_not_ready" => told(Mark::Bad, message),
        // Why, the event of the step has just said.
        "upgrade_rolled_back" => {
            told(Mark::Good, format!("upgrade {} was rolled back", text(&event.data, "name")))
        }
        "upgrade_failed" if event.topic == "alerts" => None,
        "upgrade_failed" if is_final(event) => told(Mark::Bad, message),
        "upgrade_failed" => told(Mark::Bad, "the upgrade has failed and is rolled back".into()),
        "upgrade_step" => {
            let lead = format!("{}: ", text(&event.data, "name"));
            of_step(event, message.strip_prefix(&lead).unwrap_or(&message))
        }
        _ => None,
    }
}

/// Steps that take their time are announced; the others are told when they are done.
fn of_step(event: &Event, message: &str) -> Option<Told> {
    let (mark, text) = match (text(&event.data, "state").as_str(), text(&event.data, "step").as_str()) {
        ("started", "probation") => (
            Mark::Plain,
            "the new program is on probation: it must answer, be the right one, be on the same chain, and make \
             blocks",
        ),
        ("started", "back_probation") => (Mark::Plain, "the old program is checked as well"),
        ("started", "pre_upgrade") => (Mark::Plain, "the pre-upgrade hook runs"),
        ("started", _) => return None,
        // The start of the node's process tells it already.
        ("done", "start" | "back_start") => return None,
        ("failed", _) => (Mark::Bad, message),
        _ => (Mark::Plain, message),
    };
    Some(Told::step(mark, text))
}

/// Whether the event is the begin of this step (`pre_upgrade`, `probation`, …) of an upgrade.
pub fn begins(event: &Event, name: &str, step: &str) -> bool {
    event.kind == "upgrade_step"
        && text(&event.data, "name") == name
        && text(&event.data, "step") == step
        && text(&event.data, "state") == "started"
}

/// Whether the event is the end of an upgrade, whichever.
pub fn ends(event: &Event, name: &str) -> bool {
    let kinds = ["upgrade_completed", "upgrade_rolled_back", "upgrade_cancelled"];
    let over = kinds.contains(&event.kind.as_str()) || event.kind == "upgrade_failed" && is_final(event);
    text(&event.data, "name") == name && over
}

/// A rollback that failed too is told by the kind that otherwise announces the rollback, with its downtime.
fn is_final(event: &Event) -> bool {
    event.data.get("downtime_ms").is_some()
}

fn text(data: &Value, key: &str) -> String {
    data[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wemixvisor_daemon::api::wire::Moment;

    use super::*;

    fn event(kind: &str, data: Value) -> Event {
        Event { seq: 1, timestamp: Moment(0), topic: "upgrades".into(), kind: kind.into(), data }
    }

    fn step(step: &str, state: &str, message: &str) -> Event {
        event("upgrade_step", json!({ "name": "v2", "step": step, "state": state, "message": message }))
    }

    #[test]
    fn steps_are_told_when_they_are_done_and_without_the_name() {
        assert_eq!(of_event(&step("stop", "started", "v2: stop the old program")), None);
        assert_eq!(
            of_event(&step("stop", "done", "v2: stop the old program: done")),
            Some(Told::step(Mark::Plain, "stop the old program: done"))
        );
        let failed = of_event(&step("probation", "failed", "v2: prove the new program: failed: no blocks"));
        assert!(matches!(failed, Some(Told::Step { mark: Mark::Bad, .. })), "{failed:?}");
        assert_eq!(of_event(&step("start", "done", "v2: start the new program: done")), None);
        let hook = of_event(&step("pre_upgrade", "started", "v2: pre-upgrade hook"));
        assert_eq!(hook, Some(Told::step(Mark::Plain, "the pre-upgrade hook runs")));
    }

    #[test]
    fn a_failure_is_told_once_and_noise_not_at_all() {
        let mut failed = event("upgrade_failed", json!({ "name": "v2", "message": "goes back" }));
        assert_eq!(
            of_event(&failed),
            Some(Told::step(Mark::Bad, "the upgrade has failed and is rolled back"))
        );
        failed.topic = "alerts".into();
        assert_eq!(of_event(&failed), None);
        assert_eq!(of_event(&event("head_went_down", json!({}))), None);
    }

    #[test]
    fn the_end_of_an_upgrade_is_recognised() {
        let done = event("upgrade_completed", json!({ "name": "v2", "downtime_ms": 3 }));
        assert!(ends(&done, "v2") && !ends(&done, "v3"));
        let announced = event("upgrade_failed", json!({ "name": "v2" }));
        let both_failed = event("upgrade_failed", json!({ "name": "v2", "downtime_ms": null }));
        assert!(!ends(&announced, "v2") && ends(&both_failed, "v2"));
        assert!(begins(&step("probation", "started", ""), "v2", "probation"));
        assert!(!begins(&step("probation", "done", ""), "v2", "probation"));
    }
}
