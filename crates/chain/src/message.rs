//! The envelope of JSON-RPC 2.0: questions, answers, error objects.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::link::LinkError;

/// JSON-RPC's code for "no such method" (specification 2.0, section 5.1).
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;

/// What a node answered to a question: its result, which may be `null`, or an error object.
pub(crate) type Answer = Result<Value, ErrorObject>;

/// The error object of JSON-RPC (specification 2.0, section 5.1).
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorObject {
    #[serde(default)]
    pub(crate) code: i64,
    #[serde(default)]
    pub(crate) message: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

/// `null` is a result; only a missing one is none.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// A question as it goes over the wire. `params` is an array.
pub(crate) fn question(id: u64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// Reads `message` as the answer to question `id`.
pub(crate) fn answer(message: &[u8], id: u64) -> Result<Answer, LinkError> {
    let wrong = || LinkError::malformed(message);
    let envelope: Envelope = serde_json::from_slice(message).map_err(|_| wrong())?;
    match (envelope.result, envelope.error) {
        // A node that could not even read the question answers without its id.
        (_, Some(error)) if envelope.id == id || envelope.id.is_null() => Ok(Err(error)),
        (Some(result), None) if envelope.id == id => Ok(Ok(result)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_everything_else() {
        let null = answer(br#"{"jsonrpc":"2.0","id":7,"result":null}"#, 7);
        assert!(matches!(null, Ok(Ok(Value::Null))));
        let error = answer(br#"{"id":7,"error":{"code":-32601,"message":"no"}}"#, 7);
        assert!(matches!(error, Ok(Err(ErrorObject { code: -32601, .. }))));
        assert!(matches!(answer(br#"{"id":null,"error":{"code":-32700}}"#, 7), Ok(Err(_))));
        for text in [
            "",
            "<html>",
            "[]",
            "{}",
            "12",
            r#"{"id":8,"result":1}"#,
            r#"{"result":1}"#,
            r#"{"id":7}"#,
            r#"{"id":7,"error":"text"}"#,
            r#"{"id":8,"error":{"code":1}}"#,
            r#"{"id":7,"result":1} x"#,
        ] {
            assert!(matches!(answer(text.as_bytes(), 7), Err(LinkError::Malformed(_))), "{text}");
        }
    }
}
