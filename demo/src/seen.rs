//! What the backend received: the evidence for tests of a proxy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;

/// Requests kept; older ones are forgotten.
const MAX_REQUESTS: usize = 256;

/// Bytes of one request's body kept; the rest is only counted.
const MAX_BODY: usize = 64 * 1024;

/// A shared, bounded record of the requests that reached the site, oldest first.
///
/// It is bounded because the demonstration may run for days: the last 256 requests, and the
/// first 64 KiB of each body. Clones share one record.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    requests: Arc<Mutex<VecDeque<Arc<Mutex<SeenRequest>>>>>,
}

/// One request as the backend got it.
#[derive(Clone, Debug, Default)]
pub struct SeenRequest {
    /// The method.
    pub method: Method,
    /// The request target: path and query, or the absolute form where the client sent one.
    pub uri: Uri,
    /// Every header, in the order it came; repeated ones are all there.
    pub headers: HeaderMap,
    /// The first 64 KiB of the body, as far as the site has read it by now.
    pub body: Vec<u8>,
    /// Bytes of the body read by now, also those not kept.
    pub body_len: u64,
}

impl Seen {
    /// A copy of all kept requests, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.requests).iter().map(|request| lock(request).clone()).collect()
    }

    /// The newest request, if any.
    pub fn last(&self) -> Option<SeenRequest> {
        lock(&self.requests).back().map(|request| lock(request).clone())
    }

    /// The kept requests whose path is exactly `path`, oldest first.
    pub fn at(&self, path: &str) -> Vec<SeenRequest> {
        let mut found = self.requests();
        found.retain(|request| request.uri.path() == path);
        found
    }

    /// Number of kept requests, 256 at most.
    pub fn len(&self) -> usize {
        lock(&self.requests).len()
    }

    /// Whether nothing has come in, or all of it was cleared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything, so that a test can look at what comes next alone.
    pub fn clear(&self) {
        lock(&self.requests).clear();
    }

    fn begin(&self, method: Method, uri: Uri, headers: HeaderMap) -> Arc<Mutex<SeenRequest>> {
        let request = SeenRequest { method, uri, headers, ..SeenRequest::default() };
        let request = Arc::new(Mutex::new(request));
        let mut requests = lock(&self.requests);
        if requests.len() == MAX_REQUESTS {
            requests.pop_front();
        }
        requests.push_back(Arc::clone(&request));
        request
    }
}

impl SeenRequest {
    /// The first value of a header as text; `None` when absent or not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn append(&mut self, data: &Bytes) {
        let room = MAX_BODY.saturating_sub(self.body.len()).min(data.len());
        self.body.extend(data.iter().take(room));
        self.body_len = self.body_len.saturating_add(data.len() as u64);
    }
}

/// Middleware: notes the head at once and the body as the handler reads it.
///
/// The body is watched, not collected, so that an upload still streams: a proxy that buffers
/// must be found out by the tests, not hidden by the backend doing the same.
pub(crate) async fn record(State(seen): State<Seen>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let entry = seen.begin(head.method.clone(), head.uri.clone(), head.headers.clone());
    let watched = body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            lock(&entry).append(data);
        }
        frame
    });
    next.run(Request::from_parts(head, Body::new(watched))).await
}

/// A poisoned lock holds plain data that is still whole: a failed test must not fail the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_forgets_the_oldest_beyond_its_bound() {
        let seen = Seen::default();
        for n in 0..=MAX_REQUESTS {
            let uri = format!("/{n}").parse().unwrap();
            seen.begin(Method::GET, uri, HeaderMap::new());
        }
        assert_eq!(seen.len(), MAX_REQUESTS);
        assert!(seen.at("/0").is_empty());
        assert_eq!(seen.last().unwrap().uri.path(), "/256");
    }

    #[test]
    fn a_long_body_is_counted_whole_and_kept_in_part() {
        let mut request = SeenRequest::default();
        let chunk = Bytes::from(vec![7; MAX_BODY - 1]);
        request.append(&chunk);
        request.append(&chunk);
        assert_eq!(request.body.len(), MAX_BODY);
        assert_eq!(request.body_len, 2 * (MAX_BODY as u64 - 1));
    }
}
