//! Questions to one node.
//!
//! A client keeps the connections that it has opened and not lost. A question takes an idle one, or opens one,
//! has it to itself until the answer is there, and gives it back. So questions that are asked at the same time
//! never wait for each other, on any transport; an answer can never be taken for that of another question; and
//! a question that is given up takes its connection with it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::endpoint::Endpoint;
use crate::link::{Link, LinkError, excerpt};
use crate::locked;
use crate::message::{self, ErrorObject};

/// The longest answer that is read: 1 MiB. The longest that is asked for is a block of several thousand
/// transaction hashes, a few hundred KiB; a node that sends more is broken or is no node, and the supervisor
/// is to stay small.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// So many connections wait for the next question; a round of probation asks about this many at once.
const MAX_IDLE: usize = 8;

/// A connection that no question took for so long is closed when the next question is done. geth closes a
/// WebSocket whose pings are unanswered for 60 s, and idle HTTP after 120 s.
const IDLE_LIFE: Duration = Duration::from_secs(30);

/// JSON-RPC's code for "wrong parameters" (specification 2.0, section 5.1).
const INVALID_PARAMS: i64 = -32602;

/// How anvil says over WebSocket and Unix socket that it has no such method; over HTTP it says it the usual way.
/// It says the same of wrong parameters, but those asked here are right wherever the method exists.
const NO_SUCH_VARIANT: &str = "did not match any variant of untagged enum";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The node does not have this method. That is a fact about the node, not a fault.
    #[error("the node does not support {method}")]
    Unsupported {
        /// The method asked for.
        method: String,
    },
    /// The node answered with an error of its own.
    #[error("the node answered {method} with error {code}: {message}")]
    Node {
        /// The method asked for.
        method: String,
        /// JSON-RPC's code.
        code: i64,
        /// The node's text, shortened.
        message: String,
    },
    /// No answer in time; the connection has been given up.
    #[error("{endpoint} did not answer {method} within {limit:?}")]
    Timeout {
        /// Where was asked.
        endpoint: String,
        /// The method asked for.
        method: String,
        /// The limit that has passed.
        limit: Duration,
    },
    /// The answer is longer than [`MAX_ANSWER_BYTES`]; the rest was not read.
    #[error("{endpoint} answered {method} with more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge {
        /// Where was asked.
        endpoint: String,
        /// The method asked for.
        method: String,
    },
    /// The answer is not what a node says to this question.
    #[error("{endpoint} answered {method} with something else: {found}")]
    Malformed {
        /// Where was asked.
        endpoint: String,
        /// The method asked for.
        method: String,
        /// What it was, shortened.
        found: String,
    },
    /// The connection could not be made, or broke.
    #[error("{endpoint} cannot be reached for {method}")]
    Unreachable {
        /// Where was asked.
        endpoint: String,
        /// The method asked for.
        method: String,
        /// What the connection said.
        source: std::io::Error,
    },
}

impl RpcError {
    /// The error with its cause, on one line, for logs and alerts.
    pub fn full_text(&self) -> String {
        match self {
            Self::Unreachable { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// A caller of one endpoint. Connects when it is first asked, and again whenever it must.
pub struct Client {
    endpoint: Endpoint,
    idle: Mutex<Vec<Idle>>,
    next_id: AtomicU64,
    opened: AtomicU64,
}

/// A connection that waits for a question.
struct Idle {
    link: Link,
    since: Instant,
}

impl Client {
    /// A client of `endpoint`. Nothing is connected yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::default(), next_id: AtomicU64::new(1), opened: AtomicU64::new(0) }
    }

    /// Where this client asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks `method` with `params` (an array) and brings the result, which may be `null`. `limit` covers
    /// connecting, asking and the whole answer.
    ///
    /// When a kept connection turns out to be closed, the question is asked again on a new one. So the node may
    /// see it twice, and only what may be asked twice should be asked.
    pub async fn call(&self, method: &str, params: Value, limit: Duration) -> Result<Value, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let question = message::question(id, method, &params);
        match timeout(limit, self.ask(&question, id)).await {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(error))) => Err(refusal(method, error)),
            Ok(Err(error)) => Err(self.error(method, error)),
            Err(_) => {
                Err(RpcError::Timeout { endpoint: self.endpoint.to_string(), method: method.into(), limit })
            }
        }
    }

    /// Closes the connections that wait for a question.
    pub(crate) fn hang_up(&self) {
        locked(&self.idle).clear();
    }

    /// How many connections have been opened so far. When it has grown, it may be another process that answers.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The error of a result that has not the shape that `method` promises.
    pub(crate) fn wrong_shape(&self, method: &str, found: &Value) -> RpcError {
        self.error(method, LinkError::malformed(found.to_string().as_bytes()))
    }

    fn error(&self, method: &str, error: LinkError) -> RpcError {
        let (endpoint, method) = (self.endpoint.to_string(), method.to_owned());
        match error {
            LinkError::Broken(source) => RpcError::Unreachable { endpoint, method, source },
            LinkError::TooLarge => RpcError::TooLarge { endpoint, method },
            LinkError::Malformed(found) => RpcError::Malformed { endpoint, method, found },
        }
    }

    async fn ask(&self, question: &str, id: u64) -> Result<message::Answer, LinkError> {
        let (link, answer) = self.exchange(question).await?;
        let answer = message::answer(&answer, id)?;
        self.give_back(link);
        Ok(answer)
    }

    async fn exchange(&self, question: &str) -> Result<(Link, Vec<u8>), LinkError> {
        if let Some(mut link) = self.take_idle() {
            match link.exchange(question).await {
                Ok(answer) => return Ok((link, answer)),
                // The node may have closed it in this moment, or be another process by now.
                Err(LinkError::Broken(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut link = Link::open(&self.endpoint).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let answer = link.exchange(question).await?;
        Ok((link, answer))
    }

    /// The connection used last that is still open.
    fn take_idle(&self) -> Option<Link> {
        let mut idle = locked(&self.idle);
        std::iter::from_fn(|| idle.pop())
            .map(|idle| idle.link)
            .find_map(|mut link| link.is_open().then_some(link))
    }

    /// Keeps `link` for the next question, and closes those that no question has taken for long.
    fn give_back(&self, link: Link) {
        let now = Instant::now();
        let mut idle = locked(&self.idle);
        idle.retain(|idle| now - idle.since < IDLE_LIFE);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { link, since: now });
        }
    }
}

/// The error object of a node as an error of the question.
fn refusal(method: &str, ErrorObject { code, message }: ErrorObject) -> RpcError {
    let method = method.to_owned();
    if code == message::METHOD_NOT_FOUND || (code == INVALID_PARAMS && message.contains(NO_SUCH_VARIANT)) {
        return RpcError::Unsupported { method };
    }
    RpcError::Node { method, code, message: excerpt(message.as_bytes()) }
}
