//! The daemon over a store in memory whose answers can be asked for on a socket: for runs without Redis.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use fortify::daemon::Daemon;
use fortify_captcha::Generator;
use fortify_config::Config;
use fortify_core::clock::SystemClock;
use fortify_core::entropy::SystemEntropy;
use fortify_core::telemetry::logs;
use fortify_keys::KeyRing;
use fortify_store::StateStore;
use fortify_store::memory::{MemoryBounds, MemoryStore};
use fortify_web::app::App;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

/// Runs it by the configuration at `config` until SIGTERM; answers are given on `socket`, whose folder must be
/// closed to others.
///
/// # Errors
///
/// Whatever keeps it from starting.
pub async fn serve(config: &Path, socket: &Path) -> Result<()> {
    let config = Config::load(Some(config), std::iter::empty())?;
    logs::init(&config.log)?;
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let data_dir = &config.storage.data_dir;
    let keys = KeyRing::open(data_dir, &*clock, &*entropy)?;
    let bounds = MemoryBounds {
        challenges: config.captcha.max_active as u64,
        challenges_per_circuit: config.captcha.max_active_per_circuit,
    };
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::open(clock.clone(), bounds, data_dir));
    let renderer = Arc::new(Generator::new()?);
    let app = App::over(Arc::new(config), keys, store.clone(), renderer, clock, entropy)?;
    let gate = Daemon::with_app(app).await?;
    let listener = UnixListener::bind(socket)?;
    let answering = tokio::spawn(answer(listener, store));
    let mut terminate = signal(SignalKind::terminate())?;
    gate.run(async move {
        terminate.recv().await;
    })
    .await;
    answering.abort();
    Ok(())
}

async fn answer(listener: UnixListener, store: Arc<dyn StateStore>) {
    while let Ok((stream, _)) = listener.accept().await {
        let store = store.clone();
        drop(tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut token = String::new();
            let _closed = stream.read_line(&mut token).await;
            let Ok(token) = token.trim().parse() else { return };
            if let Ok(Some(record)) = store.challenge(&token).await {
                let _closed = stream.write_all(record.answer.expose().as_bytes()).await;
            }
        }));
    }
}
