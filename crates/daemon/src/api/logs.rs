//! `/api/v1/logs`: the node's output.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use wemixvisor_host::output::tail;

use super::error::ApiError;
use super::extract::Params;
use super::frame::Frame;
use super::sse::{self, Stream};
use super::{Api, wire};
use crate::preparing::said;

/// So many lines are in one answer, unless asked for otherwise.
const USUAL_LINES: usize = 100;

/// The most lines in one answer.
const MAX_LINES: usize = 1000;

/// The longest line that is shown, in bytes; of a longer one the beginning.
const MAX_LINE: usize = 4096;

/// The most bytes of lines in one answer, as JSON: 1000 of the longest lines, where little in them has to be escaped.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The same for the first frame of a stream of lines.
const FIRST_BYTES: usize = 1024 * 1024;

/// The same for a frame of the event stream: 256 of them wait for slow clients.
pub(super) const FRAME_BYTES: usize = 64 * 1024;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    /// How many of the last lines. More than 1000 are taken as 1000.
    #[param(default = 100, maximum = 18446744073709551615usize)]
    #[serde(default = "usual")]
    tail: usize,
}

fn usual() -> usize {
    USUAL_LINES
}

/// The node's last output.
#[utoipa::path(
    get, path = "/api/v1/logs", tag = "node", operation_id = "logs", params(Tail),
    responses(
        (status = 200, description = "The last lines.", body = wire::NodeLog),
        (status = 400, description = "The query makes no sense."),
        (status = 500, description = "The log cannot be read."),
    )
)]
pub(super) async fn logs(
    State(api): State<Api>,
    Params(Tail { tail }): Params<Tail>,
) -> Result<Json<wire::NodeLog>, ApiError> {
    let (lines, _) = last_lines(&api, tail.clamp(1, MAX_LINES), ANSWER_BYTES).await?;
    Ok(Json(wire::NodeLog { path: api.place.log.display().to_string(), lines }))
}

/// The node's output as it is written: server-sent events of the type `lines`.
#[utoipa::path(
    get, path = "/api/v1/logs/stream", tag = "node", operation_id = "logs_stream", params(Tail),
    responses(
        (status = 200, description = "A stream without end.", body = String, content_type = "text/event-stream"),
        (status = 400, description = "The query makes no sense."),
        (status = 406, description = "A stream is not what is wanted."),
        (status = 500, description = "The log cannot be read."),
    )
)]
pub(super) async fn stream(
    State(api): State<Api>,
    headers: HeaderMap,
    Params(Tail { tail }): Params<Tail>,
) -> Result<Response, ApiError> {
    sse::accepted(&headers)?;
    // Listened to before it is read: what comes in between is in both rather than in none.
    let listener = api.hub.join().await?;
    let lines = api.hub.lines().await;
    let (before, skipped) = last_lines(&api, tail.min(MAX_LINES), FIRST_BYTES).await?;
    let first = Frame::lines(&before, skipped, api.hub.last());
    Ok(sse::response(Stream::of_lines(api, listener, lines, first)))
}

/// The last lines that were written so far, as [`Lines::give`] has them.
pub(super) async fn last_lines(
    api: &Api,
    count: usize,
    bytes: usize,
) -> Result<(Vec<String>, usize), ApiError> {
    let log = api.place.log.clone();
    let read = tokio::task::spawn_blocking(move || tail(&log, count)).await;
    let text = read.map_err(std::io::Error::other).and_then(|read| read).map_err(|error| {
        ApiError::failed(format!("cannot read {}: {}", api.place.log.display(), said(&error)))
    })?;
    let mut lines = Lines::default();
    lines.take(&text);
    lines.end();
    Ok(lines.give(count, bytes))
}

/// Bytes, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    whole: std::collections::VecDeque<String>,
    begun: Vec<u8>,
    skipped: usize,
}

impl Lines {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = MAX_LINE.saturating_sub(self.begun.len()).min(part.len());
            self.begun.extend_from_slice(&part[..room]);
            if parts.peek().is_some() {
                self.end_line();
            }
        }
    }

    /// The text is over, and its last line may have no end.
    pub(super) fn end(&mut self) {
        if !self.begun.is_empty() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line =
            String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end_matches('\r').to_owned();
        self.whole.push_back(line);
        if self.whole.len() > MAX_LINES {
            self.whole.pop_front();
            self.skipped += 1;
        }
    }

    pub(super) fn has_any(&self) -> bool {
        !self.whole.is_empty()
    }

    /// The last whole lines, at most `count` and, as JSON, at most so many bytes; and how many came before them and
    /// are left out.
    pub(super) fn give(&mut self, count: usize, bytes: usize) -> (Vec<String>, usize) {
        let mut room = bytes;
        let fits = |line: &&String| match room.checked_sub(json_length(line)) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let given = self.whole.iter().rev().take(count).take_while(fits).count();
        let extra = self.whole.len() - given;
        let skipped = std::mem::take(&mut self.skipped) + extra;
        (self.whole.drain(..).skip(extra).collect(), skipped)
    }
}

/// How many bytes a text is in a list of JSON, or a few more.
fn json_length(text: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_wherever_the_bytes_are_cut() {
        let mut lines = Lines::default();
        lines.take(b"on");
        assert!(!lines.has_any());
        lines.take(b"e\r\ntwo\n\nth");
        assert_eq!(lines.give(10, FRAME_BYTES), (vec!["one".into(), "two".into(), String::new()], 0));
        lines.take(b"ree");
        lines.end();
        assert_eq!(lines.give(10, FRAME_BYTES), (vec!["three".into()], 0));
        assert_eq!(lines.give(10, FRAME_BYTES), (vec![], 0));
    }

    #[test]
    fn of_too_many_the_last_are_given_and_the_others_counted() {
        let mut lines = Lines::default();
        lines.take("x\n".repeat(MAX_LINES + 5).as_bytes());
        let (given, skipped) = lines.give(10, FRAME_BYTES);
        assert_eq!((given.len(), skipped), (10, MAX_LINES - 5));
        lines.take("y".repeat(MAX_LINE * 3).as_bytes());
        lines.take(b"\n");
        assert_eq!(lines.give(1, FRAME_BYTES).0[0].len(), MAX_LINE);
    }

    #[test]
    fn what_the_bytes_become_as_json_is_what_counts() {
        for byte in [b'x', 1, 0xff, b'"'] {
            let mut lines = Lines::default();
            for _ in 0..200 {
                lines.take(&[byte; MAX_LINE]);
                lines.take(b"\n");
            }
            let (given, skipped) = lines.give(200, FRAME_BYTES);
            let length = serde_json::to_string(&given).unwrap().len();
            assert!(length <= FRAME_BYTES && length > FRAME_BYTES / 2, "{byte}: {length}");
            assert_eq!(given.len() + skipped, 200);
        }
    }
}
