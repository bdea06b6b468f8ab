//! Forms, read strictly: a body that says one thing to us and another to somebody else is refused.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode;

/// Fields that one form may have: ours have five, and a carried one that needs more is rather sent
/// again than drawn as a page of a thousand inputs.
pub const MAX_FIELDS: usize = 256;

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than the address takes.
    #[error("body too large")]
    TooLarge,
    /// It breaks off before its end.
    #[error("body incomplete")]
    Broken,
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

/// The whole body, if it has at most `limit` bytes.
///
/// # Errors
///
/// [`BodyError`], when there is no whole body of that size.
pub async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, BodyError> {
    match Limited::new(body, limit).collect().await {
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
    use proptest::prelude::*;

    use super::*;

    fn pairs(body: &str) -> Option<Vec<(String, String)>> {
        parse(body.as_bytes())
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
