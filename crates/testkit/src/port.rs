//! Ports from the system.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Those given out already by this process: the system gives a port again once it is closed.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A TCP port of the loopback address that nobody listens on, for a node that is told its port.
///
/// # Panics
/// When the system has none.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the system gives a port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        if given.insert(port) {
            return port;
        }
    }
}
