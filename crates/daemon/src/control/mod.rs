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

use tokio::net::UnixListener;
use wemixvisor_host::home::Home;

use crate::api;
use crate::api::wire::Supervisor;
use crate::handle::Handle;
pub use client::{Answer, Client, ClientError, Method};
use place::Place;
pub use stream::{Frame, Stream};

/// The permission bits of the socket.
const SOCKET_MODE: u32 = 0o600;

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

/// Answers on the control socket until it is over; who has asked by then is still answered.
pub async fn serve(listener: UnixListener, handle: Handle, over: impl Future<Output = ()> + Send + 'static) {
    let service = axum::serve(listener, api::router(handle, Supervisor::here()));
    // It tries again by itself when it cannot accept.
    if let Err(error) = service.with_graceful_shutdown(over).await {
        tracing::error!("the control socket is no longer served: {error}");
    }
}

#[cfg(test)]
mod tests;
