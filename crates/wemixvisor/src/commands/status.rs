//! `status`: am I fine, and what comes next.

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::tz::TimeZone;
use wemixvisor_core::settings::Settings;
use wemixvisor_daemon::api::wire::Status;
use wemixvisor_host::home::Home;

use super::Context;
use crate::failure::{Failure, Kind};
use crate::files::Files;
use crate::live::Live;
use crate::render::status::{Setting, screen};
use crate::screen::Paint;

/// How often the screen is drawn again.
const AGAIN_EVERY: Duration = Duration::from_secs(1);

/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

pub(super) async fn status(context: &Context, watch: bool) -> Result<u8, Failure> {
    let (settings, home, live) = context.place()?;
    let settings = &settings;
    if !watch {
        let status = take(&live, &home, settings).await?;
        context.screen.result(&draw(context, &status, &home, settings), &status)?;
        return Ok(exit_code(&status));
    }
    let clear = std::io::stdout().is_terminal() && context.screen.paint == Paint::Colour;
    loop {
        let status = take(&live, &home, settings).await?;
        let text = draw(context, &status, &home, settings);
        let out = match (context.screen.json, clear) {
            (true, _) => serde_json::to_string(&status).unwrap_or_default() + "\n",
            (false, true) => format!("{CLEAR}{}", cut(&text, rows())),
            (false, false) => format!("{text}\n"),
        };
        if !context.screen.bytes(out.as_bytes())? {
            return Ok(exit_code(&status));
        }
        tokio::time::sleep(AGAIN_EVERY).await;
    }
}

/// The lines of the terminal, where it tells.
fn rows() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|rows| *rows > 1)
}

/// As much of `text` as `rows` lines hold: what matters most stands at its head and must not be scrolled away.
fn cut(text: &str, rows: Option<usize>) -> String {
    let lines = text.lines().count();
    match rows {
        Some(rows) if lines >= rows => {
            let kept: String = text.lines().take(rows - 2).flat_map(|line| [line, "\n"]).collect();
            format!("{kept}... {} more lines: wemixvisor status\n", lines - (rows - 2))
        }
        _ => text.into(),
    }
}

async fn take(live: &Live, home: &Home, settings: &Settings) -> Result<Status, Failure> {
    match live.status().await? {
        Some(status) => Ok(status),
        None => Ok(Files::read(home, settings)?.status()),
    }
}

fn draw(context: &Context, status: &Status, home: &Home, settings: &Settings) -> String {
    let zone = TimeZone::system();
    let setting = Setting {
        home: &home.root().display().to_string(),
        network: settings.network.as_str(),
        paint: context.screen.paint,
        zone: &zone,
    };
    screen(status, &setting)
}

fn exit_code(status: &Status) -> u8 {
    if status.supervisor.is_some() { 0 } else { Kind::NotRunning as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_terminal_shows_the_head_of_the_screen() {
        let text = "OK\na\nb\nc\n";
        for rows in [None, Some(5), Some(24)] {
            assert_eq!(cut(text, rows), text);
        }
        assert_eq!(cut(text, Some(4)), "OK\na\n... 2 more lines: wemixvisor status\n");
        assert_eq!(cut(text, Some(2)), "... 4 more lines: wemixvisor status\n");
    }
}
