//! The HTTP API: what the command line, scripts and the page talk to.
//!
//! [`router`] holds every route, whatever it is served over: [`crate::control`] serves it on the control socket,
//! `listen` over TCP, behind the `guard`. A route asks whoever is [`Supervised`] and turns the answer into a wire
//! type: those of [`wire`], never the engine's own. An order is in the engine's mailbox before it is waited for, so a
//! client that goes away takes nothing back. What happens comes out of one `hub`, over WebSocket and as
//! server-sent events.
//!
//! Answers are JSON. Errors are `{"error", "code"}`, see [`error::ApiError`].

mod config;
mod cut;
pub mod error;
mod events;
mod extract;
pub(crate) mod frame;
pub(crate) mod guard;
mod hub;
pub mod listen;
mod logs;
mod metrics;
mod node;
pub mod openapi;
mod page;
pub mod relay;
pub mod request;
pub(crate) mod room;
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
use axum::routing::{delete, get, post, put};
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
    get "/ready" => status::ready;
    get "/metrics" => metrics::metrics;
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
    get "/api/v1/config" => config::show;
    put "/api/v1/config" => config::change;
    post "/api/v1/config/validate" => config::validate;
    get "/api/v1/logs" => logs::logs;
    get "/api/v1/logs/stream" => logs::stream;
    get "/api/v1/ws" => ws::ws;
    get "/api/v1/events" => events::events;
    post "/api/v1/supervisor/stop" => supervisor::stop;
    post "/api/v1/supervisor/restart" => supervisor::restart;
}

/// Every route of the API.
pub fn router(api: Api) -> Router {
    routes()
        .merge(page::routes())
        .fallback(async || ApiError::not_found("there is no such route"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}
