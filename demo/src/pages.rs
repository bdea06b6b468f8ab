//! What people read. Plain HTML and CSS: the site must work for visitors without scripts.

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};

use crate::guestbook::{Entry, Guestbook, MAX_MESSAGE, MAX_NAME};

/// Title and paragraphs of one article.
#[derive(Debug)]
struct Article {
    title: &'static str,
    paragraphs: &'static [&'static str],
}

const ARTICLES: [Article; 3] = [
    Article {
        title: "A lighthouse for ships that do not answer",
        paragraphs: &[
            "The keeper of a lighthouse never learns who saw the light. Ships pass without a \
             word, and the lamp is lit again the next evening all the same.",
            "A service that asks nothing about its visitors works the same way. It can still \
             tell a ship from a wave: a ship steers.",
        ],
    },
    Article {
        title: "How to read a tide table",
        paragraphs: &[
            "Two high waters and two low waters in a little under twenty-five hours: that is \
             why the times walk forward through the week.",
            "Springs come with the full and the new moon, neaps between. The table tells when; \
             the wind decides how much.",
        ],
    },
    Article {
        title: "Letters by slow boat",
        paragraphs: &[
            "Before the cable, a letter to the islands took five weeks, and its answer five \
             more. People wrote differently when a question cost ten weeks.",
            "A page that takes a second for every round trip deserves the same care: say it all \
             in one go.",
        ],
    },
];

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    articles: &'static [Article],
}

/// `GET /`
pub(crate) async fn home() -> Response {
    page(StatusCode::OK, &Home { articles: &ARTICLES })
}

#[derive(Template)]
#[template(path = "article.html")]
struct ArticlePage {
    number: usize,
    of: usize,
    article: &'static Article,
}

/// `GET /articles/{number}`, from 1
pub(crate) async fn article(Path(number): Path<usize>, uri: Uri) -> Response {
    let Some(article) = number.checked_sub(1).and_then(|index| ARTICLES.get(index)) else {
        return not_found(uri).await;
    };
    page(StatusCode::OK, &ArticlePage { number, of: ARTICLES.len(), article })
}

#[derive(Template)]
#[template(path = "guestbook.html")]
struct GuestbookPage {
    entries: Vec<Entry>,
    problem: Option<String>,
    max_name: usize,
    max_message: usize,
}

/// `GET /guestbook`
pub(crate) async fn guestbook(State(book): State<Guestbook>) -> Response {
    show_guestbook(StatusCode::OK, &book, None)
}

/// `POST /guestbook`: signs, and sends the visitor back with a 303, so that a reload signs nothing.
pub(crate) async fn sign(
    State(book): State<Guestbook>,
    form: Result<Form<Entry>, FormRejection>,
) -> Response {
    let entry = match form {
        Ok(Form(entry)) => entry,
        Err(rejection) => {
            return show_guestbook(rejection.status(), &book, Some(rejection.body_text()));
        }
    };
    if let Some(problem) = entry.problem() {
        return show_guestbook(StatusCode::BAD_REQUEST, &book, Some(problem));
    }
    book.sign(entry);
    Redirect::to("/guestbook").into_response()
}

fn show_guestbook(status: StatusCode, book: &Guestbook, problem: Option<String>) -> Response {
    let entries = book.entries();
    let shown = GuestbookPage { entries, problem, max_name: MAX_NAME, max_message: MAX_MESSAGE };
    page(status, &shown)
}

#[derive(Template)]
#[template(path = "upload.html")]
struct Upload;

/// `GET /upload`
pub(crate) async fn upload() -> Response {
    page(StatusCode::OK, &Upload)
}

#[derive(Template)]
#[template(path = "script_check.html")]
struct ScriptCheck;

/// `GET /script-check`: the one page with a script, which tells whether the browser ran it.
///
/// A browser test that believes scripts are off must be able to find out that they are not.
pub(crate) async fn script_check() -> Response {
    page(StatusCode::OK, &ScriptCheck)
}

#[derive(Template)]
#[template(path = "cookie_check.html")]
struct CookieCheck {
    received: String,
}

/// `GET /cookie-check`: shows the cookies that came and sets two, one of them `Secure`.
///
/// A session cookie with `Secure` must come back over plain http on loopback too; whether this
/// browser does that is better found out here than as a challenge that never ends.
pub(crate) async fn cookie_check(headers: HeaderMap) -> Response {
    let received: Vec<_> =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    let shown = CookieCheck { received: received.join("; ") };
    let cookies = AppendHeaders([
        (SET_COOKIE, "plain=1; Path=/; HttpOnly; SameSite=Strict"),
        (SET_COOKIE, "secure=1; Path=/; HttpOnly; SameSite=Strict; Secure"),
    ]);
    (cookies, page(StatusCode::OK, &shown)).into_response()
}

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFound {
    path: String,
}

/// Every other address.
pub(crate) async fn not_found(uri: Uri) -> Response {
    page(StatusCode::NOT_FOUND, &NotFound { path: uri.path().to_owned() })
}

fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_formatting) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
