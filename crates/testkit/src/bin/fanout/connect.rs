//! Connections to the API.

use std::net::SocketAddr;

use futures_util::SinkExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// What a client listens to.
pub(crate) const SUBSCRIBE: &str = r#"{"action":"subscribe","topics":["heights","upgrades","alerts"]}"#;

/// A thousand of the library's usual buffers would be 128 MiB.
const READ_BUFFER: usize = 4 * 1024;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A client; `receive_buffer` is what the kernel is asked to keep for it, in bytes.
pub(crate) async fn connect(address: SocketAddr, receive_buffer: Option<u32>) -> Result<Socket, Error> {
    let socket = TcpSocket::new_v4()?;
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{address}/api/v1/ws");
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

pub(crate) async fn say(socket: &mut Socket, text: &str) -> Result<(), Error> {
    socket.send(Message::text(text)).await
}
