//! `/api/v1/upgrades` and `/api/v1/history`: what is planned, under way and done.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::Deserialize;
use wemixvisor_core::engine::port::Order;
use wemixvisor_core::engine::snapshot::Snapshot;
use wemixvisor_core::near::{did_you_mean, near};
use wemixvisor_core::plan::PlanName;

use super::error::ApiError;
use super::extract::{Named, Params};
use super::node::Accepted;
use super::openapi::{UpgradeName, UpgradeRequest};
use super::request::{self, Scheduling};
use super::{Api, wire};

/// So many entries of the history are in one answer, unless asked for otherwise.
const USUAL_HISTORY: usize = 50;

/// The most entries of the history in one answer.
const MAX_HISTORY: usize = 1000;

type Answer<T> = Result<Json<T>, ApiError>;

/// The scheduled upgrades, by height.
#[utoipa::path(
    get, path = "/api/v1/upgrades", tag = "upgrades", operation_id = "upgrades",
    responses((status = 200, description = "The scheduled upgrades.", body = wire::Upgrades))
)]
pub(super) async fn list(State(api): State<Api>) -> Answer<wire::Upgrades> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::Upgrades::new(snapshot.plans.iter().map(wire::Upgrade::of).collect())))
}

/// Schedule an upgrade, or change one that is scheduled.
///
/// The plan is put into the plan file, in the place of the one with its name, if there is one.
#[utoipa::path(
    post, path = "/api/v1/upgrades", tag = "upgrades", operation_id = "schedule_upgrade",
    request_body(content = UpgradeRequest, description = "The plan, at most 1 MiB."),
    responses(
        (status = 200, description = "It is scheduled.", body = wire::Scheduled),
        (status = 400, description = "The body is no valid plan, or has a field that means nothing."),
        (status = 409, description = "It does not go together with what is there: the height has passed or is taken, the \
            upgrade is under way, carried out already or pinned as bad, or the supervisor is about to end."),
        (status = 413, description = "The body is longer than 1 MiB."),
        (status = 500, description = "The plan file cannot be written, or decisions cannot be written down now."),
    )
)]
pub(super) async fn schedule(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<wire::Scheduled> {
    let body = body.map_err(|_| ApiError::too_large())?;
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::invalid("the body is not UTF-8 text"))?;
    let Scheduling { plan, force } =
        request::read(text).map_err(|error| ApiError::invalid(error.to_string()))?;
    let name = plan.name.clone();
    let message = api.asked.order(Order::Schedule { plan: Box::new(plan), force }).await?;
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::Scheduled { message, upgrade: planned(&snapshot, &name) }))
}

/// The next upgrade, the one under way, and the last one.
#[utoipa::path(
    get, path = "/api/v1/upgrades/status", tag = "upgrades", operation_id = "upgrade_status",
    responses((status = 200, description = "How the upgrades stand.", body = wire::UpgradeStatus))
)]
pub(super) async fn status(State(api): State<Api>) -> Answer<wire::UpgradeStatus> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::UpgradeStatus::of(&snapshot)))
}

/// A scheduled upgrade.
#[utoipa::path(
    get, path = "/api/v1/upgrades/{name}", tag = "upgrades", operation_id = "upgrade", params(UpgradeName),
    responses(
        (status = 200, description = "The upgrade.", body = wire::Upgrade),
        (status = 400, description = "That is no name of an upgrade."),
        (status = 404, description = "No such upgrade is scheduled."),
    )
)]
pub(super) async fn one(State(api): State<Api>, Named(name): Named) -> Answer<wire::Upgrade> {
    let snapshot = api.asked.snapshot().await?;
    planned(&snapshot, &name).map(Json).ok_or_else(|| unknown(&snapshot, &name))
}

/// The scheduled upgrade that is named `rollback`.
#[utoipa::path(
    get, path = "/api/v1/upgrades/rollback", tag = "upgrades", operation_id = "upgrade_named_rollback",
    responses(
        (status = 200, description = "The upgrade.", body = wire::Upgrade),
        (status = 404, description = "No such upgrade is scheduled."),
    )
)]
pub(super) async fn one_rollback(api: State<Api>) -> Answer<wire::Upgrade> {
    one(api, Named::read("rollback")?).await
}

/// Cancel an upgrade.
///
/// Until the old program is stopped, an upgrade that is being carried out is called off as well.
#[utoipa::path(
    delete, path = "/api/v1/upgrades/{name}", tag = "upgrades", operation_id = "cancel_upgrade", params(UpgradeName),
    responses(
        (status = 200, description = "It is cancelled.", body = wire::Message),
        (status = 400, description = "That is no name of an upgrade."),
        (status = 404, description = "No such upgrade is scheduled."),
        (status = 409, description = "It is past the stop of the old program, or the supervisor is about to end."),
        (status = 500, description = "The plan file cannot be written, or decisions cannot be written down now."),
    )
)]
pub(super) async fn cancel(State(api): State<Api>, Named(name): Named) -> Answer<wire::Message> {
    let message = api.asked.order(Order::Cancel(name)).await?;
    Ok(Json(wire::Message { message }))
}

/// Cancel the upgrade that is named `status`.
#[utoipa::path(
    delete, path = "/api/v1/upgrades/status", tag = "upgrades", operation_id = "cancel_upgrade_named_status",
    responses(
        (status = 200, description = "It is cancelled.", body = wire::Message),
        (status = 404, description = "No such upgrade is scheduled."),
        (status = 409, description = "It is past the stop of the old program, or the supervisor is about to end."),
        (status = 500, description = "The plan file cannot be written, or decisions cannot be written down now."),
    )
)]
pub(super) async fn cancel_status(api: State<Api>) -> Answer<wire::Message> {
    cancel(api, Named::read("status")?).await
}

/// Cancel the upgrade that is named `rollback`.
#[utoipa::path(
    delete, path = "/api/v1/upgrades/rollback", tag = "upgrades", operation_id = "cancel_upgrade_named_rollback",
    responses(
        (status = 200, description = "It is cancelled.", body = wire::Message),
        (status = 404, description = "No such upgrade is scheduled."),
        (status = 409, description = "It is past the stop of the old program, or the supervisor is about to end."),
        (status = 500, description = "The plan file cannot be written, or decisions cannot be written down now."),
    )
)]
pub(super) async fn cancel_rollback(api: State<Api>) -> Answer<wire::Message> {
    cancel(api, Named::read("rollback")?).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyQuery {
    /// Even if its program is pinned as bad.
    #[serde(default)]
    #[param(default = false)]
    force: bool,
}

/// Carry out a scheduled upgrade now, whatever its height.
///
/// The new program is verified first. Follow the upgrade in its status or by the events.
#[utoipa::path(
    post, path = "/api/v1/upgrades/{name}/apply", tag = "upgrades", operation_id = "apply_upgrade",
    params(UpgradeName, ApplyQuery),
    responses(
        (status = 202, description = "It has begun.", body = wire::Message),
        (status = 400, description = "That is no name of an upgrade, or the query makes no sense."),
        (status = 404, description = "No such upgrade is scheduled."),
        (status = 409, description = "Another upgrade is under way or stuck, this one is pinned as bad, upgrades are only \
            watched, or the supervisor is about to end."),
        (status = 422, description = "The new program is not there or not the right one; the node was not stopped."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn apply(
    State(api): State<Api>,
    Named(name): Named,
    Params(ApplyQuery { force }): Params<ApplyQuery>,
) -> Accepted {
    api.begin(Order::Apply { name, force }).await
}

/// Try a failed upgrade again, now.
///
/// Its plan is taken from the history, or from what is scheduled.
#[utoipa::path(
    post, path = "/api/v1/upgrades/{name}/retry", tag = "upgrades", operation_id = "retry_upgrade", params(UpgradeName),
    responses(
        (status = 202, description = "It has begun.", body = wire::Message),
        (status = 400, description = "That is no name of an upgrade."),
        (status = 404, description = "There is no such upgrade to try again."),
        (status = 409, description = "Another upgrade is under way or stuck, upgrades are only watched, or the \
            supervisor is about to end."),
        (status = 422, description = "The new program is not there or not the right one; the node was not stopped."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn retry(State(api): State<Api>, Named(name): Named) -> Accepted {
    api.begin(Order::Retry(name)).await
}

/// Go back to the program before.
///
/// Takes back the upgrade that is being proven, or the last one that was carried out.
#[utoipa::path(
    post, path = "/api/v1/upgrades/rollback", tag = "upgrades", operation_id = "roll_back",
    responses(
        (status = 202, description = "It has begun.", body = wire::Message),
        (status = 404, description = "There is nothing to go back to."),
        (status = 409, description = "An upgrade is under way and cannot be taken back at this step, an earlier one is stuck, \
            or the supervisor is about to end."),
        (status = 422, description = "The program before is not there any more; the node was not stopped."),
        (status = 500, description = "Decisions cannot be written down now."),
    )
)]
pub(super) async fn roll_back(State(api): State<Api>) -> Accepted {
    api.begin(Order::Rollback).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// The most entries in the answer. More than 1000 are taken as 1000, 0 as 1.
    #[serde(default = "usual_history")]
    #[param(default = 50, maximum = 18446744073709551615usize)]
    limit: usize,
}

fn usual_history() -> usize {
    USUAL_HISTORY
}

/// The finished upgrades, newest first.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "upgrades", operation_id = "history", params(HistoryQuery),
    responses(
        (status = 200, description = "The finished upgrades with their steps.", body = wire::History),
        (status = 400, description = "The query makes no sense."),
        (status = 500, description = "The history cannot be read from the disk."),
    )
)]
pub(super) async fn history(
    State(api): State<Api>,
    Params(HistoryQuery { limit }): Params<HistoryQuery>,
) -> Answer<wire::History> {
    let entries = api.asked.history(limit.clamp(1, MAX_HISTORY)).await?;
    Ok(Json(wire::History::new(entries.iter().map(wire::Finished::of).collect())))
}

fn planned(snapshot: &Snapshot, name: &PlanName) -> Option<wire::Upgrade> {
    snapshot.plans.iter().find(|view| view.plan.name == *name).map(wire::Upgrade::of)
}

fn unknown(snapshot: &Snapshot, name: &PlanName) -> ApiError {
    let names: Vec<&str> = snapshot.plans.iter().map(|view| view.plan.name.as_str()).collect();
    let near = did_you_mean(&near(name.as_str(), names));
    ApiError::not_found(format!("no upgrade {name} is scheduled{near}"))
}
