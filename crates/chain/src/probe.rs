//! One round of the questions by which probation judges a node.

use std::time::Duration;

use wemixvisor_core::head::{BlockHash, Head, Height};
use wemixvisor_core::observation::{Answer, Observation};

use crate::client::{Client, RpcError};

/// What is asked besides version, chain id, genesis and head, which always are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeRequest {
    /// Ask for the hash at this height: of the block recorded before the stop.
    pub pinned: Option<Height>,
    /// Ask for the number of peers.
    pub want_peers: bool,
    /// Look for our own seal in a block.
    pub own_seal: Option<OwnSeal>,
}

/// Whose seal is looked for, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSeal {
    /// The address with which the node signs ([`Client::node_address`]).
    pub address: String,
    /// Only seals of blocks above this height count: those below may have been given before the restart.
    pub after: Height,
}

/// Asks all questions of one round at the same time, each with the time limit `limit`.
pub async fn probe(client: &Client, request: &ProbeRequest, limit: Duration) -> Observation {
    let pinned = async {
        match request.pinned {
            Some(height) => answer(client.block_hash(height, limit).await),
            None => Answer::NotAsked,
        }
    };
    let peers = async {
        match request.want_peers {
            true => answer(client.peer_count(limit).await),
            false => Answer::NotAsked,
        }
    };
    let head_and_seal = async {
        let head = answer(client.head(limit).await);
        let own_seal = own_seal(client, request.own_seal.as_ref(), &head, limit).await;
        (head, own_seal)
    };
    let (client_version, chain_id, genesis, pinned, (head, own_seal), peers) = tokio::join!(
        client.client_version(limit),
        client.chain_id(limit),
        client.block_hash(0, limit),
        pinned,
        head_and_seal,
        peers,
    );
    Observation {
        client_version: answer(client_version),
        chain_id: answer(chain_id),
        genesis: genesis_answer(genesis),
        pinned,
        head,
        peers,
        own_seal,
    }
}

/// Looks into the newest block whose late seals can be known: the one before the head. A healthy validator is in
/// it, in every block, one way or the other (NODES.md section 5).
async fn own_seal(
    client: &Client,
    wanted: Option<&OwnSeal>,
    head: &Answer<Head>,
    limit: Duration,
) -> Answer<bool> {
    let Some(OwnSeal { address, after }) = wanted else { return Answer::NotAsked };
    match head {
        Answer::Known(head) if head.height > after.saturating_add(1) => {
            answer(client.has_sealed(address, head.height - 1, limit).await)
        }
        Answer::Known(_) => Answer::Known(false),
        Answer::Unsupported => Answer::Unsupported,
        Answer::Failed(reason) => Answer::Failed(reason.clone()),
        Answer::NotAsked => Answer::NotAsked,
    }
}

fn genesis_answer(genesis: Result<Option<BlockHash>, RpcError>) -> Answer<BlockHash> {
    match answer(genesis) {
        Answer::Known(Some(hash)) => Answer::Known(hash),
        Answer::Known(None) => Answer::Failed("the node has no block 0".into()),
        Answer::Unsupported => Answer::Unsupported,
        Answer::Failed(reason) => Answer::Failed(reason),
        Answer::NotAsked => Answer::NotAsked,
    }
}

fn answer<T>(result: Result<T, RpcError>) -> Answer<T> {
    match result {
        Ok(value) => Answer::Known(value),
        Err(RpcError::Unsupported { .. }) => Answer::Unsupported,
        Err(error) => Answer::Failed(error.full_text()),
    }
}
