use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::api::ROUTES;

fn written() -> Value {
    serde_json::to_value(document()).unwrap()
}

/// Method and path of each operation, with the operation.
fn documented(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &'_ Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    let all: Vec<(String, String)> = paths.iter().flat_map(of_path).collect();
    all.into_iter()
        .map(|(method, path)| (method.clone(), path.clone(), &document["paths"][&path][&method]))
        .collect()
}

#[test]
#[allow(clippy::disallowed_methods)] // Said by whoever runs the test; the file is the repository's.
fn what_is_served_is_what_the_code_says() {
    let text = format!("{}\n", document().to_pretty_json().unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        std::fs::write(path, &text).unwrap();
        return;
    }
    assert!(
        text == TEXT,
        "crates/daemon/openapi.json is not what the code says; look at the change after: \
         UPDATE_GOLDEN=1 cargo test -p wemixvisor-daemon openapi"
    );
}

#[test]
fn the_document_and_the_router_have_the_same_routes() {
    let document = written();
    let documented: Vec<_> =
        documented(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let routed: BTreeSet<(String, String)> =
        ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(documented.iter().cloned().collect::<BTreeSet<_>>(), routed);
    assert_eq!(documented.len(), ROUTES.len());
}

#[test]
fn the_version_is_3_1_and_every_operation_is_described() {
    let document = written();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (method, path, operation) in documented(&document) {
        let text = |field: &str| operation[field].as_str().unwrap_or_default();
        assert!(text("summary").len() > 8, "{method} {path} has no summary");
        assert!(ids.insert(text("operationId").to_owned()), "{method} {path}: its id is taken or missing");
        let tag = operation["tags"][0].as_str().unwrap();
        assert!(TAGS.iter().any(|(name, _)| *name == tag), "{method} {path}: no tag {tag}");
        let in_path = path.matches('{').count();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        assert_eq!(parameters.iter().filter(|one| one["in"] == "path").count(), in_path, "{method} {path}");
    }
}

#[test]
fn every_answer_has_a_schema_and_errors_have_the_same() {
    let document = written();
    for (method, path, operation) in documented(&document) {
        let answers = operation["responses"].as_object().unwrap();
        let is_good = |status: &str| status.starts_with('2') || status == "101";
        assert!(answers.keys().any(|status| is_good(status)), "{method} {path}");
        for (status, answer) in answers {
            let answer = match answer["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
                None => answer,
            };
            if status == "101" {
                continue;
            }
            let content = answer["content"].as_object().unwrap();
            assert_eq!(content.len(), 1 + usize::from(path == "/api/v1/events" && status == "200"));
            let schema = &content.values().next().unwrap()["schema"];
            let wanted = !is_good(status);
            assert_eq!(
                schema["$ref"] == "#/components/schemas/ErrorBody",
                wanted,
                "{method} {path} {status}"
            );
            assert!(schema.is_object(), "{method} {path} {status}");
        }
        // Whatever is asked for, there may be no place for who asks.
        assert!(answers.contains_key("503"), "{method} {path}");
        for (status, .., is_answered) in GUARD {
            let verb = method.to_uppercase().parse().unwrap();
            let is_there = answers.contains_key(&status.to_string());
            assert!(is_there || !is_answered(&verb, &path), "{method} {path} {status}");
        }
        assert_eq!(operation["security"].is_array(), answers.contains_key("401"), "{method} {path}");
    }
    let security = &document["paths"]["/api/v1/config"]["put"]["security"];
    assert_eq!(security[0]["bearer"], serde_json::json!(["admin"]));
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = written();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    let of_kind = |kind: &'static str| {
        let components = document["components"][kind].as_object().unwrap();
        components.keys().map(move |name| format!("#/components/{kind}/{name}"))
    };
    let there: BTreeSet<String> = of_kind("schemas").chain(of_kind("responses")).collect();
    assert_eq!(used, there);
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
