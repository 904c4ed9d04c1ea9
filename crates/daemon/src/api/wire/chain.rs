//! The chain as the followed source shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wemixvisor_core::engine::snapshot::ChainView;

use super::Moment;

/// The chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Chain {
    /// The head, where one is known.
    pub head: Option<u64>,
    /// Its hash.
    pub hash: Option<String>,
    /// When it was seen first.
    pub seen_at: Option<Moment>,
    /// The highest height seen: what a plan is measured against.
    pub highest: Option<u64>,
    /// How long the head has not gone up, in milliseconds.
    pub still_ms: Option<u64>,
    /// How far the newest block lies behind the wall clock, in milliseconds.
    pub lag_ms: Option<u64>,
    /// The estimated time between two blocks, in milliseconds.
    pub block_time_ms: Option<u64>,
    /// The chain id.
    pub chain_id: Option<u64>,
    /// The sources of heights, in the order in which they are tried.
    pub sources: Vec<Source>,
}

/// One source of heights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// Its address, without secrets.
    pub address: String,
    /// Its heights are the ones that count.
    pub followed: bool,
    /// Why it does not answer, if so.
    pub failure: Option<String>,
}

impl Chain {
    pub(crate) fn of(view: &ChainView) -> Self {
        let sources = view.sources.iter().map(|source| Source {
            address: source.address.clone(),
            followed: source.followed,
            failure: source.failure.clone(),
        });
        Self {
            head: view.head,
            hash: view.hash.map(|hash| hash.to_string()),
            seen_at: view.seen_at.map(Moment::from),
            highest: view.highest,
            still_ms: view.still_ms,
            lag_ms: view.lag_ms,
            block_time_ms: view.block_time_ms,
            chain_id: view.chain_id,
            sources: sources.collect(),
        }
    }
}
