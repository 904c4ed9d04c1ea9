//! Watching what goes on in the supervisor: an upgrade to its end, a node until it runs.
//!
//! The work is the supervisor's; whoever watches can leave. The picture is asked for again and again: it holds
//! every step so far, so nothing is missed between two questions.

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep};
use wemixvisor_core::engine::snapshot::NodeState;
use wemixvisor_daemon::api::wire::{Finished, Mark, Moment, Status};

use crate::failure::Failure;
use crate::live::Live;
use crate::render::{checklist, harmless, span, wrap};
use crate::screen::Screen;

/// How often the supervisor is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How what was watched ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched<T> {
    /// It is over.
    Over(T),
    /// It waits for a person; what to do.
    Waits(String),
    /// Whoever watched has left (Ctrl-C).
    Left,
}

/// Watches the upgrade that is under way, or begins next, to its end. `before` is the number of the last one that
/// had finished before.
///
/// # Errors
/// The supervisor is gone.
pub async fn upgrade(
    live: &Live,
    screen: &Screen,
    before: Option<u64>,
) -> Result<Watched<Finished>, Failure> {
    tokio::select! {
        watched = steps(live, screen, before) => watched,
        _ = tokio::signal::ctrl_c() => Ok(Watched::Left),
    }
}

async fn steps(live: &Live, screen: &Screen, before: Option<u64>) -> Result<Watched<Finished>, Failure> {
    let mut told = Told::default();
    let mut meant = Meant { fired_at: None, before };
    loop {
        let status = ask(live).await?.ok_or_else(supervisor_gone)?;
        if let Some(last) = meant.finished(&status) {
            told.steps(&last.steps, screen);
            return Ok(Watched::Over(last.clone()));
        }
        if let Some(under_way) = &status.upgrade {
            told.steps(&under_way.steps, screen);
            told.waiting_for(&under_way.waiting_for, screen);
            if under_way.held {
                return Ok(Watched::Waits("to start the new program: wemixvisor start".into()));
            }
        }
        sleep(ASK_EVERY).await;
    }
}

/// Which upgrade is watched: the first one that is seen under way. Where none is, the one that is over by now and
/// was not before. So an upgrade that ended just before an order is not taken for the one that the order began.
#[derive(Debug)]
struct Meant {
    fired_at: Option<Moment>,
    before: Option<u64>,
}

impl Meant {
    /// The watched one, if it is over.
    fn finished<'status>(&mut self, status: &'status Status) -> Option<&'status Finished> {
        let under_way = status.upgrade.as_ref().map(|under_way| under_way.fired_at);
        self.fired_at = self.fired_at.or(under_way);
        status.last_upgrade.as_ref().filter(|last| match self.fired_at {
            Some(moment) => last.fired_at == moment,
            None => Some(last.id) != self.before,
        })
    }
}

/// How it stands. A supervisor that ends may break off its last answer: asked again, it is seen to be gone.
async fn ask(live: &Live) -> Result<Option<Status>, Failure> {
    match live.status().await {
        Ok(status) => Ok(status),
        Err(_) => {
            sleep(ASK_EVERY).await;
            live.status().await
        }
    }
}

/// What is said when a supervisor that answered before has ended.
pub fn supervisor_gone() -> Failure {
    Failure::not_running(
        "the supervisor has ended meanwhile. An upgrade that was under way is in its journal and is carried on by \
         the next supervisor: wemixvisor start",
    )
}

/// What has been said already.
#[derive(Debug, Default)]
struct Told {
    begun: usize,
    ended: usize,
    missing: Vec<String>,
}

impl Told {
    fn steps(&mut self, steps: &[Mark], screen: &Screen) {
        let zone = TimeZone::system();
        for (at, mark) in steps.iter().enumerate() {
            if at >= self.begun && mark.ended.is_none() {
                screen.note(&checklist::began(mark, &zone));
            }
            self.begun = self.begun.max(at + 1);
            if at >= self.ended && mark.ended.is_some() {
                screen.note(&checklist::ended(mark, &zone));
                self.ended = at + 1;
            }
        }
    }

    fn waiting_for(&mut self, missing: &[String], screen: &Screen) {
        if !missing.is_empty() && self.missing.len() != missing.len() {
            screen.note(wrap("          still to prove: ", 10, &missing.join(", ")).trim_end());
        }
        self.missing = missing.to_vec();
    }
}

/// What a node is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It answers.
    Answers,
    /// It answers, or an upgrade waits for a person before it starts it.
    AnswersOrIsHeld,
    /// Another process than this one runs.
    RunsAnew {
        /// The process before.
        before: Option<u32>,
    },
}

/// Waits until the node runs, for at most `limit`; says meanwhile what is going on. `ended` is told whether a
/// supervisor answers and says why there is none to wait for, if so.
///
/// # Errors
/// The node does not run, with the reason and what to do.
pub async fn node(
    live: &Live,
    screen: &Screen,
    until: Until,
    limit: Duration,
    mut ended: impl FnMut(bool) -> Option<Failure>,
) -> Result<Watched<Status>, Failure> {
    let waiting = async {
        let deadline = Instant::now() + limit;
        let mut said = String::new();
        loop {
            let status = match ask(live).await {
                Err(failure) if failure.is_without_socket() => None,
                answer => answer?,
            };
            if let Some(failure) = ended(status.is_some()) {
                return Err(failure);
            }
            let text = match &status {
                None => "the supervisor is starting".into(),
                Some(status) => progress(status),
            };
            if let Some(status) = status {
                if runs(&status, until) {
                    return Ok(Watched::Over(status));
                }
                gave_up(&status)?;
                told_to_end(&status)?;
            }
            if text != said {
                screen.note(&text);
                said = text;
            }
            if Instant::now() >= deadline {
                return Err(too_long(&said, limit));
            }
            sleep(ASK_EVERY).await;
        }
    };
    tokio::select! {
        watched = waiting => watched,
        _ = tokio::signal::ctrl_c() => Ok(Watched::Left),
    }
}

/// Whether an upgrade waits for a person to start the new program.
pub fn is_held(status: &Status) -> bool {
    status.upgrade.as_ref().is_some_and(|under_way| under_way.held)
}

fn runs(status: &Status, until: Until) -> bool {
    let node = &status.node;
    if until == Until::AnswersOrIsHeld && is_held(status) {
        return true;
    }
    if node.state != NodeState::Running {
        return false;
    }
    match until {
        Until::Answers | Until::AnswersOrIsHeld => node.answering,
        Until::RunsAnew { before } => node.pid != before && node.answering,
    }
}

fn gave_up(status: &Status) -> Result<(), Failure> {
    if status.node.state != NodeState::Failed {
        return Ok(());
    }
    let why = harmless(&status.headline);
    Err(Failure::failed(format!(
        "{why}. The supervisor stays up; see: wemixvisor logs. To give the node other arguments: wemixvisor stop, then \
         wemixvisor start with them"
    )))
}

fn told_to_end(status: &Status) -> Result<(), Failure> {
    if !status.shutting_down {
        return Ok(());
    }
    Err(Failure::failed(
        "the supervisor was told to end meanwhile: it stops the node, then itself. See: wemixvisor status; to start \
         them again: wemixvisor start",
    ))
}

fn progress(status: &Status) -> String {
    if let Some(under_way) = &status.upgrade {
        return format!("upgrade {} is under way: {}", under_way.name, under_way.step_text);
    }
    let node = &status.node;
    match node.state {
        NodeState::Starting => "the node is being started".into(),
        NodeState::Stopping => "the node is being stopped".into(),
        NodeState::Stopped => "the node is stopped".into(),
        NodeState::Failed => "the node is down".into(),
        NodeState::Running => {
            let pid = node.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            format!("the node runs{pid}; it is waited for to answer")
        }
        NodeState::Waiting => harmless(&status.headline),
    }
}

fn too_long(said: &str, limit: Duration) -> Failure {
    let limit = span(limit.as_secs() * 1000);
    Failure::failed(format!(
        "after {limit} still: {said}. It goes on without this command; see: wemixvisor status, wemixvisor logs"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::render::status::tests::{fine, finished};

    fn status(change: impl FnOnce(&mut Value)) -> Status {
        let mut status = fine();
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_rollback_is_not_taken_for_the_upgrade_that_ended_just_before_it() {
        // Number 6 was the last one when it was looked; 7 ended before the order, whose work is under way now.
        let mut meant = Meant { fired_at: None, before: Some(6) };
        let under_way = |status: &mut Value| {
            status["last_upgrade"] = finished(7, "2026-01-30T12:00:00Z");
            status["upgrade"] = json!({
                "name": "rollback to genesis", "height": null, "from": "v2", "to": "genesis",
                "fired_at": "2026-01-31T11:00:00Z", "step": "stop", "step_text": "stop the old program", "steps": [],
                "going_back": false, "failure": null, "waiting_for": [], "held": false, "can_cancel": false
            });
        };
        assert_eq!(meant.finished(&status(under_way)), None);
        let over = |id, fired_at: &str| status(|status| status["last_upgrade"] = finished(id, fired_at));
        assert_eq!(meant.finished(&over(7, "2026-01-30T12:00:00Z")), None, "still not");
        let end = over(8, "2026-01-31T11:00:00Z");
        assert_eq!(meant.finished(&end).map(|last| last.id), Some(8));
    }

    #[test]
    fn an_upgrade_that_is_over_at_the_first_look_is_the_one_that_was_not_there_before() {
        let over = status(|status| status["last_upgrade"] = finished(7, "2026-01-30T12:00:00Z"));
        for (before, found) in [(Some(7), None), (Some(6), Some(7)), (None, Some(7))] {
            let mut meant = Meant { fired_at: None, before };
            assert_eq!(meant.finished(&over).map(|last| last.id), found, "{before:?}");
        }
    }

    #[test]
    fn a_node_runs_when_it_answers_and_anew_when_it_is_another_process() {
        let running = status(|_| {});
        let silent = status(|status| status["node"]["answering"] = json!(false));
        let starting = status(|status| status["node"]["state"] = json!("starting"));
        let anew = |before| Until::RunsAnew { before };
        for (status, until, runs_so) in [
            (&running, Until::Answers, true),
            (&silent, Until::Answers, false),
            (&starting, Until::Answers, false),
            (&running, anew(Some(42)), false),
            (&running, anew(Some(41)), true),
            (&running, anew(None), true),
            (&silent, anew(None), false),
        ] {
            assert_eq!(runs(status, until), runs_so, "{until:?} {:?}", status.node);
        }
    }

    #[test]
    fn what_goes_on_is_said_for_every_state() {
        for (state, text) in [
            ("starting", "the node is being started"),
            ("stopping", "the node is being stopped"),
            ("stopped", "the node is stopped"),
            ("failed", "the node is down"),
            ("running", "the node runs (pid 42); it is waited for to answer"),
            ("waiting", "the node died [31m; it is started again in 1.0 s"),
        ] {
            let status = status(|status| {
                status["node"]["state"] = json!(state);
                status["headline"] = json!("the node died\u{1b}[31m; it is started again in 1.0 s");
            });
            assert_eq!(progress(&status), text);
        }
    }

    #[test]
    fn what_will_not_come_is_not_waited_for() {
        assert_eq!(gave_up(&status(|_| {})), Ok(()));
        assert_eq!(told_to_end(&status(|_| {})), Ok(()));
        let failed = status(|status| {
            status["node"]["state"] = json!("failed");
            status["headline"] = json!("the node is down: no such file");
        });
        let said = gave_up(&failed).unwrap_err().message;
        assert!(said.starts_with("the node is down: no such file. The supervisor stays up"), "{said}");
        let ending = status(|status| status["shutting_down"] = json!(true));
        let said = told_to_end(&ending).unwrap_err().message;
        assert!(said.starts_with("the supervisor was told to end meanwhile"), "{said}");
        let said = too_long("the node is being started", Duration::from_secs(120)).message;
        assert!(said.starts_with("after 2 min still: the node is being started."), "{said}");
    }
}
