//! `run`: the supervisor itself, in the foreground.

use std::ffi::OsString;

use rustix::io::Errno;
use rustix::process::setsid;
use wemixvisor_daemon::recorded::Recorded;
use wemixvisor_daemon::{BootError, Start};
use wemixvisor_host::home::Home;
use wemixvisor_host::lock::LockError;
use wemixvisor_host::store::Store;
use wemixvisor_host::successor::{self, Successor};

use super::Context;
use crate::failure::{Failure, said};
use crate::log;

pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    // Before there is any thread: none of them is to get what is meant for the supervisor.
    successor::hold_signals();
    if context.global.background {
        // From here on a terminal's hang-up and Ctrl-C do not reach it. Who leads a session already is refused: one
        // that took the place of a supervisor in the background.
        match setsid() {
            Ok(_) | Err(Errno::PERM) => {}
            Err(error) => {
                return Err(Failure::failed(format!("cannot begin a session of its own: {error}")));
            }
        }
    }
    let (loaded, home) = context.home()?;
    let configuration = context.configuration(loaded.file, loaded.has_content);
    let settings = loaded.resolved.settings;
    let successor = successor_of(context, &home)?;
    let _log = log::start(&settings, &home, &context.global, context.no_color);
    let node_args = node_args(context, &home);
    let home = context.home_for(&settings, &node_args)?;
    let start = Start {
        settings,
        home,
        node_args,
        environment: context.environment.clone(),
        successor,
        mirror_output: !context.global.background,
        configuration,
    };
    wemixvisor_daemon::run(start).map_err(|error| match &error {
        BootError::Lock(LockError::Held { .. }) | BootError::DataDir(_) => Failure::refused(said(&error)),
        _ => Failure::from_error(&error),
    })
}

/// The node's arguments. Without any given, those of the last time: a node without its own would open another data
/// directory, and find another chain in it.
fn node_args(context: &Context, home: &Home) -> Vec<OsString> {
    if !context.node_args.is_empty() {
        return context.node_args.clone();
    }
    // A store that cannot be read is an error of the start that follows.
    let recorded = Store::open_read_only(&home.state()).ok().and_then(|state| Recorded::read(&state).ok());
    let before = recorded.and_then(|recorded| recorded.facts.given).unwrap_or_default();
    if !before.args.is_empty() {
        context.screen.note("no arguments are given for the node: those of the last time are used");
    }
    before.args.into_iter().map(|word| word.0).collect()
}

/// This program as it lies on the disk, called as this one was.
fn successor_of(context: &Context, home: &Home) -> Result<Successor, Failure> {
    let mark = std::iter::once("--".into());
    // The last word is `run`.
    let flags = context.own_args.iter().take(context.own_args.len().saturating_sub(1)).cloned();
    let asked_for = flags.clone().any(|flag| flag == "--json");
    let as_json = (!asked_for).then(|| "--json".into());
    Ok(Successor {
        program: context.own_program()?,
        args: context.own_args.iter().cloned().chain(mark).chain(context.node_args.iter().cloned()).collect(),
        check: flags.chain(["config", "validate"].map(Into::into)).chain(as_json).collect(),
        environment: context.environment.clone(),
        cwd: context.cwd.clone(),
        keeper_in: home.wemixvisor().to_owned(),
    })
}
