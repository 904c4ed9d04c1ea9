//! The behaviours of the whole, shown on the built program: one module for each group, one test for each behaviour.
//! The number in a test's name is that of the behaviour. What is used here is explained in `testkit`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(clippy::disallowed_methods)] // Tests have their own clock, files and processes.

mod bad_program;
mod command_line;
mod containers;
mod files_taken_away;
mod frozen;
mod frozen_keeper;
mod handing_over;
mod heights;
mod interruptions;
mod left_running;
mod plans;
mod random_moments;
mod real_nodes;
mod small_disks;
mod stops;
mod supervision;
mod surroundings;
mod switching;

use testkit::TestHome;

/// The program under test.
const WEMIXVISOR: &str = env!("CARGO_BIN_EXE_wemixvisor");

/// A home whose nodes make a block every 100 ms, with the upgrade `v2` in place.
fn home() -> TestHome {
    TestHome::usual(WEMIXVISOR)
}

/// A home whose first program makes blocks by order only; the upgrade `v2` makes its own.
fn home_by_order() -> TestHome {
    TestHome::by_order(WEMIXVISOR)
}

/// A home in which nothing is laid out yet.
fn empty_home() -> TestHome {
    TestHome::new(WEMIXVISOR)
}
