//! `/api/v1/events`: what happened, by sequence number.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::error::ApiError;
use super::{Api, wire};

/// So many events are in one answer, unless asked for otherwise.
const USUAL_EVENTS: usize = 100;

/// The most events in one answer.
const MAX_EVENTS: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    since: u64,
    #[serde(default = "usual")]
    limit: usize,
}

fn usual() -> usize {
    USUAL_EVENTS
}

pub(super) async fn events(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<wire::Events>, ApiError> {
    let Query(Page { since, limit }) = page.map_err(|error| ApiError::invalid(error.body_text()))?;
    let found =
        api.handle.events_since(since, limit.clamp(1, MAX_EVENTS)).await?.map_err(ApiError::failed)?;
    let last = found.last().map_or(since, |event| event.seq);
    Ok(Json(wire::Events { events: found.iter().map(wire::Event::of).collect(), last }))
}
