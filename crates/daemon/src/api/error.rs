//! What the API answers when it does not do what was asked: a sentence for people, a word for programs.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wemixvisor_core::engine::port::{RefusalCode, Refused};

use crate::handle::Gone;

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What was tried, what is true now, and what to do.
    pub error: String,
    /// `invalid`, `not_found`, `method_not_allowed`, `conflict`, `too_large`, `not_ready`, `failed`, `gone`.
    pub code: String,
}

/// An error and its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// 400: what was asked for makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid", message: message.into() }
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: message.into() }
    }

    /// 405: the route is there, but not for this method.
    pub fn method_not_allowed() -> Self {
        let message = "this route does not take this method".into();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "method_not_allowed", message }
    }

    /// 413: the body is longer than [`super::MAX_BODY`].
    pub fn too_large() -> Self {
        let message = format!("the body is longer than {} bytes", super::MAX_BODY);
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "too_large", message }
    }

    /// 500: it was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "failed", message: message.into() }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (status, code) = match refused.code {
            RefusalCode::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            RefusalCode::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            RefusalCode::Conflict => (StatusCode::CONFLICT, "conflict"),
            RefusalCode::NotReady => (StatusCode::UNPROCESSABLE_ENTITY, "not_ready"),
            RefusalCode::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self { status, code, message: refused.message }
    }
}

impl From<Gone> for ApiError {
    fn from(gone: Gone) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "gone", message: gone.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.message, code: self.code.into() };
        (self.status, Json(body)).into_response()
    }
}
