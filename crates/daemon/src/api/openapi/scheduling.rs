//! What an upgrade is called in a path, and the request to schedule one, as schemas. The request is read by hand and
//! leniently ([`super::super::request`]), so its schema is written by hand as well. It names the forms that one
//! should use: what is taken beyond them (another case, white space around) is not promised.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Required, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use wemixvisor_core::plan::{MAX_NAME_LENGTH, MAX_PLAN_HEIGHT};

/// What an upgrade's name is made of.
const NAME: &str = "^[A-Za-z0-9_+-][A-Za-z0-9._+-]*$";

/// The digits of a height. The most that are certainly not too many.
const DIGITS: &str = "^0*[1-9][0-9]{0,17}$";

/// When an upgrade fires.
const SWITCH: &str = "^(at|before|halted|manual|window:0*[1-9][0-9]{0,17})$";

/// From where a program can be fetched.
const ADDRESS: &str = r"^(https?|file)://[^\s]+$";

/// Hex digits, whose number tells the kind, or which have it before them.
const CHECKSUM: &str = "^((sha256:)?[0-9a-fA-F]{64}|(sha512:)?[0-9a-fA-F]{128})$";

/// A text without NUL.
const ARGUMENT: &str = r"^[^\u0000]*$";

/// The name of a variable.
const VARIABLE: &str = r"^[^=\u0000]+$";

/// A text that does not begin like a JSON object.
const WORDS: &str = r"^\s*([^{\s]|$)";

/// An upgrade's name in a path.
pub struct UpgradeName;

impl IntoParams for UpgradeName {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let name = ParameterBuilder::new()
            .name("name")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("The upgrade's name."))
            .schema(Some(name()))
            .example(Some(json!("v1.2.0")));
        vec![name.build()]
    }
}

/// The request to schedule an upgrade.
pub struct UpgradeRequest;

impl ToSchema for UpgradeRequest {
    fn name() -> Cow<'static, str> {
        "UpgradeRequest".into()
    }
}

impl PartialSchema for UpgradeRequest {
    fn schema() -> RefOr<Schema> {
        let info = AnyOfBuilder::new()
            .description(Some("Description, downloads and checksums in one place, or the description alone."))
            .item(sources(closed()))
            .item(or_null(Type::String).pattern(Some(WORDS)));
        sources(closed())
            .description(Some("A plan. A field that is not listed here is refused."))
            .property("name", name())
            .required("name")
            .property("height", height())
            .required("height")
            .property("info", info)
            .property("switch", switch())
            .property("args", args())
            .property("env", env())
            .property(
                "expect_version",
                or_null(Type::String)
                    .description(Some("A text that the new program's version must contain.")),
            )
            .property(
                "force",
                or_null(Type::Boolean)
                    .description(Some("Even if the height has passed or the program is pinned as bad."))
                    .default(Some(json!(false))),
            )
            .examples([simple(), full()])
            .into()
    }
}

/// An object that takes nothing but its properties.
fn closed() -> ObjectBuilder {
    ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn or_null(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null]))
}

fn name() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_NAME_LENGTH))
        .pattern(Some(NAME))
        .description(Some("The name of an upgrade, which is that of its directory."))
        .build()
}

fn height() -> AnyOfBuilder {
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(MAX_PLAN_HEIGHT as usize));
    let digits = ObjectBuilder::new().schema_type(Type::String).pattern(Some(DIGITS));
    AnyOfBuilder::new().description(Some("The height it is bound to.")).item(number).item(digits)
}

/// Description, downloads and checksums, which stand in a plan itself or in its `info`.
fn sources(object: ObjectBuilder) -> ObjectBuilder {
    object
        .property("description", or_null(Type::String).description(Some("What it is, for people.")))
        .property(
            "binaries",
            by_platform(ADDRESS)
                .description(Some("Download addresses by platform (`linux/amd64`, `any`), or one for any.")),
        )
        .property(
            "checksums",
            by_platform(CHECKSUM).description(Some("Checksums by platform, or one for any platform.")),
        )
        .property(
            "checksum",
            by_platform(CHECKSUM).description(Some("The same as `checksums`; not both and different ones.")),
        )
}

/// One text, or one text a platform, or nothing.
fn by_platform(pattern: &str) -> AnyOfBuilder {
    let one = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    let each = ObjectBuilder::new().additional_properties(Some(one)).min_properties(Some(1));
    AnyOfBuilder::new().item(or_null(Type::String).pattern(Some(pattern))).item(each)
}

fn switch() -> ObjectBuilder {
    or_null(Type::String)
        .pattern(Some(SWITCH))
        .default(Some(json!("at")))
        .description(Some("When it fires. A window, in blocks, must fit before the height."))
}

fn args() -> ArrayBuilder {
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(ObjectBuilder::new().schema_type(Type::String).pattern(Some(ARGUMENT)))
        .description(Some("The new program's arguments; without them it gets the present ones."))
}

fn env() -> ObjectBuilder {
    let names = ObjectBuilder::new().schema_type(Type::String).pattern(Some(VARIABLE));
    let value = ObjectBuilder::new().schema_type(Type::String).pattern(Some(ARGUMENT));
    or_null(Type::Object)
        .property_names(Some(names))
        .additional_properties(Some(value))
        .description(Some("Variables set in addition for the new program."))
}

fn simple() -> Value {
    json!({"name": "v1.2.0", "height": 1_500_000})
}

fn full() -> Value {
    let checksum = format!("sha256:{}", "0123456789abcdef".repeat(4));
    json!({
        "name": "v1.2.0",
        "height": 1_500_000,
        "info": {
            "description": "the spring fork",
            "binaries": {"linux/amd64": "https://example.org/v1.2.0/node.tar.gz"},
            "checksums": {"linux/amd64": checksum},
        },
        "switch": "window:20",
        "args": ["--syncmode", "full"],
        "env": {"GOGC": "50"},
        "expect_version": "1.2.0",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request;

    #[test]
    fn the_examples_can_be_scheduled_and_the_full_one_says_all_that_it_can() {
        for example in [simple(), full()] {
            request::read(&example.to_string()).unwrap();
        }
    }

    #[test]
    fn the_schema_lists_the_fields_that_are_read() {
        let schema = serde_json::to_value(UpgradeRequest::schema()).unwrap();
        let fields = |schema: &Value| {
            let mut fields: Vec<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
            fields.sort();
            fields
        };
        let sorted = |known: &[&str]| {
            let mut known: Vec<String> = known.iter().map(|field| (*field).to_owned()).collect();
            known.sort();
            known
        };
        assert_eq!(fields(&schema), sorted(&request::FIELDS));
        assert_eq!(fields(&schema["properties"]["info"]["anyOf"][0]), sorted(&request::INFO_FIELDS));
    }
}
