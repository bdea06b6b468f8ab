//! How generated people know what a picture shows.
//!
//! The release program tells nobody, and has no switch that would. With Redis the answers lie in the store, which
//! belongs to whoever runs the stack: the suite reads them there, as the operator could, and the program under
//! attack is the released one. The memory of another process cannot be read, so for that store the suite runs the
//! same daemon from the library, over a store that it made itself ([`host`](crate::host)), and asks it on a socket
//! in the folder of the run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fortify_captcha::Answer;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Where answers are.
#[derive(Clone)]
pub enum Answers {
    /// In the Redis of this run.
    Redis(MultiplexedConnection),
    /// With the daemon that the suite runs itself.
    Host(PathBuf),
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redis(_) => "Answers::Redis",
            Self::Host(_) => "Answers::Host",
        })
    }
}

impl Answers {
    /// Those in the Redis at `socket`.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn redis(socket: &Path) -> Result<Self> {
        let client = redis::Client::open(format!("redis+unix://{}", socket.display()))?;
        Ok(Self::Redis(client.get_multiplexed_async_connection().await?))
    }

    /// What a person types into the form of `token`; `None` if the challenge is gone.
    pub async fn of(&self, token: &str) -> Option<String> {
        let encoded = match self {
            Self::Redis(connection) => {
                let key = format!("fortify:captcha:{token}");
                let stored: String = connection.clone().get(key).await.ok()?;
                let stored: serde_json::Value = serde_json::from_str(&stored).ok()?;
                stored.get("answer")?.as_str()?.to_owned()
            }
            Self::Host(socket) => ask(socket, token).await.ok()?,
        };
        Some(Answer::decode(&encoded).ok()?.reveal())
    }
}

async fn ask(socket: &Path, token: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{token}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    (!answer.is_empty()).then_some(answer).context("no such challenge")
}
