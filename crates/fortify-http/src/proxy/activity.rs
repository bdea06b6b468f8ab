//! The time since the last transfer, for slow responses and idle tunnels.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// The time of the last transfer.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Resolves after this long without a transfer.
    pub(super) async fn quiet_for(&self, duration: Duration) {
        loop {
            let until = self.last() + duration;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when a body is sent, or given up: then the service has what it works on.
#[derive(Debug)]
pub(super) struct Sent(oneshot::Receiver<()>);

impl Sent {
    pub(super) async fn wait(&mut self) {
        // Nothing is ever sent through it: it ends with the body.
        drop((&mut self.0).await);
    }
}

/// A body that is as another, and tells when it is gone.
pub(super) struct ToldBody {
    body: Body,
    _gone: oneshot::Sender<()>,
}

impl ToldBody {
    pub(super) fn new(body: Body) -> (Self, Sent) {
        let (gone, sent) = oneshot::channel();
        (Self { body, _gone: gone }, Sent(sent))
    }
}

impl http_body::Body for ToldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body whose frames count as activity, so that the response timeout starts at the end of the request, and a
/// long upload does not use it up.
pub(super) struct WatchedBody {
    body: Body,
    activity: Activity,
}

impl WatchedBody {
    pub(super) fn new(body: Body, activity: Activity) -> Self {
        Self { body, activity }
    }
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.activity.touch();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose reads count as activity.
pub(super) struct WatchedStream<T> {
    stream: T,
    activity: Activity,
}

impl<T> WatchedStream<T> {
    pub(super) fn new(stream: T, activity: Activity) -> Self {
        Self { stream, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            self.activity.touch();
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_begins_with_the_last_movement() {
        let (activity, start) = (Activity::new(), Instant::now());
        let mover = {
            let activity = activity.clone();
            async move {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_secs(40)).await;
                    activity.touch();
                }
            }
        };
        tokio::join!(mover, activity.quiet_for(Duration::from_secs(60)));
        assert_eq!(start.elapsed(), Duration::from_secs(180));
    }
}
