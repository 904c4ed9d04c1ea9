//! The HTTP API: what the command line, scripts and the page talk to.
//!
//! [`router`] holds every route, whatever it is served over: [`crate::control`] serves it on the control socket,
//! [`listen`] over TCP, behind the [`guard`]. A route asks whoever is [`Supervised`] and turns the answer into a wire
//! type: those of [`wire`], never the engine's own. An order is in the engine's mailbox before it is waited for, so a
//! client that goes away takes nothing back. What happens comes out of one [`hub`], over WebSocket and as
//! server-sent events.
//!
//! Answers are JSON. Errors are `{"error", "code"}`, see [`error::ApiError`].

mod config;
pub mod error;
mod events;
mod frame;
pub(crate) mod guard;
mod hub;
pub(crate) mod listen;
mod logs;
mod metrics;
mod node;
pub mod relay;
pub mod request;
mod shown;
mod sse;
mod status;
mod supervised;
mod supervisor;
pub mod tokens;
mod topic;
mod upgrades;
mod verdict;
pub mod wire;
mod ws;

pub use supervised::{Answering, Supervised};
#[cfg(test)]
pub(crate) use verdict::tests as verdict_tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use crate::configuration::Configuration;
use error::ApiError;
use hub::Hub;

/// The longest body of a request, in bytes: that of a plan file.
pub const MAX_BODY: usize = 1024 * 1024;

/// What lies around the node.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node's log.
    pub log: PathBuf,
    /// Where the settings come from.
    pub configuration: Configuration,
}

/// What every route has. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    asked: Arc<dyn Supervised>,
    /// The supervisor; `None` when none runs.
    about: Option<Arc<wire::Supervisor>>,
    place: Arc<Place>,
    hub: Hub,
}

impl Api {
    /// The API of whoever is `asked`; `about` is what it says of the supervisor. Streams end with `over`.
    pub fn new(
        asked: Arc<dyn Supervised>,
        about: Option<wire::Supervisor>,
        place: Place,
        over: CancellationToken,
    ) -> Self {
        let hub = Hub::new(asked.clone(), place.log.clone(), over);
        Self { asked, about: about.map(Arc::new), place: Arc::new(place), hub }
    }
}

/// Every route of the API.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/version", get(status::version))
        .route("/api/v1/node", get(node::node))
        .route("/api/v1/node/start", post(node::start))
        .route("/api/v1/node/stop", post(node::stop))
        .route("/api/v1/node/restart", post(node::restart))
        .route("/api/v1/upgrades", get(upgrades::list).post(upgrades::schedule))
        // `status` and `rollback` are also names that an upgrade can have.
        .route("/api/v1/upgrades/status", get(upgrades::status).delete(upgrades::cancel_status))
        .route(
            "/api/v1/upgrades/rollback",
            post(upgrades::roll_back).get(upgrades::one_rollback).delete(upgrades::cancel_rollback),
        )
        .route("/api/v1/upgrades/{name}", get(upgrades::one).delete(upgrades::cancel))
        .route("/api/v1/upgrades/{name}/apply", post(upgrades::apply))
        .route("/api/v1/upgrades/{name}/retry", post(upgrades::retry))
        .route("/api/v1/history", get(upgrades::history))
        .route("/api/v1/config", get(config::show).put(config::change))
        .route("/api/v1/config/validate", post(config::validate))
        .route("/api/v1/logs", get(logs::logs))
        .route("/api/v1/logs/stream", get(logs::stream))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/ws", get(ws::ws))
        .route("/api/v1/supervisor/stop", post(supervisor::stop))
        .route("/api/v1/supervisor/restart", post(supervisor::restart))
        .fallback(async || ApiError::not_found("there is no such route"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}
