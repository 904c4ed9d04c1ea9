//! `/api/v1/config`: the settings, shown, checked and changed.
//!
//! A change is one of `config.toml`: it is validated with all layers first, written in one piece, and then read
//! like a change by hand. What guards the API itself, what the supervisor executes, and where everything lies is not
//! changed from here: a stolen token must not become a program that runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toml_edit::{DocumentMut, Item, Table};
use wemixvisor_core::near::{did_you_mean, near};
use wemixvisor_core::settings::{Applies, Resolved, Row, Setting, TABLE, setting};
use wemixvisor_host::durable::{self, DurableError};
use wemixvisor_host::watch::read_whole;

use super::error::ApiError;
use super::openapi::SettingValues;
use super::{Api, wire};
use crate::configuration::Configuration;
use crate::preparing::said;

/// A new settings file is for the same user.
const NEW_MODE: u32 = 0o600;

/// A change by hand that is not in force after this time is not waited for any more.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);

/// How often the file is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a file holds in which nothing is set any more: an empty one would be taken for one that is lost.
const NOTHING_SET: &str = "# nothing is set here\n";

/// A change is prepared so often when the file is changed by others meanwhile.
const TRIES: usize = 3;

/// One change at a time: each of them reads the file and writes it.
static CHANGING: Mutex<()> = Mutex::new(());

/// Settings and their values.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// New values by key, such as `node.max_restarts`; `null` takes a key out of the file.
    #[schema(value_type = SettingValues)]
    #[serde(deserialize_with = "each_once")]
    settings: Map<String, Value>,
}

/// An object in which no key stands twice: of two values none is meant more than the other.
fn each_once<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    struct EachOnce;
    impl<'de> Visitor<'de> for EachOnce {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("settings and their values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            let mut found = Map::new();
            while let Some((key, value)) = object.next_entry::<String, Value>()? {
                if found.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
                }
                found.insert(key, value);
            }
            Ok(found)
        }
    }
    from.deserialize_map(EachOnce)
}

/// The settings, and where each comes from.
#[utoipa::path(
    get, path = "/api/v1/config", tag = "settings", operation_id = "config",
    responses(
        (status = 200, description = "Every setting.", body = wire::Settings),
        (status = 400, description = "The settings on the disk are not valid."),
        (status = 409, description = "The file is gone or empty: what is in force is not what is on the disk."),
        (status = 500, description = "They cannot be read."),
    )
)]
pub(super) async fn show(State(api): State<Api>) -> Result<Json<wire::Settings>, ApiError> {
    let configuration = api.place.configuration.clone();
    let settings = apart(move || {
        if let Some(lost) = configuration.lost(&read_whole(&configuration.file)) {
            return Err(ApiError::conflict(lost));
        }
        let resolved = (configuration.read)(None).map_err(|errors| ApiError::invalid(errors.join("; ")))?;
        Ok(wire::Settings::of(&configuration.file, &resolved))
    });
    Ok(Json(settings.await?))
}

/// Check a change of settings; nothing is changed.
#[utoipa::path(
    post, path = "/api/v1/config/validate", tag = "settings", operation_id = "validate_config", request_body = Changes,
    responses(
        (status = 200, description = "What the change would do.", body = wire::Changed),
        (status = 400, description = "It is not valid, with everything that is wrong."),
        (status = 409, description = "The file is gone or empty, or was changed just now. Nothing was changed."),
        (status = 413, description = "The body is too long."),
        (status = 500, description = "The settings cannot be read."),
    )
)]
pub(super) async fn validate(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<wire::Changed>, ApiError> {
    let changes = read(body)?;
    let configuration = api.place.configuration.clone();
    let work = apart(move || {
        wait_for_others(&configuration);
        Ok(prepare(&configuration, &changes)?.changed)
    });
    Ok(Json(work.await?))
}

/// Change settings: `config.toml` is changed, and read.
///
/// Where everything lies, what guards the API and what the supervisor executes is not changed from here.
#[utoipa::path(
    put, path = "/api/v1/config", tag = "settings", operation_id = "change_config", request_body = Changes,
    responses(
        (status = 200, description = "What was changed, and when it takes effect.", body = wire::Changed),
        (status = 400, description = "It is not valid, with everything that is wrong. Nothing was changed."),
        (status = 409, description = "The file is gone or empty, or somebody else changes it just now. Nothing \
                                      was changed."),
        (status = 413, description = "The body is too long."),
        (status = 500, description = "The file cannot be read or written, and nothing was changed; or it was changed, \
                                      but cannot be forced to the disk. The error says which."),
    )
)]
pub(super) async fn change(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<wire::Changed>, ApiError> {
    let changes = read(body)?;
    let configuration = api.place.configuration.clone();
    let work = apart(move || {
        let _one = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            wait_for_others(&configuration);
            let prepared = prepare(&configuration, &changes)?;
            match replace(&configuration.file, &prepared)? {
                Written::Left => {}
                Written::Replaced => return Ok((prepared.changed, None)),
                Written::NotForced(why) => return Ok((prepared.changed, Some(why))),
            }
        }
        let file = configuration.file.display();
        Err(ApiError::conflict(format!(
            "nothing was changed: {file} is being changed by somebody else; try again"
        )))
    });
    let (changed, not_forced) = work.await?;
    api.asked.settings_changed().await?;
    match not_forced {
        None => Ok(Json(changed)),
        Some(why) => Err(ApiError::failed(format!(
            "the change is made, and a power failure may still take it back: {why}"
        ))),
    }
}

/// What somebody has changed by hand is in force half a second later. Blocks until then, or for [`OTHERS_LIMIT`].
#[allow(clippy::disallowed_methods)] // A limit on waiting, measured where one waits.
fn wait_for_others(configuration: &Configuration) {
    let begun = Instant::now();
    while !configuration.is_told(&read_whole(&configuration.file)) && begun.elapsed() < OTHERS_LIMIT {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Files are waited for, but not here.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::failed(error.to_string()))?
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Map<String, Value>, ApiError> {
    let body = body.map_err(|_| ApiError::too_large())?;
    let form = r#"the body must be {"settings": {"<key>": <value>, …}}"#;
    let changes: Changes =
        serde_json::from_slice(&body).map_err(|error| ApiError::invalid(format!("{form}: {error}")))?;
    if changes.settings.is_empty() {
        return Err(ApiError::invalid(format!("{form}, and there is no setting in it")));
    }
    Ok(changes.settings)
}

/// A change that can be made.
struct Prepared {
    /// What the file holds; `None` when there is none.
    before: Option<String>,
    /// The same with the changes, valid together with all other layers.
    text: String,
    /// What that means.
    changed: wire::Changed,
}

/// The file's text; `None` when there is none. A link is followed.
fn text_of(file: &Path) -> io::Result<Option<String>> {
    text_in(read_whole(file), file)
}

/// The same, of what was read from it.
fn text_in(bytes: io::Result<Vec<u8>>, file: &Path) -> io::Result<Option<String>> {
    match bytes {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !file.is_symlink() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What came of writing the file.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    Replaced,
    /// Replaced, but a power failure may take that back: why.
    NotForced(String),
    /// It no longer held what it did, and was left alone.
    Left,
}

/// Replaces the file, unless it holds something else by now. A file that is a link stays one: what it points to is
/// replaced, and keeps its mode and, as far as this process may give it away, its owner.
fn replace(file: &Path, prepared: &Prepared) -> Result<Written, ApiError> {
    let (real, mode, owner) = match fs::metadata(file) {
        Ok(data) => {
            let real = fs::canonicalize(file).map_err(|error| not_written(&error))?;
            (real, data.permissions().mode() & 0o7777, Some((data.uid(), data.gid())))
        }
        Err(_) => (file.to_owned(), NEW_MODE, None),
    };
    let unchanged = || text_of(file).is_ok_and(|now| now == prepared.before);
    written(durable::write_atomic_if(&real, prepared.text.as_bytes(), mode, owner, unchanged))
}

fn written(tried: Result<bool, DurableError>) -> Result<Written, ApiError> {
    match tried {
        Ok(true) => Ok(Written::Replaced),
        Ok(false) => Ok(Written::Left),
        Err(error @ DurableError::NotForced { .. }) => Ok(Written::NotForced(said(&error))),
        Err(error) => Err(not_written(&error)),
    }
}

fn not_written(error: &dyn std::error::Error) -> ApiError {
    ApiError::failed(format!("nothing was changed: {}", said(error)))
}

/// What is to be written, or everything that is wrong.
fn prepare(configuration: &Configuration, changes: &Map<String, Value>) -> Result<Prepared, ApiError> {
    let bytes = read_whole(&configuration.file);
    // With one setting in it the file would be taken, and every other setting would be lost for good.
    if let Some(lost) = configuration.lost(&bytes) {
        return Err(ApiError::conflict(format!("nothing was changed: {lost}")));
    }
    // With a change in it the half of a file would be taken for a whole one.
    if !configuration.is_told(&bytes) {
        return Err(ApiError::conflict(format!(
            "nothing was changed: {} was changed just now, and that is not in force yet; look at it and try again",
            configuration.file.display()
        )));
    }
    let before = (configuration.read)(None).map_err(invalid)?;
    let present = text_in(bytes, &configuration.file).map_err(|error| {
        ApiError::failed(format!("cannot read {}: {error}", configuration.file.display()))
    })?;
    let mut document: DocumentMut = present
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(|error: toml_edit::TomlError| ApiError::failed(error.to_string()))?;
    let mut wrong = Vec::new();
    for (key, value) in changes {
        match changeable(key).and_then(|setting| Ok((setting, item(key, value)?))) {
            Ok((setting, item)) => put(&mut document, setting.key, item),
            Err(what) => wrong.push(what),
        }
    }
    let text = Some(document.to_string()).filter(|text| !text.trim().is_empty());
    let text = text.unwrap_or_else(|| NOTHING_SET.into());
    let after = match (configuration.read)(Some(text.clone())) {
        Ok(after) if wrong.is_empty() => after,
        Ok(_) => return Err(invalid(wrong)),
        // What is wrong with the others is said as well: all of it at once.
        Err(errors) => return Err(invalid(wrong.into_iter().chain(errors).collect())),
    };
    let changed = wire::Changed::of(&configuration.file, &before, &after, changes.keys());
    Ok(Prepared { before: present, text, changed })
}

fn invalid(errors: Vec<String>) -> ApiError {
    ApiError::invalid(format!("nothing was changed: {}", errors.join("; ")))
}

/// The setting with this key, if it can be changed from here.
pub(super) fn changeable(key: &str) -> Result<&'static Setting, String> {
    let Some(found) = setting(key) else {
        let key: String = key.chars().take(64).collect();
        let near = near(&key, TABLE.iter().map(|setting| setting.key));
        return Err(format!("there is no setting {key:?}{}", did_you_mean(&near)));
    };
    let guarded = key.starts_with("api.") || key == "hooks.pre_upgrade" || key == "logs.file";
    if guarded || found.applies == Applies::SupervisorRestart {
        return Err(format!(
            "{key} is not changed over the API: change it in the file on the machine itself"
        ));
    }
    Ok(found)
}

/// A value as the file holds it; `None` takes it out of the file.
fn item(key: &str, value: &Value) -> Result<Option<Item>, String> {
    let whole = |number: &serde_json::Number| number.as_i64().filter(|number| *number >= 0);
    let item = match value {
        Value::Null => return Ok(None),
        Value::Bool(flag) => toml_edit::value(*flag),
        Value::String(text) => toml_edit::value(text.as_str()),
        Value::Number(number) => match whole(number) {
            Some(whole) => toml_edit::value(whole),
            None => return Err(format!("{key} = {number}: not a whole number from 0")),
        },
        Value::Array(items) => {
            let texts: Option<toml_edit::Array> = items.iter().map(Value::as_str).collect();
            toml_edit::value(texts.ok_or_else(|| format!("{key}: not a list of texts"))?)
        }
        Value::Object(_) => return Err(format!("{key}: a value was expected, not an object")),
    };
    Ok(Some(item))
}

fn put(document: &mut DocumentMut, key: &str, item: Option<Item>) {
    let (table, name) = match key.split_once('.') {
        None => (document.as_table_mut(), key),
        Some((group, _)) if item.is_none() && !document.contains_key(group) => return,
        Some((group, name)) => {
            let group = document.entry(group).or_insert_with(|| Item::Table(Table::new()));
            match group.as_table_like_mut() {
                Some(table) => return put_in(table, name, item),
                // The file as it is has been read before: a group is a table in it.
                None => return,
            }
        }
    };
    put_in(table, name, item);
}

fn put_in(table: &mut dyn toml_edit::TableLike, name: &str, item: Option<Item>) {
    match (item, table.get_mut(name)) {
        (None, _) => drop(table.remove(name)),
        // What stands around the value, such as a comment behind it, stays.
        (Some(new), Some(old)) => match (old.as_value_mut(), new.into_value()) {
            (Some(old), Ok(mut value)) => {
                *value.decor_mut() = old.decor().clone();
                *old = value;
            }
            (_, Ok(value)) => *table.entry(name).or_insert(Item::None) = Item::Value(value),
            (_, Err(item)) => *table.entry(name).or_insert(Item::None) = item,
        },
        (Some(new), None) => drop(table.insert(name, new)),
    }
}

impl wire::Settings {
    fn of(file: &Path, resolved: &Resolved) -> Self {
        let settings = resolved.rows().iter().map(wire::Setting::of).collect();
        Self { file: file.display().to_string(), settings }
    }
}

impl wire::Setting {
    fn of(row: &Row) -> Self {
        Self {
            key: row.key.into(),
            value: row.value.clone(),
            default: setting(row.key).map(Setting::default_text).unwrap_or_default(),
            origin: row.origin.to_string(),
            applies: row.applies.as_str().into(),
            kind: setting(row.key).map(|setting| setting.kind().to_string()).unwrap_or_default(),
            changeable: changeable(row.key).is_ok(),
            doc: row.doc.into(),
        }
    }
}

impl wire::Changed {
    fn of<'a>(
        file: &Path,
        before: &Resolved,
        after: &Resolved,
        keys: impl Iterator<Item = &'a String>,
    ) -> Self {
        let (before, after) = (before.rows(), after.rows());
        let keys: Vec<&String> = keys.collect();
        let is_meant = |row: &&Row| keys.iter().any(|key| *key == row.key);
        let changed = after.iter().filter(is_meant).map(|row| {
            let old = before.iter().find(|old| old.key == row.key);
            wire::Change {
                key: row.key.into(),
                before: old.map(|old| old.value.clone()).unwrap_or_default(),
                value: row.value.clone(),
                origin: row.origin.to_string(),
                applies: row.applies.as_str().into(),
            }
        });
        Self { file: file.display().to_string(), changes: changed.collect() }
    }
}

#[cfg(test)]
mod tests;
