//! A WebSocket between visitor and service: copies bytes both ways until one closes or both are silent.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;

use super::activity::{Activity, WatchedStream};

/// How long a tunnel may be silent. Most libraries send a ping every 20 to 60 s, but not all: an hour, as
/// `deploy/nginx.conf` and `deploy/haproxy.cfg` allow.
const MAX_SILENCE: Duration = Duration::from_secs(3600);

/// How long both sides may take to switch once the service has agreed.
const MAX_SWITCH: Duration = Duration::from_secs(30);

/// Copies bytes both ways. The visitor's socket keeps its slot among the server's connections, and is cut with
/// them at shutdown.
pub(super) async fn run(visitor: OnUpgrade, service: OnUpgrade) {
    let both = async { tokio::try_join!(visitor, service) };
    let (visitor, service) = match timeout(MAX_SWITCH, both).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return tracing::debug!(%error, "a tunnel did not open"),
        Err(_) => return tracing::debug!("a tunnel did not open in time"),
    };
    let activity = Activity::new();
    let mut visitor = WatchedStream::new(TokioIo::new(visitor), activity.clone());
    let mut service = WatchedStream::new(TokioIo::new(service), activity.clone());
    tokio::select! {
        ended = copy_bidirectional(&mut visitor, &mut service) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel broke");
            }
        }
        () = activity.quiet_for(MAX_SILENCE) => tracing::debug!("a tunnel was silent"),
    }
}
