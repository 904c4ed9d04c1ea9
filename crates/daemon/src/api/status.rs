//! `/health`, `/ready`, `/api/v1/status`, `/api/v1/version`.

use axum::Json;
use axum::extract::State;
use wemixvisor_core::engine::snapshot::NodeState;

use super::error::ApiError;
use super::verdict::verdict;
use super::{Api, wire};

/// Does the supervisor live?
///
/// Its loop answers. Whether the node is well is another question: see the status.
#[utoipa::path(
    get, path = "/health", tag = "supervisor", operation_id = "health",
    responses(
        (status = 200, description = "The supervisor's loop answers.", body = wire::Health),
        (status = 503, description = "No supervisor runs, or it is ending."),
    )
)]
pub(super) async fn health(State(api): State<Api>) -> Result<Json<wire::Health>, ApiError> {
    if api.about.is_none() {
        return Err(ApiError::not_running("no supervisor runs"));
    }
    api.asked.snapshot().await?;
    Ok(Json(wire::Health { status: "ok".into() }))
}

/// Is the node fit for work?
///
/// It runs and answers, and no upgrade is in its way. For load balancers and probes.
#[utoipa::path(
    get, path = "/ready", tag = "supervisor", operation_id = "ready",
    responses(
        (status = 200, description = "It is.", body = wire::Ready),
        (status = 503, description = "It is not, and why; or the supervisor is ending."),
    )
)]
pub(super) async fn ready(State(api): State<Api>) -> Result<Json<wire::Ready>, ApiError> {
    let snapshot = api.asked.snapshot().await?;
    let ready = snapshot.node.state == NodeState::Running
        && snapshot.node.answering
        && snapshot.upgrade.is_none()
        && snapshot.stuck.is_none();
    let headline = verdict(&snapshot, api.about.is_some()).1;
    if ready { Ok(Json(wire::Ready { headline })) } else { Err(ApiError::unfit(headline)) }
}

/// Am I fine, and what comes next?
///
/// One word, one sentence, and everything they rest on: the node, the chain, the upgrades, the alerts.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "supervisor", operation_id = "status",
    responses((status = 200, description = "The whole picture, taken at one moment.", body = wire::Status))
)]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<wire::Status>, ApiError> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::Status::of(&snapshot, api.about.as_deref().cloned())))
}

/// The versions of the supervisor, of the API and of the node's program.
#[utoipa::path(
    get, path = "/api/v1/version", tag = "supervisor", operation_id = "version",
    responses((status = 200, description = "The versions.", body = wire::Version))
)]
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
