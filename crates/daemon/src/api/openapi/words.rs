//! The words that types of `core` are on the wire, as schemas. `core` knows nothing of OpenAPI, and a list beside its
//! types would be forgotten one day; so the types are asked themselves: serde names the words it would have taken
//! when it is given another one.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, StrDeserializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use wemixvisor_core::{engine::snapshot, exit, readiness, upgrade};

use crate::api::topic;

/// No type of ours has this word.
const NO_WORD: &str = "?";

/// What is left of an error: the words that would have been right.
#[derive(Debug)]
struct Expected(&'static [&'static str]);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected one of {:?}", self.0)
    }
}

impl std::error::Error for Expected {}

impl serde::de::Error for Expected {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

/// The words of an enum without fields.
fn of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    T::deserialize(StrDeserializer::<Expected>::new(NO_WORD)).err().map_or(&[], |expected| expected.0)
}

/// The words that the field `tag` of an enum with fields can hold.
fn of_tag<T: for<'de> Deserialize<'de>>(tag: &str) -> &'static [&'static str] {
    let fields = MapDeserializer::<_, Expected>::new([(tag, NO_WORD)].into_iter());
    T::deserialize(fields).err().map_or(&[], |expected| expected.0)
}

/// A schema for each type: its name, what it says, its words.
macro_rules! schemas {
    ($($name:ident: $description:literal, $words:expr;)+) => {
        $(
            #[doc = $description]
            #[derive(Debug)]
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .description(Some($description))
                        .enum_values(Some($words.iter().copied()))
                        .into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )+
    };
}

schemas! {
    NodeState:
        "Where the node's process is: `waiting` is down and started again by itself, `failed` is down and not.",
        of::<snapshot::NodeState>();
    ExitClass: "What the end of a node process means.", of::<exit::ExitClass>();
    FindingState: "How one question of a preparation stands; `failed` stands in the way.", of::<readiness::State>();
    Step: "A step of an upgrade; those with `back_` lead back to the program before.", of::<upgrade::Step>();
    Outcome: "How an upgrade ended.", of_tag::<upgrade::Outcome>("outcome");
    Topic: "What an event is about.", topic::Topic::ALL.map(topic::Topic::as_str);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_that_core_writes() {
        let written = |step: upgrade::Step| serde_json::to_value(step).unwrap();
        let steps = of::<upgrade::Step>();
        assert_eq!(steps.len(), 11);
        assert_eq!(steps[0], written(upgrade::Step::PreStop));
        assert_eq!(steps[10], written(upgrade::Step::BackProbation));
        assert_eq!(of::<readiness::State>(), ["ok", "warning", "failed"]);
        assert_eq!(
            of::<snapshot::NodeState>(),
            ["running", "starting", "waiting", "stopping", "stopped", "failed"]
        );
        let classes = of::<exit::ExitClass>();
        assert_eq!((classes.len(), classes[0], classes[10]), (11, "asked", "unknown"));
    }

    #[test]
    fn the_outcomes_are_those_that_a_finished_upgrade_says() {
        assert_eq!(
            of_tag::<upgrade::Outcome>("outcome"),
            ["committed", "rolled_back", "cancelled", "rollback_failed"]
        );
    }
}
