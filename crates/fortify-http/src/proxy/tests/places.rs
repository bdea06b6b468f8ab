//! How long a request holds its place at the service.

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::*;
use crate::config::UpstreamServer;

/// A service that tells of every request and answers once for each permit, and the proxy to it with two places.
async fn slow_service() -> (Upstream, mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
    let (asked, seen) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let given = permits.clone();
    let slow = move |_: Bytes| async move {
        asked.send(()).unwrap();
        given.acquire().await.unwrap().forget();
        "at last"
    };
    let address = service(Router::new().fallback(slow)).await;
    let config = UpstreamConfig {
        servers: vec![UpstreamServer::Http(address.to_string().parse().unwrap())],
        response_timeout: PATIENCE,
        max_concurrent: 2,
        ..UpstreamConfig::default()
    };
    let upstream = Upstream::new(&config, UpstreamMetrics::default()).unwrap().unwrap();
    (upstream, seen, permits)
}

fn in_flight(upstream: &Upstream) -> usize {
    upstream.figures().unwrap().in_flight
}

#[tokio::test]
async fn abuse_26_who_asks_and_hangs_up_holds_the_place_until_the_service_is_done() {
    let (upstream, mut seen, permits) = slow_service().await;
    for (number, (method, body)) in [("GET", ""), ("POST", "x")].into_iter().enumerate() {
        let visitor = upstream.clone();
        let visitor = tokio::spawn(async move {
            visitor.forward_for([1; 16], request(method, "/", body), forwarded()).await
        });
        within(seen.recv()).await.unwrap();
        visitor.abort();
        assert!(within(visitor).await.unwrap_err().is_cancelled());
        assert_eq!(in_flight(&upstream), number + 1, "{method}");
    }
    let next = upstream.clone();
    let next = tokio::spawn(async move {
        next.forward_for([2; 16], request("GET", "/", ""), forwarded()).await
    });
    until(|| upstream.figures().unwrap().waiting == 1).await;
    // The service is done with one of them, and works on the next.
    permits.add_permits(1);
    within(seen.recv()).await.unwrap();
    permits.add_permits(2);
    assert_eq!(within(next).await.unwrap().unwrap().status(), StatusCode::OK);
    until(|| in_flight(&upstream) == 0).await;
}

#[tokio::test]
async fn who_hangs_up_before_the_body_is_there_holds_no_place() {
    let (upstream, _seen, _permits) = slow_service().await;
    let (sender, frames) = mpsc::channel(1);
    let body = Body::new(Arriving(frames));
    let visitor = upstream.clone();
    let visitor = tokio::spawn(async move {
        visitor.forward_for([1; 16], request("POST", "/", body), forwarded()).await
    });
    until(|| in_flight(&upstream) == 1).await;
    visitor.abort();
    // As the body of a connection that is closed.
    sender.send(Err(std::io::ErrorKind::ConnectionReset.into())).await.unwrap();
    until(|| in_flight(&upstream) == 0).await;
}

/// A body whose frames come from elsewhere.
struct Arriving(mpsc::Receiver<std::io::Result<Bytes>>);

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }
}

#[tokio::test]
async fn a_body_that_was_sent_is_gone_while_its_answer_is_waited_for() {
    let (upstream, mut seen, _permits) = slow_service().await;
    // With a length, and in chunks.
    let (sender, frames) = mpsc::channel(1);
    sender.send(Ok("x".into())).await.unwrap();
    drop(sender);
    for body in [Body::from("x"), Body::new(Arriving(frames))] {
        let (body, mut sent) = ToldBody::new(body);
        let upstream = upstream.clone();
        let asking = tokio::spawn(async move {
            upstream.forward(request("POST", "/", Body::new(body)), forwarded()).await
        });
        within(seen.recv()).await.unwrap();
        within(sent.wait()).await;
        assert!(!asking.is_finished());
        asking.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn abuse_26_a_body_that_is_still_to_come_holds_a_place_for_a_second() {
    let started = Instant::now();
    let (body, sent) = ToldBody::new(Body::from("x"));
    holding(Some(sent)).await;
    assert_eq!(started.elapsed(), HELD_FOR_BODY);
    drop(body);

    // Once it is there, as any request does.
    let started = Instant::now();
    let (body, sent) = ToldBody::new(Body::from("x"));
    let half = HELD_FOR_BODY / 2;
    tokio::spawn(async move {
        sleep(half).await;
        drop(body);
    });
    holding(Some(sent)).await;
    assert_eq!(started.elapsed(), half + HELD_LONGEST);

    let started = Instant::now();
    holding(None).await;
    assert_eq!(started.elapsed(), HELD_LONGEST);
}
