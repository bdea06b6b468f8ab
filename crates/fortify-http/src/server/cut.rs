//! Cutting one connection from outside, and what is kept for as long as an answer lasts.

use std::any::Any;
use std::fmt;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

/// Cuts the connection of a request, or the tunnel that it became. In the extensions of every request.
#[derive(Clone, Default)]
pub struct Cutter(Arc<watch::Sender<bool>>);

impl Cutter {
    /// Cuts it at once, whatever is under way.
    pub fn cut(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when the connection is to be cut; never, if nobody can cut it any more.
    pub(super) fn fired(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cut = self.0.subscribe();
        async move {
            if cut.wait_for(|cut| *cut).await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cutter(..)")
    }
}

/// Something that is kept until the response in whose extensions it is has been sent, or the tunnel that it opens
/// has ended.
#[derive(Clone)]
pub struct Held(#[expect(dead_code, reason = "it is dropped")] Arc<dyn Any + Send + Sync>);

impl Held {
    /// Keeps `value`.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self(Arc::new(value))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(..)")
    }
}
