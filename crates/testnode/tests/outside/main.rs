//! The built program, judged from the outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod ends;
mod heads;
mod programs;
mod rig;
mod wrong;
