//! The protected service, where Fortify is its proxy.

use super::http::{self, Answer, Ask, Place, Silence};
use super::{Finding, within};
use fortify_config::Config;
use fortify_core::clock::Timestamp;

/// What it did.
pub(super) struct Found(Result<Answer, Silence>);

impl Found {
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.0.as_ref().ok()?.date
    }
}

pub(super) async fn probe(config: &Config) -> Option<Found> {
    let authority = config.upstream.authority.as_ref()?;
    let port = authority.port_u16().unwrap_or(80);
    let place = Place::Tcp(format!("{}:{port}", authority.host()));
    let ask = Ask { path: "/", head: true, ..Ask::default() };
    let asked = within(http::ask(&place, ask)).await;
    Some(Found(asked.unwrap_or(Err(Silence::Slow))))
}

pub(super) fn judge(config: &Config, found: Option<&Found>) -> Finding {
    const CHECK: &str = "upstream";
    let (Some(Found(found)), Some(authority)) = (found, &config.upstream.authority) else {
        let why = "upstream.url is not set: whoever asks /_fortify/auth passes requests on itself";
        return Finding::skipped(CHECK, why);
    };
    match found {
        Ok(answer) if answer.status < 500 => {
            Finding::ok(CHECK, format!("{authority} answers (HEAD / is {})", answer.status))
        }
        Ok(answer) => Finding::warn(
            CHECK,
            format!("{authority} answers HEAD / with {}", answer.status),
            "look into the service's log; admitted visitors see this",
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("{authority} does not answer: {error}"),
            "start the service, or correct upstream.url; admitted visitors get 502 or 504 meanwhile",
        ),
    }
}
