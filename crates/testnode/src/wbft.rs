//! Who sealed which block, and the `istanbul_*` answers about it (shapes: go-wbft consensus/wbft/backend/api.go).
//!
//! Validator `n mod N` proposes block n. A block holds the seals of the first quorum; those that came later are in
//! the next block's `prevCommittedSeal`. All validators but this one always seal; this one did unless the chain
//! remembers that it missed the block.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::chain::{Chain, hex};
use crate::header::quantity;
use crate::node::Node;

/// The most blocks that `istanbul_status` looks at.
const STATUS_LIMIT: u64 = 1024;
/// The blocks that `istanbul_status` looks at when it is not told.
const STATUS_DEFAULT: u64 = 64;

/// The validators and their seals.
pub(crate) struct Seals<'a> {
    node: &'a Node,
    chain: &'a Chain,
    count: u64,
    own: u64,
}

impl<'a> Seals<'a> {
    /// The seals of `chain`.
    pub(crate) fn of(node: &'a Node, chain: &'a Chain) -> Self {
        let count = node.flags.program.validators;
        Self { node, chain, count, own: node.flags.program.validator_index }
    }

    /// The proposer of block `height`: the next one when it would be this node and this node was away.
    pub(crate) fn author(&self, height: u64) -> Value {
        self.order(height).first().copied().map_or(json!(address(0)), |index| address(index).into())
    }

    /// Who sealed block `height`, in the order in which the seals came.
    fn order(&self, height: u64) -> Vec<u64> {
        (0..self.count)
            .map(|turn| (height % self.count + turn) % self.count)
            .filter(|&index| index != self.own || self.chain.sealed(height))
            .collect()
    }

    /// The first quorum: ceil(2N/3).
    fn first_quorum(&self, height: u64) -> Vec<u64> {
        let quorum = (2 * self.count).div_ceil(3);
        let mut order = self.order(height);
        order.truncate(usize::try_from(quorum).unwrap_or(usize::MAX));
        order
    }

    /// This node's address.
    pub(crate) fn node_address(&self) -> Value {
        address(self.own).into()
    }

    /// All validators, sorted.
    pub(crate) fn validators(&self) -> Value {
        let mut all: Vec<String> = (0..self.count).map(address).collect();
        all.sort_unstable();
        all.into()
    }

    /// Whether this node is one of them.
    pub(crate) fn is_validator(&self) -> Value {
        (self.own < self.count).into()
    }

    /// `istanbul_getCommitSignersFromBlock`.
    pub(crate) fn commit_signers(&self, height: u64) -> Value {
        json!({
            "Number": height, "Hash": hex(&self.chain.hash(height)), "Author": self.author(height),
            "Committers": addresses(&self.first_quorum(height)),
        })
    }

    /// `istanbul_getWbftExtraInfo`.
    pub(crate) fn extra_info(&self, height: u64) -> Value {
        let seal = |sealers: &[u64]| json!({"sealers": addresses(sealers), "signature": hex(&[7; 96])});
        let before = height.checked_sub(1).filter(|&before| before > 0);
        let late = before.map_or(Value::Null, |before| seal(&self.order(before)));
        json!({
            "vanityData": format!("[version: v{}, client: testnode, go: rust, os: linux]", self.node.flags.program.as_version),
            "randaoReveal": hex(&[7; 96]), "prevRound": "0x0", "prevPreparedSeal": late, "prevCommittedSeal": late,
            "round": "0x0", "preparedSeal": seal(&self.first_quorum(height)),
            "committedSeal": seal(&self.first_quorum(height)), "epochInfo": null,
        })
    }

    /// `istanbul_status` over the blocks `range`, or the last 64.
    pub(crate) fn status(&self, range: Option<(u64, u64)>) -> Result<Value, String> {
        let head = self.chain.head;
        let (start, end) = range.unwrap_or((head.saturating_sub(STATUS_DEFAULT).max(1), head));
        if start > end {
            return Err("start block number should be less than end block number".to_owned());
        }
        if end > head {
            return Err("end block number should be less than or equal to current block height".to_owned());
        }
        if end - start >= STATUS_LIMIT {
            return Err(format!("block range too large: at most {STATUS_LIMIT} blocks"));
        }
        let mut counts = vec![[0_u64; 3]; usize::try_from(self.count).unwrap_or(0)];
        let mut add = |index: u64, column: usize| {
            if let Some(row) = usize::try_from(index).ok().and_then(|index| counts.get_mut(index)) {
                row[column] += 1;
            }
        };
        for height in start.max(1)..=end {
            self.first_quorum(height).into_iter().for_each(|index| add(index, 0));
            if height > 1 {
                self.order(height - 1).into_iter().for_each(|index| add(index, 1));
            }
            self.order(height).first().into_iter().for_each(|&index| add(index, 2));
        }
        let column = |column: usize| -> Map<String, Value> {
            (0..self.count).zip(&counts).map(|(index, row)| (address(index), row[column].into())).collect()
        };
        let blocks = end - start.max(1).min(end) + 1;
        Ok(json!({
            "sealerActivity": {
                "total": blocks, "prepared": column(0), "committed": column(0),
                "prevPrepared": column(1), "prevCommitted": column(1),
            },
            "author": column(2),
            "blockRange": {"startBlock": start, "endBlock": end, "totalBlocks": blocks},
            "roundStats": {"roundDistribution": {"0": blocks}},
        }))
    }
}

/// The address of validator `index`: the same on every node.
fn address(index: u64) -> String {
    let sum: [u8; 32] = Sha256::digest([b"validator".as_slice(), &index.to_be_bytes()].concat()).into();
    hex(&sum[..20])
}

fn addresses(indices: &[u64]) -> Vec<String> {
    indices.iter().map(|&index| address(index)).collect()
}

/// The names of a go-wemix chain's members; the first is this node.
pub(crate) const MEMBERS: [&str; 3] = ["wemix1", "wemix2", "wemix3"];

/// Who makes the block after the head of a go-wemix chain: the members in turn, none twice in a row.
fn miner(chain: &Chain) -> &'static str {
    MEMBERS[usize::try_from(chain.head % 3).unwrap_or(0)]
}

/// `debug_etcdGet("token")`: who holds the mining token, as JSON in a text.
pub(crate) fn token(chain: &Chain) -> Value {
    json!({"miner": miner(chain), "height": chain.head + 1}).to_string().into()
}

/// `admin_wemixInfo` (shape: go-wemix wemix/admin.go, `Info`).
pub(crate) fn wemix_info(node: &Node, chain: &Chain) -> Value {
    let member =
        |name: &&str| json!({"name": name, "status": "up", "miner": *name == miner(chain), "port": 8589});
    let nodes: Vec<Value> = MEMBERS.iter().map(member).collect();
    let miners: Vec<String> = MEMBERS
        .iter()
        .map(|name| format!("{name}/up{}", if *name == miner(chain) { "/*" } else { "" }))
        .collect();
    let members: Vec<Value> = MEMBERS.iter().map(|name| json!({"name": name})).collect();
    json!({
        "consensus": 2, "blocksPer": 1, "blockInterval": 1, "modifiedblock": quantity(0),
        "self": nodes[0], "nodes": nodes, "miners": miners.join(" "),
        "etcd": {"members": members, "self": {"name": MEMBERS[0]}, "leader": {"name": *node.leader.borrow()}},
    })
}
