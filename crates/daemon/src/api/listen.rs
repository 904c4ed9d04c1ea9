//! The API over TCP: accepts connections, with TLS where it is set, and lets the guard look at every request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use wemixvisor_core::settings;

use super::cut::Cuttable;
use super::guard::{Guard, Peer, guard};
use super::room::{Room, Seat};
use super::tokens::TokenFile;
use super::{Api, router};
use crate::preparing::said;

/// The most connections at once.
const MAX_CONNECTIONS: usize = 2048;

/// So many open files are kept for the supervision itself, whatever connects.
const FILES_KEPT: usize = 256;

/// There is room for so many connections even where hardly any file may be open.
const MIN_CONNECTIONS: usize = 16;

/// What part of the files that this process may have open is for the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    /// Those over TCP; beyond them new ones are closed.
    Tcp,
    /// Those on the control socket; beyond them new ones wait.
    Control,
    /// Those to the API beside a supervisor: each can be two files here, and one on the supervisor's control socket,
    /// where room has to be left for others.
    Beside,
}

impl Share {
    /// How many connections that is: a node could not be started any more if they took every file.
    pub(crate) fn connections(self) -> usize {
        let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
        self.of(files)
    }

    fn of(self, files: usize) -> usize {
        let parts = match self {
            Self::Tcp | Self::Control => 2,
            Self::Beside => 4,
        };
        (files.saturating_sub(FILES_KEPT) / parts).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
    }
}

/// A request's head has to be there within this time, also the next one on a connection that is kept open.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// The greeting of TLS has to be over within this time.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// What a connection buffers of a request, in bytes: also the limit of its head.
const MAX_BUFFER: usize = 64 * 1024;

/// A client that takes nothing of what was sent is gone after this time, in milliseconds.
const UNREAD_LIMIT_MS: u32 = 60_000;

/// Answers that have begun leave within this time when the listener ends.
const ANSWERS_LEAVE: Duration = Duration::from_millis(500);

/// Without files or memory to accept with, it is tried again so often.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is none; the rules of the settings have that too.
    #[error("{0:?} is no IP address with a port")]
    NoAddress(String),
    /// The address cannot be had.
    #[error("the API cannot listen on {address}{}", hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file for TLS cannot be used.
    #[error("the API cannot use {}, set as {setting}: {what}", path.display())]
    Tls {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl ListenError {
    /// Whether another program has the address.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// Whether the files for TLS can be used, where any are set. `own_dir` is where relative paths are read from.
///
/// # Errors
/// [`ListenError::Tls`].
pub fn check_tls(settings: &settings::Api, own_dir: &Path) -> Result<(), ListenError> {
    tls(settings, own_dir).map(drop)
}

fn tls(settings: &settings::Api, own_dir: &Path) -> Result<Option<Tls>, ListenError> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => Tls::read(own_dir.join(cert), own_dir.join(key)).map(Some),
        _ => Ok(None),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there: set api.listen to another port)",
        io::ErrorKind::AddrNotAvailable => " (this machine does not have that address)",
        _ => "",
    }
}

/// An address that is listened on.
pub(crate) struct Bound {
    listener: TcpListener,
    tls: Option<Tls>,
}

impl Bound {
    /// Listens. `own_dir` is where relative paths are read from.
    pub(crate) async fn to(settings: &settings::Api, own_dir: &Path) -> Result<Self, ListenError> {
        let address = settings.address().ok_or_else(|| ListenError::NoAddress(settings.listen.clone()))?;
        let tls = tls(settings, own_dir)?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self { listener, tls })
    }

    /// Where it is to be found.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = self.listener.local_addr().map(|address| address.to_string());
        format!("{scheme}://{}", address.unwrap_or_default())
    }

    /// Answers until it is over.
    pub(crate) async fn serve(mut self, routes: Router, share: Share, over: CancellationToken) {
        let room = Room::of(share.connections());
        loop {
            let (stream, peer) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::debug!("the API cannot accept a connection: {error}");
                        sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
                () = over.cancelled() => return,
            };
            let Some(seat) = room.try_seat() else { continue };
            let _ = stream.set_nodelay(true);
            let _ = set_tcp_user_timeout(&stream, UNREAD_LIMIT_MS);
            let acceptor = self.tls.as_mut().map(Tls::acceptor);
            let (routes, over) = (routes.clone(), over.clone());
            tokio::spawn(greet_and_answer(stream, Peer(peer), acceptor, seat, routes, over));
        }
    }
}

async fn greet_and_answer(
    stream: TcpStream,
    peer: Peer,
    acceptor: Option<TlsAcceptor>,
    seat: Seat,
    routes: Router,
    over: CancellationToken,
) {
    match acceptor {
        None => answer(stream, Some(peer), seat, routes, over).await,
        Some(acceptor) => {
            // Whoever does not speak TLS is gone again.
            if let Ok(Ok(stream)) = timeout(GREETING_LIMIT, acceptor.accept(stream)).await {
                answer(stream, Some(peer), seat, routes, over).await;
            }
        }
    }
}

/// Answers on one connection. Its place is taken until it is gone, also by a WebSocket, which goes on after this.
pub(crate) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<Peer>,
    seat: Seat,
    routes: Router,
    over: CancellationToken,
) {
    let (stream, cut) = Cuttable::new(stream, seat.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(cut.clone());
        request.extensions_mut().insert(seat.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        routes.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A client that breaks off is nobody's concern.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = over.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(ANSWERS_LEAVE, connection).await;
        }
    }
}

/// The routes behind a guard.
pub(crate) fn guarded(api: Api, settings: settings::Api, tokens: TokenFile) -> Router {
    let at_the_door = Arc::new(Guard::new(settings, tokens));
    router(api).layer(from_fn_with_state(at_the_door, guard))
}

/// The certificates and the key; read again when a file has changed, as renewed certificates do.
struct Tls {
    cert: PathBuf,
    key: PathBuf,
    read_from: (Option<SystemTime>, Option<SystemTime>),
    config: Arc<ServerConfig>,
}

impl Tls {
    fn read(cert: PathBuf, key: PathBuf) -> Result<Self, ListenError> {
        let read_from = (changed(&cert), changed(&key));
        let config = Arc::new(server_config(&cert, &key)?);
        Ok(Self { cert, key, read_from, config })
    }

    fn acceptor(&mut self) -> TlsAcceptor {
        let now = (changed(&self.cert), changed(&self.key));
        if now != self.read_from {
            // Both files are replaced one after the other: until they fit, the ones before stay in use.
            match server_config(&self.cert, &self.key) {
                Ok(config) => self.config = Arc::new(config),
                Err(error) => tracing::warn!("the certificates before stay in use: {}", said(&error)),
            }
            self.read_from = now;
        }
        TlsAcceptor::from(self.config.clone())
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig, ListenError> {
    let wrong = |setting, path: &Path| {
        let path = path.to_owned();
        move |what: String| ListenError::Tls { setting, path, what }
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| wrong("api.tls_cert", cert)(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("api.tls_cert", cert)("there is no certificate in it".into()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("api.tls_key", key)(error.to_string()))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| wrong("api.tls_cert", cert)(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn connections_leave_files_for_the_supervision() {
        for (files, tcp, beside) in [
            (usize::MAX, 2048, 2048),
            (20_000, 2048, 2048),
            (4096, 1920, 960),
            (1024, 384, 192),
            (64, 16, 16),
        ] {
            assert_eq!((Share::Tcp.of(files), Share::Beside.of(files)), (tcp, beside), "{files}");
        }
    }

    /// What a client hears that sends this, a byte every five seconds.
    async fn answer_to_drops(text: &str) -> (String, Duration) {
        let (mut client, server) = tokio::io::duplex(1024);
        let routes = Router::new().fallback(async || "served");
        let begun = tokio::time::Instant::now();
        let answering = tokio::spawn(answer(
            server,
            None,
            Room::of(1).try_seat().unwrap(),
            routes,
            CancellationToken::new(),
        ));
        let mut said = String::new();
        for byte in text.bytes() {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(5)).await;
        }
        let _ = client.read_to_string(&mut said).await;
        answering.await.unwrap();
        (said, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_and_a_client_that_says_nothing_are_given_up() {
        for text in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "G", ""] {
            let (said, took) = answer_to_drops(text).await;
            assert!(!said.contains("served"), "{text:?}: {said}");
            assert!(took <= HEAD_LIMIT + Duration::from_secs(5), "{text:?}: {took:?}");
        }
    }
}
