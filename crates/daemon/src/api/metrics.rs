//! Numbers for monitoring: `/metrics` in the text format of Prometheus, and the topic `metrics`.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot};

use super::Api;
use super::error::ApiError;
use super::verdict::{Level, verdict};

/// The text format's version, as Prometheus wants to hear it.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Number {
    name: &'static str,
    help: &'static str,
    value: f64,
}

/// All numbers that are known.
fn numbers(snapshot: &Snapshot) -> Vec<Number> {
    let mut found = Vec::new();
    let mut tell = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            found.push(Number { name, help, value });
        }
    };
    let flag = |is: bool| Some(f64::from(u8::from(is)));
    let whole = |number: u64| number as f64;
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let (node, chain) = (&snapshot.node, &snapshot.chain);
    let level = verdict(snapshot, true).0;
    tell("ok", "1 if nothing needs a person", flag(level == Level::Ok));
    tell("node_up", "1 if the node's process runs", flag(node.state == NodeState::Running));
    tell("node_answering", "1 if the node has told a head since it was started", flag(node.answering));
    tell(
        "node_failed",
        "1 if the node is down and is not started again by itself",
        flag(node.state == NodeState::Failed),
    );
    let since = node.since.map(|since| seconds(since.0));
    tell("node_start_time_seconds", "When the node was started, in seconds since 1970", since);
    tell("node_restarts", "Restarts that count at the moment", Some(node.restarts as f64));
    tell("chain_head", "The head", chain.head.map(whole));
    tell("chain_highest", "The highest height seen", chain.highest.map(whole));
    tell(
        "chain_block_time_seconds",
        "The estimated time between two blocks",
        chain.block_time_ms.map(seconds),
    );
    tell("chain_still_seconds", "How long the head has not gone up", chain.still_ms.map(seconds));
    tell("chain_lag_seconds", "How far the newest block lies behind the clock", chain.lag_ms.map(seconds));
    let failing = chain.sources.iter().filter(|source| source.failure.is_some()).count();
    tell("height_sources_failing", "Sources of heights that do not answer", Some(failing as f64));
    tell("upgrades_scheduled", "Scheduled upgrades", Some(snapshot.plans.len() as f64));
    if let Some(next) = snapshot.plans.first() {
        tell("next_upgrade_height", "The height of the next upgrade", Some(whole(next.plan.height)));
        tell("next_upgrade_blocks_left", "Blocks until the next upgrade", next.blocks_left.map(whole));
        tell("next_upgrade_ready", "1 if the next upgrade can be carried out", next.ready.and_then(flag));
        let at = next.expected_at.map(|at| seconds(at.0));
        tell("next_upgrade_time_seconds", "When the next upgrade is expected, in seconds since 1970", at);
    }
    tell("upgrading", "1 if an upgrade is under way", flag(snapshot.upgrade.is_some()));
    if let Some(downtime) = snapshot.last_upgrade.as_ref().and_then(|last| last.downtime_ms) {
        tell("last_upgrade_downtime_seconds", "The downtime of the last upgrade", Some(seconds(downtime)));
    }
    tell("stuck", "1 if an earlier upgrade cannot be followed", flag(snapshot.stuck.is_some()));
    tell("alerts", "Alerts that stand", Some(snapshot.alerts.len() as f64));
    found
}

/// The numbers by their names.
pub(super) fn values(snapshot: &Snapshot) -> Value {
    let value = |number: Number| (number.name.to_owned(), Value::from(number.value));
    Value::Object(numbers(snapshot).into_iter().map(value).collect::<Map<_, _>>())
}

/// Numbers for monitoring, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "supervisor", operation_id = "metrics",
    responses((status = 200, description = "The numbers.", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, ApiError> {
    let snapshot = api.asked.snapshot().await?;
    let mut text = String::new();
    let mut write = |name: &str, help: &str, labels: &str, value: f64| {
        let _ = writeln!(text, "# HELP wemixvisor_{name} {help}.\n# TYPE wemixvisor_{name} gauge");
        let _ = writeln!(text, "wemixvisor_{name}{labels} {value}");
    };
    let versions = format!(
        r#"{{version="{}",installed="{}"}}"#,
        env!("CARGO_PKG_VERSION"),
        snapshot.version.replace(['\\', '"', '\n'], "_")
    );
    write("info", "The supervisor's version and the node's installed one", &versions, 1.0);
    for Number { name, help, value } in numbers(&snapshot) {
        write(name, help, "", value);
    }
    write("api_listeners", "Clients that listen to events", "", api.hub.listeners() as f64);
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], text))
}
