//! `version`: of this program, of the supervisor that runs, of the node.

use serde::Serialize;
use wemixvisor_daemon::api::wire;

use super::Context;
use crate::failure::Failure;

/// What `version --json` prints.
#[derive(Debug, Serialize)]
struct VersionJson {
    wemixvisor: &'static str,
    supervisor: Option<wire::Version>,
}

pub(super) async fn version(context: &Context) -> Result<u8, Failure> {
    let (_, _, live) = context.place()?;
    let own = env!("CARGO_PKG_VERSION");
    let supervisor: Option<wire::Version> = live.get_if_running("/api/v1/version").await?;
    let mut text = format!("wemixvisor {own}\n");
    match &supervisor {
        Some(running) => {
            if running.wemixvisor != own {
                text.push_str(&format!("supervisor {} (runs; another version)\n", running.wemixvisor));
            }
            let version = running.running.as_deref().unwrap_or("not running");
            let client = running.client_version.as_deref().map(|client| format!(", {client}"));
            text.push_str(&format!("node {version}{}\n", client.unwrap_or_default()));
        }
        None => text.push_str("no supervisor runs\n"),
    }
    context.screen.result(&text, &VersionJson { wemixvisor: own, supervisor })?;
    Ok(0)
}
