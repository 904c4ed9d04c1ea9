//! A command that did not do what was asked: what is said, and the exit code.

use std::error::Error;

use serde::Serialize;
use wemixvisor_core::engine::port::{RefusalCode, Refused};
use wemixvisor_daemon::control::ClientError;

use crate::settings::LoadError;

/// The kinds of failure, by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was tried and failed.
    Failed = 1,
    /// It was asked for wrongly.
    Usage = 2,
    /// It needs a supervisor, and none runs.
    NotRunning = 3,
    /// The state does not allow it now.
    Refused = 4,
}

/// The word for a supervisor that runs and has no socket.
const SOCKET_GONE: &str = "socket_gone";

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind it is.
    pub kind: Kind,
    /// A stable word for programs.
    pub code: String,
    /// What was tried, what is true now, and what to do.
    pub message: String,
}

/// The same as JSON, on standard output with `--json`.
#[derive(Debug, Serialize)]
pub struct FailureJson<'a> {
    error: &'a str,
    code: &'a str,
}

impl Failure {
    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, "failed", message)
    }

    /// It was asked for wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, "invalid", message)
    }

    /// It needs a supervisor, and none runs.
    pub fn not_running(message: impl Into<String>) -> Self {
        Self::new(Kind::NotRunning, "not_running", message)
    }

    /// The state does not allow it now.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, "conflict", message)
    }

    /// It was tried and failed, for the reason of `error` and its sources.
    pub fn from_error(error: &dyn Error) -> Self {
        Self::failed(said(error))
    }

    fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into() }
    }

    /// Whether a supervisor runs that has no socket: one that has only begun has none yet.
    pub fn is_without_socket(&self) -> bool {
        self.code == SOCKET_GONE
    }

    /// The same as JSON.
    pub fn json(&self) -> FailureJson<'_> {
        FailureJson { error: &self.message, code: &self.code }
    }
}

/// An error with its sources, in one sentence.
pub fn said(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::NotRunning { .. } => {
                Self::not_running(format!("{error}. To start it: wemixvisor start, or wemixvisor run"))
            }
            ClientError::SocketGone { .. } => Self::new(Kind::Failed, SOCKET_GONE, error.to_string()),
            ClientError::Refused(body) => {
                let kind = match body.code.as_str() {
                    "invalid" | "too_large" => Kind::Usage,
                    "conflict" | "not_ready" => Kind::Refused,
                    "gone" => Kind::NotRunning,
                    _ => Kind::Failed,
                };
                Self::new(kind, &body.code, body.error.clone())
            }
            _ => Self::from_error(&error),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let (kind, code) = match refused.code {
            RefusalCode::Invalid => (Kind::Usage, "invalid"),
            RefusalCode::NotFound => (Kind::Failed, "not_found"),
            RefusalCode::Conflict => (Kind::Refused, "conflict"),
            RefusalCode::NotReady => (Kind::Refused, "not_ready"),
            RefusalCode::Failed => (Kind::Failed, "failed"),
        };
        Self::new(kind, code, refused.message)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(Kind::Usage, "invalid_settings", said(&error))
    }
}
