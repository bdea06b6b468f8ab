//! The protected service: a stand-in that counts who reaches it, takes a time that can be changed, and has as many
//! workers as a small site. It tells people from attackers by the path that they ask for, because nothing else
//! that reaches it could.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::client::FROM_SERVICE;

/// Below this, people ask for pages, and their browsers for what pages load.
pub const PEOPLE: &str = "/p/";
/// Below this, attackers ask.
pub const ATTACKERS: &str = "/x/";
/// A download without an end.
pub const DOWNLOAD: &str = "/x/download";
/// What becomes a tunnel when asked to.
pub const TUNNEL: &str = "/x/tunnel";

/// Requests that the service works on at once; others wait for it.
pub const WORKERS: usize = 8;
/// How long a worker takes for a page, and for anything else.
const PAGE: Duration = Duration::from_millis(10);
const ASSET: Duration = Duration::from_millis(1);

/// What has reached the service, and how it works.
#[derive(Debug)]
pub struct Service {
    people: AtomicU64,
    attackers: AtomicU64,
    /// How many times its usual time it takes.
    slowness: AtomicU64,
    workers: Semaphore,
}

impl Service {
    /// Requests of people and of attackers since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.people.load(Ordering::Relaxed), self.attackers.load(Ordering::Relaxed))
    }

    /// From now on it takes `times` its usual time.
    pub fn slow_down(&self, times: u64) {
        self.slowness.store(times, Ordering::Relaxed);
    }

    /// What a page takes now when nobody else is there.
    #[must_use]
    pub fn page_takes(&self) -> Duration {
        PAGE * u32::try_from(self.slowness.load(Ordering::Relaxed)).unwrap_or(1)
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let path = request.uri().path().to_owned();
        let counter = if path.starts_with(ATTACKERS) { &self.attackers } else { &self.people };
        counter.fetch_add(1, Ordering::Relaxed);
        let response = Response::builder().header(FROM_SERVICE, "1");
        if path == TUNNEL {
            let upgraded = hyper::upgrade::on(&mut request);
            // Held until the other side ends it; it stays silent.
            drop(tokio::spawn(async move {
                if let Ok(upgraded) = upgraded.await {
                    let mut stream = TokioIo::new(upgraded);
                    let _ended = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
            }));
            let response = response
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "websocket");
            return Ok(finish(response, Full::from("").boxed()));
        }
        if path == DOWNLOAD {
            return Ok(finish(response, Endless.boxed()));
        }
        let takes = if path.contains("/asset") { ASSET } else { PAGE };
        let slowness = u32::try_from(self.slowness.load(Ordering::Relaxed)).unwrap_or(1);
        let worker = self.workers.acquire().await;
        tokio::time::sleep(takes * slowness).await;
        drop(worker);
        let response = response.header(header::CONTENT_TYPE, "text/html");
        Ok(finish(response, Full::from("<p>a page of the service</p>".repeat(40)).boxed()))
    }
}

fn finish(
    response: http::response::Builder,
    body: BoxBody<Bytes, Infallible>,
) -> Response<BoxBody<Bytes, Infallible>> {
    response.body(body).unwrap_or_default()
}

/// A body without an end, as fast as it is read.
#[derive(Debug)]
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}

/// A service that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it counts.
    pub service: Arc<Service>,
    task: AbortHandle,
}

impl Running {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = Arc::new(Service {
            people: AtomicU64::new(0),
            attackers: AtomicU64::new(0),
            slowness: AtomicU64::new(1),
            workers: Semaphore::new(WORKERS),
        });
        let task = tokio::spawn(accept(listener, service.clone())).abort_handle();
        Ok(Self { address, service, task })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    // With the set, all connections end.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = service.clone();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { service.answer(request).await }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .with_upgrades();
            let _ended = connection.await;
        });
    }
}
