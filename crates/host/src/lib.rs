//! host

pub mod digest;
pub mod disk;
pub mod durable;
mod elf;
pub mod home;
pub mod hooks;
pub mod link;
pub mod plan_file;
pub mod program;
mod run;
pub mod store;
pub mod watch;
