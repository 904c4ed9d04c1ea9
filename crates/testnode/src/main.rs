//! The program `testnode`: see the library for what it models.

use std::process::ExitCode;

fn main() -> ExitCode {
    testnode::main_with_args(std::env::args_os())
}
