//! host

pub mod digest;
pub mod durable;
mod elf;
pub mod home;
pub mod hooks;
pub mod link;
pub mod program;
mod run;
pub mod store;
