//! Forms, read strictly: a body that says one thing to us and another to somebody else is refused.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode;
use tokio::time::timeout;

/// Fields that one form may have: ours have five, and a carried one that needs more is rather sent
/// again than drawn as a page of a thousand inputs.
pub const MAX_FIELDS: usize = 256;

/// How long a form of ours may take from its head to its end: 32 KiB at the 3 KB/s of a slow circuit. Whoever has
/// no session must not hold a slot for longer.
const WHOLE_BODY: Duration = Duration::from_secs(10);

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than the address takes.
    #[error("body too large")]
    TooLarge,
    /// It breaks off before its end.
    #[error("body incomplete")]
    Broken,
    /// It is not whole after 10 s.
    #[error("body too slow")]
    TooSlow,
}

/// The fields of a form in their order.
pub type Fields = Vec<(String, String)>;

/// Whether the body is declared as an urlencoded form.
#[must_use]
pub fn is_urlencoded(headers: &HeaderMap) -> bool {
    media_type(headers) == Some("application/x-www-form-urlencoded")
}

/// Whether the body is declared as JSON.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers) == Some("application/json")
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim())
}

/// The whole body, if it has at most `limit` bytes and comes within 10 s.
///
/// # Errors
///
/// [`BodyError`], when there is no whole body of that size in time.
pub async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, BodyError> {
    let reading = timeout(WHOLE_BODY, Limited::new(body, limit).collect());
    match reading.await.map_err(|_elapsed| BodyError::TooSlow)? {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_broken) => Err(BodyError::Broken),
    }
}

/// The fields of an urlencoded body; `None` unless every name and value is UTF-8 without control
/// characters (line breaks and tabs are part of what people write) and there are at most
/// [`MAX_FIELDS`].
#[must_use]
pub fn parse(body: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if fields.len() == MAX_FIELDS {
            return None;
        }
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
            None => (pair, &[][..]),
        };
        fields.push((decode(name)?, decode(value)?));
    }
    Some(fields)
}

/// The only value of `name`; `None` when it is missing or there more than once.
#[must_use]
pub fn only<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn decode(bytes: &[u8]) -> Option<String> {
    let spaced: Cow<'_, [u8]> = if bytes.contains(&b'+') {
        bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
    } else {
        bytes.into()
    };
    let text = percent_decode(&spaced).decode_utf8().ok()?.into_owned();
    let harmless = |c: char| !c.is_control() || matches!(c, '\r' | '\n' | '\t');
    text.chars().all(harmless).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use axum::body::Bytes;
    use http_body::Frame;
    use proptest::prelude::*;
    use tokio::time::{Sleep, sleep};

    use super::*;

    fn pairs(body: &str) -> Option<Vec<(String, String)>> {
        parse(body.as_bytes())
    }

    /// A body of which four bytes come each second.
    struct Slow {
        parts: usize,
        next: Option<Pin<Box<Sleep>>>,
    }

    impl http_body::Body for Slow {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            if self.parts == 0 {
                return Poll::Ready(None);
            }
            let next = self.next.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(1))));
            ready!(next.as_mut().poll(cx));
            (self.next, self.parts) = (None, self.parts - 1);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x=1&")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn abuse_24_a_form_that_is_not_whole_after_ten_seconds_is_given_up() {
        let slow = |parts| read_body(Body::new(Slow { parts, next: None }), 1000);
        assert_eq!(slow(9).await.unwrap().len(), 36);
        assert_eq!(slow(1000).await, Err(BodyError::TooSlow));
    }

    #[test]
    fn a_form_is_read_as_a_browser_writes_it() {
        let fields = pairs("token=a-b_c&answer=k+7%2B%C3%A9&empty=&bare&&x=1=2").unwrap();
        let expected =
            [("token", "a-b_c"), ("answer", "k 7+é"), ("empty", ""), ("bare", ""), ("x", "1=2")];
        let expected: Vec<_> =
            expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(fields, expected);
    }

    #[test]
    fn abuse_24_what_is_not_text_is_no_form() {
        for body in ["a=%ff", "%c3%28=1", "a=%00", "a=\u{7}"] {
            assert_eq!(pairs(body), None, "{body}");
        }
        assert_eq!(parse(b"a=\xff"), None);
    }

    #[test]
    fn abuse_24_a_hundred_thousand_fields_are_no_form() {
        let body = (0..100_000).map(|i| format!("f{i}=1")).collect::<Vec<_>>().join("&");
        assert_eq!(pairs(&body), None);
        assert_eq!(pairs(&"&".repeat(100_000)), Some(Fields::new()));
    }

    #[test]
    fn abuse_24_a_field_that_is_there_twice_is_not_there() {
        let fields = pairs("token=a&token=a&answer=b").unwrap();
        assert_eq!(only(&fields, "token"), None);
        assert_eq!(only(&fields, "answer"), Some("b"));
        assert_eq!(only(&fields, "other"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Some(fields) = parse(&body) {
                prop_assert!(fields.len() <= MAX_FIELDS);
            }
        }

        #[test]
        fn what_is_encoded_is_read_back(value in "[^\\p{Cc}]{0,64}") {
            let encoded: String = percent_encoding::utf8_percent_encode(
                &value, percent_encoding::NON_ALPHANUMERIC).collect();
            prop_assert_eq!(pairs(&format!("v={encoded}")), Some(vec![("v".to_owned(), value)]));
        }
    }
}
