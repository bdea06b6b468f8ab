//! What an answer means for the standing of its circuit.

use super::visitor::Visitor;
use crate::app::App;
use crate::challenge::{Evidence, Redeemed, Submission};
use crate::circuit::TorCircuit;
use crate::clock::Timestamp;
use crate::reputation::Reason;
use crate::reputation::conduct::Deed;
use crate::web::error::WebError;

/// Judges an answer. A circuit of tor's that was right is favoured; one that has used up its tries
/// is banned for as long as it has to wait, and one whose conduct is a program's for longer, whether or
/// not there is a `HAProxy` to be told. Its failures stay counted, so that the next wrong answer brings
/// the next wait.
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
    submission: Submission<'_>,
) -> Result<Redeemed, WebError> {
    let judged = app.challenges.redeem(submission, visitor.circuit).await?;
    let deed = match judged.evidence {
        Evidence::None => None,
        Evidence::Solved(took) => Some(Deed::Solved(took)),
        Evidence::Wrong => Some(Deed::Failed),
        Evidence::Bot => Some(Deed::Bot),
    };
    let is_a_program = deed.is_some_and(|deed| app.conducts.remember(visitor.circuit, deed));
    let (redeemed, Some(circuit)) = (judged.redeemed, visitor.id.tor()) else {
        return Ok(judged.redeemed);
    };
    let (now, durations) = (app.clock.now(), &app.config.reputation);
    let most = app.config.security.max_captcha_failures;
    match redeemed {
        Redeemed::Solved { .. } => favour(app, circuit, now),
        _ if is_a_program => ban(app, circuit, now.after(durations.ban), Reason::Conduct).await,
        Redeemed::HeldBack { wait, failures } if failures >= most => {
            ban(app, circuit, now.after(wait), Reason::Failures).await;
        }
        Redeemed::Failed | Redeemed::HeldBack { .. } | Redeemed::MustWait(_) => {}
    }
    Ok(redeemed)
}

/// Favours a circuit from `now` on.
pub(super) fn favour(app: &App, circuit: TorCircuit, now: Timestamp) {
    if let Err(error) = app.reputation.promote(circuit, now.after(app.config.reputation.vip)) {
        tracing::warn!(%error, "a visitor who solved is not favoured");
    }
}

async fn ban(app: &App, circuit: TorCircuit, until: Timestamp, reason: Reason) {
    if let Err(error) = app.reputation.ban(circuit, until, reason).await {
        tracing::error!(%error, "a circuit that is to be banned is not");
    }
}
