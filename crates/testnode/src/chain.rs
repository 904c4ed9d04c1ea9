//! The model of a chain: everything that a node knows about its blocks, in a few numbers.
//!
//! Blocks are not stored. A block's hash follows from who the chain is (chain id, genesis salt), from its number
//! and from the [`Branch`] it was made on: the rules in force and the reorganisation it came after. A block's time
//! follows from the last [`Anchor`] below it. So two nodes of one network give the same hash for the same number,
//! a rewound and re-imported chain gets its old hashes back, and a reorganised one gets new ones.
//!
//! Nothing here reads a clock: time comes in as milliseconds since the Unix epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most anchors and the most ranges of missed blocks that are kept; the oldest go first.
const KEPT: usize = 4096;

/// A 32-byte block hash.
pub(crate) type Hash = [u8; 32];

/// From this height on blocks come at this time and pace, until the next anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Anchor {
    pub(crate) height: u64,
    pub(crate) at_ms: u64,
    pub(crate) step_ms: u64,
}

impl Anchor {
    /// When block `height` is due, in milliseconds since the epoch.
    pub(crate) fn time_of(&self, height: u64) -> u64 {
        self.at_ms.saturating_add(height.saturating_sub(self.height).saturating_mul(self.step_ms))
    }

    /// The highest block that is due at `now_ms`.
    pub(crate) fn height_at(&self, now_ms: u64) -> u64 {
        self.height.saturating_add(now_ms.saturating_sub(self.at_ms) / self.step_ms.max(1))
    }
}

/// From this height on blocks were made under these rules, after this many reorganisations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Branch {
    from: u64,
    rules: String,
    reorg: u64,
}

/// A hard fork: its name in the genesis file and its first block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fork {
    pub(crate) name: String,
    pub(crate) height: u64,
}

/// What the data directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    pub(crate) chain_id: u64,
    pub(crate) genesis_salt: String,
    pub(crate) head: u64,
    /// The fork schedule, as `init` wrote it.
    pub(crate) forks: BTreeMap<String, u64>,
    pub(crate) database_version: u32,
    /// False while a node has the database open: found so at a start, the last stop was unclean.
    pub(crate) clean: bool,
    /// Where the network is, when an order moved it off the pace it had since the genesis.
    pub(crate) network: Option<Anchor>,
    timeline: Vec<Anchor>,
    branches: Vec<Branch>,
    reorgs: u64,
    /// Ranges (inclusive) of blocks without a seal of this validator.
    missed: Vec<(u64, u64)>,
}

impl Chain {
    /// A chain that has only its genesis block, made at `genesis_ms`.
    pub(crate) fn new(chain_id: u64, genesis_salt: &str, genesis_ms: u64, step_ms: u64) -> Self {
        Self {
            chain_id,
            genesis_salt: genesis_salt.to_owned(),
            head: 0,
            forks: BTreeMap::new(),
            database_version: 0,
            clean: true,
            network: None,
            timeline: vec![Anchor { height: 0, at_ms: genesis_ms, step_ms }],
            branches: Vec::new(),
            reorgs: 0,
            missed: Vec::new(),
        }
    }

    /// The hash of block `height`, whether or not the chain has come so far.
    pub(crate) fn hash(&self, height: u64) -> Hash {
        let mut sum = Sha256::new();
        sum.update(self.chain_id.to_be_bytes());
        sum.update(self.genesis_salt.as_bytes());
        let mask: Hash = sum.clone().chain_update("numbers").finalize().into();
        if let Some(branch) = self.branch_of(height) {
            sum.update(branch.rules.as_bytes());
            sum.update(branch.reorg.to_be_bytes());
        }
        let mut hash: Hash = sum.chain_update("block").chain_update(height.to_be_bytes()).finalize().into();
        // The number is hidden in the last bytes, so that a block is found by its hash without a search.
        for (byte, (number, mask)) in hash[24..].iter_mut().zip(height.to_be_bytes().into_iter().zip(mask)) {
            *byte = number ^ mask;
        }
        hash
    }

    /// The number of the block with this hash, if it is on the chain.
    pub(crate) fn find(&self, hash: &Hash) -> Option<u64> {
        let zero = self.hash(0);
        let mut number = [0; 8];
        for (i, byte) in number.iter_mut().enumerate() {
            *byte = hash[24 + i] ^ zero[24 + i];
        }
        let height = u64::from_be_bytes(number);
        (height <= self.head && self.hash(height) == *hash).then_some(height)
    }

    /// When block `height` was or will be made, in milliseconds since the epoch.
    pub(crate) fn time_of(&self, height: u64) -> u64 {
        let after = self.timeline.partition_point(|anchor| anchor.height <= height);
        self.timeline[after.saturating_sub(1)].time_of(height)
    }

    /// Where the network is that this chain belongs to, when it makes a block every `step_ms`.
    pub(crate) fn network(&self, step_ms: u64) -> Anchor {
        self.network.unwrap_or(Anchor { step_ms, ..self.timeline[0] })
    }

    /// Adds the blocks up to `target` (at most 2^64−1), the new ones at the times of `pace`, under the rules of
    /// those `forks` that have begun.
    pub(crate) fn extend(&mut self, target: u64, pace: Anchor, forks: &[Fork]) {
        if target <= self.head {
            return;
        }
        let first = self.head + 1;
        let off = self.time_of(target).abs_diff(pace.time_of(target));
        if off > pace.step_ms / 2 {
            self.timeline.push(Anchor { height: first, at_ms: pace.time_of(first), step_ms: pace.step_ms });
            if self.timeline.len() > KEPT {
                self.timeline.remove(1);
            }
        }
        let mut changes: Vec<u64> =
            forks.iter().map(|fork| fork.height).filter(|&h| h > first && h <= target).collect();
        changes.push(first);
        changes.sort_unstable();
        for from in changes {
            self.branch_at(from, &rules_at(from, forks));
        }
        self.head = target;
    }

    /// Adds `count` blocks between the head's time and `now_ms`: a burst.
    pub(crate) fn burst(&mut self, count: u64, now_ms: u64, forks: &[Fork]) {
        if count == 0 || self.head == u64::MAX {
            return;
        }
        let target = self.head.saturating_add(count);
        let step_ms = now_ms.saturating_sub(self.time_of(self.head)) / count;
        let at_ms = now_ms.saturating_sub(step_ms.saturating_mul(target - self.head - 1));
        self.extend(target, Anchor { height: self.head + 1, at_ms, step_ms }, forks);
    }

    /// Drops the blocks above `height`. Made again, they get the same hashes.
    pub(crate) fn rewind(&mut self, height: u64) {
        if height >= self.head {
            return;
        }
        self.head = height;
        self.timeline.retain(|anchor| anchor.height <= height);
        self.branches.retain(|branch| branch.from <= height);
        self.missed.retain_mut(|(from, to)| {
            *to = (*to).min(height);
            from <= to
        });
    }

    /// Drops `depth` blocks. What is made in their place has other hashes.
    pub(crate) fn reorganise(&mut self, depth: u64) {
        self.rewind(self.head.saturating_sub(depth));
        self.part();
    }

    /// Makes every block after the head one of another chain.
    pub(crate) fn part(&mut self) {
        self.reorgs += 1;
        let rules = self.branches.last().map(|branch| branch.rules.clone()).unwrap_or_default();
        self.branches.push(Branch { from: self.head.saturating_add(1), rules, reorg: self.reorgs });
    }

    /// Notes that this validator's seal is not in the blocks `from..=to`.
    pub(crate) fn miss(&mut self, from: u64, to: u64) {
        match self.missed.last_mut() {
            Some(last) if last.1.saturating_add(1) == from => last.1 = to,
            _ => self.missed.push((from, to)),
        }
        if self.missed.len() > KEPT {
            self.missed.remove(0);
        }
    }

    /// Whether this validator sealed block `height`.
    pub(crate) fn sealed(&self, height: u64) -> bool {
        height > 0 && !self.missed.iter().any(|&(from, to)| (from..=to).contains(&height))
    }

    fn branch_of(&self, height: u64) -> Option<&Branch> {
        self.branches.iter().rev().find(|branch| branch.from <= height)
    }

    fn branch_at(&mut self, from: u64, rules: &str) {
        let (old, reorg) =
            self.branch_of(from).map_or(("", 0), |branch| (branch.rules.as_str(), branch.reorg));
        if old != rules {
            self.branches.push(Branch { from, rules: rules.to_owned(), reorg });
        }
    }
}

/// The names of the forks that have begun at `height`, sorted, as one text.
fn rules_at(height: u64, forks: &[Fork]) -> String {
    let mut names: Vec<&str> =
        forks.iter().filter(|fork| fork.height <= height).map(|fork| fork.name.as_str()).collect();
    names.sort_unstable();
    names.join("+")
}

/// `0x` and the bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Anchor {
        Anchor { height: 0, at_ms: 1_000_000, step_ms: 1000 }
    }

    fn chain() -> Chain {
        Chain::new(1112, "salt", 1_000_000, 1000)
    }

    fn fork(height: u64) -> Fork {
        Fork { name: "croissantBlock".to_owned(), height }
    }

    #[test]
    fn two_nodes_of_one_network_agree_however_they_got_there() {
        let (mut by_one, mut at_once) = (chain(), chain());
        for height in 1..=30 {
            by_one.extend(height, pace(), &[fork(20)]);
        }
        at_once.extend(30, pace(), &[fork(20)]);
        assert_eq!(by_one, at_once);
        assert_eq!(by_one.time_of(30), 1_030_000);
    }

    #[test]
    fn the_rules_change_the_hashes_from_the_fork_on_only() {
        let (mut with, mut without) = (chain(), chain());
        with.extend(30, pace(), &[fork(20)]);
        without.extend(30, pace(), &[]);
        assert_eq!(with.hash(19), without.hash(19));
        assert_ne!(with.hash(20), without.hash(20));
        assert_eq!(with.hash(0), without.hash(0));
    }

    #[test]
    fn a_rewind_gives_the_old_hashes_back_and_a_reorganisation_new_ones() {
        let mut one = chain();
        one.extend(30, pace(), &[fork(20)]);
        let before = one.clone();
        one.rewind(10);
        assert_eq!(one.head, 10);
        one.extend(30, pace(), &[fork(20)]);
        assert_eq!(one, before);
        one.reorganise(3);
        assert_eq!(one.head, 27);
        one.extend(30, pace(), &[fork(20)]);
        assert_eq!(one.hash(27), before.hash(27));
        assert_ne!(one.hash(28), before.hash(28));
        let first = one.hash(28);
        one.reorganise(5);
        one.extend(30, pace(), &[fork(20)]);
        assert_ne!(one.hash(28), first);
    }

    #[test]
    fn a_block_is_found_by_its_hash() {
        let mut one = chain();
        one.extend(u64::MAX, pace(), &[]);
        for height in [0, 1, 255, 256, i64::MAX as u64, u64::MAX] {
            assert_eq!(one.find(&one.hash(height)), Some(height));
        }
        let mut other = one.hash(5);
        other[0] ^= 1;
        assert_eq!(one.find(&other), None);
        one.rewind(4);
        assert_eq!(one.find(&one.hash(5)), None);
    }

    #[test]
    fn a_burst_ends_now_and_time_never_goes_back() {
        let mut one = chain();
        one.extend(3, pace(), &[]);
        one.burst(7, 1_010_000, &[]);
        assert_eq!((one.head, one.time_of(10)), (10, 1_010_000));
        let times: Vec<u64> = (0..=10).map(|height| one.time_of(height)).collect();
        assert!(times.is_sorted(), "{times:?}");
        one.burst(u64::MAX, 1_011_000, &[]);
        assert_eq!((one.head, one.time_of(u64::MAX)), (u64::MAX, 1_011_000));
    }

    #[test]
    fn missed_blocks_are_remembered_in_ranges() {
        let mut one = chain();
        one.extend(30, pace(), &[]);
        one.miss(5, 9);
        one.miss(10, 12);
        assert_eq!(one.missed, [(5, 12)]);
        assert!(one.sealed(4) && !one.sealed(5) && !one.sealed(12) && one.sealed(13));
        one.rewind(7);
        assert_eq!(one.missed, [(5, 7)]);
    }
}
