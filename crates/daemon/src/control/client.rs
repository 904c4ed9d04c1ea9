//! The asking side of the control socket. One connection a request: on a Unix socket that costs nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
pub use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use wemixvisor_host::home::Home;
use wemixvisor_host::lock;

use super::place::Place;
use super::stream::{Connection, EVENT_STREAM, Stream};
use crate::api::error::ErrorBody;

/// How long a question may take. The engine answers within microseconds; this is for a machine that swaps.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// How long an order may take to be answered: a due program is verified before, from the disk.
const ORDER_LIMIT: Duration = Duration::from_secs(120);

/// A supervisor that begins or ends has no socket for a moment, and makes one that was removed anew within three
/// seconds.
const SOCKET_LIMIT: Duration = Duration::from_secs(4);

/// How often the socket is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The longest answer that is read, in bytes: a long history with all its steps.
pub(super) const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A supervisor's control socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status: 200, or 202 when the work goes on.
    pub status: u16,
    /// The body.
    pub body: Value,
}

/// Why there is no answer, or not the one wished for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no supervisor runs for this home: nobody answers on {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// A supervisor is there, but cannot be asked.
    #[error(
        "a supervisor{} runs, but its socket is gone: nobody answers on {}, though its lock is held. It makes the \
         socket anew by itself, unless it is stopped (SIGSTOP), hangs on a disk, or has only begun",
        pid.map(|pid| format!(" with pid {pid}")).unwrap_or_default(), socket.display()
    )]
    SocketGone {
        /// Its process id, where it can be told.
        pid: Option<u32>,
        /// The socket.
        socket: PathBuf,
    },
    /// The socket may not be opened.
    #[error("this user may not talk to the supervisor: {} belongs to another one", socket.display())]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
    },
    /// No answer in time.
    #[error(
        "the supervisor does not answer: {} has been silent for {} s. It may be stopped (SIGSTOP; kill -CONT lets it go \
         on) or hang on a disk. What was ordered may still be carried out: see wemixvisor status when it answers",
        socket.display(), limit.as_secs()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke before the whole answer was there.
    #[error("the supervisor ended, or broke off, in the middle of its answer")]
    BrokenOff(#[source] io::Error),
    /// The socket cannot be used.
    #[error("cannot use {}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What was answered is not what is expected.
    #[error("the supervisor's answer is not understood: {0}; it may be of another version")]
    NotUnderstood(String),
    /// It was refused, or failed.
    #[error("{}", .0.error)]
    Refused(ErrorBody),
}

impl Client {
    /// The socket of a home. Nothing is opened yet.
    pub fn new(home: &Home) -> Self {
        Self { socket: home.socket() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for something, with a limit of 5 s.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.request(Method::GET, path, None, QUESTION_LIMIT).await?;
        serde_json::from_value(answer.body).map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }

    /// Orders something, with a limit of 120 s.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        self.request(method, path, body, ORDER_LIMIT).await
    }

    /// Opens a stream of what happens, such as `/api/v1/events`; its head must come within 5 s.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let silent = |_| ClientError::Silent { socket: self.socket.clone(), limit: QUESTION_LIMIT };
        let opening = async {
            let (mut sender, connection) = self.hand_shake().await?;
            let mut connection: Connection = async { drop(connection.await) }.boxed().fuse();
            let mut sending =
                std::pin::pin!(sender.send_request(request(Method::GET, path, EVENT_STREAM, None)?));
            let response = tokio::select! {
                biased;
                response = &mut sending => response,
                () = &mut connection => sending.await,
            };
            Stream::open(self.socket.clone(), response.map_err(broken)?, connection, sender).await
        };
        tokio::time::timeout(QUESTION_LIMIT, opening).await.map_err(silent)?
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer, ClientError> {
        let silent = |_| ClientError::Silent { socket: self.socket.clone(), limit };
        tokio::time::timeout(limit, self.exchange(method, path, body)).await.map_err(silent)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let (mut sender, connection) = self.hand_shake().await?;
        let request = request(method, path, "application/json", body)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| ClientError::BrokenOff(io::Error::other(error)))?
                .to_bytes();
            read(status, &bytes)
        };
        // The connection is driven here and not by a task: when this is dropped, so is it.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    /// A connection to the socket, for whoever speaks HTTP over it by itself.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn connection(&self) -> Result<UnixStream, ClientError> {
        self.connect().await
    }

    async fn hand_shake(
        &self,
    ) -> Result<(SendRequest<Full<Bytes>>, http1::Connection<TokioIo<UnixStream>, Full<Bytes>>), ClientError>
    {
        http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(broken)
    }

    /// A home without a socket but with a locked supervisor's lock is never taken for one without a supervisor.
    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let begun = Instant::now();
        loop {
            let connected = self.try_connect().await;
            if !matches!(connected, Err(ClientError::NotRunning { .. })) {
                return connected;
            }
            let Some(holder) = self.socket.parent().and_then(lock::holder) else { return connected };
            if begun.elapsed() >= SOCKET_LIMIT {
                return Err(ClientError::SocketGone { pid: holder.pid, socket: self.socket.clone() });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn try_connect(&self) -> Result<UnixStream, ClientError> {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied};
        let connected = match Place::of(&self.socket) {
            Ok(place) => UnixStream::connect(place.path()).await,
            Err(error) => Err(error),
        };
        let socket = || self.socket.clone();
        connected.map_err(|source| match source.kind() {
            NotFound | NotADirectory | ConnectionRefused => ClientError::NotRunning { socket: socket() },
            PermissionDenied => ClientError::NotPermitted { socket: socket() },
            _ => ClientError::Io { socket: socket(), source },
        })
    }
}

fn request(
    method: Method,
    path: &str,
    accept: &str,
    body: Option<&Value>,
) -> Result<Request<Full<Bytes>>, ClientError> {
    let text = body.map(ToString::to_string).unwrap_or_default();
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("accept", accept)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(text)))
        .map_err(|error| ClientError::NotUnderstood(error.to_string()))
}

pub(super) fn broken(error: hyper::Error) -> ClientError {
    ClientError::BrokenOff(io::Error::other(error))
}

pub(super) fn read(status: StatusCode, bytes: &[u8]) -> Result<Answer, ClientError> {
    if !status.is_success() {
        return Err(match serde_json::from_slice(bytes) {
            Ok(error) => ClientError::Refused(error),
            Err(_) => ClientError::NotUnderstood(format!("HTTP status {status} without a reason")),
        });
    }
    let body =
        serde_json::from_slice(bytes).map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
    Ok(Answer { status: status.as_u16(), body })
}
