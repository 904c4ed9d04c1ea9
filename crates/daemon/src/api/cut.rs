//! A connection that can be cut from the outside, whatever is spoken on it by then: HTTP, or a WebSocket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::room::Seat;

/// Cuts a connection; cancelled as well when the connection has ended by itself.
#[derive(Debug, Clone)]
pub(super) struct Cut(pub(super) CancellationToken);

/// The connection. Cut, it has nothing more to read and takes nothing.
pub(super) struct Cuttable<S> {
    stream: S,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _ended: DropGuard,
    _seat: Seat,
}

impl<S> Cuttable<S> {
    /// The connection at this place, and what cuts it.
    pub(super) fn new(stream: S, seat: Seat) -> (Self, Cut) {
        let cut = CancellationToken::new();
        let is_cut = Box::pin(cut.clone().cancelled_owned());
        (Self { stream, is_cut, _ended: cut.clone().drop_guard(), _seat: seat }, Cut(cut))
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        self.is_cut.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cuttable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cuttable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
