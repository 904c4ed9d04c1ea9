//! What a node says about the tip of its chain.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a block. JSON-RPC allows 64 bits; a plan allows 63 (PRODUCT.md section 3).
pub type Height = u64;

/// The hash of a block: 32 bytes, written as `0x` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(pub [u8; 32]);

/// A text that is not a block hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a block hash (0x and 64 hex digits)")]
pub struct NotABlockHash;

impl FromStr for BlockHash {
    type Err = NotABlockHash;

    fn from_str(text: &str) -> Result<Self, NotABlockHash> {
        let digits = text.strip_prefix("0x").ok_or(NotABlockHash)?.as_bytes();
        if digits.len() != 64 {
            return Err(NotABlockHash);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).ok_or(NotABlockHash);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BlockHash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockHash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The tip of a chain as one source reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the newest block.
    pub height: Height,
    /// Its hash, where the answer carried one (`eth_blockNumber` does not).
    pub hash: Option<BlockHash>,
    /// The block's own time in seconds since 1970, where the answer carried it.
    pub block_time: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_hash_reads_back_what_it_writes() {
        let text = format!("0x{}", "0aF9".repeat(16));
        let hash: BlockHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text.to_lowercase());
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<BlockHash>(&json).unwrap(), hash);
    }

    #[test]
    fn what_is_not_a_block_hash_is_refused() {
        for text in [
            "",
            "0x",
            "0x12",
            &"f".repeat(64),
            &format!("0x{}", "g".repeat(64)),
            &format!("0x{}", "é".repeat(32)),
        ] {
            assert_eq!(text.parse::<BlockHash>(), Err(NotABlockHash), "{text}");
        }
    }
}
