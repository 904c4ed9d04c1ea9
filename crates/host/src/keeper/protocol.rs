//! The lines that keeper and supervisor exchange: one JSON object each, over a Unix stream socket.
//!
//! A request carries a number that its answer repeats; events carry none. An old keeper serves a newer
//! supervisor: unknown fields are ignored, an unknown request is answered [`Answer::Unsupported`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::facts::{AdoptHint, KeeperState, Launch, NodeExit, NodeProcess};

/// The version that this program writes.
pub(super) const VERSION: u32 = 1;

/// The longest line that is read. Linux allows about 6 MB of arguments and environment; encoded they can triple.
pub(super) const MAX_LINE: usize = 24 << 20;

/// Supervisor to keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub v: u32,
    pub id: u64,
    #[serde(flatten)]
    pub what: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(super) enum Ask {
    /// Tell what you know.
    State,
    /// Start the node.
    Spawn { launch: Box<Launch> },
    /// Take over the node of a keeper that was killed.
    Adopt { hint: AdoptHint },
    /// Send the node its one SIGTERM.
    Terminate {
        #[serde(flatten)]
        of: OfLaunch,
    },
    /// Send the node SIGQUIT.
    Quit,
    /// Send the node SIGKILL.
    Kill {
        #[serde(flatten)]
        of: OfLaunch,
    },
    /// Send a signal to all that the last node left behind: SIGKILL, or SIGTERM when `gently`.
    ReapRest { gently: bool },
    /// The supervisor leaves.
    Bye,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// Which launch is meant: none other than the one that was decided on. An order can come late, when the keeper stood
/// still, and find another node.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct OfLaunch {
    /// Its number; none where it is not known, or the order is of an older supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_id: Option<u64>,
}

impl OfLaunch {
    /// A node that was adopted without a record has the number 0 and can be any.
    pub(super) fn is(self, launch_id: u64) -> bool {
        launch_id == 0 || self.launch_id.is_none_or(|meant| meant == launch_id)
    }
}

/// Keeper to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    #[serde(flatten)]
    pub what: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    /// To `State` and `Adopt`.
    State { state: Box<KeeperState> },
    /// To `Spawn`.
    Started { node: NodeProcess },
    /// To `Spawn`.
    SpawnFailed { why: SpawnFailure },
    /// To `Terminate`, `Quit`, `Kill`, `Bye`.
    Done,
    /// To what needs a node when there is none.
    NoNode,
    /// To `ReapRest`: those that were signalled.
    Rest { pids: Vec<u32> },
    /// The request could not be carried out.
    Failed { why: String },
    /// Event: the node has ended.
    Exited { exit: NodeExit },
    /// To the first request, whatever it is: this keeper cannot serve and ends.
    Refused { why: String },
    /// The request is not known to this version; or, read by an older supervisor, the answer is not.
    #[serde(other)]
    Unsupported,
}

/// Why no node was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum SpawnFailure {
    StillRuns { lock: PathBuf, holders: Vec<u32> },
    Lock { path: PathBuf, error: String },
    Changed { program: PathBuf },
    Exec { program: PathBuf, error: String, errno: Option<i32> },
    Prepare { what: String, error: String },
}

/// One line, its end included. A message that cannot be written down (never seen: all keys are text) is empty.
pub(super) fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_supervisor_is_understood_as_far_as_possible() {
        let request: Request =
            serde_json::from_str(r#"{"v":9,"id":1,"ask":"terminate","why":"upgrade"}"#).unwrap();
        assert!(matches!(request.what, Ask::Terminate { of: OfLaunch { launch_id: None } }));
        let request: Request = serde_json::from_str(r#"{"v":9,"id":1,"ask":"freeze","long":[1]}"#).unwrap();
        assert!(matches!(request.what, Ask::Unknown));
    }

    #[test]
    fn the_lines_of_version_1_do_not_change() {
        let request = Request { v: VERSION, id: 3, what: Ask::ReapRest { gently: true } };
        assert_eq!(line(&request), b"{\"v\":1,\"id\":3,\"ask\":\"reap-rest\",\"gently\":true}\n");
        let request = Request { v: VERSION, id: 4, what: Ask::Kill { of: OfLaunch { launch_id: Some(7) } } };
        assert_eq!(line(&request), b"{\"v\":1,\"id\":4,\"ask\":\"kill\",\"launch_id\":7}\n");
        let event = Message { v: VERSION, id: None, what: Answer::Refused { why: "x".into() } };
        assert_eq!(line(&event), b"{\"v\":1,\"answer\":\"refused\",\"why\":\"x\"}\n");
        let bye: Request = serde_json::from_str(r#"{"v":1,"id":4,"ask":"bye"}"#).unwrap();
        assert!(matches!(bye.what, Ask::Bye));
    }
}
