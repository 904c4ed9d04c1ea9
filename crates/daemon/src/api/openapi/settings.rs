//! The new values of settings in a request, as a schema: a property for each setting that can be changed over the API,
//! of the kind that `core` says. What a value may be beyond its kind, the rules among the settings decide.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use wemixvisor_core::settings::{Kind, Setting, TABLE};

use crate::api::config::changeable;

/// A length of time.
const DURATION: &str = "^(0+|[0-9]{1,7}(ms|s|m|h))$";

/// A number as a text.
const DIGITS: &str = "^[0-9]{1,18}$";

/// What a boolean can be as well.
const FLAGS: [&str; 6] = ["true", "false", "yes", "no", "1", "0"];

/// The word that leaves a setting to the program.
const AUTO: &str = "auto";

/// New values of settings, by key.
pub struct SettingValues;

impl ToSchema for SettingValues {
    fn name() -> Cow<'static, str> {
        "SettingValues".into()
    }
}

impl PartialSchema for SettingValues {
    fn schema() -> RefOr<Schema> {
        let all = ObjectBuilder::new()
            .description(Some(
                "New values by key. `null` takes a key out of the file: its default counts again.",
            ))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .min_properties(Some(1))
            .examples([json!({"node.max_restarts": 3, "node.restart_period": null})]);
        let keys = TABLE.iter().filter(|setting| changeable(setting.key).is_ok());
        keys.fold(all, |all, setting| all.property(setting.key, value(setting))).into()
    }
}

fn value(setting: &Setting) -> AnyOfBuilder {
    let forms = AnyOfBuilder::new().description(Some(setting.doc));
    let forms = match setting.kind() {
        Kind::Duration => forms.item(text().pattern(Some(DURATION))).item(words([json!(0)])),
        Kind::Boolean => forms
            .item(ObjectBuilder::new().schema_type(Type::Boolean))
            .item(words(FLAGS.map(Value::from).into_iter().chain([json!(0), json!(1)]))),
        Kind::Integer => forms
            .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
            .item(text().pattern(Some(DIGITS))),
        Kind::Text | Kind::Path => forms.item(text().min_length(Some(1))),
        Kind::List => forms.item(ArrayBuilder::new().items(text())).item(text()),
        Kind::Choice(known) => forms.item(words(known.iter().copied().map(Value::from))),
    };
    let is_optional = setting.default_text() == AUTO;
    let forms = if is_optional { forms.item(words([json!(AUTO)])) } else { forms };
    forms.item(ObjectBuilder::new().schema_type(SchemaType::new(Type::Null)))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Nothing but these.
fn words(words: impl IntoIterator<Item = Value>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).enum_values(Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_can_be_changed_is_a_property_and_no_other() {
        let schema = serde_json::to_value(SettingValues::schema()).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        assert!(properties.contains_key("node.max_restarts"));
        for setting in TABLE {
            assert_eq!(
                properties.contains_key(setting.key),
                changeable(setting.key).is_ok(),
                "{}",
                setting.key
            );
        }
        assert_eq!(properties["node.kill"]["anyOf"][0]["enum"], json!(["allowed", "never"]));
        assert_eq!(properties["node.restart_floor"]["anyOf"][2]["enum"], json!(["auto"]));
    }
}
