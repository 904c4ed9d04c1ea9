//! How a program behaves once it is started: every fault of SCENARIOS.md D, on order.

use crate::exit::WaitStatus;
use crate::head::Height;

/// What a program does when it is told to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnTerm {
    /// It ends in order after so many milliseconds.
    Ends(u64),
    /// It neither works nor ends.
    Hangs,
    /// It goes on writing for so long, then ends.
    Flushes(u64),
}

/// One installed program.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it calls itself, both as `version` and in `web3_clientVersion`.
    pub version: &'static str,
    pub sha256: String,
    /// Why it must not run, if so.
    pub unfit: Option<&'static str>,
    /// Why it cannot be started, if so.
    pub unstartable: Option<&'static str>,
    /// Its RPC answers so many milliseconds after the start; `None`: never.
    pub answers_after: Option<u64>,
    /// Its head stands still for so long after the start.
    pub stands_for: u64,
    /// The highest block it can make or accept.
    pub last_block: Height,
    pub chain_id: u64,
    /// Its blocks from this height on have other hashes than everybody else's.
    pub own_past_from: Height,
    pub own_genesis: bool,
    /// It ends by itself, so many milliseconds after each start.
    pub dies: Option<(u64, WaitStatus)>,
    /// `dies` holds from this start of the program on (1 is the first).
    pub dies_from_start: u32,
    pub on_term: OnTerm,
    /// So many blocks are lost when it is killed.
    pub rewinds: u64,
    /// It has the `istanbul_*` methods.
    pub istanbul: bool,
    pub seals: bool,
    pub peers: u64,
}

impl Program {
    pub fn good(version: &'static str) -> Self {
        Self {
            version,
            sha256: format!("sha of {version}"),
            unfit: None,
            unstartable: None,
            answers_after: Some(500),
            stands_for: 0,
            last_block: Height::MAX,
            chain_id: 1111,
            own_past_from: Height::MAX,
            own_genesis: false,
            dies: None,
            dies_from_start: 1,
            on_term: OnTerm::Ends(200),
            rewinds: 5,
            istanbul: false,
            seals: true,
            peers: 3,
        }
    }
}
