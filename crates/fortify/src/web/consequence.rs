//! What an answer means for the standing of its circuit.

use super::visitor::Visitor;
use crate::app::App;
use crate::challenge::Redeemed;
use crate::reputation::Reason;
use crate::web::error::WebError;

/// Judges an answer. A circuit of tor's that was right is favoured; one that has used up its tries
/// is banned for as long as it has to wait, whether or not there is a `HAProxy` to be told. Its failures
/// stay counted, so that the next wrong answer brings the next wait.
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
    let Some(circuit) = visitor.id.tor() else {
        return Ok(redeemed);
    };
    let (now, durations) = (app.clock.now(), &app.config.reputation);
    match redeemed {
        Redeemed::Failed | Redeemed::MustWait(_) => Ok(redeemed),
        Redeemed::Solved { .. } => {
            if let Err(error) = app.reputation.promote(circuit, now.after(durations.vip)) {
                tracing::warn!(%error, "a visitor who solved is not favoured");
            }
            Ok(redeemed)
        }
        Redeemed::HeldBack { wait, failures } => {
            if failures >= app.config.security.max_captcha_failures
                && let Err(error) =
                    app.reputation.ban(circuit, now.after(wait), Reason::Failures).await
            {
                tracing::error!(%error, "a circuit that used up its tries is not banned");
            }
            Ok(redeemed)
        }
    }
}
