//! The keeper alone, as a program, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(mode) if mode == wemixvisor_host::keeper::MODE => wemixvisor_host::keeper::main(args),
        _ => ExitCode::from(2),
    }
}
