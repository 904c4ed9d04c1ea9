//! The supervisor at work: where the decisions of `core` meet the disk, the processes and the nodes.
//!
//! [`run`] boots and then runs one loop (`engine`): it takes an input from the mailbox, lets the core decide,
//! writes the decision down, and has it carried out by `effects`. Everybody else (API, CLI) talks to that
//! loop through a [`Handle`].

pub mod api;
mod boot;
mod clock;
mod configuration;
pub mod control;
mod effects;
mod engine;
mod handle;
mod hook_runs;
mod keeping;
mod log_look;
mod mirror;
mod preparing;
mod presence;
pub mod recorded;
mod serving;
mod sources;
pub mod trial;
mod watching;

pub use boot::{BootError, Start, run};
pub use configuration::{Configuration, Read};
pub use handle::{Gone, Handle, HeadMoved, Notice, RecordedEvent, Subscription};
