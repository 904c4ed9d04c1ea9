//! What the end-to-end tests are made of: a home in a temporary directory, the built program that supervises it,
//! practice nodes that obey and write down what was done to them, and judges that read it.
//!
//! ```text
//!  TestHome ── set, init, install ──> directories, config.toml, programs
//!     │
//!     ├── start ──> Supervisor (a process of its own; signals, exit)
//!     ├── node ───> Node (control port: make blocks, go back, hang, die)
//!     ├── status, order, cli ──> what the supervisor says of itself
//!     └── facts, signals, judge ──> what the node saw: the other side's word
//! ```
//!
//! A test waits for facts with [`TestHome::wait`] and never for time. Whatever a test started ends with its
//! [`TestHome`], by process id, also when the test panics; then the supervisor's log, its status, the node's log and
//! the node's journal are printed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(clippy::disallowed_methods)] // Tests have their own clock, files and processes.

mod api;
mod browser;
mod cli;
mod container;
mod door;
mod home;
mod http;
mod journal;
mod node;
mod port;
pub mod processes;
mod program;
mod real;
mod small_disk;
mod supervisor;
mod waiting;

pub use api::{Events, TestApi};
pub use browser::{Browser, browser};
pub use cli::Said;
pub use container::Container;
pub use door::{Answer, Door, EventStream, Talk};
pub use home::{NODE_NAME, TestHome};
pub use journal::Fact;
pub use node::Node;
pub use port::free_port;
pub use program::Program;
pub use real::real_node;
pub use rustix::process::Signal;
pub use small_disk::SmallDisk;
pub use supervisor::Supervisor;
pub use waiting::{LIMIT, wait_for};
