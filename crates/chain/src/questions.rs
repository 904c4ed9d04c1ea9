//! The questions that the supervisor asks, with answers of their own types (NODES.md sections 4–6).
//!
//! Every question has a time limit of its own, and fails rather than guess: an answer of another shape is
//! [`RpcError::Malformed`].

use std::time::Duration;

use serde_json::{Value, json};
use wemixvisor_core::head::{BlockHash, Head, Height};

use crate::client::{Client, RpcError};
use crate::quantity::quantity;

impl Client {
    /// The height of the newest block (`eth_blockNumber`).
    pub async fn block_number(&self, limit: Duration) -> Result<Height, RpcError> {
        self.number("eth_blockNumber", limit).await
    }

    /// The newest block with its hash and time (`eth_getBlockByNumber("latest")`).
    pub async fn head(&self, limit: Duration) -> Result<Head, RpcError> {
        let method = "eth_getBlockByNumber";
        let block = self.call(method, json!(["latest", false]), limit).await?;
        head_of(&block).ok_or_else(|| self.wrong_shape(method, &block))
    }

    /// The hash of the block at `height`; `None` when the node has no such block.
    pub async fn block_hash(&self, height: Height, limit: Duration) -> Result<Option<BlockHash>, RpcError> {
        let method = "eth_getBlockByNumber";
        let block = self.call(method, json!([format!("{height:#x}"), false]), limit).await?;
        if block.is_null() {
            return Ok(None);
        }
        match head_of(&block) {
            Some(head) if head.height == height && head.hash.is_some() => Ok(head.hash),
            _ => Err(self.wrong_shape(method, &block)),
        }
    }

    /// The chain's id (`eth_chainId`).
    pub async fn chain_id(&self, limit: Duration) -> Result<u64, RpcError> {
        self.number("eth_chainId", limit).await
    }

    /// Which program answers (`web3_clientVersion`).
    pub async fn client_version(&self, limit: Duration) -> Result<String, RpcError> {
        self.text("web3_clientVersion", limit).await
    }

    /// The number of peers (`net_peerCount`).
    pub async fn peer_count(&self, limit: Duration) -> Result<u64, RpcError> {
        self.number("net_peerCount", limit).await
    }

    /// Whether the node says that it is catching up (`eth_syncing`). `false` proves nothing: it is also said
    /// before the catching-up begins.
    pub async fn syncing(&self, limit: Duration) -> Result<bool, RpcError> {
        let method = "eth_syncing";
        match self.call(method, json!([]), limit).await? {
            Value::Bool(syncing) => Ok(syncing),
            Value::Object(_) => Ok(true),
            other => Err(self.wrong_shape(method, &other)),
        }
    }

    /// Whether a WBFT node is one of the validators (`istanbul_isValidator`).
    pub async fn is_validator(&self, limit: Duration) -> Result<bool, RpcError> {
        let method = "istanbul_isValidator";
        let answer = self.call(method, json!([]), limit).await?;
        answer.as_bool().ok_or_else(|| self.wrong_shape(method, &answer))
    }

    /// The address with which a WBFT node signs (`istanbul_nodeAddress`).
    pub async fn node_address(&self, limit: Duration) -> Result<String, RpcError> {
        self.text("istanbul_nodeAddress", limit).await
    }

    /// Whether `address` has sealed the WBFT block at `height`: in its own commit seals, which hold only the first
    /// quorum, or in the late ones that the block after it carries. That block must be there already.
    pub async fn has_sealed(&self, address: &str, height: Height, limit: Duration) -> Result<bool, RpcError> {
        let method = "istanbul_getCommitSignersFromBlock";
        let signers = self.call(method, json!([format!("{height:#x}")]), limit).await?;
        let committers = signers.get("Committers").filter(|list| list.is_array());
        if names(committers.ok_or_else(|| self.wrong_shape(method, &signers))?, address) {
            return Ok(true);
        }
        // Takes a number only: "latest" is not found (NODES.md section 5).
        let method = "istanbul_getWbftExtraInfo";
        let extra = self.call(method, json!([format!("{:#x}", height.saturating_add(1))]), limit).await?;
        // `null` when there were no late seals.
        let late = extra.get("prevCommittedSeal").ok_or_else(|| self.wrong_shape(method, &extra))?;
        Ok(names(late, address))
    }

    /// Whether a go-wemix node is the one that makes the next block: the holder of the mining token is itself
    /// (`debug_etcdGet`, `admin_wemixInfo`; Unix socket only). Without an etcd quorum the node takes 7 s for it.
    pub async fn holds_mining_token(&self, limit: Duration) -> Result<bool, RpcError> {
        let method = "debug_etcdGet";
        let token = self.call(method, json!(["token"]), limit).await?;
        // The token is an object, or a text that holds one; empty when nobody has it.
        let token = match &token {
            Value::String(text) if text.is_empty() => Value::Null,
            Value::String(text) => {
                serde_json::from_str(text).map_err(|_| self.wrong_shape(method, &token))?
            }
            _ => token,
        };
        let Some(miner) = token.get("miner").and_then(Value::as_str) else { return Ok(false) };
        let method = "admin_wemixInfo";
        let info = self.call(method, json!([]), limit).await?;
        let name = info.pointer("/self/name").and_then(Value::as_str);
        Ok(name.ok_or_else(|| self.wrong_shape(method, &info))? == miner)
    }

    async fn number(&self, method: &str, limit: Duration) -> Result<u64, RpcError> {
        let answer = self.call(method, json!([]), limit).await?;
        let number = answer.as_str().and_then(|text| quantity(text).ok());
        number.ok_or_else(|| self.wrong_shape(method, &answer))
    }

    async fn text(&self, method: &str, limit: Duration) -> Result<String, RpcError> {
        match self.call(method, json!([]), limit).await? {
            Value::String(text) if !text.is_empty() => Ok(text),
            other => Err(self.wrong_shape(method, &other)),
        }
    }
}

/// The head that a block or a header describes. Hash and time may be missing, but not be nonsense.
pub(crate) fn head_of(block: &Value) -> Option<Head> {
    let number = |name| quantity(block.get(name)?.as_str()?).ok();
    let hash = match block.get("hash") {
        None | Some(Value::Null) => None,
        Some(hash) => Some(hash.as_str()?.parse().ok()?),
    };
    let block_time = match block.get("timestamp") {
        None | Some(Value::Null) => None,
        Some(_) => Some(number("timestamp")?),
    };
    Some(Head { height: number("number")?, hash, block_time })
}

/// Whether `address` occurs anywhere in `list`. Addresses may be written in either case.
fn names(list: &Value, address: &str) -> bool {
    match list {
        Value::String(text) => text.eq_ignore_ascii_case(address),
        Value::Array(items) => items.iter().any(|item| names(item, address)),
        Value::Object(fields) => fields.values().any(|field| names(field, address)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_and_nonsense_is_not() {
        let hash = format!("0x{}", "ab".repeat(32));
        let head =
            head_of(&json!({"number": "0x10", "hash": hash, "timestamp": "0x5", "extra": [1]})).unwrap();
        assert_eq!((head.height, head.hash, head.block_time), (16, hash.parse().ok(), Some(5)));
        assert_eq!(head_of(&json!({"number": "0x10", "hash": null})).unwrap().hash, None);
        for block in [
            json!(null),
            json!("0x10"),
            json!({"number": 16}),
            json!({"number": null, "hash": hash}),
            json!({"number": "nonsense"}),
            json!({"number": "0x10", "hash": "0x12"}),
            json!({"number": "0x10", "timestamp": "soon"}),
        ] {
            assert_eq!(head_of(&block), None, "{block}");
        }
    }

    #[test]
    fn an_address_is_found_in_either_case_and_at_any_depth() {
        let seal = json!({"sealers": ["0xAbCd", "0x12"], "signature": "0xffff"});
        assert!(names(&seal, "0xabCD"));
        assert!(!names(&seal, "0xab"));
        assert!(!names(&Value::Null, "0xab"));
    }
}
