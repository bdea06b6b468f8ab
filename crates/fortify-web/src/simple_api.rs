//! The simple API: a picture with its name in a header, and an answer as JSON. For static pages
//! and for applications that draw their own form.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::app::{App, SharedApp};
use crate::challenge::{self, FAILED, MAX_JSON_BYTES};
use crate::error::WebError;
use crate::return_to::{FRONT, ReturnTo};
use crate::visitor::Visitor;
use crate::{form, pages, responses, same_origin};
use fortify_engine::answer::Answered;
use fortify_engine::challenge::Submission;
use fortify_engine::decision::Grant;
use fortify_engine::issue::IssueRequest;

/// Carries the challenge's token.
const CHALLENGE_ID: HeaderName = HeaderName::from_static("x-challenge-id");

/// `GET /api/captcha-image?challenge=new`: a picture that asks by itself, and its name in
/// `X-Challenge-ID`.
///
/// # Errors
///
/// Another query than this; a circuit that has to wait; faults of this side.
pub async fn image(
    State(app): State<SharedApp>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, WebError> {
    if same_origin::is_foreign(&headers) {
        return Err(WebError::Forbidden);
    }
    let query = form::parse(uri.query().unwrap_or_default().as_bytes()).unwrap_or_default();
    if form::only(&query, "challenge") != Some("new") {
        return Err(WebError::BadRequest("query"));
    }
    let first = IssueRequest::first(app.engine.requirement(&visitor.client));
    let request = first.with_ticket(form::only(&query, "ticket"));
    let issued = challenge::issue(&app, &visitor, request, &ReturnTo::parse(FRONT)).await?;
    let no_picture = || WebError::Unavailable("a challenge without its picture".to_owned());
    let cookie = challenge::shown(&visitor, &issued);
    let mut response = pages::picture(issued.media.ok_or_else(no_picture)?);
    let token = HeaderValue::from_str(&issued.challenge.token.encode())
        .map_err(|_never| WebError::Unavailable("a token that is no header".to_owned()))?;
    response.headers_mut().insert(CHALLENGE_ID, token);
    pages::set_cookies(&mut response, [cookie]);
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    challenge_id: String,
    solution: String,
}

#[derive(Serialize)]
struct VerifyResponse {
    success: bool,
    message: &'static str,
}

/// `POST /verify-captcha`: 200 with the session's cookie, or 403 with one message for everything.
///
/// # Errors
///
/// A body that is not the JSON it should be; a circuit that has to wait; faults of this side.
pub async fn verify(
    State(app): State<SharedApp>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, WebError> {
    // A page of another site must not be able to use up a visitor's tries.
    if same_origin::is_foreign(&headers) {
        return Err(WebError::Forbidden);
    }
    if !form::is_json(&headers) {
        return Err(WebError::BadRequest("content_type"));
    }
    let body = form::read_body(body, MAX_JSON_BYTES).await?;
    let request: VerifyRequest =
        serde_json::from_slice(&body).map_err(|_malformed| WebError::BadRequest("json"))?;
    let answers = app.answers.clone();
    answers.to_the_end(async move { answer(&app, &visitor, &request).await }).await?
}

async fn answer(
    app: &App,
    visitor: &Visitor,
    request: &VerifyRequest,
) -> Result<Response, WebError> {
    let (token, answer) = (&*request.challenge_id, &*request.solution);
    let submission = Submission { token, answer, trapped: false };
    let granted = || {
        let granted = VerifyResponse { success: true, message: "Access granted" };
        pages::json(StatusCode::OK, &granted)
    };
    let answered = match challenge::admitted(app, visitor).await? {
        None => app.engine.answer(&visitor.client, submission).await?,
        Some(Grant::Trusted(_)) => match app.engine.earned(&visitor.client, submission).await? {
            Some(minted) => Answered::Granted(minted),
            None => return Ok(granted()),
        },
        Some(Grant::Session(_)) => {
            let mut response = granted();
            responses::renew(app, visitor, &mut response);
            return Ok(response);
        }
    };
    match answered {
        Answered::Granted(minted) => {
            let mut response = granted();
            responses::give_session(visitor, &minted, &mut response);
            Ok(response)
        }
        Answered::Outdated(request) => {
            let message = challenge::OUTDATED;
            challenge::another_as_json(app, visitor, request, message).await
        }
        Answered::Next(stage) => challenge::next_as_json(app, visitor, stage).await,
        Answered::Wrong(_) | Answered::Gone(_) => {
            let failed = VerifyResponse { success: false, message: FAILED };
            Ok(pages::json(StatusCode::FORBIDDEN, &failed))
        }
        Answered::Wait(wait) => Err(WebError::waiting(wait, &ReturnTo::parse(FRONT))),
    }
}

/// `GET /api/status`: whether the gate works, and nothing that an attacker could plan by.
///
/// # Errors
///
/// None.
pub async fn status(State(app): State<SharedApp>) -> Result<Response, WebError> {
    let works = app.readiness().await.is_ready() && !app.service_is_down();
    let (status, word) = match app.maintenance.at(app.clock.now()) {
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "maintenance"),
        None if works => (StatusCode::OK, "ok"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
    };
    Ok(pages::json(status, &serde_json::json!({"service": "fortify", "status": word})))
}
