//! A block as JSON-RPC shows it.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::chain::{Chain, hex};
use crate::node::Node;

/// The hash of an empty list of uncles, as every block of these chains has it.
const NO_UNCLES: &str = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347";
/// The root of an empty trie: no transactions, no receipts.
const EMPTY_ROOT: &str = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";

/// A number in JSON-RPC's hex.
pub(crate) fn quantity(number: u64) -> Value {
    format!("{number:#x}").into()
}

/// The header of block `height`, without the list of transactions.
pub(crate) fn header(node: &Node, chain: &Chain, height: u64) -> Value {
    let parent = if height == 0 { [0; 32] } else { chain.hash(height - 1) };
    let state: [u8; 32] = Sha256::digest([b"state".as_slice(), &chain.hash(height)].concat()).into();
    json!({
        "number": quantity(height),
        "hash": hex(&chain.hash(height)),
        "parentHash": hex(&parent),
        "nonce": "0x0000000000000000",
        "mixHash": hex(&[0; 32]),
        "sha3Uncles": NO_UNCLES,
        "logsBloom": hex(&[0; 256]),
        "transactionsRoot": EMPTY_ROOT,
        "stateRoot": hex(&state),
        "receiptsRoot": EMPTY_ROOT,
        "miner": crate::wbft::Seals::of(node, chain).author(height),
        "difficulty": "0x1",
        "totalDifficulty": quantity(height.saturating_add(1)),
        "extraData": hex(&[0; 32]),
        "size": "0x2a5",
        "gasLimit": "0x6422c40",
        "gasUsed": "0x0",
        "baseFeePerGas": "0x174876e800",
        "timestamp": quantity(chain.time_of(height) / 1000),
    })
}

/// Block `height` in full: its header and its (no) transactions.
pub(crate) fn block(node: &Node, chain: &Chain, height: u64) -> Value {
    let mut block = header(node, chain, height);
    block["transactions"] = json!([]);
    block["uncles"] = json!([]);
    block
}
