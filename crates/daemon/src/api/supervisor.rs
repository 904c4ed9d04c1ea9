//! `/api/v1/supervisor`: the supervisor itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::node::Accepted;
use super::{Api, wire};

/// The node is stopped, then the supervisor ends: when the socket is gone, it is done.
pub(super) async fn stop(State(api): State<Api>) -> Accepted {
    api.asked.shut_down().await?;
    let message = "the node is being stopped, then the supervisor ends".into();
    Ok((StatusCode::ACCEPTED, Json(wire::Message { message })))
}

/// The program on the disk takes the supervisor's place: when the socket is back, it is done. The node runs on.
pub(super) async fn restart(State(api): State<Api>) -> Accepted {
    let message = api.asked.give_way().await?;
    Ok((StatusCode::ACCEPTED, Json(wire::Message { message })))
}
