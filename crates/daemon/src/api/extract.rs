//! What a request says besides its body. What makes no sense is refused in the API's own form.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use wemixvisor_core::plan::{BadName, PlanName};

use super::error::ApiError;

/// The query.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(said)| Self(said)).map_err(|error| ApiError::invalid(error.body_text()))
    }
}

/// The name of an upgrade in the path.
pub(super) struct Named(pub PlanName);

impl Named {
    pub(super) fn read(text: &str) -> Result<Self, ApiError> {
        text.parse().map(Self).map_err(|error: BadName| ApiError::invalid(error.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Perhaps not even text.
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| ApiError::invalid(error.body_text()))?;
        Self::read(&text)
    }
}
