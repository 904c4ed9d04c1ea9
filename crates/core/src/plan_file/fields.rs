//! The fields of one plan: read leniently, written in one form.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::PlanFault;
use super::strict::Strict;
use crate::head::Height;
use crate::plan::{MAX_PLAN_HEIGHT, Plan, PlanInfo, PlanName, SwitchMode};

/// The platform of what is said without a platform.
const ANY: &str = "any";

/// The most characters of a value that a message repeats.
const MAX_SHOWN: usize = 60;

type Object = Map<String, Value>;

/// Reads one plan.
pub fn read(item: &Object) -> Result<Plan, PlanFault> {
    let name = text(item, "name")?.ok_or(PlanFault::Missing("name"))?;
    Ok(Plan {
        name: name.parse::<PlanName>().map_err(PlanFault::Name)?,
        height: height(item.get("height"))?,
        info: info(item)?,
        switch: match text(item, "switch")? {
            Some(mode) => mode.parse().map_err(PlanFault::Switch)?,
            None => SwitchMode::default(),
        },
        args: args(item.get("args"))?,
        env: env(item.get("env"))?,
        expect_version: text(item, "expect_version")?.filter(|text| !text.is_empty()).map(str::to_owned),
    })
}

/// Writes `plan` over `item`. Unknown fields stay, also those of an `info` object; other spellings of known
/// ones go.
pub fn write(item: &mut Object, plan: &Plan) {
    let mut info = match item.remove("info") {
        Some(Value::Object(info)) => info,
        Some(Value::String(text)) => object_in(&text).unwrap_or_default(),
        _ => Object::new(),
    };
    for object in [&mut *item, &mut info] {
        for field in ["description", "binaries", "checksums", "checksum"] {
            object.shift_remove(field);
        }
    }
    if let Some(description) = &plan.info.description {
        info.insert("description".into(), json!(description));
    }
    for (field, entries) in [("binaries", &plan.info.binaries), ("checksums", &plan.info.checksums)] {
        if !entries.is_empty() {
            info.insert(field.into(), json!(entries));
        }
    }
    let fields = [
        ("name", json!(plan.name)),
        ("height", json!(plan.height)),
        ("info", Value::Object(info)),
        ("switch", json!(plan.switch)),
        ("args", json!(plan.args)),
        ("env", json!(plan.env)),
        ("expect_version", json!(plan.expect_version)),
    ];
    let rest = std::mem::take(item);
    item.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    for (field, value) in rest {
        item.entry(field).or_insert(value);
    }
}

/// A value as a message names it: short ones as they are, of long ones the kind.
pub fn found(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".into(),
        Value::Array(_) => return "an array".into(),
        Value::Object(_) => return "an object".into(),
        Value::Bool(_) | Value::Number(_) => "",
        Value::String(text) if text.chars().count() > MAX_SHOWN => return "a long text".into(),
        Value::String(_) => "the text ",
    };
    format!("{kind}{value}")
}

fn height(value: Option<&Value>) -> Result<Height, PlanFault> {
    let (number, value) = match value {
        None | Some(Value::Null) => return Err(PlanFault::Missing("height")),
        Some(value @ Value::Number(number)) => (number.to_string(), value),
        Some(value @ Value::String(text)) => (text.trim().to_owned(), value),
        Some(other) => return Err(field("height", "a number or a text of digits", other)),
    };
    // A sign would be read by `parse` as well.
    let digits = number.bytes().all(|digit| digit.is_ascii_digit());
    match number.parse() {
        Ok(height @ 1..=MAX_PLAN_HEIGHT) if digits => Ok(height),
        _ => Err(PlanFault::Height(found(value))),
    }
}

/// `info` is an object, or a text that holds one, or a description. Downloads and checksums are also taken
/// from the plan itself, where the API has them.
fn info(item: &Object) -> Result<PlanInfo, PlanFault> {
    let mut parsed = None;
    let mut description = None;
    match item.get("info") {
        None | Some(Value::Null) => {}
        Some(Value::Object(object)) => parsed = Some(object.clone()),
        Some(Value::String(text)) if text.trim_start().starts_with('{') => parsed = Some(object_in(text)?),
        Some(Value::String(text)) => description = Some(text.clone()).filter(|text| !text.is_empty()),
        Some(other) => return Err(field("info", "an object or a text", other)),
    }
    let mut info = PlanInfo { description, ..PlanInfo::default() };
    if let Some(object) = &parsed {
        info.description = text(object, "description").map_err(inside_info)?.map(str::to_owned);
        sources(object, &mut info).map_err(inside_info)?;
    }
    if info.description.is_none() {
        info.description = text(item, "description")?.map(str::to_owned);
    }
    sources(item, &mut info)?;
    Ok(info)
}

/// The object that a text holds.
fn object_in(text: &str) -> Result<Object, PlanFault> {
    let Strict(value) = serde_json::from_str(text).map_err(|error| PlanFault::Info(error.to_string()))?;
    let not_an_object = || PlanFault::Info(found(&value));
    value.as_object().cloned().ok_or_else(not_an_object)
}

fn inside_info(fault: PlanFault) -> PlanFault {
    match fault {
        PlanFault::Field { field, takes, found } => {
            PlanFault::Field { field: format!("info.{field}"), takes, found }
        }
        other => other,
    }
}

/// Downloads and checksums of `object`, added to `info`.
fn sources(object: &Object, info: &mut PlanInfo) -> Result<(), PlanFault> {
    add("binaries", "binaries", object, &mut info.binaries, str::to_owned)?;
    add("checksums", "checksums", object, &mut info.checksums, checksum)?;
    add("checksum", "checksums", object, &mut info.checksums, checksum)
}

fn add(
    name: &str,
    kept_as: &'static str,
    object: &Object,
    entries: &mut BTreeMap<String, String>,
    form: fn(&str) -> String,
) -> Result<(), PlanFault> {
    const TAKES: &str = "a text, or an object of texts by platform";
    let mut put = |platform: &str, text: &str| match entries.insert(platform.into(), form(text)) {
        Some(other) if other != form(text) => {
            Err(PlanFault::Contradiction { field: kept_as, platform: platform.into() })
        }
        _ => Ok(()),
    };
    match object.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(()),
        Some(Value::String(text)) => put(ANY, text.trim()),
        Some(Value::Object(by_platform)) => by_platform.iter().try_for_each(|(platform, value)| {
            let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
            put(platform, text.ok_or_else(|| field(&format!("{name}.{platform}"), "a text", value))?)
        }),
        Some(other) => Err(field(name, TAKES, other)),
    }
}

/// A checksum in the form that [`PlanInfo::checksums`] has: hex digits alone tell the kind by their number.
/// Anything else stays as it is, for whoever verifies to refuse: it may be for another platform.
fn checksum(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (kind, digits) = lower.split_once(':').unwrap_or(("", &lower));
    let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    match (kind, digits.len()) {
        ("" | "sha256", 64) if hex => format!("sha256:{digits}"),
        ("" | "sha512", 128) if hex => format!("sha512:{digits}"),
        _ => text.to_owned(),
    }
}

fn args(value: Option<&Value>) -> Result<Option<Vec<String>>, PlanFault> {
    const TAKES: &str = "null or an array of texts without NUL";
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => {
            let word = |item: &Value| match item.as_str() {
                Some(text) if !text.contains('\0') => Ok(text.to_owned()),
                _ => Err(field("args", TAKES, item)),
            };
            items.iter().map(word).collect::<Result<_, _>>().map(Some)
        }
        Some(other) => Err(field("args", TAKES, other)),
    }
}

/// The names and values are checked here, because a bad one would make the start itself fail.
fn env(value: Option<&Value>) -> Result<BTreeMap<String, String>, PlanFault> {
    const TAKES: &str = "an object of texts without NUL";
    const NAMES: &str = "names that are not empty and hold neither = nor NUL";
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries
            .iter()
            .map(|(name, value)| match value.as_str() {
                _ if name.is_empty() || name.contains(['=', '\0']) => Err(field("env", NAMES, &json!(name))),
                Some(text) if !text.contains('\0') => Ok((name.clone(), text.to_owned())),
                _ => Err(field(&format!("env.{name}"), "a text without NUL", value)),
            })
            .collect(),
        Some(other) => Err(field("env", TAKES, other)),
    }
}

fn text<'a>(object: &'a Object, name: &str) -> Result<Option<&'a str>, PlanFault> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(field(name, "a text", other)),
    }
}

fn field(name: &str, takes: &'static str, value: &Value) -> PlanFault {
    PlanFault::Field { field: name.into(), takes, found: found(value) }
}
