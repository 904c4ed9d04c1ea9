//! `/api/v1/events`: what happened, by sequence number; and what happens, as a stream.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::error::ApiError;
use super::extract::Params;
use super::openapi::words;
use super::shown::Shown;
use super::sse::{self, Stream};
use super::topic::{Topic, Topics};
use super::{Api, wire};

/// So many events are in one answer, unless asked for otherwise.
const USUAL_EVENTS: usize = 100;

/// The most events in one answer.
const MAX_EVENTS: usize = 1000;

/// What a client that comes back says it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only what happened after the event with this number. A stream without it begins with how everything stands.
    #[param(format = "uint64", minimum = 0, maximum = 18446744073709551615usize)]
    since: Option<u64>,
    /// The most events in an answer that is no stream. More than 1000 are taken as 1000, 0 as 1.
    #[serde(default = "usual")]
    #[param(default = 100, maximum = 18446744073709551615usize)]
    limit: usize,
    /// Only events of these topics, separated by commas. All but `logs` and `metrics` unless asked for otherwise.
    #[param(style = Form, explode = false, min_items = 1, value_type = Option<Vec<words::Topic>>)]
    topics: Option<String>,
}

fn usual() -> usize {
    USUAL_EVENTS
}

/// What happened, by sequence number; or what happens, as a stream.
///
/// To miss nothing, ask on with `since` = `last` of the answer before; `gap` says that something was missed. With `Accept: text/event-stream` it is a stream of
/// server-sent events that does not end; it goes on where a client left off, by `since` or `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "events", params(Page),
    responses(
        (status = 200, description = "The events after `since`, oldest first; or a stream of frames, as the WebSocket has \
            them.", content((wire::Events = "application/json"), (String = "text/event-stream"))),
        (status = 400, description = "The query makes no sense."),
        (status = 500, description = "The events cannot be read from the disk."),
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    Params(Page { since, limit, topics }): Params<Page>,
) -> Result<Response, ApiError> {
    let topics = match &topics {
        Some(names) => Topics::named(names.split(',').map(str::trim))
            .map_err(|error| ApiError::unknown_topic(error.to_string()))?,
        None => Topics::usual(),
    };
    if sse::wanted(&headers) {
        let seen = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
        return stream(&api, topics, seen.or(since)).await;
    }
    let after = since.unwrap_or(0);
    let found = api.asked.events_since(after, limit.clamp(1, MAX_EVENTS)).await?;
    let (last, is_beyond) = match found.last() {
        Some(event) => (event.seq, false),
        None => {
            let newest = api.asked.newest_event().await?;
            // A number that there is not yet would be waited for in vain, and what comes before it be missed.
            (after.min(newest), after > newest)
        }
    };
    // Who names no number wants what there is.
    let gap = since.is_some() && (is_beyond || found.first().is_some_and(|first| first.seq != after + 1));
    let wanted = found.iter().filter(|event| topics.contains(Topic::of_event(&event.topic)));
    Ok(Json(wire::Events { events: wanted.map(wire::Event::of).collect(), last, gap }).into_response())
}

async fn stream(api: &Api, topics: Topics, since: Option<u64>) -> Result<Response, ApiError> {
    let listener = api.hub.join().await?;
    let lines = match topics.contains(Topic::Logs) {
        true => Some(api.hub.lines().await),
        false => None,
    };
    let mut shown = Shown::default();
    // What comes later is in the listener's ring.
    let known = api.hub.last();
    let first = match since {
        Some(since) => shown.go_on(api, topics, since, known).await?,
        None => shown.begin(api, topics, known).await?,
    };
    Ok(sse::response(Stream::of_events(api.clone(), listener, lines, shown, first)))
}
