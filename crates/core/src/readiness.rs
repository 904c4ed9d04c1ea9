//! Is a waiting plan ready to be carried out? Long before its height (PRODUCT.md section 4, prepare).

use serde::{Deserialize, Serialize};

/// The result of preparing a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Check {
    /// One finding a question, in the order in which they were asked.
    pub findings: Vec<Finding>,
    /// The version that the new program gives itself, if it says one.
    pub version: Option<String>,
    /// The SHA-256 of the new program's file, in hex, if it could be read.
    pub sha256: Option<String>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `binary`, `checksum`, `version`, `link`, `hooks`, `disk`, `rpc`.
    pub what: String,
    /// How it stands.
    pub state: State,
    /// In words, with what to do where something is wrong.
    pub detail: String,
}

/// How one question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Good.
    Ok,
    /// Worth knowing; does not stand in the way.
    Warning,
    /// Stands in the way.
    Failed,
}

impl Check {
    /// Adds a finding.
    pub fn add(&mut self, what: &str, state: State, detail: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), state, detail: detail.into() });
    }

    /// Whether nothing stands in the way.
    pub fn is_ready(&self) -> bool {
        !self.findings.is_empty() && self.problems().is_empty()
    }

    /// What stands in the way, in words.
    pub fn problems(&self) -> Vec<&str> {
        let failed = |finding: &&Finding| finding.state == State::Failed;
        self.findings.iter().filter(failed).map(|finding| finding.detail.as_str()).collect()
    }
}

/// The version that a geth-like program prints for `version`: what follows `Version:` in its own line.
pub fn version_in(output: &str) -> Option<String> {
    output
        .lines()
        .find_map(|line| line.trim().strip_prefix("Version:"))
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_without_findings_is_not_ready() {
        let mut check = Check::default();
        assert!(!check.is_ready());
        check.add("binary", State::Ok, "fine");
        check.add("version", State::Warning, "says none");
        assert!(check.is_ready());
        check.add("disk", State::Failed, "full");
        assert!(!check.is_ready());
        assert_eq!(check.problems(), ["full"]);
    }

    #[test]
    fn the_version_is_read_from_its_own_line() {
        let output = "Gwemix\nVersion: 0.10.9-stable\nGit Commit: 53273fcb\nGo Version: go1.19\n";
        assert_eq!(version_in(output).as_deref(), Some("0.10.9-stable"));
        assert_eq!(version_in("anvil 1.4.4"), None);
        assert_eq!(version_in("Version:\n"), None);
    }
}
