//! The crate against nodes that misbehave: small servers in this process, on loopback and in a temporary folder.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node;
mod probation;
mod transports;
mod watch;
mod watch_faults;

use std::time::Duration;

/// So long a test waits for a fact before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a fact, within the patience.
async fn soon<T>(what: &str, fact: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, fact).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}
