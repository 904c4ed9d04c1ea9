//! `logs`: the node's output.

use serde::Serialize;
use wemixvisor_host::output::{Follow, tail};

use super::Context;
use crate::failure::Failure;

/// What `logs --json` prints: with `--follow` one such object for each piece.
#[derive(Debug, Serialize)]
struct LogsJson {
    lines: Vec<String>,
}

pub(super) async fn logs(context: &Context, follow: bool, lines: usize) -> Result<u8, Failure> {
    if lines == 0 && !follow {
        return Err(Failure::usage(
            "--tail 0 without --follow shows nothing: give a number of lines, or add --follow",
        ));
    }
    let (loaded, _) = context.home()?;
    let log = loaded.resolved.settings.node_log();
    let unreadable =
        |error| Failure::failed(format!("cannot read the node's log {}: {error}", log.display()));
    // Followed before its end is read: nothing is lost between the two.
    let mut following = if follow { Some(Follow::from_end(&log).map_err(unreadable)?) } else { None };
    let end = tail(&log, lines).map_err(unreadable)?;
    if end.is_empty() && !log.exists() {
        context.screen.note(&format!("there is no log yet: {} is written when the node runs", log.display()));
    }
    let mut read_on = put(context, &end)?;
    while let Some(following) = following.as_mut().filter(|_| read_on) {
        read_on = put(context, &following.next().await.map_err(unreadable)?)?;
    }
    Ok(0)
}

/// Says whether there is still somebody who reads.
fn put(context: &Context, bytes: &[u8]) -> Result<bool, Failure> {
    if !context.screen.json {
        return context.screen.bytes(bytes);
    }
    let lines = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    let json = serde_json::to_string(&LogsJson { lines })
        .map_err(|error| Failure::failed(format!("cannot write the log as JSON: {error}")))?;
    context.screen.bytes(format!("{json}\n").as_bytes())
}
