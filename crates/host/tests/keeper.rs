//! The keeper with real processes: every test has its own home, its own keeper and its own nodes, and ends them.

#[path = "keeper/home.rs"]
mod home;
#[path = "keeper/latency.rs"]
mod latency;
#[path = "keeper/launching.rs"]
mod launching;
#[path = "keeper/output.rs"]
mod output;
#[path = "keeper/removed.rs"]
mod removed;
#[path = "keeper/stopping.rs"]
mod stopping;
#[path = "keeper/survival.rs"]
mod survival;
