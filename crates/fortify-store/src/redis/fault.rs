//! Errors of Redis, with advice.
//!
//! Redis' own messages are never shown: an error such as `ERR unknown command` quotes the command's arguments,
//! which are tokens and answers. Only the first word is used.

use std::io;

use redis::{ErrorKind, RedisError};

use crate::StoreError;

/// Why one step did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The client or the server said so.
    Redis(RedisError),
    /// There is something under one of our keys that this program does not write.
    Foreign(&'static str),
    /// As [`StoreError::Full`].
    Full(&'static str),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Fault {
    /// Whether the connection is of no more use.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Redis(error) => {
                error.is_unrecoverable_error() || error.is_io_error() && !error.is_timeout()
            }
            Self::Foreign(_) | Self::Full(_) => false,
        }
    }

    /// The fault as the operator reads it; `place` is where Redis is.
    pub(super) fn at(&self, place: &str) -> StoreError {
        match self {
            Self::Redis(error) => unavailable(place, &advice(error)),
            Self::Foreign(what) => unavailable(
                place,
                &format!(
                    "{what} is not what Fortify writes there; another program, or a newer version, \
                     uses the same storage.prefix"
                ),
            ),
            Self::Full(what) => StoreError::Full(what),
        }
    }
}

/// [`StoreError::Unavailable`] with the place named.
pub(super) fn unavailable(place: &str, what: &str) -> StoreError {
    StoreError::Unavailable(format!("Redis at {place}: {what}"))
}

fn advice(error: &RedisError) -> String {
    if let Some(code) = error.code() {
        return of_code(code);
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => of_code("WRONGPASS"),
        ErrorKind::Io => of_io(error),
        ErrorKind::ClusterConnectionNotFound => "no node of the cluster answers; start the nodes \
             that storage.urls names, and check that this host reaches the addresses they announce"
            .to_owned(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            "what answers there does not speak Redis' protocol as Redis 6.2 or later does; check \
             the address in storage.url"
                .to_owned()
        }
        ErrorKind::InvalidClientConfig => {
            "the client refuses the configuration; nodes of a cluster have database 0 and are \
             reached over TCP"
                .to_owned()
        }
        _ => format!("the client failed ({})", error.category()),
    }
}

/// What to do about an error that begins with `code`.
fn of_code(code: &str) -> String {
    let what = match code {
        "OOM" => {
            "out of memory (OOM); raise maxmemory, or set maxmemory-policy volatile-ttl, with \
             which old challenges make room"
        }
        "READONLY" => {
            "a replica, which takes no writes (READONLY); name its primary in storage.url"
        }
        "LOADING" => "loads its data from disk (LOADING) and answers when that is done",
        "CLUSTERDOWN" | "MASTERDOWN" => {
            "the cluster is down (CLUSTERDOWN); `redis-cli cluster info` says which slots have no \
             node; start that node or fail over to its replica"
        }
        "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" => {
            "one node of a cluster (MOVED); set storage.cluster = true, and check that this host \
             reaches the addresses that the nodes announce"
        }
        "NOAUTH" | "WRONGPASS" => {
            "the user or the password is refused; check storage.user and the file that \
             storage.password_file names"
        }
        "NOPERM" => {
            "the user may not do what the store needs (NOPERM); docs/redis.md has the ACL rule"
        }
        "MISCONF" => {
            "cannot save to disk and takes no writes (MISCONF); its log says why; check free space"
        }
        "NOREPLICAS" => "has too few replicas to take writes (NOREPLICAS); start them",
        "BUSY" => "is held up by a script (BUSY); another program runs one that does not end",
        "WRONGTYPE" => {
            "a key of this program has another type (WRONGTYPE); another program uses the same \
             storage.prefix"
        }
        _ => return other_code(code),
    };
    what.to_owned()
}

/// A word that has no advice; only if it is one of the short words that errors begin with.
fn other_code(code: &str) -> String {
    let plain = code.len() <= 20 && code.bytes().all(|b| b.is_ascii_uppercase());
    format!(
        "refuses a command ({}); its version has to be 6.2 or later",
        if plain { code } else { "ERR" }
    )
}

fn of_io(error: &RedisError) -> String {
    // Where no node of a cluster could be connected to, each one's reason is in the client's text.
    let reasons = error.detail().unwrap_or_default();
    let known = [("AuthenticationFailed", "WRONGPASS"), ("NOAUTH", "NOAUTH"), ("NOPERM", "NOPERM")];
    if let Some((_, code)) = known.iter().find(|(word, _)| reasons.contains(word)) {
        return of_code(code);
    }
    // The client says no more about TLS than the text of its library's error.
    let text = error.to_string();
    let what = if text.contains("certificate") || text.contains("UnknownIssuer") {
        "its certificate, or the one shown to it, is refused; check storage.tls_ca_file, that the \
         certificate names the host in storage.url, and storage.tls_certificate_file"
    } else if error.is_timeout() {
        "no answer in time; is it overloaded or stopped?"
    } else if error.is_connection_refusal() {
        "the connection is refused; start Redis, or correct the address in storage.url"
    } else if error.is_connection_dropped() {
        "the connection was closed; was Redis stopped?"
    } else {
        "it cannot be reached; start Redis, or check the address in storage.url and the network"
    };
    what.to_owned()
}

/// Why a unix socket cannot be opened: the client does not tell these apart.
pub(super) fn of_socket(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => {
            "there is no such socket; start Redis, or correct the path in storage.url (in \
             redis.conf it is unixsocket)"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not open the socket; set unixsocketperm 770 in redis.conf and put the \
             user of Fortify into Redis' group"
        }
        io::ErrorKind::ConnectionRefused => "nobody listens on the socket; start Redis",
        _ => "the socket cannot be opened; check the path in storage.url",
    }
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
            "BUSY",
            "WRONGTYPE",
        ] {
            assert!(!of_code(code).contains("refuses a command"), "{code}");
        }
        assert!(of_code("NEW").contains("(NEW)"));
        assert!(of_code("captcha:secret").contains("(ERR)"));
    }
}
