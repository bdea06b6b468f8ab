//! Requests of admitted visitors that are under way, so that a log-out, a revocation or a ban ends them too.
//!
//! A download or a tunnel may last for hours, and was decided about when it began. Each has an entry here that says to
//! which session and circuit it belongs, and how to cut it. Once a second [`Engine::cut_ended`] looks through all of
//! them: once a second, and not at each log-out, because other nodes end sessions too.
//!
//! Behind another server, which forwards requests by itself, nothing can be cut here. There, the circuits with an
//! admitted session are kept instead, and tor closes those whose session was ended.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Client;
use crate::decision::Grant;
use crate::session::Session;
use crate::{Engine, EngineError};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_reputation::CircuitStatus;
use fortify_store::StoreError;
use fortify_store::record::SessionId;

/// Parts with a lock each, so that requests rarely wait for each other.
const PARTS: usize = 16;

/// The most circuits that are kept to be closed: about 200 bytes each. The one that was admitted longest ago is
/// evicted, and its downloads are then not ended.
const MAX_CIRCUITS: usize = 65_536;

/// The most sessions of one of them; the oldest is evicted.
const MAX_OF_ONE: usize = 4;

/// Cuts the connection of an exchange.
type Cut = Box<dyn Fn() + Send + Sync>;

/// All exchanges that are under way. Bounded by the connections of the server, each of which has one at a time.
#[derive(Default)]
pub(super) struct Exchanges {
    parts: [Mutex<HashMap<u64, Live>>; PARTS],
    next: AtomicU64,
    /// Whether circuits are kept, to be closed by tor.
    keeps_circuits: AtomicBool,
    circuits: Mutex<Circuits>,
}

/// One exchange.
struct Live {
    holder: Holder,
    /// Whether it is a tunnel, which does not end by itself.
    tunnel: bool,
    /// When a tunnel is cut although its session lasts, because its budget is used up.
    ends: Option<Timestamp>,
    cut: Cut,
}

/// Whose an exchange is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder {
    circuit: Option<TorCircuit>,
    tag: CircuitTag,
    session: Session,
}

/// The circuits whose exchanges another server carries, by the order of their admission.
#[derive(Default)]
struct Circuits {
    sessions: HashMap<TorCircuit, Kept>,
    order: VecDeque<TorCircuit>,
}

struct Kept {
    holders: Vec<Holder>,
    /// Whether the last look found it ended: it is closed at the next, so that the answer to a log-out arrives.
    ended: bool,
}

/// An exchange that is under way. It is over when this is dropped.
pub struct Exchange {
    exchanges: Arc<Exchanges>,
    number: u64,
}

impl Exchange {
    /// Says that it has become a tunnel, which does not end by itself: it is cut some time after its session expires.
    pub fn becomes_tunnel(&self) {
        let mut part = self.exchanges.part(self.number);
        if let Some(live) = part.get_mut(&self.number) {
            live.tunnel = true;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.exchanges.part(self.number).remove(&self.number);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange(..)")
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchanges(..)")
    }
}

impl Exchanges {
    fn part(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Live>> {
        let part = &self.parts[usize::try_from(number).unwrap_or(0) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, holder: Holder, cut: Cut) -> Exchange {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.part(number).insert(number, Live { holder, tunnel: false, ends: None, cut });
        Exchange { exchanges: self.clone(), number }
    }

    /// All that are under way, and when a tunnel is cut at the latest.
    fn all(&self) -> Vec<(u64, Holder, bool, Option<Timestamp>)> {
        let mut all = Vec::new();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(part.iter().map(|(n, live)| (*n, live.holder, live.tunnel, live.ends)));
        }
        all
    }

    fn cut(&self, number: u64) {
        if let Some(live) = self.part(number).get(&number) {
            (live.cut)();
        }
    }

    fn circuits(&self) -> MutexGuard<'_, Circuits> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, circuit: TorCircuit, holder: Holder) {
        if !self.keeps_circuits.load(Ordering::Relaxed) {
            return;
        }
        let mut circuits = self.circuits();
        let Circuits { sessions, order } = &mut *circuits;
        let kept = sessions.entry(circuit).or_insert_with(|| {
            order.push_back(circuit);
            Kept { holders: Vec::new(), ended: false }
        });
        if !kept.holders.contains(&holder) {
            if kept.holders.len() == MAX_OF_ONE {
                kept.holders.remove(0);
            }
            kept.holders.push(holder);
        }
        while order.len() > MAX_CIRCUITS
            && let Some(oldest) = order.pop_front()
        {
            sessions.remove(&oldest);
        }
    }

    /// Forgets a circuit that tor has closed.
    pub(super) fn forget(&self, circuit: TorCircuit) {
        let mut circuits = self.circuits();
        if circuits.sessions.remove(&circuit).is_some() {
            circuits.order.retain(|other| *other != circuit);
        }
    }
}

impl Engine {
    /// Registers a request of `client` that was admitted by `grant` and is passed on. `cut` ends its connection; it
    /// may be called at any time until the result is dropped, more than once, and must not block.
    #[must_use]
    pub fn begin_exchange(
        &self,
        client: &Client,
        grant: &Grant,
        cut: impl Fn() + Send + Sync + 'static,
    ) -> Exchange {
        self.exchanges.begin(holder(client, grant), Box::new(cut))
    }

    /// Keeps the circuit of a request that another server passes on, admitted by `grant`, so that
    /// [`Self::take_ended_circuits`] can name it. Does nothing before [`Self::keep_circuits`].
    pub fn note_exchange(&self, client: &Client, grant: &Grant) {
        if let Some(circuit) = client.tor() {
            self.exchanges.keep(circuit, holder(client, grant));
        }
    }

    /// Keeps the circuits of requests that another server passes on from now on: tor can close them.
    pub fn keep_circuits(&self) {
        self.exchanges.keeps_circuits.store(true, Ordering::Relaxed);
    }

    /// Lets the tunnels of the session `id`, whose budget is used up, end by themselves, and cuts them after
    /// `session.tunnel_grace_seconds`.
    pub fn end_tunnels_of(&self, id: SessionId) {
        let ends = self.clock.now().after(self.config.session.tunnel_grace);
        for part in &self.exchanges.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for live in part.values_mut().filter(|live| live.tunnel && live.holder.session.id == id)
            {
                live.ends.get_or_insert(ends);
            }
        }
    }

    /// The sessions of all open tunnels, one for each.
    #[must_use]
    pub fn tunnels(&self) -> Vec<Session> {
        let all = self.exchanges.all().into_iter();
        all.filter(|(_, _, tunnel, _)| *tunnel).map(|(_, holder, ..)| holder.session).collect()
    }

    /// Ends the sessions of circuits that were banned since the last call, and cuts every exchange whose session was
    /// ended or whose circuit is banned, and every tunnel whose session or budget ended some time ago. To be called
    /// once a second.
    ///
    /// # Errors
    ///
    /// Fails if the store does not know which sessions were ended; those are then cut by a later call, and the others
    /// by this one.
    pub async fn cut_ended(&self) -> Result<(), EngineError> {
        let mut refused = None;
        for ban in self.reputation.take_banned() {
            if refused.is_none() {
                refused = self.end_sessions_on(ban.circuit, ban.since).await.err();
            }
            if refused.is_some() {
                self.reputation.put_back_banned(ban.circuit);
            }
        }
        let grace = self.config.session.tunnel_grace;
        for (number, holder, tunnel, ends) in self.exchanges.all() {
            let now = self.clock.now();
            let over = holder.session.expires_at.after(grace);
            let late = tunnel && (over <= now || ends.is_some_and(|ends| ends <= now));
            let ended = late
                || self.is_ended(&holder).await.unwrap_or_else(|error| {
                    refused = Some(error);
                    false
                });
            if ended {
                self.exchanges.cut(number);
            }
        }
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The circuits that were kept and whose session was ended, or that were banned, for tor to close. Each is named
    /// once, a second or so after it was found: the answer to a log-out has to arrive.
    ///
    /// # Errors
    ///
    /// As [`Self::cut_ended`].
    pub async fn take_ended_circuits(&self) -> Result<Vec<TorCircuit>, EngineError> {
        let kept: Vec<_> = {
            let circuits = self.exchanges.circuits();
            let all = circuits.sessions.iter();
            all.map(|(circuit, kept)| (*circuit, kept.holders.clone(), kept.ended)).collect()
        };
        let mut ended = Vec::new();
        for (circuit, holders, known) in kept {
            let mut over = known;
            for holder in holders {
                over = over || self.is_ended(&holder).await?;
            }
            if known {
                self.exchanges.forget(circuit);
                ended.push(circuit);
            } else if over && let Some(kept) = self.exchanges.circuits().sessions.get_mut(&circuit)
            {
                kept.ended = true;
            }
        }
        Ok(ended)
    }

    async fn is_ended(&self, holder: &Holder) -> Result<bool, StoreError> {
        let banned = |circuit| self.reputation.status(circuit) == Some(CircuitStatus::Banned);
        if holder.circuit.is_some_and(banned) {
            return Ok(true);
        }
        Ok(self.sessions.place_of(&holder.session, holder.tag).await?.is_none())
    }
}

fn holder(client: &Client, grant: &Grant) -> Holder {
    Holder { circuit: client.tor(), tag: client.tag, session: *grant.session() }
}
