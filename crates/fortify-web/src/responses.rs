//! What several handlers answer with: the cookies of a session, and the page for a browser without cookies.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use fortify_engine::session::Minted;

use crate::app::App;
use crate::cookies::{Hint, Jar, SESSION};
use crate::pages::{self, Message};
use crate::return_to::ReturnTo;
use crate::visitor::Visitor;

/// Gives the visitor the cookie of a session that moved, with whatever is answered, a challenge included. It
/// lasts as long as the session does.
pub(super) fn renew(app: &App, visitor: &Visitor, response: &mut Response) {
    let Some(renewal) = visitor.client.renewal() else { return };
    // A new session takes the place of the one that moved.
    let is_session = |cookie: &HeaderValue| cookie.as_bytes().starts_with(SESSION.as_bytes());
    if response.headers().get_all(header::SET_COOKIE).iter().any(is_session) {
        return;
    }
    let lifetime = app.clock.now().until(renewal.expires_at);
    let jar = Jar { lifetime, ..visitor.jar };
    pages::set_cookies(response, [jar.session(renewal.token.expose())]);
    // Whatever the service said of its page, no cache may hand the cookie to somebody else.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Says that cookies are off, and how to go on.
#[must_use]
pub(super) fn cookies_off(app: &App, visitor: &Visitor, to: &ReturnTo) -> Response {
    let locale = app.locales.negotiate(visitor.language.as_deref());
    let (title, text) = (locale.text("cookies-title"), locale.text("cookies-text"));
    let retry = locale.text("cookies-retry");
    let page = Message::new(&title, &text).link(to.as_str(), &retry);
    pages::message(app.challenge_status(), locale, &page)
}

/// Sets the cookies of a visitor who was let in.
pub(super) fn give_session(visitor: &Visitor, minted: &Minted, response: &mut Response) {
    let cookies = [visitor.jar.session(&minted.token), visitor.jar.hint(Hint::Member)];
    pages::set_cookies(response, cookies);
    if visitor.client.credentials.stages.iter().any(Option::is_some) {
        pages::set_cookies(response, visitor.jar.no_stages());
    }
}
