//! The control socket: the API for the command line on the same machine.
//!
//! The socket lies in the supervisor's own directory and has mode 0600: who may open it is the same user, or root.
//! [`bind`] puts it there, [`serve`] answers on it, [`Client`] asks; [`Stream`] is what it is told as it
//! happens.

mod client;
mod place;
mod sse;
mod stream;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use axum::middleware::from_fn;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wemixvisor_host::home::Home;

use crate::api::listen::{Share, answer};
use crate::api::room::{Room, Seat, keep_places};
use crate::api::{self, Api};
pub use client::{Answer, Client, ClientError, Method};
use place::Place;
pub use stream::{Frame, Stream};

/// The permission bits of the socket.
const SOCKET_MODE: u32 = 0o600;

/// Without files or memory to accept with, it is tried again so often.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Binds the control socket. To be called by the holder of the supervisor's lock, in a tokio runtime: what lies in
/// the socket's place is of a supervisor that is gone, and is replaced.
///
/// # Errors
/// Those of the system; nothing is in the socket's place then that was not before.
pub fn bind(home: &Home) -> io::Result<UnixListener> {
    let place = Place::of(&home.socket())?;
    // Bound under another name first: the socket that clients find always has its final permissions.
    let unborn = place.beside("new");
    match fs::remove_file(&unborn) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unborn)?;
    fs::set_permissions(&unborn, Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(&unborn, place.path())?;
    Ok(listener)
}

/// Answers on the control socket until it is over; who has asked by then is still answered. Streams and the clients
/// of `wemixvisor api` have half of the places: the others are for the commands.
pub async fn serve(listener: UnixListener, api: Api, over: CancellationToken) {
    let routes = api::router(api).layer(from_fn(keep_places));
    let mut connections = JoinSet::new();
    let room = Room::of(Share::Control.connections());
    loop {
        let (accepted, seat) = tokio::select! {
            (accepted, Some(seat)) = next(&listener, &room) => (accepted, seat),
            Some(_) = connections.join_next() => continue,
            () = over.cancelled() => break,
        };
        match accepted {
            Ok(stream) if is_ours(&stream) => {
                connections.spawn(answer(stream, None, seat, routes.clone(), over.clone()));
            }
            // The permissions of the socket have kept everybody else out, unless somebody changed them.
            Ok(_) => tracing::warn!("a connection of another user to the control socket is refused"),
            Err(error) => {
                tracing::warn!("the control socket cannot accept a connection: {error}");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// The next connection, when there is a place for it.
async fn next(listener: &UnixListener, room: &Room) -> (io::Result<UnixStream>, Option<Seat>) {
    let seat = room.seat().await;
    (listener.accept().await.map(|(stream, _)| stream), seat)
}

/// Whether the other end is of the same user, or root's.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

#[cfg(test)]
mod tests;
