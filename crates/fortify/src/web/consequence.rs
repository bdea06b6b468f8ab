//! What a challenge and its answer mean for the standing of a circuit, and for the threat dial.

use fortify_captcha::Media;
use tokio::time::Instant;

use super::visitor::Visitor;
use crate::app::App;
use crate::behaviour::Outcome;
use crate::challenge::policy::Order;
use crate::challenge::{Evidence, Issued, Redeemed, Submission};
use crate::circuit::TorCircuit;
use crate::reputation::Reason;
use crate::reputation::conduct::Deed;
use crate::session::Minted;
use crate::threat::table::Admits;
use crate::web::error::WebError;

/// A new challenge for `visitor`, without its picture.
///
/// # Errors
///
/// As [`Challenges::issue`](crate::challenge::Challenges::issue).
pub(super) async fn issue(app: &App, visitor: &Visitor, order: Order) -> Result<Issued, WebError> {
    let issued = app.challenges.issue(visitor.circuit, order.harder).await?;
    app.threat.signals().issued(visitor.circuit);
    visitor.came(Outcome::Challenged);
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
    order: Order,
) -> Result<(Issued, Media), WebError> {
    let started = Instant::now();
    let issued = app.challenges.issue_with_picture(visitor.circuit, order).await?;
    app.threat.signals().rendered(started.elapsed());
    app.threat.signals().issued(visitor.circuit);
    visitor.came(Outcome::Challenged);
    Ok(issued)
}

/// Judges an answer. A circuit of tor's that has used up its tries is banned for as long as it has to wait, and one whose conduct is a program's, or that has no wait to
/// serve, for `reputation.ban_seconds`, whether or not there is a `HAProxy` to be told. Its failures stay
/// counted, so that the next wrong answer brings the next wait.
///
/// A clearnet address is neither: it may be many people's, so its wrong answers make it wait for
/// challenges and keep nobody out who has a session.
///
/// # Errors
///
/// Faults of the store. A ban that the disk does not take is in force in memory, which [`Reputation`]
/// tells; one for which there is no room is left to the wait for which the failures stand.
///
/// [`Reputation`]: crate::reputation::Reputation
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
    let is_a_program = deed.is_some_and(|deed| app.sharing.remember(visitor.circuit, deed));
    let solved = matches!(judged.redeemed, Redeemed::Solved { .. });
    visitor.came(Outcome::Answered { solved });
    // What was no answer to anything says nothing: it would turn the dial for everybody, for free.
    match judged.evidence {
        Evidence::None => {}
        Evidence::Solved(_) => app.threat.signals().solved(visitor.circuit),
        Evidence::Wrong | Evidence::Bot => app.threat.signals().failed(visitor.circuit),
    }
    let Some(circuit) = visitor.id.tor() else {
        return Ok(judged.redeemed);
    };
    if deed.is_some() {
        penalise(app, visitor, circuit);
    }
    if solved {
        return Ok(judged.redeemed);
    }
    let now = app.clock.now();
    let for_long = app.config.reputation.ban;
    let (time, reason) = match judged.redeemed {
        _ if is_a_program => (for_long, Reason::Conduct),
        _ if judged.failures < app.config.security.max_captcha_failures => {
            return Ok(judged.redeemed);
        }
        Redeemed::MustWait(wait) => (wait, Reason::Failures),
        _ => (for_long, Reason::Failures),
    };
    match app.reputation.ban(circuit, now.after(time), reason).await {
        Ok(_wherever) => {
            app.threat.signals().banned(visitor.circuit);
            Ok(Redeemed::MustWait(time))
        }
        Err(error) => {
            tracing::error!(%error, "a circuit that is to be banned is not");
            Ok(judged.redeemed)
        }
    }
}

/// Has `HAProxy` be strict with a circuit for as long as its answers look like a program's: until they do
/// not, or half of what they cost has decayed.
fn penalise(app: &App, visitor: &Visitor, circuit: TorCircuit) {
    if app.conducts.suspicions(visitor.circuit).is_empty() {
        app.reputation.absolve(circuit);
    } else {
        let decayed = app.clock.now().after(app.config.reputation.scoring.half_life);
        app.reputation.penalise(circuit, decayed);
    }
}

/// Lets a visitor in who has passed all stages: a session, and a favour for its circuit.
///
/// # Errors
///
/// When the session cannot be made; or the favour, at a level that asks for both.
pub(super) async fn grant(app: &App, visitor: &Visitor, level: u8) -> Result<Minted, WebError> {
    let minted = app.sessions.mint(visitor.circuit, level)?;
    app.metrics.session_issued(level);
    let Some(circuit) = visitor.id.tor() else {
        return Ok(minted);
    };
    if app.threat.policy().admits == Admits::Both {
        // The next request asks for it.
        let until = app.clock.now().after(app.config.reputation.vip);
        let favoured = app.reputation.favour(circuit, until).await;
        favoured.map_err(|error| WebError::Unavailable(error.to_string()))?;
    } else {
        keep_favoured(app, circuit);
    }
    Ok(minted)
}

/// Favours a circuit from now on; not waited for.
pub(super) fn keep_favoured(app: &App, circuit: TorCircuit) {
    let until = app.clock.now().after(app.config.reputation.vip);
    if let Err(error) = app.reputation.promote(circuit, until) {
        tracing::warn!(%error, "a visitor who solved is not favoured");
    }
}
