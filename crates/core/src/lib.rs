//! The decisions of wemixvisor: everything that can be decided without a disk, a network, a process or a clock.
//!
//! Nothing here reads the time; a moment comes in as a value ([`time::Now`]). Nothing here acts; what is to
//! be done goes out as a value. So every behaviour can be tested, replayed and explained from its inputs.

pub mod command_line;
pub mod duration;
pub mod engine;
pub mod exit;
pub mod head;
pub mod height;
pub mod near;
pub mod observation;
pub mod plan;
pub mod plan_file;
pub mod probation;
pub mod readiness;
pub mod restart;
pub mod settings;
pub mod target;
pub mod time;
pub mod trigger;
pub mod upgrade;
