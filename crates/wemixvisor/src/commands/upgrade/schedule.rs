//! `upgrade schedule`.

use serde::Serialize;
use serde_json::{Map, Value, json};
use wemixvisor_core::engine::port::Order;
use wemixvisor_core::settings::Settings;
use wemixvisor_daemon::api::request::{self, Scheduling};
use wemixvisor_daemon::control::Method;
use wemixvisor_host::home::Home;

use super::{Context, LATER};
use crate::arguments::Schedule;
use crate::failure::Failure;
use crate::files::Files;
use crate::live::{self, Live};
use crate::render::number;

/// What `upgrade schedule --json` prints.
#[derive(Debug, Serialize)]
struct ScheduleJson {
    message: String,
    upgrade: Value,
    supervised: bool,
}

pub(super) async fn schedule(
    context: &Context,
    settings: &Settings,
    home: &Home,
    live: &Live,
    given: &Schedule,
) -> Result<u8, Failure> {
    let body = body(given)?;
    // Read here too: a slip is told the same with and without a supervisor.
    let Scheduling { plan, force } =
        request::read(&body.to_string()).map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(answer) = live.order_if_running(Method::POST, "/api/v1/upgrades", Some(&body)).await? {
        let message = live::message(&answer);
        let upgrade = answer.body["upgrade"].clone();
        context
            .screen
            .result(&message, &ScheduleJson { message: message.clone(), upgrade, supervised: true })?;
        return Ok(0);
    }
    let name = plan.name.clone();
    let message = format!("upgrade {name} is scheduled at height {}", number(plan.height));
    Files::read(home, settings)?.order(Order::Schedule { plan: Box::new(plan), force })?;
    let files = Files::read(home, settings)?;
    let upgrade = files.status().upgrades.into_iter().find(|upgrade| upgrade.name == name.as_str());
    let json = ScheduleJson { message: message.clone(), upgrade: json!(upgrade), supervised: false };
    context.screen.result(&message, &json)?;
    context.screen.note(&format!("it stands in {}; {LATER}", files.home().plan_file().display()));
    Ok(0)
}

/// The request as the API takes it.
fn body(given: &Schedule) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("name".into(), json!(given.name));
    body.insert("height".into(), json!(given.height));
    for (field, flag, text) in
        [("binaries", "--binaries", &given.binaries), ("checksums", "--checksum", &given.checksum)]
    {
        if let Some(text) = text {
            if text.trim().is_empty() {
                return Err(Failure::usage(format!("{flag} is empty: give it a value, or leave it out")));
            }
            body.insert(field.into(), by_platform(flag, text)?);
        }
    }
    for (field, text) in [("description", &given.info), ("switch", &given.switch)] {
        if let Some(text) = text {
            body.insert(field.into(), json!(text));
        }
    }
    body.insert("force".into(), json!(given.force));
    Ok(Value::Object(body))
}

/// One text for every platform, or a JSON object of texts by platform.
fn by_platform(flag: &str, text: &str) -> Result<Value, Failure> {
    if !text.trim_start().starts_with('{') {
        return Ok(json!(text));
    }
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{flag} begins like a JSON object, but is none: {error}")))
}
