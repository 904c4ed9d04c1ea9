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

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only what happened after the event with this number.
    #[serde(default)]
    #[param(default = 0, format = "uint64", maximum = 18446744073709551615usize)]
    since: u64,
    /// The most events in the answer. More than 1000 are taken as 1000, 0 as 1.
    #[serde(default = "usual")]
    #[param(default = 100, maximum = 18446744073709551615usize)]
    limit: usize,
}

fn usual() -> usize {
    USUAL_EVENTS
}

/// What happened, by sequence number.
///
/// To miss nothing, ask on with `since` = `last` of the answer before.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "events", params(Page),
    responses(
        (status = 200, description = "The events after `since`, oldest first.", body = wire::Events),
        (status = 400, description = "The query makes no sense."),
        (status = 500, description = "The events cannot be read from the disk."),
    )
)]
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
