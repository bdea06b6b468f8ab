//! The dashboard's place.
//!
//! A page is a [`Route::page`](super::routes::Route::page) in `routes`, made with
//! [`raw`](super::handler::raw) from a function that calls an operation and writes HTML. Forms on it carry
//! [`Context::form_token`](super::handler::Context::form_token) in a hidden field `csrf`, and are sent with
//! POST to a page of ours.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::AdminError;
use super::routes::Route;

/// Every page.
pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}

/// A refusal as a page: who is not logged in goes to the log-in.
pub(super) fn refuse(error: AdminError) -> Response {
    if !matches!(error, AdminError::Unauthenticated) {
        return error.into_response();
    }
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/admin/login"));
    response
}
