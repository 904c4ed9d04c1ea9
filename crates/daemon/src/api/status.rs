//! `/health`, `/api/v1/status`, `/api/v1/version`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::{Api, wire};

/// The supervisor's loop answers.
pub(super) async fn health(State(api): State<Api>) -> Result<Json<wire::Health>, ApiError> {
    api.handle.snapshot().await?;
    Ok(Json(wire::Health { status: "ok".into() }))
}

pub(super) async fn status(State(api): State<Api>) -> Result<Json<wire::Status>, ApiError> {
    let snapshot = api.handle.snapshot().await?;
    Ok(Json(wire::Status::of(&snapshot, Some((*api.about).clone()))))
}

pub(super) async fn version(State(api): State<Api>) -> Result<Json<wire::Version>, ApiError> {
    let snapshot = api.handle.snapshot().await?;
    Ok(Json(wire::Version {
        wemixvisor: api.about.version.clone(),
        api: wire::API_VERSION,
        installed: snapshot.version.clone(),
        running: snapshot.node.version.clone(),
        client_version: wire::Node::of(&snapshot).client_version,
    }))
}
