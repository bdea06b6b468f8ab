//! A request that holds its place at the service until it is answered, also when its visitor has gone away.
//!
//! Most services work on for a visitor who hangs up, and who asks and hangs up must not load them without bound. It is
//! polled by whoever asks, and becomes a task of its own only when they drop it.

use std::future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use http::Response;
use tokio::runtime::Handle;

use super::ProxyError;
use crate::limiter::HeldPlace;

type Answer = Result<Response<Body>, ProxyError>;

/// The request, and its place until that is given back.
pub(super) struct Placed {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    held: Option<Held>,
    /// Whether its visitor has gone away.
    alone: bool,
}

struct Held {
    place: HeldPlace,
    /// The kind of page, if how long it took says something about the service.
    kind: Option<u64>,
    /// Resolves when it has held the place for as long as it may.
    longest: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Placed {
    pub(super) fn new(
        (place, kind): (HeldPlace, Option<u64>),
        longest: impl Future<Output = ()> + Send + 'static,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) -> Self {
        let held = Held { place, kind, longest: Box::pin(longest) };
        Self { answer: Box::pin(answer), held: Some(held), alone: false }
    }
}

impl Future for Placed {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        if let Poll::Ready(answer) = this.answer.as_mut().poll(cx) {
            if let Some(Held { place, kind, .. }) = this.held.take() {
                place.give_back(kind.filter(|_| answer.is_ok()));
            }
            return Poll::Ready(answer);
        }
        let over = |held: &mut Held| held.longest.as_mut().poll(cx).is_ready();
        if let Some(Held { place, kind, .. }) = this.held.take_if(over) {
            place.give_back(kind);
            if this.alone {
                return Poll::Ready(Err(ProxyError::Timeout));
            }
        }
        Poll::Pending
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // Neither at a shutdown, where no task begins any more.
        if let (Some(held), false, Ok(runtime)) =
            (self.held.take(), self.alone, Handle::try_current())
        {
            let answer = std::mem::replace(&mut self.answer, Box::pin(future::pending()));
            runtime.spawn(Self { answer, held: Some(held), alone: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::limiter::{HELD_LONGEST, Places};
    use crate::metrics::UpstreamMetrics;

    #[tokio::test(start_paused = true)]
    async fn abuse_26_a_request_that_is_not_answered_gives_its_place_back() {
        let places = Places::new(2, UpstreamMetrics::default());
        for hangs_up in [false, true] {
            let place = places.enter([1; 16]).await.unwrap();
            let working = Arc::new(());
            let works = working.clone();
            let answer = async move {
                let _works = works;
                future::pending().await
            };
            let visitor = tokio::spawn(Placed::new((place, None), sleep(HELD_LONGEST), answer));
            sleep(HELD_LONGEST / 2).await;
            if hangs_up {
                visitor.abort();
            }
            sleep(HELD_LONGEST / 2 - Duration::from_millis(1)).await;
            assert_eq!(places.figures().in_flight, 1);
            sleep(Duration::from_millis(2)).await;
            assert_eq!(places.figures().in_flight, 0);
            // Who still waits may be answered; for nobody the request is given up.
            assert_eq!(Arc::strong_count(&working) == 1, hangs_up);
            visitor.abort();
        }
    }
}
