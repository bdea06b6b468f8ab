//! The protected service: a stand-in that counts who reaches it, takes a time that can be changed, and has as many
//! workers as a small site. It tells people from attackers by the path that they ask for, because nothing else
//! that reaches it could.

use std::collections::BTreeMap;
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
use rustix::net::sockopt::set_socket_send_buffer_size;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::client::FROM_SERVICE;

/// Below this, people ask for pages, and their browsers for what pages load.
pub const PEOPLE: &str = "/p/";
/// Below this, attackers ask, each part of an attack below its own name ([`Part::path`]).
const ATTACKERS: &str = "/x/";
/// How the path of a download without an end closes, and that of what becomes a tunnel when asked to.
pub const DOWNLOAD: &str = "/download";
/// See [`DOWNLOAD`].
pub const TUNNEL: &str = "/tunnel";

/// A part of an attack; an attack has one or several. What it sends and what reaches the service is counted for each
/// by itself, so that what one of them may do hides nothing that another may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Bodies that do not end.
    Bodies,
    /// Circuits that keep asking for challenges, half of them trusted.
    Askers,
    /// Circuits that ask once.
    Fresh,
    /// Circuits that ask again and again, and answer none.
    Flood,
    /// One session that sends as much as it can.
    One,
    /// One circuit with thousands of connections.
    Greedy,
    /// Cookie lines full of blanks.
    Blanks,
    /// What the proxy itself refuses.
    Refused,
    /// Challenges that are kept until the level is higher.
    Hoard,
    /// Circuits that answer, spend, and answer again.
    Farm,
    /// Connections on which a request never ends.
    Dawdlers,
    /// Downloads and tunnels that are held.
    Held,
    /// Scrapers.
    Scrapers,
    /// The cookie of a banned circuit.
    Banned,
}

impl Part {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Bodies,
        Self::Askers,
        Self::Fresh,
        Self::Flood,
        Self::One,
        Self::Greedy,
        Self::Blanks,
        Self::Refused,
        Self::Hoard,
        Self::Farm,
        Self::Dawdlers,
        Self::Held,
        Self::Scrapers,
        Self::Banned,
    ];

    /// Its name in paths and in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Askers => "askers",
            Self::Fresh => "fresh",
            Self::Flood => "flood",
            Self::One => "one",
            Self::Greedy => "greedy",
            Self::Blanks => "blanks",
            Self::Refused => "refused",
            Self::Hoard => "hoard",
            Self::Farm => "farm",
            Self::Dawdlers => "dawdlers",
            Self::Held => "held",
            Self::Scrapers => "scrapers",
            Self::Banned => "banned",
        }
    }

    /// Whether it needs sessions; whatever else of it reaches the service was not admitted.
    #[must_use]
    pub const fn has_sessions(self) -> bool {
        matches!(
            self,
            Self::Askers | Self::One | Self::Farm | Self::Held | Self::Scrapers | Self::Banned
        )
    }

    /// A path below which it asks.
    #[must_use]
    pub fn path(self, page: impl std::fmt::Display) -> String {
        format!("{ATTACKERS}{}/{page}", self.name())
    }

    /// The one that asks for `path`.
    fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix(ATTACKERS)?.split('/').next()?;
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// Requests that the service works on at once; others wait for it.
pub const WORKERS: usize = 8;
/// How long a worker takes for a page, and for anything else.
const PAGE: Duration = Duration::from_millis(10);
const ASSET: Duration = Duration::from_millis(1);

/// What has reached the service, and how it works.
#[derive(Debug)]
pub struct Service {
    people: AtomicU64,
    /// Those of attackers, by [`Part`].
    attackers: [AtomicU64; Part::ALL.len()],
    /// How many times its usual time it takes.
    slowness: AtomicU64,
    workers: Semaphore,
}

impl Service {
    /// Requests of people and of attackers since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let attackers = self.attackers.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        (self.people.load(Ordering::Relaxed), attackers)
    }

    /// Requests of attackers since the start, by part.
    #[must_use]
    pub fn reached(&self) -> BTreeMap<Part, u64> {
        let counts = self.attackers.iter().map(|count| count.load(Ordering::Relaxed));
        Part::ALL.into_iter().zip(counts).collect()
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
        let counter = Part::of(&path).and_then(|part| self.attackers.get(part as usize));
        counter.unwrap_or(&self.people).fetch_add(1, Ordering::Relaxed);
        let response = Response::builder().header(FROM_SERVICE, "1");
        if path.ends_with(TUNNEL) {
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
        if path.ends_with(DOWNLOAD) {
            return Ok(finish(response, Endless.boxed()));
        }
        let takes = if path.contains("/asset") { ASSET } else { PAGE };
        let slowness = u32::try_from(self.slowness.load(Ordering::Relaxed)).unwrap_or(1);
        let worker = self.workers.acquire().await;
        tokio::time::sleep(takes * slowness).await;
        drop(worker);
        let kind = if path.ends_with(".png") { "image/png" } else { "text/html" };
        let response = response.header(header::CONTENT_TYPE, kind);
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
            attackers: Default::default(),
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
        // By itself the kernel takes up to 4 MB of each download in advance: several hundred that begin at once would
        // keep the machine busy with copying what nobody reads.
        let _more_is_no_fault = set_socket_send_buffer_size(&stream, 128 * 1024);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_part_and_people_have_none() {
        for (place, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(Part::of(&part.path("7/1")), Some(part));
            assert_eq!(part as usize, place);
        }
        assert_eq!(Part::of("/p/7"), None);
        assert_eq!(Part::of("/x/what"), None);
    }
}
