//! `run`: the supervisor itself, in the foreground.

use std::sync::Arc;

use rustix::process::{getpid, getsid, setsid};
use wemixvisor_daemon::{BootError, Start};
use wemixvisor_host::home::Home;
use wemixvisor_host::lock::LockError;
use wemixvisor_host::successor::{self, Successor};

use super::Context;
use crate::failure::{Failure, said};
use crate::{log, settings};

pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    // Before there is any thread: none of them is to get what is meant for the supervisor.
    successor::hold_signals();
    // One that took the place of a supervisor in the background has its session already.
    if context.global.background && getsid(None).ok() != Some(getpid()) {
        // From here on a terminal's hang-up and Ctrl-C do not reach it.
        setsid().map_err(|error| Failure::failed(format!("cannot begin a session of its own: {error}")))?;
    }
    let (loaded, home) = context.home()?;
    let (settings, config) = (loaded.resolved.settings, loaded.file);
    let successor = successor_of(context, &home)?;
    let given = context.given(context.global.config.clone());
    let _log = log::start(&settings, &home, &context.global, context.no_color);
    let start = Start {
        settings,
        home,
        node_args: context.node_args.clone(),
        environment: context.environment.clone(),
        successor,
        mirror_output: !context.global.background,
        config,
        reload: Arc::new(move || {
            let loaded = settings::load(&given).map_err(|error| said(&error))?;
            Ok(loaded.resolved.settings)
        }),
    };
    wemixvisor_daemon::run(start).map_err(|error| match &error {
        BootError::Lock(LockError::Held { .. }) => Failure::refused(said(&error)),
        _ => Failure::from_error(&error),
    })
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
