//! One connection to a node, used for one question at a time. Its kind follows from the endpoint.

use std::io;

use crate::connect::connect;
use crate::endpoint::Endpoint;
use crate::http::HttpLink;
use crate::socket::Socket;

/// So much of a wrong answer is shown, in characters.
const EXCERPT: usize = 120;

/// Why a connection brought no answer. The client adds which question it was, and to whom.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// The connection could not be made or broke.
    Broken(io::Error),
    /// The answer is longer than allowed.
    TooLarge,
    /// The answer is not what a node says; with a short description or excerpt.
    Malformed(String),
}

impl LinkError {
    /// An answer that is not JSON-RPC, shown by its beginning.
    pub(crate) fn malformed(answer: &[u8]) -> Self {
        Self::Malformed(excerpt(answer))
    }

    /// The connection ended before the answer did.
    pub(crate) fn closed() -> Self {
        Self::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, "the node closed the connection"))
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// The beginning of an answer, in quotes, control characters escaped: it goes into logs and terminals.
pub(crate) fn excerpt(answer: &[u8]) -> String {
    let beginning = &answer[..answer.len().min(EXCERPT * 4)];
    let text = String::from_utf8_lossy(beginning);
    let shown: String = text.chars().take(EXCERPT).collect();
    if shown.len() < text.len() || beginning.len() < answer.len() {
        format!("{shown:?}…")
    } else {
        format!("{shown:?}")
    }
}

/// An open connection.
pub(crate) enum Link {
    /// HTTP/1.1, kept alive.
    Http(Box<HttpLink>),
    /// WebSocket or Unix socket.
    Socket(Socket),
}

impl Link {
    /// Opens a connection to `endpoint`.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, LinkError> {
        let stream = connect(endpoint).await?;
        Ok(match endpoint {
            Endpoint::Http(address) => Self::Http(Box::new(HttpLink::open(stream, address).await?)),
            Endpoint::Ws(address) => Self::Socket(Socket::web(stream, address).await?),
            Endpoint::Ipc(_) => Self::Socket(Socket::ipc(stream)),
        })
    }

    /// Whether the link can be used again, as far as this side knows.
    pub(crate) fn is_open(&mut self) -> bool {
        match self {
            Self::Http(http) => http.is_open(),
            // A closed one is noticed by the question, which is then asked again.
            Self::Socket(_) => true,
        }
    }

    /// Sends one question and brings the next message. After an error, or when the future was dropped half-way,
    /// the link must not be used again.
    pub(crate) async fn exchange(&mut self, question: &str) -> Result<Vec<u8>, LinkError> {
        match self {
            Self::Http(http) => http.exchange(question).await,
            Self::Socket(socket) => {
                socket.send(question).await?;
                socket.next().await
            }
        }
    }
}
