//! The HTTP API: what the command line, scripts and (later) the page talk to.
//!
//! [`router`] holds every route, whatever it is served over; [`crate::control`] serves it on the control socket.
//! A route asks the engine through its [`Handle`] and turns the answer into a wire type: those of [`wire`], never
//! the engine's own. An order is in the engine's mailbox before it is waited for, so a client that goes away
//! takes nothing back.
//!
//! Answers are JSON. Errors are `{"error", "code"}`, see [`error::ApiError`].

pub mod error;
mod events;
mod node;
mod page;
pub mod request;
mod status;
mod supervisor;
mod upgrades;
mod verdict;
pub mod wire;

#[cfg(test)]
pub(crate) use verdict::tests as verdict_tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::handle::Handle;
use error::ApiError;

/// The longest body of a request, in bytes: that of a plan file.
pub const MAX_BODY: usize = 1024 * 1024;

/// What every route has.
#[derive(Debug, Clone)]
struct Api {
    handle: Handle,
    about: Arc<wire::Supervisor>,
}

/// Every route of the API. `about` is what it says of the supervisor in whose process it is served.
pub fn router(handle: Handle, about: wire::Supervisor) -> Router {
    Router::new()
        .merge(page::routes())
        .route("/health", get(status::health))
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
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/supervisor/stop", post(supervisor::stop))
        .route("/api/v1/supervisor/restart", post(supervisor::restart))
        .fallback(async || ApiError::not_found("there is no such route"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Api { handle, about: Arc::new(about) })
}
