//! What lies around the node: its log, the settings.

use serde::{Deserialize, Serialize};

/// `GET /api/v1/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeLog {
    /// The log's file.
    pub path: String,
    /// Its last lines. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub lines: Vec<String>,
}

/// `GET /api/v1/config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Settings {
    /// The settings file.
    pub file: String,
    /// Every setting.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value as text, without secrets.
    pub value: String,
    /// Its default as text.
    pub default: String,
    /// Where the value comes from.
    pub origin: String,
    /// When a changed value takes effect: `at once`, `node restart`, `supervisor restart`.
    pub applies: String,
    /// The kind of its value.
    pub kind: String,
    /// Whether it can be changed over the API.
    pub changeable: bool,
    /// What it means.
    pub doc: String,
}

/// `PUT /api/v1/config`, `POST /api/v1/config/validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Changed {
    /// The settings file.
    pub file: String,
    /// What becomes of the settings that were named.
    pub changes: Vec<Change>,
}

/// One setting that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// Its value before.
    pub before: String,
    /// Its value from then on: the environment and flags go before the file.
    pub value: String,
    /// Where that comes from.
    pub origin: String,
    /// When it takes effect.
    pub applies: String,
}
