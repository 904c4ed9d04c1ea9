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
pub mod openapi;
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
use axum::routing::{delete, get, post};

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

/// The routes, once: the router and the OpenAPI document are both made from this table.
macro_rules! routes {
    ($($method:ident $path:literal => $module:ident::$handler:ident;)+) => {
        fn routes() -> Router<Api> {
            Router::new()$(.route($path, $method($module::$handler)))+
        }

        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($module::$handler),+))]
        struct Documented;

        /// Method and path of each route.
        #[cfg(test)]
        const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];
    };
}

routes! {
    get "/health" => status::health;
    get "/openapi.json" => openapi::served;
    get "/api/v1/status" => status::status;
    get "/api/v1/version" => status::version;
    get "/api/v1/node" => node::node;
    post "/api/v1/node/start" => node::start;
    post "/api/v1/node/stop" => node::stop;
    post "/api/v1/node/restart" => node::restart;
    get "/api/v1/upgrades" => upgrades::list;
    post "/api/v1/upgrades" => upgrades::schedule;
    // `status` and `rollback` are also names that an upgrade can have.
    get "/api/v1/upgrades/status" => upgrades::status;
    delete "/api/v1/upgrades/status" => upgrades::cancel_status;
    post "/api/v1/upgrades/rollback" => upgrades::roll_back;
    get "/api/v1/upgrades/rollback" => upgrades::one_rollback;
    delete "/api/v1/upgrades/rollback" => upgrades::cancel_rollback;
    get "/api/v1/upgrades/{name}" => upgrades::one;
    delete "/api/v1/upgrades/{name}" => upgrades::cancel;
    post "/api/v1/upgrades/{name}/apply" => upgrades::apply;
    post "/api/v1/upgrades/{name}/retry" => upgrades::retry;
    get "/api/v1/history" => upgrades::history;
    get "/api/v1/events" => events::events;
    post "/api/v1/supervisor/stop" => supervisor::stop;
    post "/api/v1/supervisor/restart" => supervisor::restart;
}

/// Every route of the API. `about` is what it says of the supervisor in whose process it is served.
pub fn router(handle: Handle, about: wire::Supervisor) -> Router {
    routes()
        .fallback(async || ApiError::not_found("there is no such route"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Api { handle, about: Arc::new(about) })
}
