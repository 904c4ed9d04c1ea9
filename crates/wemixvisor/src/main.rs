//! The program `wemixvisor`: reads the command line, asks the supervisor or the files, shows the answer.
//!
//! `arguments` says what can be typed; `commands` has one file for each command; `live` and `files` are the two
//! ways to an answer, with and without a running supervisor; `render` makes text of it; `screen` puts it out; `top`
//! is the live view. There is no logic here that the API does not have.

mod arguments;
mod commands;
mod drill;
mod failure;
mod files;
mod files_api;
mod follow;
mod live;
mod log;
mod own_program;
mod render;
mod screen;
mod settings;
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

/// The first argument that turns the program into the practice node of `drill`.
const PRACTICE_NODE: &str = "practice-node";

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|mode| mode.to_str()) {
        // The keeper comes before everything: it must stay tiny.
        Some(wemixvisor_host::keeper::MODE) => wemixvisor_host::keeper::main(args.into_iter().skip(2)),
        Some(PRACTICE_NODE) => {
            args.remove(1);
            testnode::main_with_args(args.into_iter())
        }
        #[cfg(feature = "testing")]
        Some("crash-points") => {
            let points = wemixvisor_host::trial::POINTS.map(str::to_owned).into_iter();
            points.chain(wemixvisor_daemon::trial::points()).for_each(|point| println!("{point}"));
            wemixvisor_host::trial::CALLS.iter().for_each(|call| println!("call:{call}"));
            ExitCode::SUCCESS
        }
        _ => commands::main(args),
    }
}
