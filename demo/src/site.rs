//! The site put together: routes, socket, and a handle for tests.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::guestbook::Guestbook;
use crate::{Seen, pages, probes, seen, streams};

/// How long [`DemoSite::stop`] lets running answers end.
///
/// A test that stops the site wants the port back soon; nothing in it is worth waiting for.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// The whole site, recording every request in `seen`.
pub fn router(seen: Seen) -> Router {
    Router::new()
        .route("/", get(pages::home))
        .route("/articles/{number}", get(pages::article))
        .route("/guestbook", get(pages::guestbook).post(pages::sign))
        .route("/upload", get(pages::upload).post(streams::count_bytes))
        .route("/stream", get(streams::stream))
        .route("/download", get(streams::download))
        .route("/slow", get(probes::slow))
        .route("/ws", any(probes::echo_socket))
        .route("/echo", any(probes::echo))
        // Where a proxy in front asks whether it is there.
        .route("/health", get(|| async { "ok" }))
        .route("/script-check", get(pages::script_check))
        .route("/cookie-check", get(pages::cookie_check))
        .fallback(pages::not_found)
        .with_state(Guestbook::default())
        .layer(middleware::from_fn_with_state(seen, seen::record))
}

/// Serves the site on `listener` until `shutdown` resolves, then lets running answers end.
///
/// The socket is the caller's, so that a test or a script can take port 0 and know which port
/// it got before the first request.
///
/// # Errors
///
/// When the socket cannot be accepted from at all.
pub async fn serve(
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_recording(listener, Seen::default(), shutdown).await
}

async fn serve_recording(
    listener: TcpListener,
    seen: Seen,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Without it the many small chunks of `/stream` would wait for each other's acknowledgement.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router(seen)).with_graceful_shutdown(shutdown).await
}

/// The site on a free loopback port, with what it saw; it stops when dropped.
#[derive(Debug)]
pub struct DemoSite {
    address: SocketAddr,
    seen: Seen,
    // Dropping the sender is the signal to stop.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl DemoSite {
    /// Starts the site on the current tokio runtime; it answers as soon as this returns.
    ///
    /// # Errors
    ///
    /// When no loopback port can be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve_recording(listener, seen.clone(), async move {
            drop(stopped.await);
        }));
        Ok(Self { address, seen, stop: Some(stop), task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without a trailing slash, for example `http://127.0.0.1:40001`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests it received, newest last.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Stops the site and waits, at most three seconds, until its port is free again.
    ///
    /// # Errors
    ///
    /// When serving had failed before.
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop.take();
        match tokio::time::timeout(STOP_WITHIN, &mut self.task).await {
            Ok(joined) => joined.map_err(io::Error::other)?,
            Err(_elapsed) => {
                self.task.abort();
                Ok(())
            }
        }
    }
}
