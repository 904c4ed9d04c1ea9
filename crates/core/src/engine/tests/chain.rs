//! The network: blocks at an even pace, until it halts.

use super::program::Program;
use crate::head::{BlockHash, Head, Height};

/// The chain as the whole network has it.
#[derive(Debug, Clone)]
pub struct Chain {
    pub block_ms: u64,
    /// It makes no block beyond this one.
    pub halts_at: Height,
    /// Wall-clock milliseconds of each block, from `first` on.
    times: Vec<u64>,
    first: Height,
}

impl Chain {
    /// A chain whose newest block is `height`, made at `wall_ms`.
    pub fn at(height: Height, block_ms: u64, wall_ms: u64) -> Self {
        Self { block_ms, halts_at: Height::MAX, times: vec![wall_ms], first: height }
    }

    pub fn height(&self) -> Height {
        self.first + self.times.len() as u64 - 1
    }

    pub fn grow(&mut self, wall_ms: u64) {
        if self.height() < self.halts_at {
            self.times.push(wall_ms);
        }
    }

    /// Block `height` as `program` tells of it.
    pub fn head(&self, height: Height, program: &Program) -> Head {
        let time = match height.checked_sub(self.first) {
            Some(place) => self.times[place as usize],
            None => self.times[0] - (self.first - height) * self.block_ms,
        };
        Head { height, hash: Some(hash(height, program)), block_time: Some(time / 1000) }
    }
}

pub fn hash(height: Height, program: &Program) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&height.to_be_bytes());
    let other = (height == 0 && program.own_genesis) || height >= program.own_past_from;
    bytes[31] = u8::from(other);
    BlockHash(bytes)
}
