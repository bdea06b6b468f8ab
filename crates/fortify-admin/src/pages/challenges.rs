//! How challenges are answered, and sample pictures.

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::view::{self, STYLE, Shell, number, percent, tenth};
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::operations::challenges;
use fortify_engine::challenge::tally::Figures;

/// The arguments of the page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    /// Whether to show ten sample pictures.
    samples: Option<bool>,
}

/// The arguments of a sample picture.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfLevel {
    /// The threat level, 1 to 10.
    level: u8,
}

#[derive(Template)]
#[template(path = "challenges.html")]
struct ChallengesTemplate {
    shell: Shell,
    all: Kind,
    kinds: Vec<Kind>,
    samples: bool,
    in_force: u8,
}

/// How challenges of one kind were answered, as text.
pub(super) struct Kind {
    pub(super) variant: String,
    pub(super) carrier: &'static str,
    pub(super) level: u8,
    pub(super) issued: String,
    pub(super) solved: String,
    pub(super) share: String,
    pub(super) failed: String,
    pub(super) decoy: String,
    pub(super) p50: String,
    pub(super) p90: String,
}

impl Kind {
    pub(super) fn new(figures: &Figures) -> Self {
        Self {
            variant: figures.variant.unwrap_or("all").replace('_', " "),
            carrier: figures.carrier.unwrap_or("all"),
            level: figures.level.unwrap_or(0),
            issued: number(figures.issued),
            solved: number(figures.solved),
            share: percent(figures.solved, figures.solved + figures.failed + figures.decoy),
            failed: number(figures.failed),
            decoy: number(figures.decoy),
            p50: seconds(figures.seconds_p50),
            p90: seconds(figures.seconds_p90),
        }
    }
}

/// Seconds, or a dash.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{} s", tenth(seconds)))
}

/// Shows the figures.
pub(super) async fn show(context: Context, args: Show) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/challenges", "Challenges", None, None);
    let in_force = context.app().engine.dial().level.get();
    let answers = challenges::show(context, Nothing {}).await?;
    Ok(view::html(&ChallengesTemplate {
        shell,
        all: Kind::new(&answers.all),
        kinds: answers.kinds.iter().map(Kind::new).collect(),
        samples: args.samples.unwrap_or(false),
        in_force,
    }))
}

/// A sample picture of a level.
pub(super) async fn sample(context: Context, args: OfLevel) -> Result<Response, AdminError> {
    let media = challenges::sample(context, args.level).await?;
    let mut response = Response::new(Body::from(media.bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media.mime));
    Ok(response)
}
