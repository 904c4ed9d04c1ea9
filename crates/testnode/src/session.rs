//! A connection that stays: WebSocket and IPC. Requests come in, answers and heads go out.

use std::io;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::node::Node;
use crate::rpc::{Reply, Served, Session, respond};

/// The most bytes of one request on the IPC socket.
const REQUEST_LIMIT: usize = 5 * 1024 * 1024;

/// The connection, and for IPC what came in and is not yet a whole JSON value.
pub(crate) enum Wire {
    /// A WebSocket after its handshake.
    WebSocket(Box<WebSocketStream<TcpStream>>),
    /// A connection of the IPC socket: JSON values one after another.
    Ipc(UnixStream, Vec<u8>),
}

impl Wire {
    /// The next request; `None` at the end. May be dropped and called again without a loss.
    async fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::WebSocket(stream) => loop {
                match stream.next().await?.ok()? {
                    Message::Text(text) => return Some(text.as_bytes().to_vec()),
                    Message::Binary(bytes) => return Some(bytes.to_vec()),
                    Message::Close(_) => return None,
                    _ => {}
                }
            },
            Self::Ipc(stream, buffer) => loop {
                if let Some(value) = cut(buffer) {
                    return Some(value);
                }
                if buffer.len() > REQUEST_LIMIT || stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            },
        }
    }

    async fn send(&mut self, text: String) -> io::Result<()> {
        match self {
            Self::WebSocket(stream) => stream.send(Message::text(text)).await.map_err(io::Error::other),
            Self::Ipc(stream, _) => stream.write_all(format!("{text}\n").as_bytes()).await,
        }
    }
}

/// Takes the first whole JSON value off the buffer. Bytes that can never become one are taken as a whole, to be
/// answered with a parse error.
fn cut(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut values = serde_json::Deserializer::from_slice(buffer).into_iter::<Value>();
    match values.next()? {
        Ok(_) => {
            let end = values.byte_offset();
            Some(buffer.drain(..end).collect())
        }
        Err(error) if error.is_eof() => None,
        Err(_) => Some(std::mem::take(buffer)),
    }
}

/// Serves the connection until either side ends it.
pub(crate) async fn converse(node: &Node, served: Served, mut wire: Wire) {
    let mut session = Session { served, subscriptions: Some(Vec::new()) };
    let mut heads = node.heads.subscribe();
    let mut sent = 0;
    loop {
        tokio::select! {
            request = wire.next() => {
                let Some(request) = request else { return };
                let text = match respond(node, &mut session, &request).await {
                    Reply::Json(text) | Reply::Html(text) => text,
                    Reply::Nothing => continue,
                };
                if wire.send(text).await.is_err() {
                    return;
                }
            }
            head = heads.recv() => {
                let head = match head {
                    Ok(head) => head,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                if !tell(node, &session, &mut wire, &mut sent, &head).await {
                    return;
                }
            }
        }
    }
}

/// Sends a head to the connection's subscriptions. False: the connection is at its end.
async fn tell(node: &Node, session: &Session, wire: &mut Wire, sent: &mut u64, head: &str) -> bool {
    let (silent, repeat, drop_every) = {
        let faults = node.faults();
        (faults.ws_silent || faults.rpc_hang, faults.ws_repeat, faults.ws_drop_every)
    };
    if silent {
        return true;
    }
    for id in session.subscriptions.iter().flatten() {
        let params = format!(r#"{{"subscription":"{id}","result":{head}}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{params}}}"#);
        if (repeat && wire.send(text.clone()).await.is_err()) || wire.send(text).await.is_err() {
            return false;
        }
        *sent += 1;
        if drop_every.is_some_and(|every| *sent >= every) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_cut_wherever_the_bytes_end() {
        let mut buffer = br#"{"id":1}{"id":2}
[{"id":3}]  {"id":"#
            .to_vec();
        let cut_all = |buffer: &mut Vec<u8>| -> Vec<Value> {
            std::iter::from_fn(|| cut(buffer)).map(|bytes| serde_json::from_slice(&bytes).unwrap()).collect()
        };
        assert_eq!(cut_all(&mut buffer).len(), 3);
        buffer.extend_from_slice(b"4}");
        assert_eq!(cut_all(&mut buffer), [serde_json::json!({"id": 4})]);
        buffer.extend_from_slice(b"no json");
        assert!(cut(&mut buffer).is_some());
        assert!(buffer.is_empty());
    }
}
