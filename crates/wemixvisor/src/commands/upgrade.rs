//! `upgrade`: schedule, see, carry out, go back.

mod carry_out;
mod schedule;

use jiff::tz::TimeZone;
use serde::Serialize;
use wemixvisor_core::engine::port::Order;
use wemixvisor_core::plan::PlanName;
use wemixvisor_core::settings::Settings;
use wemixvisor_daemon::api::wire;
use wemixvisor_daemon::control::Method;
use wemixvisor_host::home::Home;

use self::carry_out::Wanted;
use super::{Context, LEFT};
use crate::arguments::Upgrade;
use crate::failure::Failure;
use crate::files::Files;
use crate::follow::{self, Watched};
use crate::live::{self, Live};
use crate::render;

/// Said when the plan file was changed and no supervisor runs.
const LATER: &str = "no supervisor runs: it is seen by the next one that is started";

/// What an order that only says something prints.
#[derive(Debug, Serialize)]
struct MessageJson {
    message: String,
    supervised: bool,
}

pub(super) async fn upgrade(context: &Context, command: Upgrade) -> Result<u8, Failure> {
    let (settings, home, live) = context.place()?;
    match command {
        Upgrade::Schedule(given) => schedule::schedule(context, &settings, &home, &live, &given).await,
        Upgrade::List => list(context, &settings, &home, &live).await,
        Upgrade::Status { follow } => status(context, &settings, &home, &live, follow).await,
        Upgrade::Cancel { name } => cancel(context, &settings, &home, &live, name).await,
        Upgrade::Apply { name, force, no_wait } => {
            let query = if force { "?force=true" } else { "" };
            let path = format!("/api/v1/upgrades/{}/apply{query}", read_name(&name)?);
            carry_out::carry_out(context, &live, &path, Wanted::New, no_wait).await
        }
        Upgrade::Retry { name, no_wait } => {
            let path = format!("/api/v1/upgrades/{}/retry", read_name(&name)?);
            carry_out::carry_out(context, &live, &path, Wanted::New, no_wait).await
        }
        Upgrade::Rollback { no_wait } => {
            carry_out::carry_out(context, &live, "/api/v1/upgrades/rollback", Wanted::Before, no_wait).await
        }
        Upgrade::History { limit } => history(context, &settings, &home, &live, limit.into()).await,
    }
}

fn read_name(name: &str) -> Result<PlanName, Failure> {
    name.parse().map_err(|error: wemixvisor_core::plan::BadName| Failure::usage(error.to_string()))
}

async fn list(context: &Context, settings: &Settings, home: &Home, live: &Live) -> Result<u8, Failure> {
    let (upgrades, problem) = planned(settings, home, live).await?;
    if let Some(problem) = problem {
        context.screen.note(&format!("wemixvisor: the plan file cannot be used: {problem}"));
    }
    let text = render::upgrade::list(&upgrades, &TimeZone::system());
    context.screen.result(&text, &wire::Upgrades::new(upgrades))?;
    Ok(0)
}

/// The scheduled upgrades, and what is wrong with the plan file. Without a supervisor a file that cannot be read is
/// a failure: there are no plans read before.
async fn planned(
    settings: &Settings,
    home: &Home,
    live: &Live,
) -> Result<(Vec<wire::Upgrade>, Option<String>), Failure> {
    if let Some(status) = live.status().await? {
        return Ok((status.upgrades, status.plan_problem));
    }
    let files = Files::read(home, settings)?;
    let status = files.status();
    match status.plan_problem {
        Some(problem) => Err(Failure::failed(format!(
            "the plan file {} cannot be used: {problem}",
            files.home().plan_file().display()
        ))),
        None => Ok((status.upgrades, None)),
    }
}

async fn status(
    context: &Context,
    settings: &Settings,
    home: &Home,
    live: &Live,
    follow: bool,
) -> Result<u8, Failure> {
    let mut running = live.status().await?;
    if follow {
        let now = running.take().ok_or_else(|| live.not_running())?;
        if now.upgrade.is_some() || !now.upgrades.is_empty() {
            let before = now.last_upgrade.as_ref().map(|last| last.id);
            if now.upgrade.is_none() {
                context.screen.note(&upcoming(&now));
            }
            return carry_out::watch(context, live, before, Wanted::New).await;
        }
        running = Some(now);
    }
    let at = running.as_ref().map(|status| status.at);
    let (status, at) = match at {
        Some(at) => (live.get("/api/v1/upgrades/status").await?, at),
        None => {
            let snapshot = Files::read(home, settings)?.snapshot();
            (wire::UpgradeStatus::of(&snapshot), snapshot.at.into())
        }
    };
    let text = render::upgrade::status(&status, at, context.screen.paint, &TimeZone::system());
    context.screen.result(&text, &status)?;
    Ok(0)
}

fn upcoming(status: &wire::Status) -> String {
    match status.upgrades.first() {
        Some(next) => format!("waiting for upgrade {} at {}", next.name, render::number(next.height)),
        None => "waiting for an upgrade".into(),
    }
}

async fn cancel(
    context: &Context,
    settings: &Settings,
    home: &Home,
    live: &Live,
    name: Option<String>,
) -> Result<u8, Failure> {
    let name = match name {
        Some(name) => read_name(&name)?,
        None => only_one(planned(settings, home, live).await?.0)?,
    };
    let path = format!("/api/v1/upgrades/{name}");
    let (message, supervised) = match live.order_if_running(Method::DELETE, &path, None).await? {
        Some(answer) => (live::message(&answer), true),
        None => {
            Files::read(home, settings)?.order(Order::Cancel(name.clone()))?;
            (format!("upgrade {name} is no longer scheduled"), false)
        }
    };
    context.screen.result(&message, &MessageJson { message: message.clone(), supervised })?;
    Ok(0)
}

/// The only scheduled upgrade.
fn only_one(mut planned: Vec<wire::Upgrade>) -> Result<PlanName, Failure> {
    match (planned.pop(), planned.is_empty()) {
        (Some(only), true) => read_name(&only.name),
        (None, _) => Err(Failure::failed("no upgrade is scheduled: there is nothing to cancel")),
        (Some(last), false) => {
            let names: Vec<String> = planned
                .iter()
                .chain([&last])
                .map(|plan| format!("{} at {}", plan.name, plan.height))
                .collect();
            Err(Failure::usage(format!(
                "several upgrades are scheduled: {}; say which: wemixvisor upgrade cancel <name>",
                names.join(", ")
            )))
        }
    }
}

async fn history(
    context: &Context,
    settings: &Settings,
    home: &Home,
    live: &Live,
    limit: usize,
) -> Result<u8, Failure> {
    let history = match live.get_if_running(&format!("/api/v1/history?limit={limit}")).await? {
        Some(history) => history,
        None => Files::read(home, settings)?.history(limit)?,
    };
    let text = render::upgrade::history(&history.history, &TimeZone::system());
    context.screen.result(&text, &history)?;
    Ok(0)
}
