//! The conversation with nodes: everything that speaks JSON-RPC, and nothing else.
//!
//! A node is reached at an [`Endpoint`]. A [`Client`] asks single questions there, each under a time limit and
//! a size limit; [`HeadWatch`] follows the tip of the chain over a list of endpoints and reports what it sees as
//! [`SourceEvent`]s; [`probe`] asks the round of questions that probation judges; [`HeightFeed`] hands heights
//! on to subscribers who may be slow.
//!
//! What a node answers is never trusted: an answer that is too long, not JSON, of another shape, or from
//! another chain becomes an error with a reason, never a height.

mod base64;
mod client;
mod connect;
mod endpoint;
mod feed;
mod follow;
mod heads;
mod http;
mod json_stream;
mod link;
mod message;
mod outbox;
mod probe;
mod quantity;
mod questions;
mod socket;
mod subscription;

pub use client::{Client, MAX_ANSWER_BYTES, RpcError};
pub use endpoint::{Address, BadEndpoint, Endpoint};
pub use feed::{FEED_BUFFER, HeightFeed, HeightSubscriber};
pub use heads::{HeadWatch, Pace, SourceEvent, Via};
pub use probe::{OwnSeal, ProbeRequest, probe};
pub use quantity::{BadQuantity, quantity};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock's content. A panic elsewhere ends the supervisor by other means; what it held here is always whole,
/// since no lock of this crate is held across anything that can panic halfway.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
