//! The addresses at which a visitor comes back: as one of this site, and when its turn has come.

use axum::extract::{Request, State};
use axum::response::Response;

use crate::app::{App, SharedApp};
use crate::challenge::{self, Around};
use crate::error::WebError;
use crate::form::{self, Fields};
use crate::pages;
use crate::responses::{cookies_off, renew};
use crate::return_to::ReturnTo;
use crate::visitor::Visitor;
use fortify_engine::decision::{Decision, Requirement};
use fortify_engine::issue::IssueRequest;

/// Where a visitor comes back to as one of this site, so that `SameSite=Strict` gives up the
/// cookie: after a link from another site, or after an answer without a cookie.
///
/// # Errors
///
/// A circuit that has to wait; faults of this side.
pub async fn enter(
    State(app): State<SharedApp>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, WebError> {
    let (_, to) = query(&request);
    let requirement = match pass_on(&app, &visitor, &to).await? {
        Ok(passed) => return Ok(passed),
        Err(requirement) => requirement,
    };
    if visitor.hint.is_none() {
        return Ok(cookies_off(&app, &visitor, &to));
    }
    let first = IssueRequest::first(requirement);
    let mut response = challenge::page(&app, &visitor, first, Around::page(&to)).await?;
    renew(&app, &visitor, &mut response);
    Ok(response)
}

/// Where one who waits in turn comes back.
///
/// # Errors
///
/// As [`enter`].
pub async fn turn(
    State(app): State<SharedApp>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, WebError> {
    let (fields, to) = query(&request);
    let requirement = match pass_on(&app, &visitor, &to).await? {
        Ok(passed) => return Ok(passed),
        Err(requirement) => requirement,
    };
    let ticket = form::only(&fields, "ticket");
    let request = IssueRequest::first(requirement).with_ticket(ticket);
    let mut response = challenge::page(&app, &visitor, request, Around::page(&to)).await?;
    renew(&app, &visitor, &mut response);
    Ok(response)
}

/// To the page asked for, for a visitor who is let in; what is asked of any other.
async fn pass_on(
    app: &App,
    visitor: &Visitor,
    to: &ReturnTo,
) -> Result<Result<Response, Requirement>, WebError> {
    match app.engine.check(&visitor.client).await? {
        Decision::Admit(_) => {
            let mut response = pages::see_other(to.as_str());
            renew(app, visitor, &mut response);
            Ok(Ok(response))
        }
        Decision::Challenge(requirement) => Ok(Err(requirement)),
        Decision::SlowDown(slow) => Err(WebError::SlowDown(slow)),
        Decision::Refuse(refusal) => Err(refusal.into()),
    }
}

/// The fields of the query, and the page that it names.
fn query(request: &Request) -> (Fields, ReturnTo) {
    let query = request.uri().query().unwrap_or_default();
    let fields = form::parse(query.as_bytes()).unwrap_or_default();
    let to = ReturnTo::parse(form::only(&fields, "to").unwrap_or_default());
    (fields, to)
}
