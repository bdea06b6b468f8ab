//! What a gate has to endure in operation: restarts and upgrades, reloads while it starts, refusals by the thousand,
//! and rotations of the signing keys. Each is played against the release program and prints one line of JSON.
//!
//! - [`gate`]: the program as a process, started, signalled and stopped.
//! - [`load`]: requests at an even pace, and as many as the machine makes.
//! - [`restart`], [`sighup`], [`log_growth`], [`rotation`]: the four trials.

pub mod gate;
pub mod load;
pub mod log_growth;
pub mod restart;
pub mod rotation;
pub mod sighup;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use fortify_testkit::redis::Redis;
use serde::Serialize;
use serde_json::Value;

use crate::answers::Answers;
use crate::client::Browser;
use crate::people::{Habits, World, let_in};
use crate::service::Running;

/// One of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Trial {
    /// Restarts and upgrades on a socket that stays open, under load.
    Restart,
    /// SIGHUP while the program starts.
    Sighup,
    /// The growth of the log while everything is refused.
    Log,
    /// Rotations of the signing keys on one of three nodes, under load.
    Rotation,
}

impl Trial {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Restart, Self::Sighup, Self::Log, Self::Rotation];
}

/// What a trial, or one case of it, came to.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The trial.
    pub endure: &'static str,
    /// Which case of it.
    pub case: &'static str,
    /// What was measured; names end with units.
    #[serde(flatten)]
    pub figures: Value,
    /// The load of the machine at the end.
    pub load: f64,
    /// The bars that were missed, in words.
    pub missed: Vec<String>,
}

impl Outcome {
    /// That of `figures`, with each bar and whether it was held.
    #[must_use]
    pub fn new(
        endure: &'static str,
        case: &'static str,
        figures: Value,
        bars: &[(&str, bool)],
    ) -> Self {
        let missed = bars.iter().filter(|(_, held)| !held).map(|(bar, _)| (*bar).to_owned());
        Self { endure, case, figures, load: crate::run::load(), missed: missed.collect() }
    }
}

/// Plays one trial against `program`; restarts alternate it with `old` too, if there is one.
///
/// # Errors
///
/// What does not start, or does not answer as it should.
pub async fn play(trial: Trial, program: &Path, old: Option<&Path>) -> Result<Vec<Outcome>> {
    anyhow::ensure!(program.is_file(), "no {}: build it first", program.display());
    match trial {
        Trial::Restart => restart::play(program, old).await,
        Trial::Sighup => sighup::play(program).await.map(|outcome| vec![outcome]),
        Trial::Log => log_growth::play(program).await,
        Trial::Rotation => rotation::play(program).await.map(|outcome| vec![outcome]),
    }
}

/// A level at which load is no reason to refuse anybody, and trust in a circuit does not stand in for a session:
/// whoever is refused was refused because of the session.
const SESSIONS_ONLY: &str = "[session]\nsecure = \"off\"\n[behaviour]\nmode = \"off\"\n\
    [reputation]\nsuspicion = false\n[limits]\nservice_challenges_per_minute = 100000\n\
    [threat]\nmode = \"pinned\"\nlevel = 1\n[[threat.levels]]\nlevel = 1\nadmits = \"session\"\n\
    pages_per_minute = 100000\npage_burst = 100000\npages_per_session = 1000000\n";

/// What stays while gates come and go: a folder, a Redis and the protected service.
struct Ground {
    // In the order in which they end.
    redis: Redis,
    service: Option<Running>,
    folder: tempfile::TempDir,
}

impl Ground {
    async fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fortify-endure-").tempdir()?;
        Ok(Self { redis: Redis::start(&[]), service: Some(Running::start().await?), folder })
    }

    /// Writes the configuration of a proxy node named `name` that listens on `port`: Redis, the service, and sessions
    /// that load does not use up.
    fn config(&self, name: &str, port: u16) -> Result<PathBuf> {
        let service = self.service.as_ref().map(|service| service.address);
        let upstream = service.map(|at| format!("[upstream]\nurl = \"http://{at}\"\n"));
        let storage =
            format!("backend = \"redis\"\nurl = \"unix://{}\"\n", self.redis.socket().display());
        let more = upstream.unwrap_or_default() + SESSIONS_ONLY;
        gate::write_config(&self.folder.path().join(name), port, &storage, &more)
    }

    /// Lets people in on `circuits` at a gate.
    async fn let_in(
        &self,
        front: std::net::SocketAddr,
        circuits: Range<u32>,
    ) -> Result<Vec<Browser>> {
        let answers = Answers::redis(&self.redis.socket()).await?;
        let service = self.service.as_ref().map(|running| running.service.clone());
        let service = anyhow::Context::context(service, "the service is gone")?;
        let world = Arc::new(World::new(front, answers, service));
        // The faster they are in, the more of them meet a key that not every node has heard of.
        let_in(&world, circuits, Habits { reads: (0.1, 0.3), ..Habits::EARLY }).await
    }
}
