//! The task that keeps a connection to tor open, and reopens it when it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::control::Control;
use super::error::TorError;
use super::generation::{Generations, RunMatch, TorRun};
use super::protocol::{Message, closed_visitor};
use super::{CloseOutcome, CloseRequest, Tor, TorEvent};
use crate::config::{ControlAddress, TorConfig};
use crate::metrics::TorMetrics;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Clock;
use fortify_core::entropy::Entropy;

/// How often a silent tor is asked whether it still runs.
const POLL: Duration = Duration::from_secs(5);

/// The first pause between attempts, which doubles up to the longest one. A connection that lasted for [`POLL`]
/// resets it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Keeps a [`Tor`] up to date.
#[derive(Debug)]
pub struct Watcher {
    config: TorConfig,
    generations: Generations,
    inbox: mpsc::Receiver<CloseRequest>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: TorMetrics,
}

impl std::fmt::Debug for CloseRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order(..)")
    }
}

impl Watcher {
    pub(super) fn new(
        config: TorConfig,
        generations: Generations,
        inbox: mpsc::Receiver<CloseRequest>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: TorMetrics,
    ) -> Self {
        Self { config, generations, inbox, clock, entropy, metrics }
    }

    /// Watches tor forever and updates `tor`. Each new problem is logged once, not at every attempt.
    pub async fn run(mut self, tor: Arc<Tor>) {
        let address = tor.address.clone();
        let (mut wait, mut reported) = (FIRST_WAIT, String::new());
        loop {
            let connected = self.connect(&tor, &address).await;
            tor.first_attempt_over.send_replace(true);
            let error = match connected {
                Ok((mut control, run)) => {
                    reported.clear();
                    let since = Instant::now();
                    let error = self.follow(&tor, &mut control, run).await;
                    self.disconnected(&tor);
                    if since.elapsed() >= POLL {
                        wait = FIRST_WAIT;
                    }
                    error
                }
                Err(error) => error,
            };
            let text = error.to_string();
            if text != reported {
                tracing::warn!(
                    error = text,
                    "tor cannot be watched; requests are served, and every circuit is treated as new"
                );
                reported = text;
            }
            self.decline(tokio::time::sleep(wait)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Rejects requests to close circuits while there is no connection.
    async fn decline(&mut self, until: impl Future<Output = ()>) {
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return,
                Some(order) = self.inbox.recv() => answer(order, Err(TorError::Down)),
            }
        }
    }

    /// Connects and identifies the run of tor, before any event about circuits is accepted.
    async fn connect(
        &mut self,
        tor: &Tor,
        address: &ControlAddress,
    ) -> Result<(Control, TorRun), TorError> {
        let mut control = Control::open(&self.config, address, &*self.entropy).await?;
        let run = control.run(&*self.clock, |_event| {}).await?;
        let finding = self.generations.confirm(run.clone()).await?;
        let generation = self.generations.current();
        tor.generation.store(generation, Ordering::Release);
        tor.confirmed.store(generation, Ordering::Release);
        tor.up.store(true, Ordering::Release);
        self.metrics.set_up(true);
        let found = match finding {
            RunMatch::Same => "the known one",
            RunMatch::First => "the first one",
            RunMatch::Restarted => {
                self.metrics.restarted();
                "a new one: old state is void"
            }
        };
        tracing::info!(pid = run.pid, uptime_seconds = run.uptime, found, "watching tor");
        if finding != RunMatch::Same {
            emit(tor, TorEvent::NewGeneration(tor.boot()));
        }
        let watching = control.watch_circuits().await;
        if let Err(error) = watching {
            self.disconnected(tor);
            return Err(error);
        }
        Ok((control, run))
    }

    /// Switches to a provisional generation, because the connection ended.
    fn disconnected(&mut self, tor: &Tor) {
        tor.generation.store(self.generations.invalidate(), Ordering::Release);
        tor.up.store(false, Ordering::Release);
        self.metrics.set_up(false);
    }

    /// Follows events until the connection ends, and returns the reason.
    async fn follow(&mut self, tor: &Tor, control: &mut Control, first: TorRun) -> TorError {
        let mut last = first;
        let mut tick = tokio::time::interval_at(Instant::now() + POLL, POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let metrics = self.metrics.clone();
        let heard = |event: &Message| handle_event(tor, &metrics, event);
        loop {
            let done = tokio::select! {
                message = control.next() => message.map(|message| heard(&message)),
                Some(order) = self.inbox.recv() => close(tor, control, order, heard).await,
                _ = tick.tick() => match control.run(&*self.clock, heard).await {
                    Ok(run) if run.pid == last.pid && run.uptime >= last.uptime => {
                        if let Err(error) = self.generations.refresh(run.clone()).await {
                            // The only consequence: after its own restart, Fortify treats this run as a new one.
                            tracing::warn!(%error, "the record of tor's restarts was not written");
                        }
                        last = run;
                        Ok(())
                    }
                    // A process cannot change its identity: something in between leads to another tor now.
                    Ok(_another) => Err(TorError::Closed),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = done {
                return error;
            }
        }
    }
}

fn handle_event(tor: &Tor, metrics: &TorMetrics, event: &Message) {
    if event.is_event()
        && let Some(number) = closed_visitor(event)
    {
        metrics.circuit_closed();
        let boot = tor.boot();
        let circuit = TorCircuit::from_parts(boot.instance, boot.generation, number);
        emit(tor, TorEvent::CircuitClosed(circuit));
    }
}

fn emit(tor: &Tor, event: TorEvent) {
    // No listener: then no state has to be deleted.
    let _listeners = tor.events.send(event);
}

/// Closes a circuit of this generation. Circuits of other generations are closed already, and their numbers
/// may belong to other visitors now.
async fn close(
    tor: &Tor,
    control: &mut Control,
    order: CloseRequest,
    heard: impl FnMut(&Message),
) -> Result<(), TorError> {
    if order.circuit.during(tor.boot()) != order.circuit {
        answer(order, Ok(CloseOutcome::AlreadyClosed));
        return Ok(());
    }
    match control.close(order.circuit, heard).await {
        Ok(closed) => {
            answer(
                order,
                Ok(if closed { CloseOutcome::JustClosed } else { CloseOutcome::AlreadyClosed }),
            );
            Ok(())
        }
        // The refusal concerns this request only; the connection is fine.
        Err(error @ TorError::Refused(..)) => {
            answer(order, Err(error));
            Ok(())
        }
        Err(error) => {
            answer(order, Err(TorError::Down));
            Err(error)
        }
    }
}

fn answer(order: CloseRequest, result: Result<CloseOutcome, TorError>) {
    // The caller may have stopped waiting.
    let _gone = order.done.send(result);
}
