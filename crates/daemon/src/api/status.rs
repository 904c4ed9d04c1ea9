//! `/health`, `/ready`, `/api/v1/status`, `/api/v1/version`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use wemixvisor_core::engine::snapshot::NodeState;

use super::error::ApiError;
use super::verdict::verdict;
use super::{Api, wire};

/// The supervisor's loop answers.
pub(super) async fn health(State(api): State<Api>) -> Result<Json<wire::Health>, ApiError> {
    api.asked.snapshot().await?;
    Ok(Json(wire::Health { status: "ok".into() }))
}

/// The node runs and answers, and nothing is in its way.
pub(super) async fn ready(State(api): State<Api>) -> Result<(StatusCode, Json<wire::Ready>), ApiError> {
    let snapshot = api.asked.snapshot().await?;
    let ready = snapshot.node.state == NodeState::Running
        && snapshot.node.answering
        && snapshot.upgrade.is_none()
        && snapshot.stuck.is_none();
    let headline = verdict(&snapshot, api.about.is_some()).1;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(wire::Ready { ready, headline })))
}

pub(super) async fn status(State(api): State<Api>) -> Result<Json<wire::Status>, ApiError> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::Status::of(&snapshot, api.about.as_deref().cloned())))
}

pub(super) async fn version(State(api): State<Api>) -> Result<Json<wire::Version>, ApiError> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::Version {
        wemixvisor: env!("CARGO_PKG_VERSION").into(),
        api: wire::API_VERSION,
        installed: snapshot.version.clone(),
        running: snapshot.node.version.clone(),
        client_version: wire::Node::of(&snapshot).client_version,
    }))
}
