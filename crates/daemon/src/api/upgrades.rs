//! `/api/v1/upgrades` and `/api/v1/history`: what is planned, under way and done.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use wemixvisor_core::engine::port::Order;
use wemixvisor_core::engine::snapshot::Snapshot;
use wemixvisor_core::near::{did_you_mean, near};
use wemixvisor_core::plan::PlanName;

use super::error::ApiError;
use super::node::Accepted;
use super::request::{self, Scheduling};
use super::{Api, wire};

/// So many entries of the history are in one answer, unless asked for otherwise.
const USUAL_HISTORY: usize = 50;

/// The most entries of the history in one answer.
const MAX_HISTORY: usize = 1000;

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn list(State(api): State<Api>) -> Answer<wire::Upgrades> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::Upgrades::new(snapshot.plans.iter().map(wire::Upgrade::of).collect())))
}

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

pub(super) async fn status(State(api): State<Api>) -> Answer<wire::UpgradeStatus> {
    let snapshot = api.asked.snapshot().await?;
    Ok(Json(wire::UpgradeStatus::of(&snapshot)))
}

pub(super) async fn one(State(api): State<Api>, Path(name): Path<String>) -> Answer<wire::Upgrade> {
    let name = read_name(&name)?;
    let snapshot = api.asked.snapshot().await?;
    planned(&snapshot, &name).map(Json).ok_or_else(|| unknown(&snapshot, &name))
}

pub(super) async fn one_rollback(api: State<Api>) -> Answer<wire::Upgrade> {
    one(api, Path("rollback".into())).await
}

pub(super) async fn cancel(State(api): State<Api>, Path(name): Path<String>) -> Answer<wire::Message> {
    let message = api.asked.order(Order::Cancel(read_name(&name)?)).await?;
    Ok(Json(wire::Message { message }))
}

pub(super) async fn cancel_status(api: State<Api>) -> Answer<wire::Message> {
    cancel(api, Path("status".into())).await
}

pub(super) async fn cancel_rollback(api: State<Api>) -> Answer<wire::Message> {
    cancel(api, Path("rollback".into())).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyQuery {
    #[serde(default)]
    force: bool,
}

pub(super) async fn apply(
    State(api): State<Api>,
    Path(name): Path<String>,
    query: Result<Query<ApplyQuery>, QueryRejection>,
) -> Accepted {
    let Query(ApplyQuery { force }) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    api.begin(Order::Apply { name: read_name(&name)?, force }).await
}

pub(super) async fn retry(State(api): State<Api>, Path(name): Path<String>) -> Accepted {
    api.begin(Order::Retry(read_name(&name)?)).await
}

pub(super) async fn roll_back(State(api): State<Api>) -> Accepted {
    api.begin(Order::Rollback).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    #[serde(default = "usual_history")]
    limit: usize,
}

fn usual_history() -> usize {
    USUAL_HISTORY
}

pub(super) async fn history(
    State(api): State<Api>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Answer<wire::History> {
    let Query(HistoryQuery { limit }) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    let entries = api.asked.history(limit.clamp(1, MAX_HISTORY)).await?;
    Ok(Json(wire::History::new(entries.iter().map(wire::Finished::of).collect())))
}

fn read_name(text: &str) -> Result<PlanName, ApiError> {
    text.parse().map_err(|error: wemixvisor_core::plan::BadName| ApiError::invalid(error.to_string()))
}

fn planned(snapshot: &Snapshot, name: &PlanName) -> Option<wire::Upgrade> {
    snapshot.plans.iter().find(|view| view.plan.name == *name).map(wire::Upgrade::of)
}

fn unknown(snapshot: &Snapshot, name: &PlanName) -> ApiError {
    let names: Vec<&str> = snapshot.plans.iter().map(|view| view.plan.name.as_str()).collect();
    let near = did_you_mean(&near(name.as_str(), names));
    ApiError::not_found(format!("no upgrade {name} is scheduled{near}"))
}
