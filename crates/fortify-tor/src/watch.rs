//! The task that keeps a connection to tor, and opens it again when it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::control::Control;
use super::epoch::{Epochs, Finding, Run};
use super::error::TorError;
use super::protocol::{Message, closed_visitor};
use super::{Closed, Order, Tor, TorEvent};
use crate::config::{ControlAddress, TorConfig};
use crate::metrics::TorMetrics;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Clock;
use fortify_core::entropy::Entropy;

/// How often a silent tor is asked whether it is still there.
const POLL: Duration = Duration::from_secs(5);

/// Waits between attempts: the first, doubled each time up to the last. A connection that stood for
/// [`POLL`] begins anew with the first.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Keeps [`Tor`] up to date.
#[derive(Debug)]
pub struct Watcher {
    config: TorConfig,
    epochs: Epochs,
    inbox: mpsc::Receiver<Order>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: TorMetrics,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order(..)")
    }
}

impl Watcher {
    pub(super) fn new(
        config: TorConfig,
        epochs: Epochs,
        inbox: mpsc::Receiver<Order>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: TorMetrics,
    ) -> Self {
        Self { config, epochs, inbox, clock, entropy, metrics }
    }

    /// Watches tor for ever, and tells `tor` what it sees. Says each new trouble once, not at every
    /// attempt.
    pub async fn run(mut self, tor: Arc<Tor>) {
        let address = tor.address.clone();
        let (mut wait, mut said) = (FIRST_WAIT, String::new());
        loop {
            let connected = self.connect(&tor, &address).await;
            tor.settled.send_replace(true);
            let error = match connected {
                Ok((mut control, run)) => {
                    said.clear();
                    let since = Instant::now();
                    let error = self.follow(&tor, &mut control, run).await;
                    self.lost(&tor);
                    if since.elapsed() >= POLL {
                        wait = FIRST_WAIT;
                    }
                    error
                }
                Err(error) => error,
            };
            let text = error.to_string();
            if text != said {
                tracing::warn!(
                    error = text,
                    "tor is not watched; requests go on, and every circuit is treated as new"
                );
                said = text;
            }
            self.decline(tokio::time::sleep(wait)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Turns orders down while there is nobody to give them to.
    async fn decline(&mut self, until: impl Future<Output = ()>) {
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return,
                Some(order) = self.inbox.recv() => answer(order, Err(TorError::Down)),
            }
        }
    }

    /// Connects, finds out which tor this is, and only then believes what it tells about circuits.
    async fn connect(
        &mut self,
        tor: &Tor,
        address: &ControlAddress,
    ) -> Result<(Control, Run), TorError> {
        let mut control = Control::open(&self.config, address, &*self.entropy).await?;
        let run = control.run(&*self.clock, |_event| {}).await?;
        let finding = self.epochs.confirm(run.clone()).await?;
        let epoch = self.epochs.current();
        tor.epoch.store(epoch, Ordering::Release);
        tor.confirmed.store(epoch, Ordering::Release);
        tor.up.store(true, Ordering::Release);
        self.metrics.set_up(true);
        let found = match finding {
            Finding::Same => "the one that was known",
            Finding::First => "the first one that was met",
            Finding::Restarted => {
                self.metrics.restarted();
                "started anew: nothing is inherited"
            }
        };
        tracing::info!(pid = run.pid, uptime_seconds = run.uptime, found, "tor is watched");
        if finding != Finding::Same {
            tell(tor, TorEvent::NewEpoch(tor.boot()));
        }
        let watching = control.watch_circuits().await;
        if let Err(error) = watching {
            self.lost(tor);
            return Err(error);
        }
        Ok((control, run))
    }

    /// The connection is gone: from this moment on the epoch is a provisional one.
    fn lost(&mut self, tor: &Tor) {
        tor.epoch.store(self.epochs.doubt(), Ordering::Release);
        tor.up.store(false, Ordering::Release);
        self.metrics.set_up(false);
    }

    /// Listens until the connection ends, and says why it did.
    async fn follow(&mut self, tor: &Tor, control: &mut Control, first: Run) -> TorError {
        let mut last = first;
        let mut tick = tokio::time::interval_at(Instant::now() + POLL, POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let metrics = self.metrics.clone();
        let heard = |event: &Message| hear(tor, &metrics, event);
        loop {
            let done = tokio::select! {
                message = control.next() => message.map(|message| heard(&message)),
                Some(order) = self.inbox.recv() => close(tor, control, order, heard).await,
                _ = tick.tick() => match control.run(&*self.clock, heard).await {
                    Ok(run) if run.pid == last.pid && run.uptime >= last.uptime => {
                        if let Err(error) = self.epochs.refresh(run.clone()).await {
                            // It only means that Fortify's own restart would not know it again.
                            tracing::warn!(%error, "the count of tor's starts was not kept");
                        }
                        last = run;
                        Ok(())
                    }
                    // No process does this: something in between leads to another tor now.
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

fn hear(tor: &Tor, metrics: &TorMetrics, event: &Message) {
    if event.is_event()
        && let Some(number) = closed_visitor(event)
    {
        metrics.circuit_closed();
        let boot = tor.boot();
        let circuit = TorCircuit::from_parts(boot.instance, boot.epoch, number);
        tell(tor, TorEvent::CircuitClosed(circuit));
    }
}

fn tell(tor: &Tor, event: TorEvent) {
    // Nobody listens: then nobody keeps anything that would have to go.
    let _listeners = tor.events.send(event);
}

/// Closes a circuit of this epoch. One of another is closed since tor is another one; its number may
/// be an innocent visitor's now.
async fn close(
    tor: &Tor,
    control: &mut Control,
    order: Order,
    heard: impl FnMut(&Message),
) -> Result<(), TorError> {
    if order.circuit.during(tor.boot()) != order.circuit {
        answer(order, Ok(Closed::Before));
        return Ok(());
    }
    match control.close(order.circuit, heard).await {
        Ok(closed) => {
            answer(order, Ok(if closed { Closed::Now } else { Closed::Before }));
            Ok(())
        }
        // Tor's answer is about this order, and the connection is sound.
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

fn answer(order: Order, result: Result<Closed, TorError>) {
    // Whoever asked may have stopped waiting.
    let _gone = order.done.send(result);
}
