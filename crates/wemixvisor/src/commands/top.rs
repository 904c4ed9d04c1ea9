//! `top`: the live view in the terminal.

use std::io::IsTerminal as _;

use jiff::tz::TimeZone;

use super::{Context, LEFT};
use crate::failure::Failure;
use crate::screen::Paint;
use crate::top::{Left, Setting, show};

pub(super) async fn top(context: &Context) -> Result<u8, Failure> {
    if context.screen.json {
        return Err(Failure::usage(
            "top is a view for people and has no JSON; for programs: wemixvisor status --json, with --watch once a \
             second, or the API's stream /api/v1/events",
        ));
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "top needs a terminal for its input and its output; without one: wemixvisor status",
        ));
    }
    let (settings, home, live) = context.place()?;
    let setting = Setting {
        home: home.root().display().to_string(),
        network: settings.network.as_str().into(),
        paint: Paint::choose(true, context.no_color),
        zone: TimeZone::system(),
    };
    match show(live, setting).await? {
        Left::Quit => Ok(0),
        Left::Interrupted => Ok(LEFT),
    }
}
