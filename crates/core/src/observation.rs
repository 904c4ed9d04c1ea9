//! What one round of questions to a node brought back.

use serde::{Deserialize, Serialize};

use crate::head::{BlockHash, Head};

/// The answer to one question. A missing answer is never read as a good one (invariant I7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// The node said so.
    Known(T),
    /// The node does not have this method (error −32601): neither good nor bad.
    Unsupported,
    /// No answer, or none that could be read.
    Failed(String),
    /// It was not asked.
    #[default]
    NotAsked,
}

impl<T> Answer<T> {
    /// What the node said, if it said something.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }
}

/// The answers of one round.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observation {
    /// `web3_clientVersion`.
    pub client_version: Answer<String>,
    /// `eth_chainId`.
    pub chain_id: Answer<u64>,
    /// The hash of block 0.
    pub genesis: Answer<BlockHash>,
    /// The hash at the height that was asked for; `None` when the node does not have that block (yet).
    pub pinned: Answer<Option<BlockHash>>,
    /// The head.
    pub head: Answer<Head>,
    /// `net_peerCount`.
    pub peers: Answer<u64>,
    /// Our own seal is in a recent block.
    pub own_seal: Answer<bool>,
}
