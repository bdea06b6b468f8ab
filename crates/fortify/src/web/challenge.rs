//! The addresses of the challenge page: its picture, its form, and the same as JSON.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::carried::{self, CarriedForm};
use super::cookies::Hint;
use super::demand::Asking;
use super::form::{self, Fields};
use super::pages::{self, ChallengePage, FormFate, Notice};
use super::return_to::{FRONT, ReturnTo};
use super::visitor::{Visitor, Wants};
use super::{consequence, demand, gate, same_origin, stages, traps, turn};
use crate::app::{App, SharedApp};
use crate::challenge::policy::Wish;
use crate::challenge::{Issued, Redeemed, Submission};
use crate::store::record::ChallengeToken;
use crate::web::error::WebError;

/// Bytes of an answer's form: a carried form of 16 KiB in base64, and the rest of the fields.
const MAX_FORM_BYTES: usize = 32 * 1024;

/// Bytes of a JSON body: none of ours needs more than a token and an answer.
pub(super) const MAX_JSON_BYTES: usize = 4 * 1024;

/// The one message of every answer that was not right.
pub(super) const FAILED: &str = "Verification failed";

/// A challenge as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ChallengeJson {
    token: String,
    variant: &'static str,
    level: u8,
    mode: &'static str,
    carrier: &'static str,
    question: String,
    choices: Vec<ChoiceJson>,
    /// The address of the picture.
    image: String,
    /// Seconds.
    expires_in: u64,
    stage: u8,
    stages: u8,
}

/// Something that can be picked.
#[derive(Debug, Serialize)]
struct ChoiceJson {
    /// What to send.
    value: String,
    /// What to show.
    label: String,
}

impl ChallengeJson {
    fn new(app: &App, visitor: &Visitor, issued: &Issued, asking: &Asking) -> Self {
        let token = issued.token.encode();
        let locale = app.locales.negotiate(visitor.language.as_deref());
        Self {
            image: format!("/captcha/{token}.png"),
            token,
            variant: issued.variant,
            level: issued.level,
            mode: issued.mode.as_str(),
            carrier: issued.carrier,
            question: locale.question(&issued.question, issued.mode),
            choices: (issued.choices.iter())
                .map(|choice| ChoiceJson { value: choice.value(), label: locale.choice(choice) })
                .collect(),
            expires_in: issued.expires_in.as_secs(),
            stage: asking.stage,
            stages: asking.stages,
        }
    }
}

/// `POST /captcha/generate` takes a ticket or nothing: what is asked is not the visitor's to choose.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateRequest {
    /// The place in the queue that an earlier request was given.
    ticket: Option<String>,
}

/// `POST /captcha/generate`: a challenge for a page that somebody else draws.
///
/// # Errors
///
/// A body that is neither empty nor `{}`; a circuit that has to wait; faults of this side.
pub async fn generate(
    State(app): State<SharedApp>,
    visitor: Visitor,
    body: Body,
) -> Result<Response, WebError> {
    let body = form::read_body(body, MAX_JSON_BYTES).await?;
    let request: GenerateRequest = match body.is_empty() {
        true => GenerateRequest::default(),
        false => {
            serde_json::from_slice(&body).map_err(|_malformed| WebError::BadRequest("json"))?
        }
    };
    turn::take(&app, &visitor, request.ticket.as_deref(), &ReturnTo::parse(FRONT)).await?;
    let asking = demand::next(&app, &visitor, Wish::Any).await?;
    let issued = consequence::issue(&app, &visitor, asking.order).await?;
    Ok(pages::json(StatusCode::OK, &ChallengeJson::new(&app, &visitor, &issued, &asking)))
}

/// `GET /captcha/<token>.png`: the picture, the same bytes each time, for the circuit that the
/// challenge was issued to.
///
/// # Errors
///
/// [`WebError::NotFound`] for everything that is not such a challenge, whatever it is.
pub async fn picture(
    State(app): State<SharedApp>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, WebError> {
    let name = uri.path().strip_prefix("/captcha/").and_then(|name| name.strip_suffix(".png"));
    let token: ChallengeToken =
        name.and_then(|name| name.parse().ok()).ok_or(WebError::NotFound)?;
    let media = app.challenges.picture(&token, visitor.circuit).await?;
    Ok(pages::picture(media.ok_or(WebError::NotFound)?))
}

/// `POST /validate-captcha`: an answer. Right: the cookie and the page first asked for, or the form
/// that waits. Wrong: the page again, with the next challenge.
///
/// # Errors
///
/// A form that cannot be read; a circuit that has to wait; faults of this side.
pub async fn validate(
    State(app): State<SharedApp>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, WebError> {
    let (parts, body) = request.into_parts();
    // A page of another site must not be able to use up a visitor's tries.
    if same_origin::is_foreign(&parts.headers) {
        return Err(WebError::Forbidden);
    }
    if !form::is_urlencoded(&parts.headers) {
        return Err(WebError::BadRequest("content_type"));
    }
    let body = form::read_body(body, MAX_FORM_BYTES).await?;
    let fields = form::parse(&body).ok_or(WebError::BadRequest("form"))?;
    let waiting = Waiting::read(&app, &visitor, &parts.headers, &fields);
    let answered = answer(&app, &visitor, &fields, &waiting).await;
    // Whoever has to wait comes back to the page first asked for, and not to where forms are sent.
    Ok(answered.unwrap_or_else(|error| error.leading_to(waiting.return_to)))
}

async fn answer(
    app: &App,
    visitor: &Visitor,
    fields: &Fields,
    waiting: &Waiting<'_>,
) -> Result<Response, WebError> {
    let AnswerForm { token, answer, another, wish } = AnswerForm::read(fields)?;
    if another {
        turn::take(app, visitor, None, &waiting.return_to).await?;
        app.challenges.discard(token).await?;
        return retry(app, visitor, waiting, Notice::Another, wish).await;
    }
    let submission = Submission { token, answer, trapped: traps::is_caught(token, fields) };
    match consequence::redeem(app, visitor, submission).await? {
        Redeemed::Solved { level } => {
            let asking = demand::next(app, visitor, wish).await?;
            if asking.stage < asking.stages {
                return go_on(app, visitor, waiting, &asking, token).await;
            }
            if asking.progress.use_up(app).await? {
                admit(app, visitor, waiting, level).await
            } else {
                turn::take(app, visitor, None, &waiting.return_to).await?;
                retry(app, visitor, waiting, Notice::Wrong, wish).await
            }
        }
        Redeemed::Failed => {
            turn::take(app, visitor, None, &waiting.return_to).await?;
            retry(app, visitor, waiting, Notice::Wrong, wish).await
        }
        Redeemed::MustWait(wait) => Err(WebError::MustWait(wait)),
    }
}

/// The fields that judge.
struct AnswerForm<'a> {
    token: &'a str,
    answer: &'a str,
    /// The visitor asked for another picture instead of answering.
    another: bool,
    /// The kind wished for: just now, or before.
    wish: Wish,
}

impl<'a> AnswerForm<'a> {
    fn read(fields: &'a Fields) -> Result<Self, WebError> {
        let field = |name| form::only(fields, name).ok_or(WebError::BadRequest("form"));
        let another = form::only(fields, "another");
        let before = form::only(fields, "wish").map(Wish::parse).unwrap_or_default();
        let wish = match another.map(Wish::parse).unwrap_or_default() {
            Wish::Any => before,
            now => now,
        };
        // Nothing needs to be picked or typed to get another picture.
        let answer = if another.is_some() { "" } else { field("answer")? };
        Ok(Self { token: field("token")?, answer, another: another.is_some(), wish })
    }
}

/// What waits behind the challenge.
struct Waiting<'a> {
    return_to: ReturnTo,
    form: Option<(CarriedForm, &'a str)>,
}

impl<'a> Waiting<'a> {
    /// A form that waits counts only when a page of this site sends it: the one that carries it.
    fn read(app: &App, visitor: &Visitor, headers: &HeaderMap, fields: &'a Fields) -> Self {
        let form = form::only(fields, "carried")
            .filter(|_| same_origin::is_same_origin(headers))
            .and_then(|sealed| {
                let form = carried::open(&app.keys, &*app.clock, visitor.circuit, sealed)?;
                Some((form, sealed))
            });
        let return_to = ReturnTo::parse(form::only(fields, "return_to").unwrap_or_default());
        Self { return_to, form }
    }
}

async fn admit(
    app: &App,
    visitor: &Visitor,
    waiting: &Waiting<'_>,
    level: u8,
) -> Result<Response, WebError> {
    let minted = consequence::grant(app, visitor, level).await?;
    let to = waiting.return_to.as_str();
    let keeps_cookies = visitor.cookies.hint.is_some();
    let mut response = match (&waiting.form, visitor.wants) {
        (_, Wants::Json) => pages::json(
            StatusCode::OK,
            &serde_json::json!({"success": true, "message": "Access granted", "redirect": to}),
        ),
        (Some((form, _)), Wants::Page) if keeps_cookies => {
            let locale = app.locales.negotiate(visitor.language.as_deref());
            pages::resume(locale, &form.action, &form.fields)
        }
        // The page that carries a form set the hint, so a jar without it keeps nothing.
        (Some(_), Wants::Page) => gate::cookies_off(app, visitor, &waiting.return_to),
        (None, Wants::Page) if keeps_cookies => pages::see_other(to),
        // The hint did not come back: either the page was somebody else's, or cookies are off. One
        // more step tells.
        (None, Wants::Page) => {
            pages::see_other(&format!("{}?to={}", gate::ENTER, waiting.return_to.encode()))
        }
    };
    let cookies = [visitor.jar.session(&minted.token), visitor.jar.hint(Hint::Member)];
    pages::set_cookies(&mut response, cookies);
    pages::set_cookies(&mut response, stages::take_back(visitor));
    Ok(response)
}

/// After a stage that is not the last: its cookie, and the next challenge.
async fn go_on(
    app: &App,
    visitor: &Visitor,
    waiting: &Waiting<'_>,
    asking: &Asking,
    token: &str,
) -> Result<Response, WebError> {
    if visitor.wants == Wants::Json {
        return next_as_json(app, visitor, asking, token).await;
    }
    if visitor.cookies.hint.is_none() {
        return Ok(gate::cookies_off(app, visitor, &waiting.return_to));
    }
    let (passed, cookie) = asking.progress.pass(app, visitor, token)?;
    let order = asking.order;
    let (issued, media) = consequence::issue_with_picture(app, visitor, order).await?;
    let page = ChallengePage {
        issued: &issued,
        media: &media,
        return_to: &waiting.return_to,
        notice: Some(Notice::Stage),
        wish: order.wish,
        form: waiting.form.as_ref().map_or(FormFate::None, |(_, sealed)| FormFate::Carried(sealed)),
        stage: (passed.saturating_add(1), asking.stages),
    };
    let mut response = gate::challenge_page(app, visitor, &page);
    let cookie = visitor.jar.stage(passed, &cookie, stages::LIFETIME);
    pages::set_cookies(&mut response, [cookie]);
    Ok(response)
}

/// The same as JSON.
pub(super) async fn next_as_json(
    app: &App,
    visitor: &Visitor,
    asking: &Asking,
    token: &str,
) -> Result<Response, WebError> {
    let (passed, cookie) = asking.progress.pass(app, visitor, token)?;
    let issued = consequence::issue(app, visitor, asking.order).await?;
    let asking = Asking { stage: passed.saturating_add(1), ..*asking };
    let mut response = pages::json(
        StatusCode::OK,
        &serde_json::json!({
            "success": true,
            "message": "One more",
            "next": ChallengeJson::new(app, visitor, &issued, &asking),
        }),
    );
    pages::set_cookies(&mut response, [visitor.jar.stage(passed, &cookie, stages::LIFETIME)]);
    Ok(response)
}

async fn retry(
    app: &App,
    visitor: &Visitor,
    waiting: &Waiting<'_>,
    notice: Notice,
    wish: Wish,
) -> Result<Response, WebError> {
    let asking = demand::next(app, visitor, wish).await?;
    if visitor.wants == Wants::Json {
        let issued = consequence::issue(app, visitor, asking.order).await?;
        return Ok(pages::json(
            StatusCode::FORBIDDEN,
            &serde_json::json!({
                "success": false,
                "message": FAILED,
                "next": ChallengeJson::new(app, visitor, &issued, &asking),
            }),
        ));
    }
    let (issued, media) = consequence::issue_with_picture(app, visitor, asking.order).await?;
    let page = ChallengePage {
        issued: &issued,
        media: &media,
        return_to: &waiting.return_to,
        notice: Some(notice),
        wish,
        stage: (asking.stage, asking.stages),
        form: waiting.form.as_ref().map_or(FormFate::None, |(_, sealed)| FormFate::Carried(sealed)),
    };
    Ok(gate::challenge_page(app, visitor, &page))
}
