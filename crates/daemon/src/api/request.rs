//! The request to schedule an upgrade. It is read as leniently as the plan file, but what it does not know it
//! refuses: whoever calls an API wants to hear of a slip.

use serde_json::Value;
use wemixvisor_core::near::{did_you_mean, near};
use wemixvisor_core::plan::Plan;
use wemixvisor_core::plan_file::{self, PlanFileError};

/// The fields of a request.
const FIELDS: [&str; 12] = [
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
const INFO_FIELDS: [&str; 4] = ["description", "binaries", "checksums", "checksum"];

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
    /// A download that is no address.
    #[error("the download for {platform}, {address:?}, is no address such as https://host/path")]
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
    let force = match fields.get("force") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(force)) => *force,
        Some(_) => return Err(BadRequest::Force),
    };
    // The text itself and not the value: a key that stands twice is refused there.
    let plan = plan_file::parse(text).map_err(in_a_request)?.pop();
    let plan = plan.ok_or_else(|| BadRequest::Plan("there is no plan".into()))?;
    check_sources(&plan)?;
    Ok(Scheduling { plan, force })
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
        text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
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
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
