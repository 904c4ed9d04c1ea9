//! A `newHeads` subscription: one connection on which the node speaks by itself.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use wemixvisor_core::head::Head;

use crate::connect::connect;
use crate::endpoint::Endpoint;
use crate::link::LinkError;
use crate::message;
use crate::quantity::quantity;
use crate::questions::head_of;
use crate::socket::Socket;

/// An open subscription. Has no replay: what happened before it, or between two of them, must be asked for.
pub(crate) struct Subscription {
    socket: Socket,
    id: Value,
    /// The id of the chain at the other end of this very connection; `None` when the node cannot say.
    pub(crate) chain_id: Option<u64>,
}

impl Subscription {
    /// Connects to `endpoint` and subscribes. `limit` covers all of it. The error is for people.
    pub(crate) async fn open(endpoint: &Endpoint, limit: Duration) -> Result<Self, String> {
        let opened = timeout(limit, Self::subscribe(endpoint)).await;
        opened.map_err(|_| format!("no subscription within {limit:?}"))?
    }

    async fn subscribe(endpoint: &Endpoint) -> Result<Self, String> {
        let stream = connect(endpoint).await.map_err(|error| error.to_string())?;
        let mut socket = match endpoint {
            Endpoint::Ws(address) => Socket::web(stream, address).await.map_err(text)?,
            Endpoint::Ipc(_) => Socket::ipc(stream),
            Endpoint::Http(_) => return Err("HTTP has no subscriptions".into()),
        };
        let chain_id = match ask(&mut socket, 1, "eth_chainId", json!([])).await? {
            Ok(id) => {
                Some(id.as_str().and_then(|id| quantity(id).ok()).ok_or("a chain id that is no number")?)
            }
            Err(error) if error.code == message::METHOD_NOT_FOUND => None,
            Err(error) => return Err(format!("eth_chainId: {}", error.message)),
        };
        match ask(&mut socket, 2, "eth_subscribe", json!(["newHeads"])).await? {
            Ok(id) if !id.is_null() => Ok(Self { socket, id, chain_id }),
            Ok(_) => Err("a subscription without an id".into()),
            Err(error) => Err(format!("eth_subscribe: {}", error.message)),
        }
    }

    /// The next head. May be dropped and called again without losing anything. The error is for people.
    pub(crate) async fn next(&mut self) -> Result<Head, String> {
        loop {
            let message = self.socket.next().await.map_err(text)?;
            let wrong = || text(LinkError::malformed(&message));
            let notification: Value = serde_json::from_slice(&message).map_err(|_| wrong())?;
            if notification.pointer("/params/subscription") == Some(&self.id) {
                return notification.pointer("/params/result").and_then(head_of).ok_or_else(wrong);
            }
        }
    }
}

/// Asks on a connection to which nothing is subscribed yet: the next message is the answer.
async fn ask(socket: &mut Socket, id: u64, method: &str, params: Value) -> Result<message::Answer, String> {
    socket.send(&message::question(id, method, &params)).await.map_err(text)?;
    message::answer(&socket.next().await.map_err(text)?, id).map_err(text)
}

fn text(error: LinkError) -> String {
    match error {
        LinkError::Broken(error) => error.to_string(),
        LinkError::TooLarge => "a message that is too large".into(),
        LinkError::Malformed(found) => format!("something else than JSON-RPC: {found}"),
    }
}
