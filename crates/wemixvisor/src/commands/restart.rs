//! `restart`: the node is stopped and started again.

use std::time::Duration;

use super::{Context, LEFT};
use crate::failure::Failure;
use crate::follow::{self, Until, Watched};

/// How long the new process is waited for: a node may take many minutes to stop in order.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) async fn restart(context: &Context) -> Result<u8, Failure> {
    let (_, _, live) = context.place()?;
    let before = live.status_now().await?.node.pid;
    context.screen.note(&live.post("/api/v1/node/restart").await?);
    let gone = |answers: bool| (!answers).then(follow::supervisor_gone);
    match follow::node(&live, &context.screen, Until::RunsAnew { before }, LIMIT, gone).await? {
        Watched::Over(status) => {
            let pid = status.node.pid.unwrap_or(0);
            context.screen.result(&format!("the node runs again (pid {pid})"), &status)?;
            Ok(0)
        }
        Watched::Waits(_) | Watched::Left => {
            context.screen.note("the restart goes on without this command; see: wemixvisor status");
            Ok(LEFT)
        }
    }
}
