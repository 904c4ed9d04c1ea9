//! `upgrade apply`, `retry` and `rollback`: an order to the supervisor, and its steps until it is over.

use super::{Context, LEFT, MessageJson, Watched, follow};
use crate::failure::Failure;
use crate::live::Live;
use crate::render::checklist::outcome;

pub(super) async fn carry_out(
    context: &Context,
    live: &Live,
    path: &str,
    no_wait: bool,
) -> Result<u8, Failure> {
    let before = live.status_now().await?.last_upgrade.map(|last| last.id);
    let message = live.post(path).await?;
    if no_wait {
        context.screen.result(&message, &MessageJson { message: message.clone(), supervised: true })?;
        return Ok(0);
    }
    context.screen.note(&message);
    watch(context, live, before).await
}

/// Shows the steps of the upgrade that is under way, or comes next, until it is over.
pub(super) async fn watch(context: &Context, live: &Live, before: Option<u64>) -> Result<u8, Failure> {
    match follow::upgrade(live, &context.screen, before).await? {
        Watched::Over(finished) if finished.outcome == "committed" => {
            context.screen.result(&outcome(&finished), &finished)?;
            Ok(0)
        }
        Watched::Over(finished) => {
            context.screen.result(&outcome(&finished), &finished)?;
            Ok(1)
        }
        Watched::Waits(message) => {
            let json = MessageJson { message: message.clone(), supervised: true };
            context.screen.result(&format!("the upgrade waits for you; {message}"), &json)?;
            Ok(0)
        }
        Watched::Left => {
            let to_see = "wemixvisor upgrade status --follow";
            context.screen.note(&format!("the supervisor goes on without this command; to see it: {to_see}"));
            Ok(LEFT)
        }
    }
}
