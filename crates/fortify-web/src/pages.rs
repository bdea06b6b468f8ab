//! Bodies and the headers that guard them.
//!
//! A page is plain HTML with its style inside and nothing else: no script, no font, no request
//! besides itself. The policy says so to the browser, and names the style by its hash.

use std::borrow::Cow;
use std::sync::LazyLock;

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fortify_captcha::{Carrier, Media, Question};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::form::Fields;
use crate::i18n::Locale;
use crate::return_to::ReturnTo;
use crate::traps;
use fortify_engine::challenge::Issued;
use fortify_engine::challenge::policy::Preference;
use fortify_engine::issue::Tries;

const STYLE: &str = include_str!("../templates/style.css");

/// Nothing may be loaded but what stands in the page.
///
/// There is no `form-action`: browsers hold it against every redirect that a form leads to, and
/// after the right answer the service may send the visitor on to another origin, to its other
/// address or to a payment page, say. Where our forms go stands in the templates alone.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; img-src data:; style-src 'sha256-{style}'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
});

/// The headers that every body of ours has. `same-origin` and not `no-referrer`: without a
/// referrer browsers send `Origin: null`, and a form of ours could not be told from a stranger's.
const GUARDS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// A challenge as a page.
pub struct ChallengePage<'a> {
    /// The challenge.
    pub issued: &'a Issued,
    /// Its picture.
    pub media: &'a Media,
    /// Where the right answer leads.
    pub return_to: &'a ReturnTo,
    /// What the page says first.
    pub notice: Option<Notice>,
    /// What becomes of the form that was sent here.
    pub form: FormFate<'a>,
    /// The wrong answers that count.
    pub tries: Tries,
    /// Which of how many in a row this is, from 1 on.
    pub stage: (u8, u8),
}

/// What becomes of a form that met the challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormFate<'a> {
    /// None was sent.
    None,
    /// It travels in the page, sealed.
    Carried(&'a str),
    /// It has to be sent again.
    Lost,
}

/// What a challenge page says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The answer before was not right.
    Wrong,
    /// The answer was to a picture that is not to be answered any more; it counts for nothing.
    Gone,
    /// The visitor asked for another picture.
    Another,
    /// The answer was right, and there is one more.
    Stage,
    /// The answer was right, but the site has become stricter since the picture was drawn.
    Outdated,
    /// There was a session, but records of ended sessions were lost, so it cannot be accepted.
    Unverifiable,
}

/// A page with a title, a sentence and perhaps a way on.
pub struct Message<'a> {
    title: &'a str,
    text: &'a str,
    link: Option<Link<'a>>,
    /// After how many seconds it follows its link by itself.
    goes_on_after: Option<u64>,
}

struct Link<'a> {
    to: &'a str,
    label: &'a str,
}

impl<'a> Message<'a> {
    /// A title and a sentence.
    #[must_use]
    pub const fn new(title: &'a str, text: &'a str) -> Self {
        Self { title, text, link: None, goes_on_after: None }
    }

    /// With a link.
    #[must_use]
    pub const fn link(mut self, to: &'a str, label: &'a str) -> Self {
        self.link = Some(Link { to, label });
        self
    }

    /// A page that follows its link by itself, without a script.
    #[must_use]
    pub const fn goes_on(self) -> Self {
        self.goes_on_after(0)
    }

    /// A page that does so after this many seconds.
    #[must_use]
    pub const fn goes_on_after(mut self, seconds: u64) -> Self {
        self.goes_on_after = Some(seconds);
        self
    }
}

#[derive(Template)]
#[template(path = "challenge.html")]
struct ChallengeTemplate<'a> {
    locale: Locale<'a>,
    alert: Option<String>,
    another: Option<String>,
    /// Which of how many, where there are several.
    stage: Option<String>,
    /// The names of fields that no person sees.
    traps: [String; 2],
    form_note: Option<String>,
    picture: String,
    width: u16,
    height: u16,
    /// What to look for, where it is not plain to see.
    look: Option<Cow<'a, str>>,
    /// Whether a px of the picture is a dot to be shown sharp.
    dots: bool,
    /// Whether there are more dots in a row than of four characters.
    wide: bool,
    /// Whether it asks for letters.
    letters: bool,
    /// What a form sends and what a person reads, for each thing that can be picked.
    choices: Vec<(String, String)>,
    question: String,
    token: String,
    return_to: &'a str,
    carried: Option<&'a str>,
    /// How many wrong answers count, and what the next one costs, if there are any.
    tries: Option<String>,
    hint: String,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessageTemplate<'a> {
    locale: Locale<'a>,
    title: &'a str,
    text: &'a str,
    link: Option<Link<'a>>,
    refresh: Option<String>,
}

#[derive(Template)]
#[template(path = "resume.html")]
struct ResumeTemplate<'a> {
    locale: Locale<'a>,
    action: &'a str,
    fields: &'a Fields,
}

/// The challenge page.
#[must_use]
pub fn challenge(status: StatusCode, locale: Locale<'_>, page: &ChallengePage<'_>) -> Response {
    let issued = page.issued;
    let token = issued.token.encode();
    let minutes = issued.expires_in.as_secs() / 60;
    let letters = matches!(
        issued.question,
        Question::TypeCharacters { .. }
            | Question::TypeLettersOver { .. }
            | Question::TypeLettersOverEach { .. }
    );
    let typed_letters = letters && issued.choices.is_empty();
    let hint = if typed_letters { "challenge-hint" } else { "challenge-hint-choice" };
    let says = |notice, text| (page.notice == Some(notice)).then(|| locale.text(text).into_owned());
    let (carried, form_note) = match page.form {
        FormFate::None => (None, None),
        FormFate::Carried(sealed) => (Some(sealed), Some(locale.text("challenge-form-kept"))),
        FormFate::Lost => (None, Some(locale.text("challenge-form-not-kept"))),
    };
    html(
        status,
        &ChallengeTemplate {
            locale,
            alert: says(Notice::Wrong, "challenge-wrong"),
            another: says(Notice::Another, "challenge-another")
                .or_else(|| says(Notice::Gone, "challenge-gone"))
                .or_else(|| says(Notice::Stage, "challenge-next-stage"))
                .or_else(|| says(Notice::Outdated, "challenge-outdated"))
                .or_else(|| says(Notice::Unverifiable, "challenge-unverifiable")),
            stage: stage(locale, page.stage),
            traps: traps::names(&token),
            form_note: form_note.map(Cow::into_owned),
            picture: STANDARD.encode(&page.media.bytes),
            width: page.media.width,
            height: page.media.height,
            look: look(issued.carrier, locale),
            dots: page.media.scale > 1,
            wide: page.media.width > WIDTH_OF_DOTS,
            letters: matches!(issued.question, Question::TypeCharacters { .. }),
            choices: (issued.choices.iter())
                .map(|choice| (choice.value(), locale.choice(choice)))
                .collect(),
            question: locale.question(&issued.question, issued.mode),
            token,
            return_to: page.return_to.as_str(),
            carried,
            tries: tries(locale, page.tries),
            hint: locale.text_with(hint, "minutes", minutes.max(1)).into_owned(),
        },
    )
}

/// How many wrong answers count, and what the next one costs.
fn tries(locale: Locale<'_>, tries: Tries) -> Option<String> {
    let (wrong, next) = (u64::from(tries.wrong), tries.next);
    let id = if next.is_zero() { "challenge-tries-free" } else { "challenge-tries" };
    (wrong > 0).then(|| locale.text_of_tries(id, wrong, next).into_owned())
}

/// Which challenge this is, where several are asked.
fn stage(locale: Locale<'_>, (stage, stages): (u8, u8)) -> Option<String> {
    let text = || locale.text_of_stage("challenge-stage", stage, stages).into_owned();
    (stages > 1).then(text)
}

/// Width at which pages show moving characters, CSS px: the style sheet has it, and one for what is wider.
const WIDTH_OF_DOTS: u16 = 384;

/// What people who never saw such a picture have to know before they see anything in it.
fn look<'a>(carrier: &str, locale: Locale<'a>) -> Option<Cow<'a, str>> {
    match carrier.parse() {
        Ok(Carrier::Motion) => Some(locale.text("challenge-moves")),
        Ok(Carrier::Swirl) => Some(locale.text("challenge-stripes")),
        _ => None,
    }
}

/// A page with a message.
#[must_use]
pub fn message(status: StatusCode, locale: Locale<'_>, message: &Message<'_>) -> Response {
    let link = message.link.as_ref().map(|link| Link { to: link.to, label: link.label });
    let refresh = link.as_ref().zip(message.goes_on_after);
    let refresh = refresh.map(|(link, seconds)| format!("{seconds};url={}", link.to));
    let (title, text) = (message.title, message.text);
    html(status, &MessageTemplate { locale, title, text, link, refresh })
}

/// The page that sends a carried form on at the press of its one button.
#[must_use]
pub fn resume(locale: Locale<'_>, action: &ReturnTo, fields: &Fields) -> Response {
    let action = action.as_str();
    html(StatusCode::OK, &ResumeTemplate { locale, action, fields })
}

/// A JSON body.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => guarded(status, "application/json", body.into()),
        Err(_unwritable) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A picture.
#[must_use]
pub fn picture(media: Media) -> Response {
    guarded(StatusCode::OK, media.mime, media.bytes.into())
}

/// A text for a program.
#[must_use]
pub fn text(status: StatusCode, content_type: &'static str, body: String) -> Response {
    guarded(status, content_type, body.into())
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    guard(response.headers_mut());
    response
}

/// A redirect to a page of this site, with `GET`.
#[must_use]
pub fn see_other(to: &str) -> Response {
    redirect(StatusCode::SEE_OTHER, to)
}

/// A redirect to where the request was sent, with the same method and body.
#[must_use]
pub fn again(here: &str) -> Response {
    redirect(StatusCode::TEMPORARY_REDIRECT, here)
}

fn redirect(status: StatusCode, to: &str) -> Response {
    let mut response = empty(status);
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Adds cookies to a response.
pub fn set_cookies(
    response: &mut Response,
    cookies: impl IntoIterator<Item = Option<HeaderValue>>,
) {
    for cookie in cookies.into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn html(status: StatusCode, template: &impl Template) -> Response {
    let Ok(body) = template.render() else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = guarded(status, "text/html; charset=utf-8", body.into());
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn guarded(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = empty(status);
    *response.body_mut() = body;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn guard(headers: &mut HeaderMap) {
    for (name, value) in GUARDS {
        headers.insert(name, value);
    }
}
