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

/// The word for an answer that was not given to its end.
const BROKEN_OFF: &str = "broken_off";

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

    /// Whether the supervisor that was asked ended, or broke off, before its answer was there.
    pub fn is_broken_off(&self) -> bool {
        self.code == BROKEN_OFF
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
            ClientError::BrokenOff(_) => Self::new(Kind::Failed, BROKEN_OFF, said(&error)),
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

#[cfg(test)]
mod tests {
    use std::io;

    use wemixvisor_daemon::api::error::ErrorBody;

    use super::*;

    fn refused(code: &str) -> Failure {
        ClientError::Refused(ErrorBody { error: "no".into(), code: code.into() }).into()
    }

    #[test]
    fn what_the_supervisor_answers_has_the_documented_exit_code() {
        for (code, kind) in [
            ("invalid", Kind::Usage),
            ("too_large", Kind::Usage),
            ("conflict", Kind::Refused),
            ("not_ready", Kind::Refused),
            ("gone", Kind::NotRunning),
            ("not_found", Kind::Failed),
            ("failed", Kind::Failed),
            ("a word of a later version", Kind::Failed),
        ] {
            let failure = refused(code);
            assert_eq!((failure.kind, failure.code.as_str(), failure.message.as_str()), (kind, code, "no"));
        }
        let codes = [Kind::Failed, Kind::Usage, Kind::NotRunning, Kind::Refused].map(|kind| kind as u8);
        assert_eq!(codes, [1, 2, 3, 4]);
    }

    #[test]
    fn the_rules_say_the_same_with_and_without_a_supervisor() {
        use RefusalCode as C;
        for (code, word) in [
            (C::Invalid, "invalid"),
            (C::NotFound, "not_found"),
            (C::Conflict, "conflict"),
            (C::NotReady, "not_ready"),
            (C::Failed, "failed"),
        ] {
            let without = Failure::from(Refused { code, message: "no".into() });
            assert_eq!(without, refused(word));
        }
    }

    #[test]
    fn nobody_who_answers_is_exit_code_3_and_silence_is_not() {
        let socket = || "/h/s".into();
        let none = Failure::from(ClientError::NotRunning { socket: socket() });
        assert_eq!((none.kind, none.code.as_str()), (Kind::NotRunning, "not_running"));
        assert!(
            none.message
                .ends_with("nobody answers on /h/s. To start it: wemixvisor start, or wemixvisor run")
        );
        let limit = std::time::Duration::from_secs(5);
        let other = Failure::from(ClientError::NotPermitted { socket: socket() });
        assert_eq!(other.kind, Kind::Failed);
        let silent = Failure::from(ClientError::Silent { socket: socket(), limit });
        assert!(
            silent.message.starts_with("the supervisor does not answer: /h/s has been silent for 5 s. "),
            "{silent:?}"
        );
        let source = io::Error::other("reset");
        let io = Failure::from(ClientError::Io { socket: socket(), source });
        assert_eq!((io.kind, io.message.as_str()), (Kind::Failed, "cannot use /h/s: reset"));
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot do it: reset")]
        struct Says(#[source] io::Error);
        assert_eq!(said(&Says(io::Error::other("reset"))), "cannot do it: reset");
        assert_eq!(said(&Says(io::Error::other("full"))), "cannot do it: reset: full");
        let json = serde_json::to_string(&Failure::refused("no").json()).unwrap();
        assert_eq!(json, r#"{"error":"no","code":"conflict"}"#);
    }
}
