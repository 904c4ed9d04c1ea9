//! The node's process.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wemixvisor_core::engine::snapshot::{NodeState, Snapshot};
use wemixvisor_core::exit::{ExitClass, NodeExit, classify};

use super::{Moment, secrets};
use crate::api::openapi::words;

/// `GET /api/v1/node`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// `running`, `starting`, `waiting` (down, started again by itself), `stopping`, `stopped`, `failed` (down, and
    /// not started again by itself).
    #[schema(value_type = words::NodeState)]
    pub state: NodeState,
    /// Its process id.
    pub pid: Option<u32>,
    /// The version that runs.
    pub version: Option<String>,
    /// What it calls itself (`web3_clientVersion`).
    pub client_version: Option<String>,
    /// Since when it runs.
    pub since: Option<Moment>,
    /// It has told a head since it was started.
    pub answering: bool,
    /// It ran before this supervisor did.
    pub adopted: bool,
    /// The arguments it is started with, without secrets. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub args: Vec<String>,
    /// The restarts that count at the moment.
    pub restarts: usize,
    /// How many are allowed.
    pub max_restarts: u32,
    /// When it is started again, if it waits.
    pub starts_at: Option<Moment>,
    /// How it ended last.
    pub last_exit: Option<Exit>,
}

/// The end of a node process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// `asked`, `killed`, `low_disk`, `clean_by_itself`, `fatal_config`, `panic`, `loader`, `out_of_memory`,
    /// `signal`, `other_code`, `unknown`.
    #[schema(value_type = words::ExitClass)]
    pub class: ExitClass,
    /// In words, with the node's last words where they explain it.
    pub text: String,
    /// The last lines of its output.
    pub tail: String,
}

impl Node {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let view = &snapshot.node;
        // In the middle of an upgrade the name that is known may still be that of the other program.
        let client_version = view.client_version.clone().filter(|_| snapshot.upgrade.is_none());
        Self {
            state: view.state,
            pid: view.pid,
            version: view.version.clone(),
            client_version,
            since: view.since.map(Moment::from),
            answering: view.answering,
            adopted: view.adopted,
            args: secrets::args(view.args.iter().map(|word| word.as_os_str().to_string_lossy().into_owned())),
            restarts: view.restarts,
            max_restarts: view.max_restarts,
            starts_at: view.starts_at.map(Moment::from),
            last_exit: view.last_exit.as_ref().map(Exit::of),
        }
    }
}

impl Exit {
    fn of(exit: &NodeExit) -> Self {
        Self { class: classify(exit), text: exit.describe(), tail: exit.tail.clone() }
    }
}
