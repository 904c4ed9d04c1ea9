//! JSON-RPC: requests, batches, and the methods.

use serde_json::{Value, json};

use crate::chain::{Chain, Hash, hex};
use crate::faults::WrongAnswer;
use crate::header::{block, quantity};
use crate::node::Node;
use crate::wbft::{self, Seals};

/// The size of the result that is too big.
const HUGE: usize = 10_000_000;
const PAGE: &str =
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>\n";

/// Which methods are served: by namespace over HTTP and WebSocket, all of them over IPC.
#[derive(Debug, Clone)]
pub(crate) enum Served {
    /// These namespaces.
    Namespaces(Vec<String>),
    /// All.
    All,
}

impl Served {
    /// Reads `eth,net,web3`.
    pub(crate) fn list(text: &str) -> Self {
        Self::Namespaces(text.split(',').map(|name| name.trim().to_owned()).collect())
    }

    fn has(&self, method: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => {
                let namespace = method.split('_').next().unwrap_or_default();
                names.iter().any(|name| name == namespace)
            }
        }
    }
}

/// What one connection may do and has asked for.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) served: Served,
    /// The ids of its subscriptions to heads; `None` where there are none (HTTP).
    pub(crate) subscriptions: Option<Vec<String>>,
}

/// What goes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// JSON.
    Json(String),
    /// A web page.
    Html(String),
    /// Nothing: the request was a notification, or the fault says so.
    Nothing,
}

/// A JSON-RPC error.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    code: i64,
    message: String,
}

fn refused(code: i64, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into() }
}

/// Answers a request or a batch, or shows the fault that is on.
pub(crate) async fn respond(node: &Node, session: &mut Session, body: &[u8]) -> Reply {
    if node.faults().rpc_hang {
        std::future::pending::<()>().await;
    }
    let fault = node.faults().rpc_fault.clone();
    match fault {
        Some(WrongAnswer::Html) => return Reply::Html(PAGE.to_owned()),
        Some(WrongAnswer::Empty) => return Reply::Nothing,
        Some(WrongAnswer::Slow(span)) => tokio::time::sleep(span.0).await,
        _ => {}
    }
    let reply = match serde_json::from_slice(body) {
        Err(_) => Some(envelope(Value::Null, Err(refused(-32700, "parse error")))),
        Ok(Value::Array(batch)) if batch.is_empty() => {
            Some(envelope(Value::Null, Err(refused(-32600, "empty batch"))))
        }
        Ok(Value::Array(batch)) => {
            let replies: Vec<Value> =
                batch.into_iter().filter_map(|one| single(node, session, one)).collect();
            (!replies.is_empty()).then_some(Value::Array(replies))
        }
        Ok(one) => single(node, session, one),
    };
    reply.map_or(Reply::Nothing, |reply| Reply::Json(reply.to_string()))
}

fn single(node: &Node, session: &mut Session, request: Value) -> Option<Value> {
    let Some(method) = request.get("method").and_then(Value::as_str) else {
        return Some(envelope(Value::Null, Err(refused(-32600, "invalid request"))));
    };
    *node.requests.borrow_mut().entry(method.to_owned()).or_default() += 1;
    let id = request.get("id")?.clone();
    let wrong = match &node.faults().rpc_fault {
        Some(WrongAnswer::Error) => Some(Err(refused(-32000, "the node is not ready"))),
        Some(WrongAnswer::Huge) => Some(Ok(format!("0x{}", "f".repeat(HUGE)).into())),
        Some(WrongAnswer::Nonsense) => Some(Ok("0xnonsense".into())),
        _ => None,
    };
    let none = Value::Array(Vec::new());
    let params = request.get("params").filter(|params| !params.is_null()).unwrap_or(&none);
    Some(envelope(id, wrong.unwrap_or_else(|| call(node, session, method, params))))
}

fn envelope(id: Value, result: Result<Value, Refused>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Refused { code, message }) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}

fn call(node: &Node, session: &mut Session, method: &str, params: &Value) -> Result<Value, Refused> {
    let unknown = || refused(-32601, format!("the method {method} does not exist/is not available"));
    if !session.served.has(method) || node.faults().no_method.iter().any(|gone| gone == method) {
        return Err(unknown());
    }
    let chain = node.seen();
    let params = Params { chain: &chain, list: params.as_array().map_or(&[], Vec::as_slice) };
    match method.split_once('_').map(|(namespace, _)| namespace) {
        Some("istanbul") if node.flags.program.validator => istanbul(node, &chain, method, &params),
        Some("istanbul") => None,
        Some("admin" | "debug") => private(node, &chain, method, &params),
        _ => public(node, session, &chain, method, &params),
    }
    .unwrap_or_else(|| Err(unknown()))
}

type Answer = Option<Result<Value, Refused>>;

fn public(node: &Node, session: &mut Session, chain: &Chain, method: &str, params: &Params<'_>) -> Answer {
    let chain_id = node.faults().answer_chain_id.unwrap_or(chain.chain_id);
    Some(Ok(match method {
        "eth_blockNumber" => quantity(chain.head),
        "eth_getBlockByNumber" => match params.height(0) {
            Ok(height) => height.map_or(Value::Null, |height| block(node, chain, height)),
            Err(error) => return Some(Err(error)),
        },
        "eth_getBlockByHash" => match params.hash(0) {
            Ok(hash) => chain.find(&hash).map_or(Value::Null, |height| block(node, chain, height)),
            Err(error) => return Some(Err(error)),
        },
        "eth_syncing" if node.faults().syncing => json!({
            "startingBlock": "0x0", "currentBlock": quantity(chain.head),
            "highestBlock": quantity(chain.head.saturating_add(1000)),
        }),
        "eth_syncing" => false.into(),
        "eth_mining" => {
            (node.flags.program.validator || node.flags.program.wemix || !node.around.follows).into()
        }
        "eth_chainId" => quantity(chain_id),
        "net_version" => chain_id.to_string().into(),
        "net_listening" => true.into(),
        "net_peerCount" => quantity(node.peers()),
        "web3_clientVersion" => {
            node.faults().client_version.clone().unwrap_or_else(|| node.flags.client_version()).into()
        }
        "eth_subscribe" => return Some(subscribe(node, session, params)),
        "eth_unsubscribe" => return Some(unsubscribe(node, session, params)),
        _ => return None,
    }))
}

fn subscribe(node: &Node, session: &mut Session, params: &Params<'_>) -> Result<Value, Refused> {
    let Some(subscriptions) = &mut session.subscriptions else {
        return Err(refused(-32000, "notifications not supported"));
    };
    match params.list.first().and_then(Value::as_str) {
        Some("newHeads") => {
            let number = node.subscriptions.get() + 1;
            node.subscriptions.set(number);
            let id = format!("{:#034x}", 0x9c_u128 << 112 | u128::from(number));
            subscriptions.push(id.clone());
            Ok(id.into())
        }
        Some(other) => Err(refused(-32601, format!("no \"{other}\" subscription in eth namespace"))),
        None => Err(refused(-32602, "missing value for required argument 0")),
    }
}

fn unsubscribe(_: &Node, session: &mut Session, params: &Params<'_>) -> Result<Value, Refused> {
    let id = params.list.first().and_then(Value::as_str).unwrap_or_default();
    let found = session.subscriptions.as_mut().and_then(|all| {
        let at = all.iter().position(|one| one == id)?;
        Some(all.remove(at))
    });
    found.map(|_| true.into()).ok_or_else(|| refused(-32000, "subscription not found"))
}

fn private(node: &Node, chain: &Chain, method: &str, params: &Params<'_>) -> Answer {
    let wemix = node.flags.program.wemix;
    Some(Ok(match method {
        "admin_nodeInfo" => node_info(node, chain),
        "admin_peers" => peers(node),
        "debug_getBadBlocks" if node.stuck() || node.faults().bad_block => {
            let height = chain.head.saturating_add(1);
            let hash = hex(&chain.hash(height));
            json!([{"hash": hash, "block": {"number": quantity(height), "hash": hash}, "rlp": "0x"}])
        }
        "debug_getBadBlocks" => json!([]),
        "debug_setHead" => match params.height(0) {
            Ok(height) => {
                node.order(|chain, _, _| chain.rewind(height.unwrap_or(chain.head)));
                Value::Null
            }
            Err(error) => return Some(Err(error)),
        },
        "admin_wemixInfo" if wemix => wbft::wemix_info(node, chain),
        "admin_etcdMoveLeader" if wemix => match params.list.first().and_then(Value::as_str) {
            Some(name) if wbft::MEMBERS.contains(&name) => {
                node.leader.replace(name.to_owned());
                node.journal.fact("etcd-leader", json!({"name": name}));
                Value::Null
            }
            _ => return Some(Err(refused(-32000, "not found"))),
        },
        "debug_etcdGet" if wemix => match params.list.first().and_then(Value::as_str) {
            Some("token") => wbft::token(chain),
            _ => return Some(Err(refused(-32000, "not found"))),
        },
        _ => return None,
    }))
}

fn istanbul(node: &Node, chain: &Chain, method: &str, params: &Params<'_>) -> Answer {
    let seals = Seals::of(node, chain);
    let at = |number: usize, answer: &dyn Fn(u64) -> Value| match params.height(number) {
        Ok(Some(height)) => Ok(answer(height)),
        Ok(None) => Err(refused(-32000, "unknown block")),
        Err(error) => Err(error),
    };
    let by_hash = |answer: &dyn Fn(u64) -> Value| {
        let height = params.hash(0).map(|hash| chain.find(&hash))?;
        height.map(answer).ok_or_else(|| refused(-32000, "unknown block"))
    };
    Some(match method {
        "istanbul_nodeAddress" => Ok(seals.node_address()),
        "istanbul_getValidators" => at(0, &|_| seals.validators()),
        "istanbul_getValidatorsAtHash" => by_hash(&|_| seals.validators()),
        "istanbul_isValidator" => at(0, &|_| seals.is_validator()),
        "istanbul_getCommitSignersFromBlock" => at(0, &|height| seals.commit_signers(height)),
        "istanbul_getCommitSignersFromBlockByHash" => by_hash(&|height| seals.commit_signers(height)),
        // The real one takes a number only: a tag is read as a block that does not exist.
        "istanbul_getWbftExtraInfo" => match params.number(0) {
            Some(height) if height <= chain.head => Ok(seals.extra_info(height)),
            Some(height) => Err(refused(-32000, format!("block {height} not found"))),
            None => Err(refused(-32000, "block is not a wbft block")),
        },
        "istanbul_status" => match (params.list.first(), params.list.get(1)) {
            (None | Some(Value::Null), None | Some(Value::Null)) => seals.status(None),
            (Some(_), None) => Err("pass the end block number".to_owned()),
            _ => match (params.height(0), params.height(1)) {
                (Ok(Some(start)), Ok(Some(end))) => seals.status(Some((start, end))),
                _ => Err("end block number should be less than or equal to current block height".to_owned()),
            },
        }
        .map_err(|message| refused(-32000, message)),
        _ => return None,
    })
}

fn node_info(node: &Node, chain: &Chain) -> Value {
    let mut config = json!({"chainId": chain.chain_id});
    for fork in &node.forks {
        config[&fork.name] = fork.height.into();
    }
    let id = hex(&chain.hash(0))[2..].to_owned();
    json!({
        "id": id, "name": node.flags.client_version(), "enode": format!("enode://{id}{id}@127.0.0.1:30303"),
        "ip": "127.0.0.1", "ports": {"discovery": 30303, "listener": 30303}, "listenAddr": "[::]:30303",
        "protocols": {"eth": {
            "network": chain.chain_id, "difficulty": chain.head.saturating_add(1), "genesis": hex(&chain.hash(0)),
            "config": config, "head": hex(&chain.hash(chain.head)),
        }},
    })
}

fn peers(node: &Node) -> Value {
    let name = node.faults().peer_version.clone().unwrap_or_else(|| node.flags.client_version());
    let peer = |number: u64| {
        json!({
            "id": format!("{number:064x}"), "name": name, "caps": ["eth/68"],
            "network": {"localAddress": "127.0.0.1:30303", "remoteAddress": format!("127.0.0.1:{}", 40_000 + number % 1000)},
            "protocols": {"eth": {"version": 68}},
        })
    };
    (0..node.peers()).map(peer).collect()
}

/// The parameters of a call.
struct Params<'a> {
    chain: &'a Chain,
    list: &'a [Value],
}

impl Params<'_> {
    /// The block at `index`: a number, a tag, or nothing for the latest; `None` when the chain has no such block.
    fn height(&self, index: usize) -> Result<Option<u64>, Refused> {
        match self.list.get(index) {
            None | Some(Value::Null) => Ok(Some(self.chain.head)),
            Some(Value::String(tag)) => match tag.as_str() {
                "latest" | "pending" | "safe" | "finalized" => Ok(Some(self.chain.head)),
                "earliest" => Ok(Some(0)),
                _ => match self.number(index) {
                    Some(height) => Ok((height <= self.chain.head).then_some(height)),
                    None => Err(refused(-32602, format!("invalid argument {index}: hex string expected"))),
                },
            },
            Some(_) => Err(refused(-32602, format!("invalid argument {index}: cannot unmarshal"))),
        }
    }

    fn number(&self, index: usize) -> Option<u64> {
        let digits = self.list.get(index)?.as_str()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    }

    fn hash(&self, index: usize) -> Result<Hash, Refused> {
        let wrong = || refused(-32602, format!("invalid argument {index}: not a hash"));
        let digits = self.list.get(index).and_then(Value::as_str).and_then(|text| text.strip_prefix("0x"));
        let digits = digits.filter(|digits| digits.len() == 64 && digits.is_ascii()).ok_or_else(wrong)?;
        let mut hash = [0; 32];
        for (i, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(hash)
    }
}
