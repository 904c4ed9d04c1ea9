//! `run`: the supervisor itself, in the foreground.

use std::sync::Arc;

use wemixvisor_daemon::{BootError, Start};
use wemixvisor_host::lock::LockError;

use super::Context;
use crate::failure::{Failure, said};
use crate::{log, settings};

pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    if context.global.background {
        // From here on a terminal's hang-up and Ctrl-C do not reach it.
        rustix::process::setsid()
            .map_err(|error| Failure::failed(format!("cannot begin a session of its own: {error}")))?;
    }
    let (loaded, home) = context.home()?;
    let (settings, config) = (loaded.resolved.settings, loaded.file);
    let own_program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot tell where this program lies: {error}")))?;
    let given = context.given(context.global.config.clone());
    let _log = log::start(&settings, &home, &context.global, context.no_color);
    let start = Start {
        settings,
        home,
        node_args: context.node_args.clone(),
        environment: context.environment.clone(),
        own_program,
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
