//! `init`: lays out the home.

use std::path::Path;

use serde::Serialize;
use wemixvisor_host::home::{HomeError, InitReport};

use super::Context;
use crate::failure::{Failure, said};

/// What `init --json` prints.
#[derive(Debug, Serialize)]
struct InitJson {
    home: String,
    program: String,
    sha256: String,
    current: String,
    already_initialised: bool,
}

pub(super) fn init(context: &Context, binary: &Path) -> Result<u8, Failure> {
    let (_, home) = context.home()?;
    let report = home.init(binary).map_err(|error| refused(&error))?;
    let InitReport { already_initialised, program, sha256, current, .. } = report;
    let json = InitJson {
        home: home.root().display().to_string(),
        program: program.display().to_string(),
        sha256: sha256.to_string(),
        current: current.to_string(),
        already_initialised,
    };
    let mut text = match already_initialised {
        true => format!("{} is laid out already, with this very program; nothing was changed\n", json.home),
        false => format!("{} is laid out\n", json.home),
    };
    text.push_str(&format!(
        "  program  {}\n  sha256   {}\n  current  {}\n",
        json.program, json.sha256, json.current
    ));
    context.screen.result(&text, &json)?;
    context.screen.note("to run it: wemixvisor run [node arguments], or wemixvisor start [node arguments]");
    Ok(0)
}

fn refused(error: &HomeError) -> Failure {
    match error {
        HomeError::OtherGenesis { .. }
        | HomeError::CurrentWithoutGenesis { .. }
        | HomeError::CurrentLost { .. }
        | HomeError::Link(_) => Failure::refused(said(error)),
        _ => Failure::from_error(error),
    }
}
