//! What a challenge and its answer mean for the standing of a circuit, and for the threat dial.

use fortify_captcha::Media;
use tokio::time::Instant;

use super::visitor::Visitor;
use crate::app::App;
use crate::challenge::policy::Wish;
use crate::challenge::{Issued, Redeemed};
use crate::reputation::Reason;
use crate::web::error::WebError;

/// A new challenge for `visitor`, without its picture.
///
/// # Errors
///
/// As [`Challenges::issue`](crate::challenge::Challenges::issue).
pub(super) async fn issue(app: &App, visitor: &Visitor) -> Result<Issued, WebError> {
    let issued = app.challenges.issue(visitor.circuit).await?;
    app.threat.signals().issued(visitor.circuit);
    Ok(issued)
}

/// A new challenge for `visitor` with its picture.
///
/// # Errors
///
/// As [`Challenges::issue_with_picture`](crate::challenge::Challenges::issue_with_picture).
pub(super) async fn issue_with_picture(
    app: &App,
    visitor: &Visitor,
    wish: Wish,
) -> Result<(Issued, Media), WebError> {
    let started = Instant::now();
    let issued = app.challenges.issue_with_picture(visitor.circuit, wish).await?;
    app.threat.signals().rendered(started.elapsed());
    app.threat.signals().issued(visitor.circuit);
    Ok(issued)
}

/// Judges an answer. A circuit of tor's that was right is favoured; one that has used up its tries
/// is banned, whether or not there is a `HAProxy` to be told. Its failures stay counted: a ban that
/// ends before they are forgotten gives no new tries, so that the ban's length changes nothing about
/// how often a circuit may guess in an hour.
///
/// A clearnet address is neither: it may be many people's, so its wrong answers make it wait for
/// challenges and keep nobody out who has a session.
///
/// # Errors
///
/// Faults of the store. A ban that could not be kept is none: the wait for which the failures stand
/// holds instead.
pub(super) async fn redeem(
    app: &App,
    visitor: &Visitor,
    token: &str,
    answer: &str,
) -> Result<Redeemed, WebError> {
    let redeemed = app.challenges.redeem(token, answer, visitor.circuit).await?;
    match redeemed {
        Redeemed::Solved { .. } => app.threat.signals().solved(visitor.circuit),
        Redeemed::Failed | Redeemed::MustWait(_) => app.threat.signals().failed(visitor.circuit),
    }
    let Some(circuit) = visitor.id.tor() else {
        return Ok(redeemed);
    };
    let (now, durations) = (app.clock.now(), &app.config.reputation);
    match redeemed {
        Redeemed::Failed => Ok(redeemed),
        Redeemed::Solved { .. } => {
            if let Err(error) = app.reputation.promote(circuit, now.after(durations.vip)) {
                tracing::warn!(%error, "a visitor who solved is not favoured");
            }
            Ok(redeemed)
        }
        Redeemed::MustWait(wait) => {
            match app.reputation.ban(circuit, now.after(durations.ban), Reason::Failures).await {
                Ok(()) => {
                    app.threat.signals().banned(visitor.circuit);
                    Ok(Redeemed::MustWait(wait.max(durations.ban)))
                }
                Err(error) => {
                    tracing::error!(%error, "a circuit that used up its tries is not banned");
                    Ok(redeemed)
                }
            }
        }
    }
}
