//! The addresses of the challenge page: its picture, its form, and the same as JSON.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::addresses::ENTER;
use crate::app::{App, SharedApp};
use crate::carried::{self, CarriedForm};
use crate::cookies::Hint;
use crate::error::{CHALLENGE_REQUIRED, FORTIFY_CHALLENGE, WebError};
use crate::form::{self, Fields};
use crate::pages::{self, ChallengePage, FormFate, Notice};
use crate::responses::{cookies_off, give_session, renew};
use crate::return_to::{FRONT, ReturnTo};
use crate::visitor::Visitor;
use crate::wants::Wants;
use crate::{same_origin, traps};
use fortify_engine::STAGE_LIFETIME;
use fortify_engine::answer::{Answered, Stage};
use fortify_engine::challenge::Submission;
use fortify_engine::challenge::policy::Preference;
use fortify_engine::decision::{Decision, Grant};
use fortify_engine::issue::{Issue, IssueRequest, Issued};
use fortify_engine::session::Minted;
use fortify_store::record::ChallengeToken;

/// Bytes of an answer's form: a carried form of 16 KiB in base64, and the rest of the fields.
const MAX_FORM_BYTES: usize = 32 * 1024;

/// Bytes of a JSON body: none of ours needs more than a token and an answer.
pub(super) const MAX_JSON_BYTES: usize = 4 * 1024;

/// The message of an answer that was right, to a challenge that is worth nothing at the level in force.
pub(super) const OUTDATED: &str = "The site has become stricter; one more";

/// The one message of every answer that was not right.
pub(super) const FAILED: &str = "Verification failed";

/// What stands around a challenge on its page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    /// Where the right answer leads.
    pub(super) return_to: &'a ReturnTo,
    /// Where one who has to queue comes back.
    pub(super) back: &'a ReturnTo,
    /// What the page says first.
    pub(super) notice: Option<Notice>,
    /// What becomes of the form that was sent here.
    pub(super) form: FormFate<'a>,
}

impl<'a> Around<'a> {
    /// Nothing but the page that was asked for.
    pub(super) const fn page(to: &'a ReturnTo) -> Self {
        Self { return_to: to, back: to, notice: None, form: FormFate::None }
    }
}

/// The page of a challenge by `request`, and the cookie that will tell whether this browser keeps cookies.
///
/// # Errors
///
/// A circuit that has to wait; faults of this side.
pub(super) async fn page(
    app: &App,
    visitor: &Visitor,
    request: IssueRequest<'_>,
    around: Around<'_>,
) -> Result<Response, WebError> {
    let issued = issue(app, visitor, request, around.back).await?;
    let no_picture = || WebError::Unavailable("a challenge without its picture".to_owned());
    let page = ChallengePage {
        issued: &issued.challenge,
        media: issued.media.as_ref().ok_or_else(no_picture)?,
        return_to: around.return_to,
        notice: around.notice.or_else(|| {
            app.engine.is_unverifiable(&visitor.client).then_some(Notice::Unverifiable)
        }),
        form: around.form,
        tries: issued.tries,
        stage: (issued.stage, issued.stages),
    };
    let locale = app.locales.negotiate(visitor.language.as_deref());
    let mut response = pages::challenge(app.challenge_status(), locale, &page);
    // For a script that asks for pages and shows them itself.
    response.headers_mut().insert(FORTIFY_CHALLENGE, CHALLENGE_REQUIRED);
    pages::set_cookies(&mut response, [hint(visitor, &issued)]);
    Ok(response)
}

/// The cookie that tells whether this browser keeps cookies; at an address that many people may share, also which
/// challenge its tabs show.
pub(super) fn hint(visitor: &Visitor, issued: &Issued) -> Option<HeaderValue> {
    match visitor.client.tor() {
        Some(_) => visitor.jar.hint(Hint::Seen),
        None => visitor.jar.shown(&issued.challenge.token),
    }
}

/// A challenge by `request`; one who has to queue for it comes back to `back`.
///
/// # Errors
///
/// As [`page`].
pub(super) async fn issue(
    app: &App,
    visitor: &Visitor,
    request: IssueRequest<'_>,
    back: &ReturnTo,
) -> Result<Issued, WebError> {
    // Otherwise pictures on another site's page would use up what its readers may ask for here.
    if visitor.embedded_elsewhere {
        return Err(WebError::Forbidden);
    }
    // Nobody solves anything for a page that says that there is nothing. A chain that has begun goes on: its stages
    // are in cookies that come with the next picture.
    if app.service_is_down() && !request.continues() {
        return Err(WebError::ServiceDown);
    }
    match app.engine.issue(&visitor.client, request).await? {
        Issue::Issued(issued) => Ok(*issued),
        Issue::Wait(wait) => Err(WebError::waiting(wait, back)),
    }
}

/// A challenge as JSON.
#[derive(Debug, Serialize)]
struct ChallengeJson {
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
    /// How many wrong answers count, and for how many seconds the next one makes the circuit wait.
    wrong_answers: u32,
    next_wrong_answer_waits: u64,
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
    fn new(app: &App, visitor: &Visitor, issued: &Issued) -> Self {
        let Issued { challenge, stage, stages, tries, .. } = issued;
        let token = challenge.token.encode();
        let locale = app.locales.negotiate(visitor.language.as_deref());
        Self {
            image: format!("/captcha/{token}.png"),
            token,
            variant: challenge.variant,
            level: challenge.level,
            mode: challenge.mode.as_str(),
            carrier: challenge.carrier,
            question: locale.question(&challenge.question, challenge.mode),
            choices: (challenge.choices.iter())
                .map(|choice| ChoiceJson { value: choice.value(), label: locale.choice(choice) })
                .collect(),
            expires_in: challenge.expires_in.as_secs(),
            stage: *stage,
            stages: *stages,
            wrong_answers: tries.wrong,
            next_wrong_answer_waits: tries.next.as_secs(),
        }
    }
}

/// `POST /captcha/generate` takes nothing, a ticket, or the wish for another challenge than the one that is there: what
/// is asked is not the visitor's to choose.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateRequest {
    /// The place in the queue that an earlier request was given.
    ticket: Option<String>,
    /// A wish as on the page: `1`, `still` or `letters`, for another challenge in place of `token`.
    another: Option<String>,
    /// The token of the challenge that is there.
    token: Option<String>,
}

/// `POST /captcha/generate`: a challenge for a page that somebody else draws.
///
/// # Errors
///
/// A body that is neither empty nor `{}`; a circuit that has to wait; faults of this side.
pub async fn generate(
    State(app): State<SharedApp>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, WebError> {
    if same_origin::is_foreign(&headers) {
        return Err(WebError::Forbidden);
    }
    let body = form::read_body(body, MAX_JSON_BYTES).await?;
    let request: GenerateRequest = match body.is_empty() {
        true => GenerateRequest::default(),
        false => {
            serde_json::from_slice(&body).map_err(|_malformed| WebError::BadRequest("json"))?
        }
    };
    let first = IssueRequest::first(app.engine.requirement(&visitor.client));
    let mut next = first.without_picture().with_ticket(request.ticket.as_deref());
    if let Some(another) = &request.another {
        let token = request.token.as_deref().unwrap_or_default();
        next = next.with_preference(Preference::parse(another)).in_place_of(token);
    }
    let issued = issue(&app, &visitor, next, &ReturnTo::parse(FRONT)).await?;
    let mut response = pages::json(StatusCode::OK, &ChallengeJson::new(&app, &visitor, &issued));
    pages::set_cookies(&mut response, [shown(&visitor, &issued)]);
    Ok(response)
}

/// The cookie of a challenge that a program shows, where it is needed: at an address that many people may share.
pub(super) fn shown(visitor: &Visitor, issued: &Issued) -> Option<HeaderValue> {
    visitor.client.tor().is_none().then(|| hint(visitor, issued)).flatten()
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
    let media = app.engine.picture(&visitor.client, &token).await?;
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
    let answers = app.answers.clone();
    let checked = async move {
        let waiting = Waiting::read(&app, &visitor, &parts.headers, &fields);
        let answered = answer(&app, &visitor, &fields, &waiting).await;
        // Whoever has to wait comes back to the page first asked for, and not to where forms are sent.
        let mut answered =
            answered.unwrap_or_else(|error| error.leading_to(waiting.return_to.clone()));
        keep_in_history(&mut answered);
        renew(&app, &visitor, &mut answered);
        answered
    };
    Ok(answers.to_the_end(checked).await?)
}

/// Lets the browser show a challenge again that was the answer to a form. What is not stored it asks for again when the
/// visitor goes back, and forms are not sent again: Firefox says that the document expired. Whatever is sent from the page
/// then leads on.
fn keep_in_history(answered: &mut Response) {
    if answered.headers().contains_key(FORTIFY_CHALLENGE) {
        let revalidate = HeaderValue::from_static("private, no-cache");
        answered.headers_mut().insert(header::CACHE_CONTROL, revalidate);
    }
}

async fn answer(
    app: &App,
    visitor: &Visitor,
    fields: &Fields,
    waiting: &Waiting<'_>,
) -> Result<Response, WebError> {
    let AnswerForm { token, answer, another } = AnswerForm::read(fields)?;
    let submission = Submission { token, answer, trapped: traps::is_caught(token, fields) };
    if let Some(grant) = admitted(app, visitor).await? {
        return sent_on(app, visitor, waiting, &grant, submission).await;
    }
    if let Some(preference) = another {
        let first = IssueRequest::first(app.engine.requirement(&visitor.client));
        let request = first.with_preference(preference).in_place_of(token);
        return retry(app, visitor, waiting, request, Notice::Another).await;
    }
    match app.engine.answer(&visitor.client, submission).await? {
        Answered::Granted(minted) => Ok(admit(app, visitor, waiting, &minted)),
        Answered::Outdated(request) if visitor.wants == Wants::Json => {
            another_as_json(app, visitor, request, OUTDATED).await
        }
        Answered::Outdated(request) => {
            page(app, visitor, request, waiting.around(Notice::Outdated)).await
        }
        Answered::Gone(request) => retry(app, visitor, waiting, request, Notice::Gone).await,
        Answered::Next(stage) => go_on(app, visitor, waiting, stage).await,
        Answered::Wrong(request) => retry(app, visitor, waiting, request, Notice::Wrong).await,
        Answered::Wait(wait) => Err(WebError::waiting(wait, &waiting.return_to)),
    }
}

/// The fields that judge.
struct AnswerForm<'a> {
    token: &'a str,
    answer: &'a str,
    /// The visitor asked for another picture instead of answering, and perhaps for one of this kind.
    another: Option<Preference>,
}

impl<'a> AnswerForm<'a> {
    fn read(fields: &'a Fields) -> Result<Self, WebError> {
        let field = |name| form::only(fields, name).ok_or(WebError::BadRequest("form"));
        let another = form::only(fields, "another").map(Preference::parse);
        // Nothing needs to be picked or typed to get another picture.
        let answer = if another.is_some() { "" } else { field("answer")? };
        Ok(Self { token: field("token")?, answer, another })
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
                let (keys, tag) = (app.engine.keys(), visitor.client.tag);
                let form = carried::open(keys, &*app.clock, tag, sealed)?;
                Some((form, sealed))
            });
        let return_to = ReturnTo::parse(form::only(fields, "return_to").unwrap_or_default());
        Self { return_to, form }
    }

    /// What stands around the next challenge.
    fn around(&self, notice: Notice) -> Around<'_> {
        let sealed = self.form.as_ref().map(|(_, sealed)| *sealed);
        Around {
            return_to: &self.return_to,
            back: &self.return_to,
            notice: Some(notice),
            form: sealed.map_or(FormFate::None, FormFate::Carried),
        }
    }
}

/// What lets this visitor in already.
pub(super) async fn admitted(app: &App, visitor: &Visitor) -> Result<Option<Grant>, WebError> {
    match app.engine.check_answering(&visitor.client).await? {
        Decision::Admit(grant) => Ok(Some(grant)),
        Decision::Challenge(_) => Ok(None),
        Decision::SlowDown(slow) => Err(WebError::SlowDown(slow)),
        Decision::Refuse(refusal) => Err(refusal.into()),
    }
}

/// A visitor who is in goes on, whatever the form says: it is not checked and counts for nothing. One who is in by the
/// circuit, because the first response with the cookie was lost, gets that cookie.
async fn sent_on(
    app: &App,
    visitor: &Visitor,
    waiting: &Waiting<'_>,
    grant: &Grant,
    submission: Submission<'_>,
) -> Result<Response, WebError> {
    if matches!(grant, Grant::Trusted(_))
        && let Some(minted) = app.engine.earned(&visitor.client, submission).await?
    {
        return Ok(admit(app, visitor, waiting, &minted));
    }
    Ok(lead_on(app, visitor, waiting, true))
}

fn admit(app: &App, visitor: &Visitor, waiting: &Waiting<'_>, minted: &Minted) -> Response {
    let mut response = lead_on(app, visitor, waiting, visitor.hint.is_some());
    give_session(visitor, minted, &mut response);
    response
}

/// To the page first asked for, or on with the form that waits.
fn lead_on(app: &App, visitor: &Visitor, waiting: &Waiting<'_>, keeps_cookies: bool) -> Response {
    let to = waiting.return_to.as_str();
    match (&waiting.form, visitor.wants) {
        (_, Wants::Json) => pages::json(
            StatusCode::OK,
            &serde_json::json!({"success": true, "message": "Access granted", "redirect": to}),
        ),
        (Some((form, _)), Wants::Page) if keeps_cookies => {
            let locale = app.locales.negotiate(visitor.language.as_deref());
            pages::resume(locale, &form.action, &form.fields)
        }
        // The page that carries a form set the hint, so a jar without it keeps nothing.
        (Some(_), Wants::Page) => cookies_off(app, visitor, &waiting.return_to),
        (None, Wants::Page) if keeps_cookies => pages::see_other(to),
        // The hint did not come back: either the page was somebody else's, or cookies are off. One
        // more step tells.
        (None, Wants::Page) => {
            pages::see_other(&format!("{ENTER}?to={}", waiting.return_to.encode()))
        }
    }
}

/// After a stage that is not the last: its cookie, and the next challenge.
async fn go_on(
    app: &App,
    visitor: &Visitor,
    waiting: &Waiting<'_>,
    stage: Stage,
) -> Result<Response, WebError> {
    if visitor.wants == Wants::Json {
        return next_as_json(app, visitor, stage).await;
    }
    if visitor.hint.is_none() {
        return Ok(cookies_off(app, visitor, &waiting.return_to));
    }
    let mut response = page(app, visitor, stage.next, waiting.around(Notice::Stage)).await?;
    pages::set_cookies(&mut response, [stage_cookie(visitor, &stage)]);
    Ok(response)
}

/// The same as JSON.
pub(super) async fn next_as_json(
    app: &App,
    visitor: &Visitor,
    stage: Stage,
) -> Result<Response, WebError> {
    let mut response = another_as_json(app, visitor, stage.next, "One more").await?;
    pages::set_cookies(&mut response, [stage_cookie(visitor, &stage)]);
    Ok(response)
}

/// A right answer after which there is another challenge.
pub(super) async fn another_as_json(
    app: &App,
    visitor: &Visitor,
    request: IssueRequest<'_>,
    message: &str,
) -> Result<Response, WebError> {
    let issued = issue(app, visitor, request.without_picture(), &ReturnTo::parse(FRONT)).await?;
    let mut response = pages::json(
        StatusCode::OK,
        &serde_json::json!({
            "success": true,
            "message": message,
            "next": ChallengeJson::new(app, visitor, &issued),
        }),
    );
    pages::set_cookies(&mut response, [shown(visitor, &issued)]);
    Ok(response)
}

fn stage_cookie(visitor: &Visitor, stage: &Stage) -> Option<HeaderValue> {
    visitor.jar.stage(stage.number, &stage.cookie, STAGE_LIFETIME)
}

async fn retry(
    app: &App,
    visitor: &Visitor,
    waiting: &Waiting<'_>,
    request: IssueRequest<'_>,
    notice: Notice,
) -> Result<Response, WebError> {
    if visitor.wants == Wants::Page {
        return page(app, visitor, request, waiting.around(notice)).await;
    }
    let issued = issue(app, visitor, request.without_picture(), &waiting.return_to).await?;
    let mut response = pages::json(
        StatusCode::FORBIDDEN,
        &serde_json::json!({
            "success": false,
            "message": FAILED,
            "next": ChallengeJson::new(app, visitor, &issued),
        }),
    );
    pages::set_cookies(&mut response, [shown(visitor, &issued)]);
    Ok(response)
}
