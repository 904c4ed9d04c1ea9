//! The layers, laid over each other: defaults < `config.toml` < environment < flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::rules;
use super::table::{Setting, TABLE, setting};
use super::value::Given;
use super::{Settings, file};
use crate::near::{MAX_SUGGESTIONS, did_you_mean, near};

/// What was given, layer by layer, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The name (for messages) and the text of `config.toml`, if there is one.
    pub file: Option<(String, String)>,
    /// The environment. A variable that is set but empty counts as not set.
    pub env: Vec<(String, String)>,
    /// Keys of the table with the texts that flags gave; a later one goes before an earlier one.
    pub flags: Vec<(String, String)>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// `config.toml`.
    File {
        /// The file, as it was named in [`Layers::file`].
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// This environment variable.
    Environment(&'static str),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name} line {line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// The settings that hold, and where each comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The values.
    pub settings: Settings,
    /// The origin of each key that is not at its default.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What should be said but is no error.
    pub warnings: Vec<Warning>,
}

impl Resolved {
    /// Where the value of this key comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// One thing that is wrong with what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// `config.toml` is not TOML.
    #[error("{file} line {line}, column {column}: {what}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What the parser says.
        what: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting {key:?}{}", did_you_mean(near))]
    UnknownKey {
        /// Where it was given.
        origin: Origin,
        /// The key.
        key: String,
        /// What may have been meant.
        near: Vec<&'static str>,
    },
    /// A value that is not of the setting's kind.
    #[error("{origin}: {key} = {found}: {why}")]
    BadValue {
        /// Where it was given.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// The value, without secrets.
        found: String,
        /// What was expected instead.
        why: String,
    },
    /// A value that is of its kind but cannot be, alone or beside others.
    #[error("{}: {what}", .keys.join(", "))]
    Rule {
        /// The settings that the rule is about.
        keys: &'static [&'static str],
        /// What is wrong.
        what: String,
    },
    /// A path begins with `~/`, and it is not known where that is.
    #[error("{key}: {path:?} begins in the user's own directory, but HOME is not set")]
    NoUserHome {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

/// Something that should be said but changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A variable with one of our prefixes that means nothing.
    #[error("the environment variable {name} means nothing to wemixvisor{}", did_you_mean(near))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// What may have been meant.
        near: Vec<&'static str>,
    },
    /// A variable that asks for something this version does not do.
    #[error("{name}={value}: {what} not supported by this version")]
    NotSupported {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it asks for, with its verb.
        what: &'static str,
    },
}

/// Variables of features that are not there yet: the name, the values that do *not* ask for the feature
/// (in lower case), and what it would be.
const NOT_SUPPORTED: [(&str, &[&str], &str); 5] = [
    ("DAEMON_DATA_BACKUP_DIR", &[], "backups before an upgrade are"),
    ("UNSAFE_SKIP_BACKUP", &["true", "1", "yes"], "backups before an upgrade are"),
    ("DAEMON_ALLOW_DOWNLOAD_BINARIES", &["false", "0", "no"], "downloading programs is"),
    ("DAEMON_DOWNLOAD_MUST_HAVE_CHECKSUM", &["true", "1", "yes"], "downloading programs is"),
    ("UNSAFE_SKIP_CHECKSUM", &["false", "0", "no"], "skipping a checksum is"),
];

/// Variables with these beginnings are meant for a supervisor.
const PREFIXES: [&str; 2] = ["DAEMON_", "COSMOVISOR_"];

/// Lays the layers over each other and checks the result. The errors are all there are, in the order of the
/// layers; a rule is not applied to a setting whose value could not be read.
pub fn resolve(layers: &Layers) -> Result<Resolved, Vec<SettingError>> {
    let mut merge = Merge::default();
    if let Some((name, text)) = &layers.file {
        merge.file(name, text);
    }
    for setting in TABLE {
        if let Some(value) = variable(layers, setting.env) {
            merge.set(setting, &Given::Text(value.into()), Origin::Environment(setting.env));
        }
    }
    for (key, value) in &layers.flags {
        merge.set_key(key, &Given::Text(value.clone()), Origin::Flag);
    }
    merge.expand_paths(variable(layers, "HOME"));
    merge.check_rules();
    if !merge.errors.is_empty() {
        return Err(merge.errors);
    }
    Ok(Resolved { settings: merge.settings, origins: merge.origins, warnings: warnings(layers) })
}

fn variable<'a>(layers: &'a Layers, name: &str) -> Option<&'a str> {
    layers
        .env
        .iter()
        .find(|(other, value)| other == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

#[derive(Default)]
struct Merge {
    settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
    unread: BTreeSet<&'static str>,
    errors: Vec<SettingError>,
}

impl Merge {
    fn file(&mut self, name: &str, text: &str) {
        match file::entries(text) {
            Ok(entries) => {
                for entry in entries {
                    let origin = Origin::File { name: name.into(), line: entry.line };
                    self.set_key(&entry.key, &entry.given, origin);
                }
            }
            Err(faults) => self.errors.extend(faults.into_iter().map(|fault| SettingError::Syntax {
                file: name.into(),
                line: fault.line,
                column: fault.column,
                what: fault.what,
            })),
        }
    }

    fn set_key(&mut self, key: &str, given: &Given, origin: Origin) {
        match setting(key) {
            Some(setting) => self.set(setting, given, origin),
            None => {
                let near = near_keys(key);
                self.errors.push(SettingError::UnknownKey { origin, key: key.into(), near });
            }
        }
    }

    fn set(&mut self, setting: &'static Setting, given: &Given, origin: Origin) {
        let key = setting.key;
        match setting.set(&mut self.settings, given) {
            Ok(()) => {
                self.origins.insert(key, origin);
            }
            Err(why) => {
                self.unread.insert(key);
                self.errors.push(SettingError::BadValue { origin, key, found: given.to_string(), why });
            }
        }
    }

    fn expand_paths(&mut self, user_home: Option<&str>) {
        let Settings { home, data_dir, wemixvisor_dir, hooks, logs, .. } = &mut self.settings;
        let paths = [
            ("home", Some(home)),
            ("data_dir", data_dir.as_mut()),
            ("wemixvisor_dir", wemixvisor_dir.as_mut()),
            ("hooks.pre_upgrade", hooks.pre_upgrade.as_mut()),
            ("logs.file", logs.file.as_mut()),
        ];
        for (key, path) in paths {
            let Some(path) = path else { continue };
            let Ok(rest) = path.strip_prefix("~") else { continue };
            match user_home {
                Some(user_home) if rest.as_os_str().is_empty() => *path = user_home.into(),
                Some(user_home) => *path = Path::new(user_home).join(rest),
                None => {
                    self.unread.insert(key);
                    self.errors.push(SettingError::NoUserHome { key, path: path.clone() });
                }
            }
        }
    }

    fn check_rules(&mut self) {
        for rules::Broken { keys, what } in rules::broken(&self.settings) {
            if !keys.iter().any(|key| self.unread.contains(key)) {
                self.errors.push(SettingError::Rule { keys, what });
            }
        }
    }
}

fn warnings(layers: &Layers) -> Vec<Warning> {
    let mut found = Vec::new();
    for (name, quiet, what) in NOT_SUPPORTED {
        let value =
            variable(layers, name).filter(|value| !quiet.contains(&value.to_ascii_lowercase().as_str()));
        if let Some(value) = value {
            found.push(Warning::NotSupported { name, value: value.into(), what });
        }
    }
    let known =
        || TABLE.iter().map(|setting| setting.env).chain(NOT_SUPPORTED.iter().map(|(name, ..)| *name));
    for (name, _) in layers.env.iter().filter(|(_, value)| !value.is_empty()) {
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !known().any(|other| other == name) {
            found.push(Warning::UnknownVariable { name: name.clone(), near: near(name, known()) });
        }
    }
    found
}

/// The keys that may have been meant: the same word in another group first, then the near ones.
fn near_keys(key: &str) -> Vec<&'static str> {
    let word = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
    let wanted = key.rsplit('.').next().unwrap_or(key);
    let keys = || TABLE.iter().map(|setting| setting.key);
    let groups = keys().filter_map(|key| Some(key.split_once('.')?.0));
    let mut found: Vec<&'static str> = keys().filter(|key| word(key) == wanted).collect();
    found.extend(near(key, keys().chain(groups)));
    for close in near(wanted, keys().map(word)) {
        found.extend(keys().filter(|key| word(key) == close));
    }
    let mut seen = BTreeSet::new();
    found.retain(|key| seen.insert(*key));
    found.truncate(MAX_SUGGESTIONS);
    found
}
