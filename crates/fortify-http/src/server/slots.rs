//! Who holds the server's slots, and who gives one up when they run short.
//!
//! A connection of tor's costs its client next to nothing, so a few circuits could hold all slots with
//! connections that ask for nothing. Therefore a circuit holds a limited number, and once all slots are taken a
//! further client takes that of a connection that is least missed. Admitted circuits keep half of the slots.
//!
//! Only connections that begin with a PROXY line can be told apart: others come from a proxy that limits them
//! itself, and none of them is cut.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fortify_core::circuit::{ProxySource, TorCircuit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, sleep};

use super::cut::Cutter;
use super::{CircuitLimit, Events, Limits, ServerEvent};

/// How often somebody who has to leave is looked for, while every connection is at work for somebody.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Connections that an admitted circuit keeps whatever they do: Tor Browser opens 6 to a site, and one for each WebSocket.
const KEPT: usize = 8;

/// The part of all slots that is freed at once of connections without a whole head, so that a flood of them does
/// not make every further connection search through all.
const BATCH: usize = 64;

/// The slots of one server.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    max: usize,
    per_circuit: CircuitLimit,
    /// Whether connections begin with a PROXY line.
    told_apart: bool,
    events: Events,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, Taken>,
    holders: HashMap<TorCircuit, Holder>,
}

/// A slot that is taken.
struct Taken {
    holder: Option<TorCircuit>,
    activity: Activity,
    since: Instant,
    /// It was told to go and is not counted any more.
    leaving: bool,
    cutter: Cutter,
}

/// A circuit with connections.
#[derive(Default)]
struct Holder {
    connections: usize,
    admitted: bool,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It has sent no whole head yet.
    Head,
    /// It waits for its next request.
    Idle,
    /// A request is being answered.
    Busy,
    /// It became a tunnel.
    Tunnel,
}

/// A circuit holds as many connections as it may.
#[derive(Debug)]
pub(super) struct TooMany;

impl Slots {
    pub(super) fn new(limits: &Limits, events: Events) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.max_connections)),
            max: limits.max_connections,
            per_circuit: limits.max_connections_per_circuit.clone(),
            told_apart: limits.proxy_protocol,
            events,
            table: Mutex::default(),
        }
    }

    /// A slot for a connection that was accepted. If none is free somebody has to leave; if nobody has to, it
    /// waits until somebody does.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        let permit = loop {
            match Arc::clone(&self.free).try_acquire_owned() {
                Ok(permit) => break Some(permit),
                // Never: nobody closes it.
                Err(TryAcquireError::Closed) => break None,
                Err(TryAcquireError::NoPermits) => {}
            }
            self.make_room();
            tokio::select! {
                permit = Arc::clone(&self.free).acquire_owned() => break permit.ok(),
                () = sleep(LOOK_AGAIN) => {}
            }
        };
        let mut table = self.lock();
        let id = table.next;
        table.next += 1;
        let cutter = Cutter::default();
        let taken = Taken {
            holder: None,
            activity: Activity::Head,
            since: Instant::now(),
            leaving: false,
            cutter: cutter.clone(),
        };
        table.taken.insert(id, taken);
        drop(table);
        (self.events)(ServerEvent::Opened);
        Slot { handle: SlotHandle { slots: Arc::clone(self), id }, cutter, _permit: permit }
    }

    /// Waits until all slots are free.
    pub(super) async fn all_free(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        drop(self.free.acquire_many(all).await);
    }

    /// How many slots are taken.
    pub(super) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    fn make_room(&self) {
        if !self.told_apart {
            return;
        }
        let cut = self.lock().make_room(self.max);
        for _ in 0..cut {
            (self.events)(ServerEvent::Displaced);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing under this lock can leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Tells those to go that are least missed, unless enough are leaving already; returns how many.
    ///
    /// First those without a whole head, of whom a flood consists; then, where circuits that are not admitted would
    /// hold more than half, the idlest of theirs; where they do, one that is at work; then the idlest of all. Of
    /// equals those of the circuit that holds most go first. Last of all are requests and tunnels of admitted circuits,
    /// and only of those that hold more than [`KEPT`] connections.
    fn make_room(&mut self, max: usize) -> usize {
        if self.taken.values().any(|taken| taken.leaving) {
            return 0;
        }
        let strangers = self.taken.values().filter(|taken| !self.is_admitted(taken)).count();
        // The newcomer is a stranger too, as far as is known.
        let (full, crowded) = (strangers >= max / 2, strangers > max / 2);
        let rank = |taken: &Taken| match (self.is_admitted(taken), taken.activity) {
            (false, Activity::Head) => Some(0),
            (false, Activity::Idle) if full => Some(1),
            (false, Activity::Busy | Activity::Tunnel) if crowded && taken.holder.is_some() => {
                Some(2)
            }
            (_, Activity::Idle) => Some(3),
            (true, Activity::Head) => Some(4),
            (true, Activity::Busy | Activity::Tunnel) if self.held_with(taken) > KEPT => Some(5),
            _ => None,
        };
        let mut leaving: Vec<_> = (self.taken.iter())
            .filter_map(|(id, taken)| {
                Some(((rank(taken)?, Reverse(self.held_with(taken)), taken.since), *id))
            })
            .collect();
        leaving.sort_unstable();
        let heads = leaving.iter().take_while(|((rank, ..), _)| *rank == 0).count();
        leaving.truncate(heads.min(max / BATCH).max(1));
        for (_, id) in &leaving {
            if let Some(taken) = self.taken.get_mut(id) {
                taken.leaving = true;
                taken.cutter.cut();
            }
        }
        leaving.len()
    }

    /// How many connections the circuit of this one holds.
    fn held_with(&self, taken: &Taken) -> usize {
        let holder = taken.holder.and_then(|holder| self.holders.get(&holder));
        holder.map_or(1, |holder| holder.connections)
    }

    fn is_admitted(&self, taken: &Taken) -> bool {
        taken
            .holder
            .and_then(|holder| self.holders.get(&holder))
            .is_some_and(|holder| holder.admitted)
    }
}

/// A connection's slot, which is freed when this is dropped, with the socket.
pub(super) struct Slot {
    handle: SlotHandle,
    cutter: Cutter,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Counts the connection with its circuit. On clearnet it counts with nobody: many may share an address.
    pub(super) fn belongs_to(&self, source: &ProxySource) -> Result<(), TooMany> {
        let Ok(circuit) = source.tor() else { return Ok(()) };
        let slots = &self.handle.slots;
        let mut table = slots.lock();
        let holder = table.holders.entry(circuit).or_default();
        if holder.connections >= slots.per_circuit.get() {
            return Err(TooMany);
        }
        holder.connections += 1;
        if let Some(taken) = table.taken.get_mut(&self.handle.id) {
            taken.holder = Some(circuit);
        }
        Ok(())
    }

    /// Cuts the connection, for one: when it has to make room for another.
    pub(super) fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    /// What tells of the connection, and does not hold the slot.
    pub(super) fn handle(&self) -> SlotHandle {
        self.handle.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let SlotHandle { slots, id } = &self.handle;
        let mut table = slots.lock();
        let circuit = table.taken.remove(id).and_then(|taken| taken.holder);
        if let Some(circuit) = circuit
            && let Some(holder) = table.holders.get_mut(&circuit)
        {
            holder.connections = holder.connections.saturating_sub(1);
            if holder.connections == 0 {
                table.holders.remove(&circuit);
            }
        }
        drop(table);
        (slots.events)(ServerEvent::Closed);
    }
}

/// Tells of a connection; every request has one in its extensions.
#[derive(Clone)]
pub struct SlotHandle {
    slots: Arc<Slots>,
    id: u64,
}

impl SlotHandle {
    /// The circuit is admitted, so its connections are not those that leave first. It stays so until it holds none.
    pub fn admit(&self) {
        let mut table = self.slots.lock();
        let circuit = table.taken.get(&self.id).and_then(|taken| taken.holder);
        if let Some(holder) = circuit.and_then(|circuit| table.holders.get_mut(&circuit)) {
            holder.admitted = true;
        }
    }

    /// Tells what the connection does from now on.
    pub(super) fn does(&self, activity: Activity) {
        if !self.slots.told_apart {
            return;
        }
        if let Some(taken) = self.slots.lock().taken.get_mut(&self.id) {
            (taken.activity, taken.since) = (activity, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use fortify_core::circuit::parse_proxy_line;

    use super::*;

    fn slots(max: usize, per_circuit: usize) -> Arc<Slots> {
        let limits = Limits {
            max_connections: max,
            max_connections_per_circuit: CircuitLimit::new(per_circuit),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            drain: Duration::ZERO,
            proxy_protocol: true,
        };
        Arc::new(Slots::new(&limits, Arc::new(|_| {})))
    }

    fn source(circuit: u16) -> ProxySource {
        let line = format!("PROXY TCP6 fc00:dead:beef:4dad::0:{circuit:x} ::1 1 80\r\n");
        parse_proxy_line(line.as_bytes()).unwrap()
    }

    /// A connection of a circuit that does this.
    async fn connection(slots: &Arc<Slots>, circuit: u16, activity: Activity) -> Slot {
        // Every one is a little later than the one before.
        tokio::time::advance(Duration::from_millis(1)).await;
        let slot = slots.take().await;
        slot.belongs_to(&source(circuit)).unwrap();
        slot.handle().does(activity);
        slot
    }

    async fn leaves(slot: &Slot) -> bool {
        tokio::time::timeout(Duration::from_millis(1), slot.cutter().fired()).await.is_ok()
    }

    /// Which of these has to leave for one more.
    async fn who_leaves(slots: &Arc<Slots>, held: &[Slot]) -> Vec<usize> {
        slots.make_room();
        let mut leaving = Vec::new();
        for (number, slot) in held.iter().enumerate() {
            if leaves(slot).await {
                leaving.push(number);
            }
        }
        leaving
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_a_circuit_holds_a_limited_number_of_slots() {
        let slots = slots(10, 2);
        let mut held = vec![connection(&slots, 1, Activity::Busy).await];
        held.push(connection(&slots, 1, Activity::Busy).await);
        assert!(slots.take().await.belongs_to(&source(1)).is_err());
        assert!(slots.take().await.belongs_to(&source(2)).is_ok());
        drop(held.pop());
        assert!(slots.take().await.belongs_to(&source(1)).is_ok());
        assert_eq!(slots.lock().holders.len(), 1, "who holds nothing is remembered");
        // Behind one address there may be many.
        let clearnet = parse_proxy_line(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n").unwrap();
        let many = [slots.take().await, slots.take().await, slots.take().await];
        assert!(many.iter().all(|slot| slot.belongs_to(&clearnet).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_those_without_a_whole_head_leave_first_and_of_them_the_largest_holders_oldest()
     {
        let slots = slots(5, 5);
        let mut held = Vec::new();
        for (circuit, activity) in [
            (1, Activity::Idle),
            (2, Activity::Head),
            (3, Activity::Head),
            (3, Activity::Head),
            (4, Activity::Busy),
        ] {
            held.push(connection(&slots, circuit, activity).await);
        }
        assert_eq!(who_leaves(&slots, &held).await, [2]);
        assert_eq!(who_leaves(&slots, &held).await, [2], "one is leaving already");
        held.remove(2);
        assert_eq!(who_leaves(&slots, &held).await, [1], "the oldest of equals");
        held.remove(1);
        assert_eq!(who_leaves(&slots, &held).await, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_admitted_circuits_keep_half_of_the_slots() {
        let slots = slots(4, 4);
        let mut held = Vec::new();
        for (circuit, activity) in
            [(1, Activity::Busy), (2, Activity::Busy), (2, Activity::Busy), (3, Activity::Idle)]
        {
            held.push(connection(&slots, circuit, activity).await);
        }
        held[0].handle().admit();
        held[3].handle().admit();
        // Two strangers' at work are no more than half.
        assert_eq!(who_leaves(&slots, &held).await, [3], "the idle one");
        held.pop();
        assert_eq!(who_leaves(&slots, &held).await, [0; 0], "a request was cut");
        held.push(connection(&slots, 4, Activity::Busy).await);
        assert_eq!(who_leaves(&slots, &held).await, [1], "the largest holder's");
        held.remove(1);
        held.push(connection(&slots, 1, Activity::Head).await);
        held[0].handle().does(Activity::Tunnel);
        assert_eq!(who_leaves(&slots, &held).await, [3], "an admitted circuit's that asks nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_a_circuit_that_is_in_does_not_hold_every_slot() {
        let slots = slots(21, 32);
        let mut held = vec![connection(&slots, 2, Activity::Tunnel).await];
        for _ in 0..10 {
            held.push(connection(&slots, 1, Activity::Busy).await);
        }
        for _ in 0..9 {
            held.push(connection(&slots, 3, Activity::Tunnel).await);
        }
        held.push(connection(&slots, 4, Activity::Idle).await);
        for slot in [0, 1, 11, 20] {
            held[slot].handle().admit();
        }
        assert_eq!(who_leaves(&slots, &held).await, [20], "an idle one leaves before");
        held.truncate(20);
        held.push(connection(&slots, 2, Activity::Tunnel).await);
        assert_eq!(who_leaves(&slots, &held).await, [1], "the oldest of who holds most");
        held.remove(1);
        assert_eq!(who_leaves(&slots, &held).await, [1], "of equals the oldest");
        held.remove(1);
        assert_eq!(who_leaves(&slots, &held).await, [9], "another with more than 8");
        held.remove(9);
        assert_eq!(who_leaves(&slots, &held).await, [0; 0], "8 are kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_changes_counts_for_who_comes_next() {
        let slots = slots(10, 2);
        let mut held = vec![connection(&slots, 1, Activity::Busy).await];
        held.push(connection(&slots, 1, Activity::Busy).await);
        slots.per_circuit.set(3);
        held.push(connection(&slots, 1, Activity::Busy).await);
        slots.per_circuit.set(1);
        assert!(slots.take().await.belongs_to(&source(1)).is_err());
        for slot in &held {
            assert!(!leaves(slot).await, "what is open was cut");
        }
        assert!(slots.take().await.belongs_to(&source(2)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_a_newcomer_takes_the_slot_of_one_that_dawdles() {
        let slots = slots(200, 32);
        for circuit in 0..200 {
            let slot = connection(&slots, circuit, Activity::Head).await;
            // As a connection does.
            tokio::spawn(async move { slot.cutter().fired().await });
        }
        let mut newcomers = Vec::new();
        for circuit in 1000..1100 {
            newcomers.push(connection(&slots, circuit, Activity::Busy).await);
        }
        for newcomer in &newcomers {
            assert!(!leaves(newcomer).await, "a request was cut");
        }
    }
}
