//! `testnode init GENESIS` and what a start does about forks: the fork heights live in the data directory.
//!
//! A height may be set or changed as long as the head is below both the old and the new one
//! (go-ethereum params/config.go, `isForkIncompatible`).

use std::path::Path;

use serde_json::Value;

use crate::chain::{Chain, Fork};
use crate::flags::Program;

/// The name for "no forks" in `--fork none`.
const NONE: &str = "none";

/// Why a genesis file is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The file cannot be read.
    #[error("Failed to read genesis file {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It is no genesis file.
    #[error("invalid genesis file: {0}")]
    Invalid(String),
    /// The database is of another chain.
    #[error(
        "Failed to write genesis block: database contains incompatible genesis (have chain id {0}, new {1})"
    )]
    OtherChain(u64, u64),
    /// The head is at or past a height that would change.
    #[error(
        "Failed to write genesis block: mismatching {name} fork block in database (have {}, want {want}, rewindto {})",
        .have.map_or("<nil>".to_owned(), |have| have.to_string()), .rewind_to
    )]
    Mismatch { name: String, have: Option<u64>, want: u64, rewind_to: u64 },
}

/// What a genesis file says that matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Genesis {
    pub(crate) chain_id: Option<u64>,
    pub(crate) forks: Vec<Fork>,
}

/// Reads a genesis file: `config.chainId` and every `config.<name>Block` that is a number.
pub(crate) fn read(file: &Path) -> Result<Genesis, InitError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| InitError::Unreadable(file.display().to_string(), error))?;
    let genesis: Value =
        serde_json::from_str(&text).map_err(|error| InitError::Invalid(error.to_string()))?;
    let config = genesis.get("config").and_then(Value::as_object);
    let config = config.ok_or_else(|| InitError::Invalid("no object `config`".to_owned()))?;
    let forks = config.iter().filter(|(name, _)| name.ends_with("Block"));
    Ok(Genesis {
        chain_id: config.get("chainId").and_then(Value::as_u64),
        forks: forks.filter_map(|(name, h)| Some(Fork { name: name.clone(), height: h.as_u64()? })).collect(),
    })
}

/// Whether the program has the rules of this fork: of those that it names, or of all when it names none.
fn knows(program: &Program, name: &str) -> bool {
    program.fork.is_empty() || program.forks().any(|(known, _)| known == name)
}

/// Writes the genesis file's fork heights into the chain, those that the program knows.
pub(crate) fn apply(chain: &mut Chain, genesis: &Genesis, program: &Program) -> Result<(), InitError> {
    if let Some(new) = genesis.chain_id.filter(|&new| new != chain.chain_id) {
        return Err(InitError::OtherChain(chain.chain_id, new));
    }
    for fork in genesis.forks.iter().filter(|fork| knows(program, &fork.name)) {
        if let Some(rewind_to) = too_late(chain, fork) {
            let have = chain.forks.get(&fork.name).copied();
            return Err(InitError::Mismatch { name: fork.name.clone(), have, want: fork.height, rewind_to });
        }
    }
    for fork in genesis.forks.iter().filter(|fork| knows(program, &fork.name)) {
        chain.forks.insert(fork.name.clone(), fork.height);
    }
    Ok(())
}

/// If this fork differs from the chain's and has begun by either: the block before it.
fn too_late(chain: &Chain, fork: &Fork) -> Option<u64> {
    let have = chain.forks.get(&fork.name).copied();
    let first = have.map_or(fork.height, |have| have.min(fork.height));
    (have != Some(fork.height) && first <= chain.head && chain.head > 0).then(|| first.saturating_sub(1))
}

/// Prepares the chain for a start of `program`: forgets forks if it is one that does, sets its built-in heights and
/// rewinds behind those that are new and passed. Returns its forks, and the head it had to rewind to.
pub(crate) fn prepare(chain: &mut Chain, program: &Program) -> (Vec<Fork>, Option<u64>) {
    if program.forgets_forks {
        chain.forks.retain(|name, _| knows(program, name));
    }
    let mut rewound = None;
    for (name, height) in program.forks().filter(|(name, _)| *name != NONE) {
        let Some(height) = height else { continue };
        let fork = Fork { name: name.to_owned(), height };
        if let Some(to) = too_late(chain, &fork) {
            chain.rewind(to);
            rewound = Some(to);
        }
        chain.forks.insert(fork.name, height);
    }
    let known = chain.forks.iter().filter(|(name, _)| knows(program, name));
    (known.map(|(name, &height)| Fork { name: name.clone(), height }).collect(), rewound)
}
