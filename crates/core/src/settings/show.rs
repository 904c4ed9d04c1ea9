//! The table of settings for people: rows with values and origins, and the documentation.

use std::fmt::Write;

use super::Settings;
use super::layers::{Origin, Resolved};
use super::table::{Applies, Setting, TABLE};
use super::value::Kind;

/// A setting with its value, as `config show` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: &'static str,
    /// Its value as text, without secrets.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
    /// Its environment variable.
    pub env: &'static str,
    /// When a changed value takes effect.
    pub applies: Applies,
    /// What it means.
    pub doc: &'static str,
}

impl Resolved {
    /// Every setting with its value, in the order of the table.
    pub fn rows(&self) -> Vec<Row> {
        let row = |setting: &Setting| Row {
            key: setting.key,
            value: setting.show(&self.settings),
            origin: self.origin(setting.key),
            env: setting.env,
            applies: setting.applies,
            doc: setting.doc,
        };
        TABLE.iter().map(row).collect()
    }
}

impl Settings {
    /// The settings in which `newer` differs from this one, in the order of the table: what a reload brings,
    /// and when it takes effect.
    pub fn changes(&self, newer: &Settings) -> Vec<&'static Setting> {
        TABLE.iter().filter(|setting| setting.differs(self, newer)).collect()
    }
}

/// The documentation of all settings, as Markdown: one table for each group.
pub fn docs_table() -> String {
    let mut text = String::new();
    let mut group = None;
    for setting in TABLE {
        let own_group = setting.key.split_once('.').map_or("", |(group, _)| group);
        if group != Some(own_group) {
            group = Some(own_group);
            let title = if own_group.is_empty() { "General".into() } else { format!("`[{own_group}]`") };
            let _ = writeln!(text, "\n## {title}\n");
            text.push_str("| key | environment | kind | default | takes effect | meaning |\n");
            text.push_str("|---|---|---|---|---|---|\n");
        }
        let kind = match setting.kind() {
            Kind::Choice(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            kind => kind.to_string(),
        };
        let default = match setting.default_text() {
            empty if empty.is_empty() => "empty".into(),
            other => format!("`{other}`"),
        };
        let Setting { key, env, applies, doc, .. } = setting;
        let _ = writeln!(text, "| `{key}` | `{env}` | {kind} | {default} | {} | {doc} |", applies.as_str());
    }
    text
}
