//! The engine in a simulated world: virtual time, a chain, processes, a disk, and a supervisor that can be
//! killed between any two things it does. Nothing here waits, and nothing depends on the machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_programs;
mod chain;
mod crashes;
mod disk;
mod firing;
mod machine;
mod orders;
mod outcomes;
mod perform;
mod plan_edits;
mod program;
mod random;
mod standing_still;
mod stops;
mod supervision;
mod surroundings;
mod timeline;
mod world;
