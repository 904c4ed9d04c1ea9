//! Messages over a WebSocket or a Unix socket: the two transports on which a node can also speak unasked.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::client::MAX_ANSWER_BYTES;
use crate::connect::Stream;
use crate::endpoint::Address;
use crate::json_stream::JsonStream;
use crate::link::{LinkError, excerpt};

/// So much is read at once. A head notification has about 2 KiB.
const READ_BYTES: usize = 4 * 1024;

/// A connection that carries whole messages in both directions.
pub(crate) enum Socket {
    /// A Unix socket: JSON values one after the other.
    Ipc { stream: Stream, incoming: JsonStream },
    /// A WebSocket: one JSON value a message.
    Web(Box<WebSocketStream<Stream>>),
}

impl Socket {
    /// Messages over a Unix socket.
    pub(crate) fn ipc(stream: Stream) -> Self {
        Self::Ipc { stream, incoming: JsonStream::default() }
    }

    /// Turns `stream` into a WebSocket by the handshake.
    pub(crate) async fn web(stream: Stream, address: &Address) -> Result<Self, LinkError> {
        let uri = format!("ws://{}{}", address.authority(), address.path());
        let mut request = uri.into_client_request().map_err(link_error)?;
        if let Some(authorization) = address.authorization() {
            let value = HeaderValue::from_str(authorization).map_err(|error| link_error(error.into()))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_ANSWER_BYTES))
            .max_frame_size(Some(MAX_ANSWER_BYTES));
        let (web, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(link_error)?;
        Ok(Self::Web(Box::new(web)))
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, message: &str) -> Result<(), LinkError> {
        match self {
            Self::Ipc { stream, .. } => {
                // One write, newline included: some nodes read a line, and answer only then.
                stream.write_all(format!("{message}\n").as_bytes()).await?;
                Ok(stream.flush().await?)
            }
            Self::Web(web) => web.send(Message::text(message)).await.map_err(link_error),
        }
    }

    /// The next message. May be dropped and called again without losing anything. On a WebSocket this also
    /// answers the node's pings, so a connection that is to live must be read.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, LinkError> {
        match self {
            Self::Ipc { stream, incoming } => loop {
                if let Some(message) = incoming.next()? {
                    return Ok(message);
                }
                let mut bytes = [0; READ_BYTES];
                match stream.read(&mut bytes).await? {
                    0 => return Err(LinkError::closed()),
                    count => incoming.push(&bytes[..count]),
                }
            },
            Self::Web(web) => loop {
                match web.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(text.as_bytes().to_vec()),
                    Some(Ok(Message::Binary(bytes))) => return Ok(bytes.into()),
                    Some(Ok(Message::Close(_))) | None => return Err(LinkError::closed()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(link_error(error)),
                }
            },
        }
    }
}

fn link_error(error: WsError) -> LinkError {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => LinkError::TooLarge,
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        ) => LinkError::closed(),
        WsError::Io(error) => LinkError::Broken(error),
        WsError::Http(response) => {
            let body = excerpt(response.body().as_deref().unwrap_or_default());
            LinkError::Malformed(format!("HTTP {} instead of a WebSocket: {body}", response.status()))
        }
        other => LinkError::Malformed(other.to_string()),
    }
}
