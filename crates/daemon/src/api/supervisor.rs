//! `/api/v1/supervisor`: the supervisor itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::node::Accepted;
use super::{Api, wire};

/// Stop the node, then end the supervisor.
///
/// When the control socket is gone, it is done.
#[utoipa::path(
    post, path = "/api/v1/supervisor/stop", tag = "supervisor", operation_id = "stop_supervisor",
    responses((status = 202, description = "The node is being stopped, then the supervisor ends.", body = wire::Message))
)]
pub(super) async fn stop(State(api): State<Api>) -> Accepted {
    api.asked.shut_down().await?;
    let message = "the node is being stopped, then the supervisor ends".into();
    Ok((StatusCode::ACCEPTED, Json(wire::Message { message })))
}

/// Put the program on the disk in the supervisor's place.
///
/// The node runs on. When the control socket is back, it is done.
#[utoipa::path(
    post, path = "/api/v1/supervisor/restart", tag = "supervisor", operation_id = "restart_supervisor",
    responses(
        (status = 202, description = "The supervisor gives its place to that program.", body = wire::Message),
        (status = 409, description = "A hook of an upgrade runs, or the supervisor is about to end."),
        (status = 422, description = "That program could not begin, or would find no program to start the node with; nothing was changed."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn restart(State(api): State<Api>) -> Accepted {
    let message = api.asked.give_way().await?;
    Ok((StatusCode::ACCEPTED, Json(wire::Message { message })))
}
