//! The keeper: a tiny process that is the parent of the node, so that the supervisor need not be.
//!
//! ```text
//!  supervisor ──(keeper.sock, JSON lines)── keeper ──fork/exec──> node ──> what the node starts
//!  may die, be stopped or replaced           │  │                  │ holds node.lock while any of them lives
//!                                            │  └── node.log <─pipe┘
//!                                            └── node.json, node-exit.json
//! ```
//!
//! The keeper is a hidden mode of the same program ([`main`]): one thread, one poll loop, no runtime, no settings.
//! It has its own session and acts on no signal, starts and signals the node on order, sees its exit status and
//! writes it down, takes the node's output to the log, and collects orphans (it is a child subreaper). It serves
//! one supervisor at a time and any number one after the other, and ends when there is neither a supervisor nor a
//! node nor anything that a node left behind.
//!
//! The supervisor's side is [`Keeper`]: [`Keeper::find`] says what is there, [`Keeper::start`] starts one.
//! Only the holder of the [`SupervisorLock`](crate::lock::SupervisorLock) may use either.
//!
//! The pieces: `facts` (what both sides know), `protocol` (the lines), `client` (the supervisor's side); and in the
//! keeper process `serve` (the loop), `place` (lock, socket and log, tended), `launch` (start, locks, proof of the file), `adopt` (a killed keeper's node),
//! `running`, `drain`, `connection`, `records`, `signals`, `oom`.

mod adopt;
mod client;
mod connection;
mod drain;
mod facts;
mod launch;
mod link;
mod oom;
mod place;
mod protocol;
mod records;
mod running;
mod serve;
mod signals;
mod socket;

use std::time::SystemTime;

pub use client::{Found, Keeper, KeeperError, KeeperEvent, SpawnError, StandsStill, stands_still, stopped};
pub use facts::{AdoptHint, FileIdentity, KeeperState, Launch, LogPolicy, NodeExit, NodeProcess, WaitStatus};
pub use records::{last_exit, last_node};
pub use serve::main;

/// The first argument that turns the program into a keeper.
pub const MODE: &str = "keeper";

/// The lock file in a data directory: two homes must not run two nodes on one data directory. To be named in
/// [`Launch::locks`].
pub const DATA_DIR_LOCK: &str = "wemixvisor-node.lock";

/// The lock that a keeper holds for its life; its text is the keeper's process id.
const KEEPER_LOCK: &str = "keeper.lock";
/// What a panicking keeper has to say, in the wemixvisor directory's `logs`.
const KEEPER_LOG: &str = "logs/keeper.log";

/// The wall clock, for records.
#[allow(clippy::disallowed_methods)] // The keeper has no other clock to be told by.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
