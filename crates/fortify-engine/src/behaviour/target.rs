//! What the URL of a request reveals about its sender. The URL itself is never stored.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use percent_encoding::percent_decode;

/// The most bytes of a path that are analysed. The lists below need far fewer, and longer paths must not cost more.
const LOOKED_AT: usize = 256;

/// File extensions of assets. They say less than `Sec-Fetch-Dest`, but nginx's subrequests lack that header, and
/// bots can forge it.
const ASSETS: [&str; 24] = [
    "avif", "bmp", "css", "eot", "gif", "ico", "jpeg", "jpg", "js", "json", "map", "mjs", "mp3",
    "mp4", "ogg", "otf", "png", "svg", "ttf", "wasm", "webm", "webp", "woff", "woff2",
];

/// Names of files that should never be public: secrets, sources and histories. Only whole segments match, so
/// `/.environment` and `/project.git` do not.
const LEAKS: [&str; 20] = [
    ".aws",
    ".bash_history",
    ".ds_store",
    ".env",
    ".env.bak",
    ".env.local",
    ".env.production",
    ".git",
    ".hg",
    ".htaccess",
    ".htpasswd",
    ".npmrc",
    ".ssh",
    ".svn",
    "boot.ini",
    "id_rsa",
    "passwd",
    "web.config",
    "wp-config.php",
    "wp-config.php.bak",
];

/// Entry points of widespread software. The service may have one, so each counts only if the service does not know
/// it.
const DOORS: [&str; 20] = [
    "actuator",
    "adminer.php",
    "boaform",
    "cgi-bin",
    "hnap1",
    "jenkins",
    "owa",
    "phpinfo.php",
    "phpmyadmin",
    "phpunit",
    "pma",
    "server-status",
    "shell.php",
    "solr",
    "telescope",
    "wlwmanifest.xml",
    "wp-admin",
    "wp-includes",
    "wp-login.php",
    "xmlrpc.php",
];

/// Last path segments of log-ins, without extensions such as `.php`.
const LOGINS: [&str; 12] = [
    "auth",
    "authenticate",
    "log-in",
    "log_in",
    "login",
    "logon",
    "sign-in",
    "sign_in",
    "signin",
    "wp-login",
    "user-login",
    "login_check",
];

/// The kind of path that a scanner looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// One of [`LEAKS`].
    Leak,
    /// One of [`DOORS`].
    Door,
}

/// What is kept of a URL: 16 bytes that do not reveal it.
#[derive(Clone, Copy)]
pub struct Target {
    /// A keyed hash of path and query. The key is random for each process, so nobody can cause collisions or
    /// recognise a path.
    pub(super) hash: u64,
    /// Whether it is an asset, by its extension.
    pub(crate) asset: bool,
    /// Whether it is a log-in, by its name.
    pub(crate) login: bool,
    pub(super) probe: Option<Probe>,
}

impl Target {
    /// Analyses path and query as sent.
    ///
    /// The query is part of the hash because many services name their pages there (`viewtopic?t=1`). Lists are
    /// matched against the normalised path only.
    #[must_use]
    pub fn read(key: &[u8; 16], sent: &[u8]) -> Self {
        // The standard library's SipHash over the key, then the message: its state is secret before the first byte
        // that a visitor controls.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.write(sent);
        let path = normalise(sent.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or(sent));
        let last = path.rsplit('/').next().unwrap_or_default();
        let (stem, ending) = last.rsplit_once('.').unwrap_or((last, ""));
        let has = |list: &[&str]| path.split('/').any(|segment| list.contains(&segment));
        Self {
            hash: hasher.finish(),
            asset: ASSETS.contains(&ending),
            login: LOGINS.contains(&stem),
            probe: match () {
                () if has(&LEAKS) => Some(Probe::Leak),
                () if has(&DOORS) => Some(Probe::Door),
                () => None,
            },
        }
    }
}

/// Normalises a path as servers do: percent-decoded once, in lower case, without empty segments, `.` and `..`, so
/// that `/%2egit//config` becomes `/.git/config`.
fn normalise(path: &[u8]) -> String {
    let mut normal = String::with_capacity(path.len().min(LOOKED_AT) + 1);
    let mut segment = String::new();
    let close = |normal: &mut String, segment: &mut String| {
        match segment.as_str() {
            "" | "." => {}
            ".." => normal.truncate(normal.rfind('/').unwrap_or(0)),
            name => {
                normal.push('/');
                normal.push_str(name);
            }
        }
        segment.clear();
    };
    for byte in percent_decode(path).take(LOOKED_AT) {
        match byte {
            b'/' | b'\\' => close(&mut normal, &mut segment),
            byte => segment.push(char::from(byte.to_ascii_lowercase())),
        }
    }
    close(&mut normal, &mut segment);
    normal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(path: &str) -> Target {
        Target::read(&[1; 16], path.as_bytes())
    }

    #[test]
    fn scanners_are_known_by_what_they_ask_for_however_they_write_it() {
        for path in [
            "/.env",
            "/api/.env",
            "/.git/config",
            "/%2Egit/HEAD",
            "//a/..//.GIT/config?x=1",
            "/\\.ssh",
        ] {
            assert_eq!(read(path).probe, Some(Probe::Leak), "{path}");
        }
        for path in ["/wp-login.php", "/blog/wp-admin/", "/phpMyAdmin/index.php"] {
            assert_eq!(read(path).probe, Some(Probe::Door), "{path}");
        }
        for path in ["/", "/.environment", "/project.git", "/src/.gitignore", "/?q=/.env", "/envy"]
        {
            assert_eq!(read(path).probe, None, "{path}");
        }
    }

    #[test]
    fn log_ins_and_assets_are_known_by_their_last_segment() {
        for path in ["/login", "/user/Sign_In", "/login.php", "/wp-login.php?redirect=x"] {
            assert!(read(path).login, "{path}");
        }
        for path in ["/login/help", "/logins", "/author", "/api/session/logout"] {
            assert!(!read(path).login, "{path}");
        }
        assert!(read("/a/style.CSS?v=3").asset);
        assert!(!read("/png").asset && !read("/a.png/b").asset && !read("/a.html").asset);
    }

    #[test]
    fn a_hash_tells_pages_apart_and_means_nothing_under_another_key() {
        assert_ne!(read("/t?a=1").hash, read("/t?a=2").hash);
        assert_ne!(read("/t").hash, Target::read(&[2; 16], b"/t").hash);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(sent: Vec<u8>) {
            let path = normalise(&sent);
            prop_assert!(path.chars().count() <= LOOKED_AT + 1);
            let _read = Target::read(&[0; 16], &sent);
        }
    }
}
