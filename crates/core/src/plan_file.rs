//! `upgrade-info.json`: the scheduled plans as text (PRODUCT.md section 3).
//!
//! The file holds one plan, or an array of plans; `[]` is nothing scheduled. People and other programs write
//! it too, so it is read leniently; but what could mean two things is refused. Rewriting changes only the
//! plan it is about: the other plans keep every value and every field, known or not. (Numbers beyond 64 bits
//! in unknown fields are rounded.)

use serde_json::{Map, Value};

use crate::head::Height;
use crate::plan::{BadName, BadSwitchMode, MAX_PLAN_HEIGHT, Plan, PlanName};

mod fields;
mod strict;

use strict::Strict;

/// The largest plan file that is read or written, in bytes.
pub const MAX_PLAN_FILE: usize = 1024 * 1024;

/// The most plans that wait at one time: each is prepared again and again. Chains announce one or two.
pub const MAX_PLANS: usize = 100;

/// Why a text is no plan file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFileError {
    /// More than [`MAX_PLAN_FILE`].
    #[error("the plan file has {0} bytes, the most is {MAX_PLAN_FILE}")]
    TooLarge(usize),
    /// More than [`MAX_PLANS`].
    #[error("the plan file holds {0} plans, the most is {MAX_PLANS}")]
    TooMany(usize),
    /// Nothing, or only white space: perhaps somebody is about to write. `[]` means nothing scheduled.
    #[error("the plan file is empty (for no plans it holds [])")]
    Empty,
    /// Not JSON, or JSON with a key twice in one object.
    #[error("the plan file is not valid: line {line}, column {column}: {what}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
        /// What the parser says.
        what: String,
    },
    /// JSON, but neither a plan nor an array.
    #[error("the plan file holds {found}, but it takes a plan or an array of plans")]
    NotPlans {
        /// What it holds.
        found: String,
    },
    /// One plan is wrong.
    #[error("{plan}: {fault}")]
    Plan {
        /// Which one.
        plan: Which,
        /// What is wrong with it. Not a source: the message contains it.
        fault: PlanFault,
    },
    /// Two plans at one height.
    #[error("the plans {first} and {second} are both at height {height}")]
    SameHeight {
        /// The one that stands first in the file.
        first: PlanName,
        /// The other one.
        second: PlanName,
        /// Their height.
        height: Height,
    },
    /// One name for two plans.
    #[error("the name {name} is used for two plans, at heights {first} and {second}")]
    SameName {
        /// The name.
        name: PlanName,
        /// The height of the one that stands first in the file.
        first: Height,
        /// The height of the other one.
        second: Height,
    },
}

/// A plan in a file, as well as it can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Its place in the array, from 1; `None` for a file that holds one plan.
    pub place: Option<usize>,
    /// Its name, as far as it is a text.
    pub name: Option<String>,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.place, &self.name) {
            (None, None) => f.write_str("the plan"),
            (None, Some(name)) => write!(f, "the plan {name:?}"),
            (Some(place), None) => write!(f, "plan {place} of the file"),
            (Some(place), Some(name)) => write!(f, "plan {place} of the file ({name:?})"),
        }
    }
}

/// What is wrong with one plan. Fields are named as in the file, such as `info.checksums`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// An item of the array is no object.
    #[error("an object was expected, not {0}")]
    NotAnObject(String),
    /// A field that must be there is not.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field holds something else than it takes.
    #[error("`{field}` takes {takes}, not {found}")]
    Field {
        /// The field.
        field: String,
        /// What it takes.
        takes: &'static str,
        /// What it holds.
        found: String,
    },
    /// The name is none.
    #[error("`name`: {0}")]
    Name(BadName),
    /// The height is a number outside 1 … [`MAX_PLAN_HEIGHT`].
    #[error("`height` is {0}, but it must be a whole number from 1 to {MAX_PLAN_HEIGHT}")]
    Height(String),
    /// The switch mode is none.
    #[error("`switch`: {0}")]
    Switch(BadSwitchMode),
    /// `info` is a text that begins like JSON and is none.
    #[error("`info` is a text that begins like a JSON object, but is none: {0}")]
    Info(String),
    /// One thing is said twice, and not the same.
    #[error("there are two different values for `{field}` of {platform}")]
    Contradiction {
        /// The field: `binaries` or `checksums`.
        field: &'static str,
        /// The platform.
        platform: String,
    },
}

/// Reads a plan file. The plans come in the order of their heights; none for `[]`.
///
/// # Errors
/// Anything that is not certainly a valid list of plans, with the place. An empty file, `{}` and `null` are
/// errors too: they are more likely a write under way than the wish to schedule nothing.
pub fn parse(text: &str) -> Result<Vec<Plan>, PlanFileError> {
    let mut plans = File::read(text)?.plans()?;
    plans.sort_by_key(|plan| plan.height);
    Ok(plans)
}

/// The file `text` (`None` where there is none) with `plan` in it, instead of the one with its name if there
/// is one; unknown fields of that one are kept. One plan is written as an object, several as an array in the
/// order of their heights.
///
/// # Errors
/// A text that cannot be read is not overwritten; a height that another plan has is refused.
pub fn schedule(text: Option<&str>, plan: &Plan) -> Result<String, PlanFileError> {
    let mut file = text.map_or(Ok(File::default()), File::read)?;
    let plans = file.plans()?;
    match plans.iter().position(|other| other.name == plan.name) {
        Some(at) => fields::write(&mut file.items[at], plan),
        None => {
            let mut item = Map::new();
            fields::write(&mut item, plan);
            file.items.push(item);
        }
    }
    file.write()
}

/// The file `text` without the plan of this name; `None` if it holds no such plan. When none is left the
/// file is `[]`.
///
/// # Errors
/// A text that cannot be read is not overwritten.
pub fn remove(text: &str, name: &PlanName) -> Result<Option<String>, PlanFileError> {
    remove_where(text, |plan| plan.name == *name)
}

/// The same for a plan that was carried out: only while it is bound to this height. By then a person may have put
/// another one under the same name.
///
/// # Errors
/// [`PlanFileError`].
pub fn remove_finished(text: &str, name: &PlanName, height: Height) -> Result<Option<String>, PlanFileError> {
    remove_where(text, |plan| plan.name == *name && plan.height == height)
}

fn remove_where(text: &str, is_meant: impl Fn(&Plan) -> bool) -> Result<Option<String>, PlanFileError> {
    let mut file = File::read(text)?;
    let plans = file.plans()?;
    let Some(at) = plans.iter().position(is_meant) else { return Ok(None) };
    file.items.remove(at);
    file.write().map(Some)
}

/// A file as JSON: its items are objects, but not yet plans.
#[derive(Default)]
struct File {
    items: Vec<Map<String, Value>>,
    /// Whether it holds one object and no array.
    single: bool,
}

impl File {
    fn read(text: &str) -> Result<Self, PlanFileError> {
        if text.len() > MAX_PLAN_FILE {
            return Err(PlanFileError::TooLarge(text.len()));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(PlanFileError::Empty);
        }
        match serde_json::from_str(text).map(|Strict(value)| value) {
            Ok(Value::Object(item)) => Ok(Self { items: vec![item], single: true }),
            Ok(Value::Array(values)) => {
                let items = values.into_iter().enumerate().map(|(at, value)| match value {
                    Value::Object(item) => Ok(item),
                    other => {
                        let plan = Which { place: Some(at + 1), name: None };
                        let fault = PlanFault::NotAnObject(fields::found(&other));
                        Err(PlanFileError::Plan { plan, fault })
                    }
                });
                Ok(Self { items: items.collect::<Result<_, _>>()?, single: false })
            }
            Ok(other) => Err(PlanFileError::NotPlans { found: fields::found(&other) }),
            Err(error) => Err(syntax(&error)),
        }
    }

    /// The plans, in the order of the items.
    fn plans(&self) -> Result<Vec<Plan>, PlanFileError> {
        if self.items.len() > MAX_PLANS {
            return Err(PlanFileError::TooMany(self.items.len()));
        }
        let mut plans: Vec<Plan> = Vec::with_capacity(self.items.len());
        for (at, item) in self.items.iter().enumerate() {
            let plan = fields::read(item).map_err(|fault| {
                let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
                PlanFileError::Plan { plan: Which { place: (!self.single).then_some(at + 1), name }, fault }
            })?;
            plans.push(plan);
        }
        refuse_duplicates(&plans)?;
        Ok(plans)
    }

    /// The text. It is read back first: what is written can be read.
    fn write(self) -> Result<String, PlanFileError> {
        let plans = Self { items: self.items.clone(), single: false }.plans()?;
        let mut items: Vec<(Height, Value)> =
            plans.iter().map(|plan| plan.height).zip(self.items.into_iter().map(Value::Object)).collect();
        items.sort_by_key(|(height, _)| *height);
        let mut values: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        let text = format!("{value:#}\n");
        if text.len() > MAX_PLAN_FILE { Err(PlanFileError::TooLarge(text.len())) } else { Ok(text) }
    }
}

fn refuse_duplicates(plans: &[Plan]) -> Result<(), PlanFileError> {
    let mut by_name = std::collections::BTreeMap::new();
    let mut by_height = std::collections::BTreeMap::new();
    for plan in plans {
        if let Some(first) = by_name.insert(&plan.name, plan.height) {
            let (name, second) = (plan.name.clone(), plan.height);
            return Err(PlanFileError::SameName { name, first, second });
        }
        if let Some(first) = by_height.insert(plan.height, &plan.name) {
            let (first, second, height) = (first.clone(), plan.name.clone(), plan.height);
            return Err(PlanFileError::SameHeight { first, second, height });
        }
    }
    Ok(())
}

fn syntax(error: &serde_json::Error) -> PlanFileError {
    let (line, column) = (error.line(), error.column());
    let what = error.to_string();
    let what = what.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&what).to_owned();
    PlanFileError::Syntax { line, column, what }
}

#[cfg(test)]
mod tests;
