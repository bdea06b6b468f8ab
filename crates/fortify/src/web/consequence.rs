//! What an answer means for the standing of its circuit.

use super::visitor::Visitor;
use crate::app::App;
use crate::behaviour::Outcome;
use crate::challenge::Redeemed;
use crate::reputation::Reason;
use crate::web::error::WebError;

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
    let solved = matches!(redeemed, Redeemed::Solved { .. });
    visitor.came(Outcome::Answered { solved });
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
                Ok(()) => Ok(Redeemed::MustWait(wait.max(durations.ban))),
                Err(error) => {
                    tracing::error!(%error, "a circuit that used up its tries is not banned");
                    Ok(redeemed)
                }
            }
        }
    }
}
