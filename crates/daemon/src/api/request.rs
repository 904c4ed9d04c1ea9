//! The request to schedule an upgrade. It is read as leniently as the plan file, but what it does not know it
//! refuses: whoever calls an API wants to hear of a slip.

use serde_json::Value;
use wemixvisor_core::near::{did_you_mean, near};
use wemixvisor_core::plan::{Plan, SwitchMode};
use wemixvisor_core::plan_file::{self, PlanFileError};

/// The fields of a request.
pub(super) const FIELDS: [&str; 12] = [
    "name",
    "height",
    "info",
    "description",
    "binaries",
    "checksums",
    "checksum",
    "switch",
    "args",
    "env",
    "expect_version",
    "force",
];

/// The fields of `info`, where it is an object.
pub(super) const INFO_FIELDS: [&str; 4] = ["description", "binaries", "checksums", "checksum"];

/// From where a program can be fetched.
const SCHEMES: [&str; 3] = ["https", "http", "file"];

/// What is to be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduling {
    /// The plan.
    pub plan: Plan,
    /// Even if its height has passed or its program is pinned as bad.
    pub force: bool,
}

/// Why a text is no such request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not a JSON object.
    #[error("the body must be one JSON object: {0}")]
    NotAnObject(String),
    /// A field that means nothing.
    #[error("there is no field {field:?}{}", did_you_mean(near))]
    UnknownField {
        /// The field.
        field: String,
        /// What may have been meant.
        near: Vec<&'static str>,
    },
    /// `force` is no boolean.
    #[error("`force` takes true or false")]
    Force,
    /// The plan is not valid.
    #[error("{0}")]
    Plan(String),
    /// A checksum that can never match.
    #[error(
        "the checksum for {platform}, {checksum:?}, is none: sha256: and 64 hex digits, or sha512: and 128"
    )]
    Checksum {
        /// Its platform.
        platform: String,
        /// As given.
        checksum: String,
    },
    /// A source that is there and says nothing: left out of a plan it would be taken for consent.
    #[error("`{0}` is given but empty: give it a value, or leave it out")]
    Empty(&'static str),
    /// A window that begins before the chain does.
    #[error("a window of {blocks} blocks does not fit before height {height}: it takes at most {}", height - 1)]
    Window {
        /// As given.
        blocks: u64,
        /// The height it is to end before.
        height: u64,
    },
    /// A download that is no address.
    #[error(
        "the download for {platform}, {address:?}, is no address such as https://host/path; http, https and file are known"
    )]
    Address {
        /// Its platform.
        platform: String,
        /// As given.
        address: String,
    },
}

/// Reads a request: the fields of a plan, and `force`.
///
/// # Errors
/// [`BadRequest`].
pub fn read(text: &str) -> Result<Scheduling, BadRequest> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| BadRequest::NotAnObject(error.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err(BadRequest::NotAnObject("something else was given".into()));
    };
    check_fields(fields.keys(), &FIELDS)?;
    if let Some(Value::Object(info)) = fields.get("info") {
        check_fields(info.keys(), &INFO_FIELDS)?;
    }
    for field in ["binaries", "checksums", "checksum"] {
        let info = fields.get("info").and_then(|info| info.get(field));
        if [fields.get(field), info].into_iter().flatten().any(says_nothing) {
            return Err(BadRequest::Empty(field));
        }
    }
    let force = match fields.get("force") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(force)) => *force,
        Some(_) => return Err(BadRequest::Force),
    };
    // The text itself and not the value: a key that stands twice is refused there.
    let plan = plan_file::parse(text).map_err(in_a_request)?.pop();
    let plan = plan.ok_or_else(|| BadRequest::Plan("there is no plan".into()))?;
    check_sources(&plan)?;
    if let SwitchMode::Window(blocks) = plan.switch
        && blocks >= plan.height
    {
        return Err(BadRequest::Window { blocks, height: plan.height });
    }
    Ok(Scheduling { plan, force })
}

/// An empty text, or an object without entries.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn check_fields<'a>(
    mut given: impl Iterator<Item = &'a String>,
    known: &[&'static str],
) -> Result<(), BadRequest> {
    match given.find(|field| !known.contains(&field.as_str())) {
        None => Ok(()),
        Some(field) => {
            let near = near(field, known.iter().copied());
            Err(BadRequest::UnknownField { field: field.clone(), near })
        }
    }
}

fn in_a_request(error: PlanFileError) -> BadRequest {
    BadRequest::Plan(match error {
        PlanFileError::Plan { fault, .. } => fault.to_string(),
        PlanFileError::Syntax { line, column, what } => format!("line {line}, column {column}: {what}"),
        other => other.to_string(),
    })
}

fn check_sources(plan: &Plan) -> Result<(), BadRequest> {
    let is_sum = |text: &String| {
        let (kind, digits) = text.split_once(':').unwrap_or_default();
        let length = match kind {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let is_address = |text: &String| {
        let known = |scheme: &str| SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
        text.split_once("://").is_some_and(|(scheme, rest)| known(scheme) && !rest.is_empty())
    };
    if let Some((platform, checksum)) = plan.info.checksums.iter().find(|(_, sum)| !is_sum(sum)) {
        return Err(BadRequest::Checksum { platform: platform.clone(), checksum: checksum.clone() });
    }
    if let Some((platform, address)) = plan.info.binaries.iter().find(|(_, address)| !is_address(address)) {
        return Err(BadRequest::Address { platform: platform.clone(), address: address.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_leniently_as_the_plan_file() {
        let sum = "a".repeat(64);
        let text = format!(
            r#"{{"name": "v2", "height": "1500", "info": "words", "checksum": "{sum}", "switch": "before", "force": true}}"#
        );
        let Scheduling { plan, force } = read(&text).unwrap();
        assert_eq!((plan.name.as_str(), plan.height, force), ("v2", 1500, true));
        assert_eq!(plan.info.description.as_deref(), Some("words"));
        assert_eq!(plan.info.checksums["any"], format!("sha256:{sum}"));
        assert!(!read(r#"{"name": "v2", "height": 7}"#).unwrap().force);
        for binaries in ["https://h/x", "HTTP://h/x", "file:///opt/v2"] {
            let text =
                format!(r#"{{"name": "v2", "height": 7, "switch": "window:6", "binaries": "{binaries}"}}"#);
            assert_eq!(read(&text).unwrap().plan.info.binaries["any"], binaries);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (text, part) in [
            ("", "one JSON object"),
            ("[]", "one JSON object: something else"),
            (r#"{"name": "v2", "hight": 7}"#, r#"no field "hight" (did you mean height?)"#),
            (r#"{"name": "v2", "height": 7, "info": {"binary": "x"}}"#, r#"no field "binary""#),
            (r#"{"name": "v2", "height": 7, "height": 8}"#, "stands twice"),
            (r#"{"name": "v2", "height": 7, "force": 1}"#, "`force` takes"),
            (r#"{"height": 7}"#, "`name` is missing"),
            (r#"{"name": "a/b", "height": 7}"#, "`name`: an upgrade's name is made of"),
            (r#"{"name": "v2", "height": 0}"#, "whole number from 1"),
            (r#"{"name": "v2", "height": 7, "switch": "soon"}"#, "no switch mode"),
            (r#"{"name": "v2", "height": 7, "checksum": "sha256:12"}"#, "64 hex digits"),
            (r#"{"name": "v2", "height": 7, "binaries": "here"}"#, "no address"),
            (r#"{"name": "v2", "height": 7, "binaries": "ftp://host/v2"}"#, "http, https and file are known"),
            (r#"{"name": "v2", "height": 7, "binaries": "https://"}"#, "no address"),
            (r#"{"name": "v2", "height": 7, "binaries": ""}"#, "`binaries` is given but empty"),
            (r#"{"name": "v2", "height": 7, "checksum": " "}"#, "`checksum` is given but empty"),
            (r#"{"name": "v2", "height": 7, "info": {"checksums": {}}}"#, "`checksums` is given but empty"),
            (r#"{"name": "v2", "height": 7, "switch": "window:7"}"#, "it takes at most 6"),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
