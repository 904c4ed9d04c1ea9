//! host

pub mod children;
pub mod data_lock;
pub mod digest;
pub mod disk;
pub mod durable;
mod elf;
pub mod home;
pub mod hooks;
pub mod keeper;
pub mod link;
pub mod lock;
pub mod memory;
pub mod output;
pub mod plan_file;
pub mod process;
pub mod program;
mod run;
pub mod store;
pub mod successor;
pub mod trial;
pub mod watch;
