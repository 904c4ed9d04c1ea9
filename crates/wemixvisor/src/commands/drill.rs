//! `drill`: an upgrade to be watched before one matters.

use super::Context;
use crate::drill::{Drill, play};
use crate::failure::Failure;

pub(super) async fn drill(context: &Context, keep: bool) -> Result<u8, Failure> {
    let own_program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot tell where this program lies: {error}")))?;
    let drill = Drill { keep, own_program, environment: context.environment.clone() };
    play(&drill, &context.screen).await
}
