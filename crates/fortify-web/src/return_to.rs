//! Where a visitor goes after the right answer: a page of this site, or its front page.

use axum::http::Uri;

/// Where a return address that is refused leads.
pub const FRONT: &str = "/";

/// Bytes that an address may have: longer ones than browsers and servers agree on are no page that
/// a person asked for.
const MAX_BYTES: usize = 2048;

/// Our own addresses, to which a return would be a loop or an error.
const OWN: [&str; 2] = ["/_fortify/", "/captcha/"];
/// And one that is a whole path.
const OWN_PATH: &str = "/validate-captcha";

/// A path, with its query, on this very site: made only by [`ReturnTo::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// `address` if following it cannot leave this origin; the front page otherwise.
    ///
    /// It must start with one slash; a second one, or a backslash that browsers read as one, would
    /// make the next word a host. Control characters, spaces and everything outside ASCII are how
    /// parsers are made to disagree: a browser's own address never contains them unescaped.
    #[must_use]
    pub fn parse(address: &str) -> Self {
        if is_local_path(address) { Self(address.to_owned()) } else { Self(FRONT.to_owned()) }
    }

    /// The address that was asked for, where it can be returned to as it is.
    #[must_use]
    pub fn exactly(uri: &Uri) -> Option<Self> {
        let address = uri.path_and_query()?.as_str();
        is_local_path(address).then(|| Self(address.to_owned()))
    }

    /// The address that was asked for, or the front page.
    #[must_use]
    pub fn of(uri: &Uri) -> Self {
        Self::parse(uri.path_and_query().map_or(FRONT, |path| path.as_str()))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address as the value of a query field.
    #[must_use]
    pub fn encode(&self) -> String {
        percent_encoding::utf8_percent_encode(&self.0, percent_encoding::NON_ALPHANUMERIC)
            .to_string()
    }
}

fn is_local_path(address: &str) -> bool {
    let mut bytes = address.bytes();
    address.len() <= MAX_BYTES
        && bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !OWN.iter().any(|own| address.starts_with(own))
        && address.split('?').next() != Some(OWN_PATH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_of_this_site_is_kept_as_it_is() {
        for address in [
            "/",
            "/a",
            "/validate-captcha-help",
            "/a/b?c=d&e=%2f%2f",
            "/%2f%2fevil",
            "/a//b",
            "/?x=http://y/",
        ] {
            assert_eq!(ReturnTo::parse(address).as_str(), address);
        }
    }

    #[test]
    fn abuse_11_an_address_that_could_lead_elsewhere_leads_to_the_front_page() {
        let long = format!("/{}", "a".repeat(8 * 1024));
        for address in [
            "//evil",
            "///evil",
            "/\\evil",
            "\\\\evil",
            "\\/evil",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "http://evil/",
            "https:evil",
            "evil",
            "",
            " /a",
            "/a b",
            "/a\r\nSet-Cookie: x=1",
            "/a\nb",
            "/a\tb",
            "/\t/evil",
            "/\u{0}",
            "%2f%2fevil",
            "/a\\b",
            "?x",
            "#x",
            "/\u{e9}",
            "/a\u{2028}b",
            ".//evil",
            &long,
            "/_fortify/enter?to=/",
            "/validate-captcha",
            "/captcha/x.png",
        ] {
            assert_eq!(ReturnTo::parse(address).as_str(), FRONT, "{address:?}");
        }
    }

    proptest! {
        #[test]
        fn abuse_11_whatever_comes_the_result_stays_on_this_site(address in "\\PC{0,40}") {
            let kept = ReturnTo::parse(&address);
            prop_assert!(kept.as_str().starts_with('/'));
            prop_assert!(!kept.as_str().starts_with("//"));
            prop_assert!(!kept.as_str().contains('\\'));
            let resolved = url::Url::parse("http://site.onion/page").unwrap().join(kept.as_str());
            let resolved = resolved.unwrap();
            prop_assert_eq!(resolved.host_str(), Some("site.onion"));
        }
    }
}
