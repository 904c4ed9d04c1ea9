//! `/api/v1/node`: the node's process.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use wemixvisor_core::engine::port::Order;

use super::error::ApiError;
use super::{Api, wire};

/// The answer to an order whose work goes on after it.
pub(super) type Accepted = Result<(StatusCode, Json<wire::Message>), ApiError>;

impl Api {
    /// Gives an order that is answered when its work has begun.
    pub(super) async fn begin(&self, order: Order) -> Accepted {
        let message = self.asked.order(order).await?;
        Ok((StatusCode::ACCEPTED, Json(wire::Message { message })))
    }
}

/// The node's process: its state, its program, how it ended last.
#[utoipa::path(
    get, path = "/api/v1/node", tag = "node", operation_id = "node",
    responses((status = 200, description = "The node's process.", body = wire::Node))
)]
pub(super) async fn node(State(api): State<Api>) -> Result<Json<wire::Node>, ApiError> {
    Ok(Json(wire::Node::of(&api.asked.snapshot().await?)))
}

/// Start the node.
///
/// Nothing happens when it runs already. In an upgrade that waits for the operator it starts the new program.
#[utoipa::path(
    post, path = "/api/v1/node/start", tag = "node", operation_id = "start_node",
    responses(
        (status = 202, description = "It is being started, or runs already; `message` says which.", body = wire::Message),
        (status = 409, description = "An upgrade is being carried out, or the supervisor is about to end."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn start(State(api): State<Api>) -> Accepted {
    api.begin(Order::StartNode).await
}

/// Stop the node.
///
/// It stays down until it is started again, also over a restart of the supervisor.
#[utoipa::path(
    post, path = "/api/v1/node/stop", tag = "node", operation_id = "stop_node",
    responses(
        (status = 202, description = "It is being stopped, or is down; `message` says which.", body = wire::Message),
        (status = 409, description = "An upgrade is being carried out, or the supervisor is about to end."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn stop(State(api): State<Api>) -> Accepted {
    api.begin(Order::StopNode).await
}

/// Stop the node and start it again.
///
/// The stop waits for the moment that suits the node.
#[utoipa::path(
    post, path = "/api/v1/node/restart", tag = "node", operation_id = "restart_node",
    responses(
        (status = 202, description = "It is, or will be, restarted; `message` says when.", body = wire::Message),
        (status = 409, description = "An upgrade is being carried out, or the supervisor is about to end."),
        (status = 422, description = "Its program could not be started again, so it was not stopped."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn restart(State(api): State<Api>) -> Accepted {
    api.begin(Order::RestartNode).await
}
