//! A request body with a minimum rate.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// The rate, in bytes per second, at which a body earns more time, as in Apache's `RequestReadTimeout`. Even slow
/// circuits reach several thousand.
const LEAST_RATE: u64 = 500;

/// The most time that a body can save up, in timeouts: otherwise a fast start would allow days of single bytes.
const MOST_CREDIT: u32 = 10;

/// A body that ends with an error if the client is silent for the timeout, or slower than [`LEAST_RATE`] for as
/// long in total.
///
/// A fixed deadline (as in tower-http) would cut every large upload over Tor; a limit on silence only would let a
/// client send a byte before each deadline forever. Only the time spent waiting for the client counts, not the
/// time that the service takes.
pub(super) struct TimedBody<B> {
    body: B,
    timeout: Duration,
    /// What is left of the time for crawling.
    credit: Duration,
    waiting: Option<Waiting>,
    expired: Arc<AtomicBool>,
}

struct Waiting {
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// Whether the body of a request ran out of time, in the request's extensions.
#[derive(Clone, Debug)]
pub struct BodyExpired(pub Arc<AtomicBool>);

/// The error with which such a body ends.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not come in time")]
pub(crate) struct BodyTimeout;

impl<B> TimedBody<B> {
    /// Wraps a body; `expired` is set when it runs out of time.
    pub(super) fn new(body: B, timeout: Duration, expired: Arc<AtomicBool>) -> Self {
        Self { body, timeout, credit: timeout, waiting: None, expired }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(waiting) = this.waiting.take() {
                this.credit = this.credit.saturating_sub(waiting.since.elapsed());
            }
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                let earned = Duration::from_millis(bytes.saturating_mul(1000) / LEAST_RATE);
                this.credit = this.credit.saturating_add(earned).min(this.timeout * MOST_CREDIT);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = this.timeout.min(this.credit);
        let waiting = this.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            sleep: Box::pin(sleep(limit)),
        });
        if waiting.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.expired.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;

    struct Channel(mpsc::Receiver<Bytes>);

    impl Body for Channel {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// Sends `count` frames of `size` bytes, one a `gap`, and tells whether all arrived and when.
    async fn send(count: usize, size: usize, gap: u64) -> (bool, Duration) {
        let (sender, receiver) = mpsc::channel(1);
        let expired = Arc::new(AtomicBool::new(false));
        let timeout = Duration::from_secs(30);
        let body = TimedBody::new(Channel(receiver), timeout, Arc::clone(&expired));
        let start = Instant::now();
        tokio::spawn(async move {
            for _ in 0..count {
                sleep(Duration::from_secs(gap)).await;
                if sender.send(vec![0; size].into()).await.is_err() {
                    return;
                }
            }
        });
        let whole = body.collect().await.is_ok();
        assert_eq!(expired.load(Ordering::Relaxed), !whole);
        (whole, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_body_may_take_longer_than_the_timeout() {
        assert_eq!(send(100, 16_384, 20).await, (true, Duration::from_secs(2000)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_ends_after_the_timeout() {
        assert_eq!(send(3, 1_000_000, 31).await, (false, Duration::from_secs(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_a_body_that_crawls_ends_although_it_never_stalls() {
        let (whole, after) = send(1000, 1, 1).await;
        assert!(!whole && after < Duration::from_secs(32), "{after:?}");
    }
}
