//! A node that behaves like a geth-fork validator or RPC node from the outside, and shows its faults on order.
//!
//! It knows nothing of the supervisor: it is the other side. Tests of the supervisor run it as the node that is
//! upgraded, `wemixvisor drill` as the practice node, and crash tests judge by its record of facts. What it models
//! is what was seen on the real nodes: JSON-RPC over HTTP, WebSocket and IPC, a locked data directory whose head
//! goes back after a kill, one signal to stop and ten to panic, heads that stand, jump and go back.
//!
//! One thread does everything. `chain` holds the blocks as a few numbers, `pace` says when the next come,
//! `node` is what all parts share, `rpc` answers, `serve` and `session` carry, `stop` and `death` end it, `control`
//! takes orders, `journal` writes down what happened. `testnode --help` is the documentation of its flags.
#![allow(clippy::disallowed_methods)] // The other side owns its clock, its files, its children and its exits.

mod boot;
mod chain;
mod control;
mod death;
mod faults;
mod flags;
mod header;
mod init;
mod journal;
mod log;
mod node;
mod noise;
mod pace;
mod rpc;
mod serve;
mod session;
mod stop;
mod store;
mod wbft;

pub use boot::main_with_args;
