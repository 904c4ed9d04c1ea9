//! A plan: the announcement that at a height the node's program is to be replaced by another one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::head::Height;

/// The highest height a plan may name: 2^63 − 1 (PRODUCT.md section 3).
pub const MAX_PLAN_HEIGHT: Height = i64::MAX as u64;

/// What `current` is said to be when it leads to the program that the home began with.
pub const FIRST_PROGRAM: &str = "genesis";

/// The longest name of an upgrade, in characters: it is a directory name.
pub const MAX_NAME_LENGTH: usize = 128;

/// The name of an upgrade, which is the name of its directory under `upgrades/`: 1–128 characters of
/// `A–Z a–z 0–9 . _ - +`, not starting with a dot. Case is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanName(String);

/// A text that cannot be the name of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing was given.
    #[error("an upgrade's name must not be empty")]
    Empty,
    /// More than [`MAX_NAME_LENGTH`] characters.
    #[error("an upgrade's name has at most {MAX_NAME_LENGTH} characters, this one has {0}")]
    TooLong(usize),
    /// It would be a hidden directory, or `.` or `..`.
    #[error("an upgrade's name must not start with a dot: {0:?}")]
    LeadingDot(String),
    /// The name of the first program.
    #[error("an upgrade cannot have the name {FIRST_PROGRAM:?}: that is the first program's")]
    FirstProgram,
    /// A character outside the allowed ones.
    #[error("an upgrade's name is made of A–Z a–z 0–9 . _ - +, but {0:?} contains {1:?}")]
    Character(String, char),
}

impl PlanName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlanName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let length = text.chars().count();
        if length == 0 {
            return Err(BadName::Empty);
        }
        if length > MAX_NAME_LENGTH {
            return Err(BadName::TooLong(length));
        }
        if text == FIRST_PROGRAM {
            return Err(BadName::FirstProgram);
        }
        if text.starts_with('.') {
            return Err(BadName::LeadingDot(text.into()));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-+".contains(*c))) {
            Some(c) => Err(BadName::Character(text.into(), c)),
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for PlanName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<PlanName> for String {
    fn from(name: PlanName) -> String {
        name.0
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a plan fires, relative to its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SwitchMode {
    /// At the first observed head at or above the height.
    #[default]
    At,
    /// At the first observed head at or above the height − 1: the first block at the height is made by the
    /// new program.
    Before,
    /// Any time in the last so many blocks before the height, staggered over the nodes; at the latest at the
    /// height − 1.
    Window(u64),
    /// When the head has stood still at the height − 1, or the node went down by itself there.
    Halted,
    /// Only by an explicit order.
    Manual,
}

/// A text that names no switch mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no switch mode: at, before, window:<blocks> (at least 1), halted, manual")]
pub struct BadSwitchMode(pub String);

impl FromStr for SwitchMode {
    type Err = BadSwitchMode;

    fn from_str(text: &str) -> Result<Self, BadSwitchMode> {
        match text {
            "at" => Ok(Self::At),
            "before" => Ok(Self::Before),
            "halted" => Ok(Self::Halted),
            "manual" => Ok(Self::Manual),
            _ => match text.strip_prefix("window:").map(str::parse) {
                Some(Ok(blocks)) if blocks > 0 => Ok(Self::Window(blocks)),
                _ => Err(BadSwitchMode(text.into())),
            },
        }
    }
}

impl TryFrom<String> for SwitchMode {
    type Error = BadSwitchMode;

    fn try_from(text: String) -> Result<Self, BadSwitchMode> {
        text.parse()
    }
}

impl From<SwitchMode> for String {
    fn from(mode: SwitchMode) -> String {
        mode.to_string()
    }
}

impl fmt::Display for SwitchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At => f.write_str("at"),
            Self::Before => f.write_str("before"),
            Self::Window(blocks) => write!(f, "window:{blocks}"),
            Self::Halted => f.write_str("halted"),
            Self::Manual => f.write_str("manual"),
        }
    }
}

/// One scheduled upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The upgrade's name, unique among the scheduled ones.
    pub name: PlanName,
    /// The height it is bound to: 1 … [`MAX_PLAN_HEIGHT`].
    pub height: Height,
    /// Description, downloads and checksums.
    pub info: PlanInfo,
    /// When it fires, relative to the height.
    pub switch: SwitchMode,
    /// The new program's arguments; `None` keeps the ones the node runs with.
    pub args: Option<Vec<String>>,
    /// Environment variables set, in addition, for the new program.
    pub env: BTreeMap<String, String>,
    /// A text that `web3_clientVersion` or the `version` output of the new program must contain.
    pub expect_version: Option<String>,
}

/// What a plan says about where its program comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanInfo {
    /// For people.
    pub description: Option<String>,
    /// Download addresses by platform (`linux/amd64`, `any`).
    pub binaries: BTreeMap<String, String>,
    /// Checksums by platform, as `sha256:<hex>` or `sha512:<hex>`.
    pub checksums: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
