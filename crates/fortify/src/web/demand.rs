//! What is asked of a visitor now: collects what is known, and has [`crate::decision`] decide.

use super::stages::Progress;
use super::visitor::Visitor;
use crate::app::App;
use crate::behaviour::Class;
use crate::challenge::policy::{Order, Wish};
use crate::circuit::TorCircuit;
use crate::decision::{self, Demand, Facts, Reason, Verdict};
use crate::pseudonym::CircuitTag;
use crate::reputation::Standing;
use crate::reputation::conduct::Suspicion;
use crate::store::StoreError;

/// The next challenge of a visitor.
pub struct Asking {
    /// What it is to be.
    pub order: Order,
    /// Which of how many in a row it is, from 1 on.
    pub stage: u8,
    /// How many in a row are asked.
    pub stages: u8,
    /// What was passed already.
    pub progress: Progress,
}

/// Decides about a visitor with or without a session.
pub(super) fn decide(app: &App, visitor: &Visitor, session: bool) -> (Verdict, Vec<Reason>) {
    let suspicions = suspicions(app, visitor);
    decision::decide(&facts(app, visitor, session, &suspicions))
}

/// What `visitor`, who is not admitted, is asked next.
///
/// # Errors
///
/// When the store cannot say how far it has got.
pub(super) async fn next(app: &App, visitor: &Visitor, wish: Wish) -> Result<Asking, StoreError> {
    let (demand, progress) = (demand(app, visitor), Progress::of(app, visitor).await?);
    let stage = progress.passed.saturating_add(1).min(demand.stages);
    let order = Order { wish, harder: demand.hard };
    Ok(Asking { order, stage, stages: demand.stages, progress })
}

/// What is asked of `visitor`.
pub(super) fn demand(app: &App, visitor: &Visitor) -> Demand {
    let suspicions = suspicions(app, visitor);
    decision::demand(&facts(app, visitor, false, &suspicions))
}

/// What [`decide`] would say of a request from `circuit`, with or without a session, if it came now. It
/// leaves no trace: nobody was seen.
pub(crate) fn foresee(
    app: &App,
    circuit: CircuitTag,
    tor: Option<TorCircuit>,
    session: bool,
) -> (Verdict, Vec<Reason>) {
    let suspicions = tor.map_or_else(Vec::new, |_| app.conducts.suspicions(circuit));
    let finding = tor.and_then(|_| Some(app.behaviour.finding(circuit)?.class));
    decision::decide(&known(app, tor, session, &suspicions, finding))
}

fn facts<'a>(
    app: &App,
    visitor: &Visitor,
    session: bool,
    suspicions: &'a [Suspicion],
) -> Facts<'a> {
    known(app, visitor.id.tor(), session, suspicions, finding(app, visitor))
}

fn known<'a>(
    app: &App,
    tor: Option<TorCircuit>,
    session: bool,
    suspicions: &'a [Suspicion],
    finding: Option<Class>,
) -> Facts<'a> {
    let standing = |circuit| app.reputation.standing(circuit) == Some(Standing::Vip);
    let policy = app.threat.policy();
    Facts {
        session,
        favoured: tor.map(standing),
        suspicions,
        finding,
        stages: policy.stages,
        admits: policy.admits,
    }
}

/// What the circuit's answers look like. An address may be many people's.
fn suspicions(app: &App, visitor: &Visitor) -> Vec<Suspicion> {
    visitor.id.tor().map_or_else(Vec::new, |_| app.conducts.suspicions(visitor.circuit))
}

/// What the circuit's requests look like. An address may be many people's, who together look like much.
fn finding(app: &App, visitor: &Visitor) -> Option<Class> {
    visitor.id.tor()?;
    let finding = app.behaviour.finding(visitor.circuit)?;
    app.threat.signals().flagged(visitor.circuit);
    Some(finding.class)
}
