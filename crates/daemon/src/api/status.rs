//! `/health`, `/api/v1/status`, `/api/v1/version`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::{Api, wire};

/// Does the supervisor live?
///
/// Its loop answers. Whether the node is well is another question: see the status.
#[utoipa::path(
    get, path = "/health", tag = "supervisor", operation_id = "health",
    responses((status = 200, description = "The supervisor's loop answers.", body = wire::Health))
)]
pub(super) async fn health(State(api): State<Api>) -> Result<Json<wire::Health>, ApiError> {
    api.handle.snapshot().await?;
    Ok(Json(wire::Health { status: "ok".into() }))
}

/// Am I fine, and what comes next?
///
/// One word, one sentence, and everything they rest on: the node, the chain, the upgrades, the alerts.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "supervisor", operation_id = "status",
    responses((status = 200, description = "The whole picture, taken at one moment.", body = wire::Status))
)]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<wire::Status>, ApiError> {
    let snapshot = api.handle.snapshot().await?;
    Ok(Json(wire::Status::of(&snapshot, Some((*api.about).clone()))))
}

/// The versions of the supervisor, of the API and of the node's program.
#[utoipa::path(
    get, path = "/api/v1/version", tag = "supervisor", operation_id = "version",
    responses((status = 200, description = "The versions.", body = wire::Version))
)]
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
