//! Errors of Redis, with advice.
//!
//! Redis' own messages are never shown: an error such as `ERR unknown command` quotes the command's arguments,
//! which are tokens and answers. Only the first word is used.

use std::borrow::Cow;
use std::io;

use redis::{ErrorKind, RedisError};

use crate::StoreError;

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error of the client or the server.
    Redis(RedisError),
    /// A key of Fortify's holds something that Fortify does not write.
    Foreign(&'static str),
    /// As [`StoreError::Full`].
    Full(&'static str),
    /// Too few replicas have what was written.
    Replicas {
        /// How many should: `storage.wait_replicas`.
        wanted: u32,
        /// How many do.
        have: u32,
    },
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Fault {
    /// Whether the connection can no longer be used.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            // A value that cannot be read says nothing of the connection; after an answer that is none, the client
            // closes it by itself.
            Self::Redis(error) if error.kind() == ErrorKind::Parse => false,
            Self::Redis(error) => {
                error.is_unrecoverable_error() || error.is_io_error() && !error.is_timeout()
            }
            Self::Foreign(_) | Self::Full(_) | Self::Replicas { .. } => false,
        }
    }

    /// The error for the operator; `place` is the address of Redis.
    pub(super) fn at(&self, place: &str) -> StoreError {
        match self {
            Self::Redis(error) => unavailable(place, of_error(error)),
            Self::Foreign(what) => unavailable(
                place,
                Cause::new(format!("{what} is not what Fortify writes there"))
                    .advise("another program, or a newer version, uses the same storage.prefix"),
            ),
            Self::Full(what) => StoreError::Full(what),
            Self::Replicas { wanted, have } => unavailable(
                place,
                Cause::new(format!(
                    "{have} replicas of the {wanted} have what was written in time"
                ))
                .advise("start the replicas, or lower storage.wait_replicas"),
            ),
        }
    }
}

/// A problem with Redis, and what to do about it.
#[derive(Debug)]
pub(super) struct Cause {
    problem: Cow<'static, str>,
    advice: Option<Cow<'static, str>>,
}

impl Cause {
    pub(super) fn new(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: problem.into(), advice: None }
    }

    pub(super) fn advise(self, advice: impl Into<Cow<'static, str>>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

impl From<&'static str> for Cause {
    fn from(problem: &'static str) -> Self {
        Self::new(problem)
    }
}

/// [`StoreError::Redis`] for the Redis at `place`.
pub(super) fn unavailable(place: &str, cause: impl Into<Cause>) -> StoreError {
    let Cause { problem, advice } = cause.into();
    StoreError::Redis { place: place.to_owned(), problem, advice }
}

fn of_error(error: &RedisError) -> Cause {
    if let Some(code) = error.code() {
        return of_code(code);
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => of_code("WRONGPASS"),
        ErrorKind::Io => of_io(error),
        ErrorKind::ClusterConnectionNotFound => Cause::new("no node of the cluster answers").advise(
            "start the nodes that storage.urls names, and check that this host reaches the addresses \
             they announce",
        ),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Cause::new("what answers there does not speak Redis' protocol as Redis 6.2 or later does")
                .advise("check the address in storage.url")
        }
        ErrorKind::InvalidClientConfig => Cause::new("the client refuses the configuration")
            .advise("nodes of a cluster have database 0 and are reached over TCP"),
        _ => Cause::new(format!("the client failed ({})", error.category())),
    }
}

/// The cause for an error that begins with `code`.
fn of_code(code: &str) -> Cause {
    let (problem, advice) = match code {
        "OOM" => (
            "out of memory (OOM)",
            "raise maxmemory, or set maxmemory-policy volatile-ttl, with which old challenges make room",
        ),
        "READONLY" => {
            ("a replica, which takes no writes (READONLY)", "name its primary in storage.url")
        }
        "LOADING" => {
            return "loads its data from disk (LOADING) and answers when that is done".into();
        }
        "CLUSTERDOWN" | "MASTERDOWN" => (
            "the cluster is down (CLUSTERDOWN)",
            "`redis-cli cluster info` says which slots have no node; start that node or fail over to \
             its replica",
        ),
        "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" => (
            "one node of a cluster (MOVED)",
            "set storage.cluster = true, and check that this host reaches the addresses that the nodes \
             announce",
        ),
        "NOAUTH" | "WRONGPASS" => (
            "the user or the password is refused",
            "check storage.user and the file that storage.password_file names",
        ),
        "NOPERM" => {
            ("the user may not do what the store needs (NOPERM)", "docs/redis.md has the ACL rule")
        }
        "MISCONF" => (
            "cannot save to disk and takes no writes (MISCONF)",
            "its log says why; check free space",
        ),
        "UNBLOCKED" => (
            "ended a wait for news (UNBLOCKED)",
            "it became a replica, or somebody ran CLIENT UNBLOCK; without either it goes on by itself",
        ),
        "NOREPLICAS" => ("has too few replicas to take writes (NOREPLICAS)", "start them"),
        "BUSY" => ("is held up by a script (BUSY)", "another program runs one that does not end"),
        "WRONGTYPE" => (
            "a key of this program has another type (WRONGTYPE)",
            "another program uses the same storage.prefix",
        ),
        _ => return other_code(code),
    };
    Cause::new(problem).advise(advice)
}

/// The cause for a code without advice of its own. It is shown only if it is short and in capitals, as Redis' error
/// codes are.
fn other_code(code: &str) -> Cause {
    let plain = code.len() <= 20 && code.bytes().all(|b| b.is_ascii_uppercase());
    let code = if plain { code } else { "ERR" };
    Cause::new(format!("refuses a command ({code})")).advise("its version has to be 6.2 or later")
}

fn of_io(error: &RedisError) -> Cause {
    // If no node of a cluster could be reached, the client's text contains the reason of each.
    let reasons = error.detail().unwrap_or_default();
    let known = [("AuthenticationFailed", "WRONGPASS"), ("NOAUTH", "NOAUTH"), ("NOPERM", "NOPERM")];
    if let Some((_, code)) = known.iter().find(|(word, _)| reasons.contains(word)) {
        return of_code(code);
    }
    // About TLS, the client offers nothing but the text of its library's error.
    let text = error.to_string();
    let (problem, advice) = if text.contains("certificate") || text.contains("UnknownIssuer") {
        (
            "its certificate, or the one shown to it, is refused",
            "check storage.tls_ca_file, that the certificate names the host in storage.url, and \
             storage.tls_certificate_file",
        )
    } else if error.is_timeout() {
        ("no answer in time", "is it overloaded or stopped?")
    } else if error.is_connection_refusal() {
        ("the connection is refused", "start Redis, or correct the address in storage.url")
    } else if error.is_connection_dropped() {
        ("the connection was closed", "was Redis stopped?")
    } else {
        ("it cannot be reached", "start Redis, or check the address in storage.url and the network")
    };
    Cause::new(problem).advise(advice)
}

/// Why a Unix socket cannot be opened; the client does not distinguish these.
pub(super) fn of_socket(kind: io::ErrorKind) -> Cause {
    let (problem, advice) = match kind {
        io::ErrorKind::NotFound => (
            "there is no such socket",
            "start Redis, or correct the path in storage.url (in redis.conf it is unixsocket)",
        ),
        io::ErrorKind::PermissionDenied => (
            "this user may not open the socket",
            "set unixsocketperm 770 in redis.conf and put the user of Fortify into Redis' group",
        ),
        io::ErrorKind::ConnectionRefused => ("nobody listens on the socket", "start Redis"),
        _ => ("the socket cannot be opened", "check the path in storage.url"),
    };
    Cause::new(problem).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_redis_has_an_advice_and_nothing_else_is_repeated() {
        for code in [
            "OOM",
            "READONLY",
            "LOADING",
            "CLUSTERDOWN",
            "MOVED",
            "NOAUTH",
            "WRONGPASS",
            "NOPERM",
            "MISCONF",
            "NOREPLICAS",
            "UNBLOCKED",
            "BUSY",
            "WRONGTYPE",
        ] {
            let problem = of_code(code).problem;
            assert!(!problem.contains("refuses a command"), "{code}");
        }
        assert!(of_code("NEW").problem.contains("(NEW)"));
        assert!(of_code("captcha:secret").problem.contains("(ERR)"));
    }
}
