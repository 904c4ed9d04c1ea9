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

pub(super) async fn node(State(api): State<Api>) -> Result<Json<wire::Node>, ApiError> {
    Ok(Json(wire::Node::of(&api.asked.snapshot().await?)))
}

pub(super) async fn start(State(api): State<Api>) -> Accepted {
    api.begin(Order::StartNode).await
}

pub(super) async fn stop(State(api): State<Api>) -> Accepted {
    api.begin(Order::StopNode).await
}

pub(super) async fn restart(State(api): State<Api>) -> Accepted {
    api.begin(Order::RestartNode).await
}
