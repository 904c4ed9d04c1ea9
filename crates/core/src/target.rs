//! What `current` can point to: the program the home began with, or an installed upgrade.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::{FIRST_PROGRAM, PlanName};

/// One installed program of a home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// `genesis/`: the program given to `init`.
    Genesis,
    /// `upgrades/<name>/`.
    Upgrade(PlanName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis => f.write_str(FIRST_PROGRAM),
            Self::Upgrade(name) => name.fmt(f),
        }
    }
}
