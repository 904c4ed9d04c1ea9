//! What the API answers when it does not do what was asked: a sentence for people, a word for programs.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
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
    /// A stable word: `invalid`, `unknown_topic`, `unauthenticated`, `forbidden`, `not_found`, `method_not_allowed`, `not_acceptable`,
    /// `too_slow`, `conflict`, `too_large`, `not_ready`, `too_many_requests`, `failed`, `busy`, `not_running`, `gone`,
    /// `no_answer`.
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

    /// 409: the state does not allow it now.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, code: "conflict", message: message.into() }
    }

    /// 413: the body is longer than [`super::MAX_BODY`].
    pub fn too_large() -> Self {
        let message = format!("the body is longer than {} bytes", super::MAX_BODY);
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "too_large", message }
    }

    /// 400: what was asked for is not among the topics.
    pub(crate) fn unknown_topic(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "unknown_topic", message: message.into() }
    }

    /// 401: there is no token, or not a good one.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthenticated", message: message.into() }
    }

    /// 403: who asks may not do this, or not from there.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, code: "forbidden", message: message.into() }
    }

    /// 406: there is no answer in the form that is wanted.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_ACCEPTABLE, code: "not_acceptable", message: message.into() }
    }

    /// 408: the request did not come to its end.
    pub fn too_slow() -> Self {
        let message = "the request did not come to its end in time".into();
        Self { status: StatusCode::REQUEST_TIMEOUT, code: "too_slow", message }
    }

    /// 429: too many requests.
    pub fn too_many_requests() -> Self {
        let message = "too many requests: wait a second (api.rate_limit)".into();
        Self { status: StatusCode::TOO_MANY_REQUESTS, code: "too_many_requests", message }
    }

    /// 503: not now.
    pub fn busy(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "busy", message: message.into() }
    }

    /// 503: the node is not fit for work.
    pub(crate) fn unfit(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "not_ready", message: message.into() }
    }

    /// 503: there is no supervisor to do it.
    pub fn not_running(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "not_running", message: message.into() }
    }

    /// 504: it takes too long to wait for the answer.
    pub fn no_answer() -> Self {
        let message = "there is no answer yet; what was ordered goes on: look at /api/v1/status".into();
        Self { status: StatusCode::GATEWAY_TIMEOUT, code: "no_answer", message }
    }

    /// The body of the answer.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { error: self.message.clone(), code: self.code.into() }
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
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
