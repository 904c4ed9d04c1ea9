//! The API in a process of its own: `wemixvisor api`. What is asked is handed on to the running supervisor's control
//! socket, and its answer back, streams and WebSockets too. Where no supervisor runs, the files of the home answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, VIA};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use wemixvisor_core::settings;
use wemixvisor_host::home::Home;

use super::error::ApiError;
use super::guard::{Guard, guard};
use super::listen::{Bound, ListenError, Share};
use super::room::BESIDE;
use super::supervised::Supervised;
use super::tokens::TokenFile;
use super::{Api, Place, router};
use crate::control::{Client, ClientError};
use crate::preparing::said;

/// The API beside a supervisor, listening and not serving yet.
pub struct Beside {
    bound: Bound,
    routes: Router,
    over: CancellationToken,
}

#[derive(Clone)]
struct Relay {
    client: Client,
    /// Answers where no supervisor runs.
    files: Router,
}

impl Beside {
    /// Listens where `settings` say. `files` answers where no supervisor runs.
    ///
    /// # Errors
    /// The address cannot be had, or a file for TLS cannot be used.
    pub async fn listen(
        home: &Home,
        settings: settings::Api,
        files: Arc<dyn Supervised>,
        place: Place,
    ) -> Result<Self, ListenError> {
        let bound = Bound::to(&settings, home.wemixvisor()).await?;
        let over = CancellationToken::new();
        let files = router(Api::new(files, None, place, over.clone()));
        let relay = Relay { client: Client::new(home), files };
        let at_the_door = Arc::new(Guard::new(settings, TokenFile::of(home)));
        let routes =
            Router::new().fallback(hand_on).with_state(relay).layer(from_fn_with_state(at_the_door, guard));
        Ok(Self { bound, routes, over })
    }

    /// Where it is to be found.
    pub fn url(&self) -> String {
        self.bound.url()
    }

    /// Serves until `end`.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let over = self.over.clone();
        tokio::select! {
            () = self.bound.serve(self.routes, Share::Beside, over.clone()) => {}
            () = end => over.cancel(),
        }
    }
}

/// What is the same whoever runs, and is of this program's version.
fn is_own(path: &str) -> bool {
    !(path.starts_with("/api/") || ["/health", "/ready", "/metrics"].contains(&path))
}

async fn hand_on(State(mut relay): State<Relay>, request: Request) -> Response {
    if is_own(request.uri().path()) {
        return answer_here(&mut relay.files, request).await;
    }
    match relay.client.connection().await {
        Ok(stream) => pass(stream, request).await.unwrap_or_else(|error| broken(&error).into_response()),
        Err(ClientError::NotRunning { .. }) => answer_here(&mut relay.files, request).await,
        Err(error) => ApiError::busy(said(&error)).into_response(),
    }
}

async fn answer_here(files: &mut Router, request: Request) -> Response {
    match files.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn broken(error: &hyper::Error) -> ApiError {
    ApiError::busy(format!("the supervisor broke off in the middle of its answer: {}", said(error)))
}

async fn pass(stream: UnixStream, mut request: Request) -> Result<Response, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = path.parse::<Uri>().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(VIA, HeaderValue::from_static(BESIDE));
    // Looked at here; the supervisor knows who asks by the socket.
    headers.remove(AUTHORIZATION);
    headers.remove("x-api-key");
    let client = hyper::upgrade::on(&mut request);
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
            // Ends with whichever side ends first.
            let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        });
    }
    Ok(response.map(Body::new))
}
