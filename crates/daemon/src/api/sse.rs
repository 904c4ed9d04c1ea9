//! Events as a stream of server-sent events: for curl, for scripts, for `wemixvisor top`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Api;
use super::error::ApiError;
use super::frame::{Frame, TOO_LARGE};
use super::hub::Listener;
use super::shown::{Shown, let_go};
use super::topic::Topic;

/// A connection on which nothing happens is kept open with a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream is.
const EVENT_STREAM: &str = "text/event-stream";

/// Whether a stream is asked for.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with(EVENT_STREAM))
}

/// Whether a stream is an answer that is accepted.
pub(super) fn accepted(headers: &HeaderMap) -> Result<(), ApiError> {
    let any = |kind: &str| ["*/*", "text/*"].iter().any(|any| kind.trim().starts_with(any));
    let accepts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accepts.is_empty() || wanted(headers) || accepts.iter().any(|value| value.split(',').any(any)) {
        return Ok(());
    }
    Err(ApiError::not_acceptable(format!("this is a stream: ask for {EVENT_STREAM}")))
}

/// A stream to one client.
pub(super) struct Stream {
    api: Api,
    listener: Listener,
    lines: Option<broadcast::Receiver<Arc<Frame>>>,
    shown: Shown,
    first: VecDeque<Arc<Frame>>,
    ended: bool,
}

impl Stream {
    /// Events: `first`, then what `shown` has to replay, then those that it lets pass.
    pub(super) fn of_events(
        api: Api,
        listener: Listener,
        lines: Option<broadcast::Receiver<Arc<Frame>>>,
        shown: Shown,
        first: Vec<Arc<Frame>>,
    ) -> Self {
        Self { api, listener, lines, shown, first: first.into(), ended: false }
    }

    /// The node's output: `first`, then what is written.
    pub(super) fn of_lines(
        api: Api,
        listener: Listener,
        lines: broadcast::Receiver<Arc<Frame>>,
        first: Frame,
    ) -> Self {
        let first = VecDeque::from([Arc::new(first)]);
        let shown = Shown::of([Topic::Logs].into_iter().collect());
        Self { api, listener, lines: Some(lines), shown, first, ended: false }
    }

    async fn next(&mut self) -> Option<Arc<Frame>> {
        loop {
            if let Some(frame) = self.first.pop_front() {
                return Some(self.fitting(frame));
            }
            if self.ended || self.listener.over.is_cancelled() {
                return None;
            }
            if self.shown.replays() {
                let_go([Some(&mut self.listener.frames), self.lines.as_mut()]);
                match self.shown.next_page(&self.api).await {
                    Ok(frames) => self.first = frames.into(),
                    Err(error) => return Some(self.last_word(&json!(error.body()))),
                }
                continue;
            }
            let frame = tokio::select! {
                // Lines carry the number of an event: that has to be passed on before them.
                biased;
                () = self.listener.over.cancelled() => Err(RecvError::Closed),
                frame = self.listener.frames.recv() => frame,
                frame = next_lines(&mut self.lines) => frame,
            };
            match frame {
                Ok(frame) if self.shown.lets_pass(&frame) => return Some(self.fitting(frame)),
                Ok(_) => {}
                Err(RecvError::Closed) => self.ended = true,
                Err(RecvError::Lagged(_)) => {
                    let data = json!({"error": super::ws::TOO_SLOW, "code": "too_slow"});
                    return Some(self.last_word(&data));
                }
            }
        }
    }

    /// The frame, or why the stream ends here.
    fn fitting(&mut self, frame: Arc<Frame>) -> Arc<Frame> {
        if frame.fits() {
            self.shown.gives(&frame);
            return frame;
        }
        self.first.clear();
        self.last_word(&json!({"error": TOO_LARGE, "code": "too_large"}))
    }

    /// Why the stream ends here.
    fn last_word(&mut self, data: &Value) -> Arc<Frame> {
        self.ended = true;
        // With the last number that this client was given: it comes back with that.
        Arc::new(Frame::passing(Topic::System, "error", data, self.shown.told()))
    }
}

pub(super) async fn next_lines(
    lines: &mut Option<broadcast::Receiver<Arc<Frame>>>,
) -> Result<Arc<Frame>, RecvError> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

/// The answer that brings the stream.
pub(super) fn response(stream: Stream) -> Response {
    let events = stream::unfold(stream, async |mut stream| {
        let frame = stream.next().await?;
        let mut event = Event::default().event(&frame.kind).data(frame.text.as_str());
        if frame.durable {
            event = event.id(frame.seq.to_string());
        }
        Some((Ok::<_, Infallible>(event), stream))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
