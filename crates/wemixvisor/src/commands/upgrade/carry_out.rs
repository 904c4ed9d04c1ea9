//! `upgrade apply`, `retry` and `rollback`: an order to the supervisor, and its steps until it is over.

use wemixvisor_daemon::api::wire::Finished;

use super::{Context, LEFT, MessageJson, Watched, follow};
use crate::failure::Failure;
use crate::live::Live;
use crate::render::checklist::outcome;

/// What is waited for: the program that shall run in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The one that is gone over to.
    New,
    /// The one before. An upgrade that is still on probation goes back by itself, a committed one by another one.
    Before,
}

impl Wanted {
    fn got(self, finished: &Finished) -> bool {
        let went_back = finished.outcome == "rolled_back" && finished.trouble.is_none();
        finished.outcome == "committed" || (self == Self::Before && went_back)
    }
}

pub(super) async fn carry_out(
    context: &Context,
    live: &Live,
    path: &str,
    wanted: Wanted,
    no_wait: bool,
) -> Result<u8, Failure> {
    let before = live.status_now().await?.last_upgrade.map(|last| last.id);
    let message = live.post(path).await?;
    if no_wait {
        context.screen.result(&message, &MessageJson { message: message.clone(), supervised: true })?;
        return Ok(0);
    }
    context.screen.note(&message);
    watch(context, live, before, wanted).await
}

/// Shows the steps of the upgrade that is under way, or comes next, until it is over.
pub(super) async fn watch(
    context: &Context,
    live: &Live,
    before: Option<u64>,
    wanted: Wanted,
) -> Result<u8, Failure> {
    match follow::upgrade(live, &context.screen, before).await? {
        Watched::Over(finished) => {
            context.screen.result(&outcome(&finished), &finished)?;
            Ok(u8::from(!wanted.got(&finished)))
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
