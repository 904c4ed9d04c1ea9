//! The behaviours of the whole, shown on the built program: one module for each group, one test for each behaviour.
//! The number in a test's name is that of the behaviour. What is used here is explained in `testkit`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(clippy::disallowed_methods)] // Tests have their own clock, files and processes.

mod api;
mod api_door;
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
mod page;
mod plans;
mod random_moments;
mod real_nodes;
mod small_disks;
mod stops;
mod supervision;
mod surroundings;
mod switching;
mod top;

use testkit::{Program, TestHome};

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

/// A home in which the upgrade `v2` is under way and waits in its hook until [`let_go`].
fn held_in(hook: &str) -> TestHome {
    let home = home_by_order();
    // Ends with the directory at the latest; never by itself.
    let script =
        "#!/bin/sh\nuntil [ -e \"$DAEMON_HOME/go\" ] || [ ! -d \"$DAEMON_HOME\" ]; do sleep 0.05; done\n";
    home.hook("v2", hook, script);
    home.install("v3", &Program::practice("3.0.0").with("--block-time=100ms"));
    home
}

/// Lets the hook of [`held_in`] end.
fn let_go(home: &TestHome) {
    std::fs::write(home.root().join("go"), "").unwrap();
}
