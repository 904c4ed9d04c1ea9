//! What the view knows: the last picture, whether somebody answers, the pace of the chain, the end of the log, and
//! where the person who looks at it is.
//!
//! The picture is always the supervisor's own (`GET /api/v1/status`). Of the frames of the stream only those that
//! tell a height are looked into, for the pace; every frame is a reason to ask for a new picture.

use tokio::time::Instant;
use wemixvisor_daemon::api::wire::{Moment, Status};
use wemixvisor_daemon::control::Frame;

use super::log::Log;
use super::pace::Pace;
use super::prompt::Prompt;
use crate::failure::Failure;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// Everything, with the end of the log.
    Overview,
    /// The log alone.
    Log,
    /// The keys.
    Help,
}

/// The supervisor's picture, and when it came.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) status: Status,
    pub(super) came: Instant,
}

/// Nobody answers.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) since: Instant,
    pub(super) why: String,
}

/// What became of an order, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It is sent.
    Asked(String),
    /// In the supervisor's words.
    Accepted(String),
    /// Refused, or not sent.
    Refused(String),
}

/// What comes from outside.
#[derive(Debug)]
pub(super) enum News {
    /// A picture was asked for; `None` when no supervisor runs.
    Picture(Box<Result<Option<Status>, Failure>>),
    /// The stream of events is open.
    Open,
    /// Something happened.
    Happened(Frame),
    /// The stream of events is over, or could not be opened.
    Closed(Option<String>),
    /// The stream of the log is open: it begins anew.
    LogOpen,
    /// Lines of the log.
    Lines(Vec<String>),
    /// The stream of the log is over, or could not be opened.
    LogClosed(Option<String>),
}

/// All of it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) picture: Option<Picture>,
    pub(super) lost: Option<Lost>,
    /// Why there are no events, although somebody answers.
    pub(super) no_events: Option<String>,
    pub(super) pace: Pace,
    pub(super) log: Log,
    pub(super) page: Page,
    pub(super) prompt: Option<Prompt>,
    pub(super) said: Option<Said>,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            picture: None,
            lost: None,
            no_events: None,
            pace: Pace::default(),
            log: Log::default(),
            page: Page::Overview,
            prompt: None,
            said: None,
        }
    }

    /// Takes in what came at `now`.
    pub(super) fn learn(&mut self, news: News, now: Instant) {
        match news {
            News::Picture(answer) => self.picture_came(*answer, now),
            News::Open => {
                self.no_events = None;
                self.pace.interrupted();
            }
            News::Happened(frame) => self.pace.take(&frame.event),
            News::Closed(why) => self.no_events = why,
            News::LogOpen => self.log.begin_anew(),
            News::Lines(lines) => self.log.add(&lines),
            News::LogClosed(why) => self.log.missing = why,
        }
    }

    fn picture_came(&mut self, answer: Result<Option<Status>, Failure>, now: Instant) {
        let why = match answer {
            Ok(Some(status)) => {
                self.picture = Some(Picture { status, came: now });
                self.lost = None;
                return;
            }
            Ok(None) => "no supervisor runs for this home. To start it: wemixvisor start".into(),
            Err(failure) => failure.message,
        };
        let since = self.lost.as_ref().map_or(now, |lost| lost.since);
        self.lost = Some(Lost { since, why });
    }

    pub(super) fn status(&self) -> Option<&Status> {
        self.picture.as_ref().map(|picture| &picture.status)
    }

    /// The wall clock at `now`, by the supervisor's clock: its last one, carried on.
    pub(super) fn clock(&self, now: Instant) -> Option<Moment> {
        let picture = self.picture.as_ref()?;
        let passed = u64::try_from(now.duration_since(picture.came).as_millis()).unwrap_or(u64::MAX);
        Some(Moment(picture.status.at.0.saturating_add(passed)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::render::status::tests::fine;

    #[test]
    fn the_last_picture_stays_when_nobody_answers_and_the_clock_goes_on() {
        let mut view = View::new();
        let begin = Instant::now();
        let at = |s| begin + Duration::from_secs(s);
        assert_eq!(view.clock(begin), None);
        let status: Status = serde_json::from_value(fine()).unwrap();
        let came = status.at.0;
        let picture = |answer| News::Picture(Box::new(answer));
        view.learn(picture(Ok(Some(status.clone()))), at(0));
        assert_eq!(view.clock(at(3)), Some(Moment(came + 3000)));
        view.learn(picture(Ok(None)), at(5));
        view.learn(picture(Err(Failure::failed("it hangs"))), at(9));
        let lost = view.lost.as_ref().unwrap();
        assert_eq!((lost.since, lost.why.as_str()), (at(5), "it hangs"));
        assert!(view.status().is_some());
        view.learn(picture(Ok(Some(status))), at(10));
        assert!(view.lost.is_none());
    }
}
