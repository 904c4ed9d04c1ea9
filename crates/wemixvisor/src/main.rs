//! The program `wemixvisor`.

#[allow(dead_code)] // Nothing loads settings before there are commands.
mod settings;

fn main() {}
