//! The API's document, OpenAPI 3.1, made from the code: the routes from the table in [`super`], what each takes and
//! answers from its handler, the schemas from the wire types.
//!
//! What is served is the text in `crates/daemon/openapi.json`; a test keeps it equal to [`document`]. So a change of the
//! API is seen in review, and the supervisor carries a text instead of the code that makes it.

mod scheduling;
mod settings;
pub mod words;

use axum::http::{Method, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Content, InfoBuilder, License, OpenApi, Ref, RefOr, Response, ResponseBuilder, Tag};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::Documented;
use super::error::ErrorBody;
use super::guard::needed;
pub(super) use scheduling::{UpgradeName, UpgradeRequest};
pub(super) use settings::SettingValues;

/// The document as it is served.
const TEXT: &str = include_str!("../../openapi.json");

/// What the whole API is about, for people.
const ABOUT: &str = "\
wemixvisor supervises a blockchain node and upgrades its program at an announced height.

Errors are `{\"error\", \"code\"}`: a sentence for people, a word for programs. A path that is not listed here \
answers 404 with the code `not_found`; a method that is not listed answers 405 with the code `method_not_allowed` \
and the header `Allow`. Fields are added to answers, never renamed: ignore those that you do not know.

The same API is served on the home's Unix socket, where the file's permissions take the place of tokens.";

/// The groups of operations.
const TAGS: [(&str, &str); 5] = [
    ("supervisor", "The supervisor itself, and the picture that it has of everything."),
    ("node", "The node's process."),
    ("upgrades", "What is planned, under way and done."),
    ("events", "What happened, and what happens."),
    ("settings", "The settings: shown, checked, changed."),
];

/// Whether a request with this method and path is meant.
type Meant = fn(&Method, &str) -> bool;

/// What the guard in front of the routes answers by itself, and to which requests.
const GUARD: [(u16, &str, &str, Meant); 7] = [
    (400, "BadHost", "There is no `Host`, or more than one.", |_, _| true),
    (401, "Unauthenticated", "A token is needed, and none or a wrong one was given.", |method, path| {
        needed(method, path).is_some()
    }),
    (403, "Forbidden", "The token's scope does not reach so far, or a page from elsewhere asks.", |_, _| {
        true
    }),
    (408, "TooSlow", "The request did not come to its end in time.", |method, _| *method != Method::GET),
    (413, "TooLarge", "The body is longer than 1 MiB.", |method, _| *method != Method::GET),
    (429, "TooMany", "Too many requests; try again in a second.", |_, _| true),
    (504, "NoAnswer", "There is no answer yet; what was ordered goes on.", |_, _| true),
];

/// The document as it is written in the code.
pub fn document() -> OpenApi {
    let mut document = Documented::openapi();
    document.info = InfoBuilder::new()
        .title("wemixvisor")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(License::builder().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    document.servers = Some(vec![ServerBuilder::new().url("/").build()]);
    document.tags = Some(TAGS.map(|(name, text)| tag(name, text)).into());
    all_fields_are_there(&mut document);
    error_bodies(&mut document);
    no_supervisor_answers(&mut document);
    guard_answers(&mut document);
    document
}

/// The API's document, OpenAPI 3.1.
#[utoipa::path(
    get, path = "/openapi.json", tag = "supervisor", operation_id = "openapi",
    responses(
        (status = 200, description = "This document.", body = Object, content_type = "application/json"),
        (status = 503, description = "There are too many clients; try again later."),
    )
)]
pub(super) async fn served() -> HttpResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT).into_response()
}

fn tag(name: &str, text: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(text)).build()
}

/// Every field of an answer is written, `null` where there is nothing to say.
fn all_fields_are_there(document: &mut OpenApi) {
    let Some(components) = &mut document.components else { return };
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(object)) = schema
            && ![UpgradeRequest::name(), SettingValues::name()].contains(&name.as_str().into())
        {
            object.required = object.properties.keys().cloned().collect();
        }
    }
}

/// Every error has the same body.
fn error_bodies(document: &mut OpenApi) {
    for (_, _, operation) in operations(document) {
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response
                && status.starts_with(['4', '5'])
            {
                response.content.insert("application/json".into(), error_content());
            }
        }
    }
    if let Some(components) = &mut document.components {
        components.schemas.insert(ErrorBody::name().into(), ErrorBody::schema());
    }
}

/// Without a supervisor there is no other answer.
fn no_supervisor_answers(document: &mut OpenApi) {
    let text = "No supervisor runs, or it is ending, or has as many clients as it can have.";
    let none = shared(document, "Unavailable", text);
    for (_, _, operation) in operations(document) {
        answer(operation, 503, &none);
    }
}

/// The answers of the guard, and what it wants to see.
fn guard_answers(document: &mut OpenApi) {
    for (status, name, text, answers) in GUARD {
        let response = shared(document, name, text);
        for (path, method, operation) in operations(document) {
            if answers(&method, path) {
                answer(operation, status, &response);
            }
        }
    }
    for (path, method, operation) in operations(document) {
        operation.security = needed(&method, path).map(|scope| {
            vec![
                SecurityRequirement::new("bearer", [scope.as_str()]),
                SecurityRequirement::new("api_key", [scope.as_str()]),
                // Without tokens, on the loopback or the Unix socket.
                SecurityRequirement::default(),
            ]
        });
    }
    let Some(components) = &mut document.components else { return };
    let about = "A token, made by `wemixvisor api token create`. Its scope is read, operate or admin; each includes \
                 those before it.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let key = ApiKeyValue::with_description("X-API-Key", "The same token in a header of its own.");
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
}

/// An answer that many operations give.
fn shared(document: &mut OpenApi, name: &str, description: &str) -> Ref {
    let response: Response =
        ResponseBuilder::new().description(description).content("application/json", error_content()).build();
    let components = document.components.get_or_insert_default();
    components.responses.insert(name.into(), response.into());
    Ref::from_response_name(name)
}

/// Adds an answer, unless the operation tells of it by itself.
fn answer(operation: &mut Operation, status: u16, response: &Ref) {
    operation.responses.responses.entry(status.to_string()).or_insert_with(|| response.clone().into());
}

fn error_content() -> Content {
    Content::new(Some(Ref::from_schema_name(ErrorBody::name())))
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = (&str, Method, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let PathItem { get, put, post, delete, .. } = item;
        let all = [(Method::GET, get), (Method::PUT, put), (Method::POST, post), (Method::DELETE, delete)];
        all.into_iter().filter_map(|(method, operation)| {
            operation.as_mut().map(|operation| (path.as_str(), method, operation))
        })
    })
}

#[cfg(test)]
mod tests;
