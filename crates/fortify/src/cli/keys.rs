//! `fortify keys list`, `fortify keys rotate` and `fortify keys style`.

use std::io::Write;

use clap::Subcommand;

use super::CliError;
use super::offline::OfflineFiles;
use fortify_config::Config;
use fortify_core::clock::{Clock, SystemClock, Timestamp};
use fortify_core::entropy::SystemEntropy;
use fortify_engine::challenge::style_cache;
use fortify_keys::{KeyInfo, KeyRing};

/// The subcommands of `fortify keys`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List each key's ID, age and use, but not its secret.
    List,
    /// Create a new signing key. The old one verifies until the last session that it signed has ended, so
    /// nobody is logged out. A running gate notices within seconds, and other nodes on its Redis follow.
    Rotate,
    /// Print the key of the current picture style, for fortify render --style. Keep it secret: it can be used
    /// to draw pictures with known answers, as training data for a bot.
    Style {
        /// The style at this time, in seconds since 1970 as date +%s prints them; now by default.
        #[arg(long, value_name = "SECONDS")]
        at: Option<u64>,
    },
}

pub(super) fn run(
    action: &Action,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let ring = KeyRing::load(&config.storage.data_dir).map_err(CliError::failed)?;
    if let Action::Style { at } = action {
        let at = at.map_or_else(|| SystemClock.now(), Timestamp::from_secs);
        let key = style_cache::key_at(&ring.style_secret(), at, config.captcha.style_period);
        return writeln!(out, "{}", key.to_hex()).map_err(|e| CliError::output(&e));
    }
    if matches!(action, Action::Rotate) {
        // Logged before it is done, as every change is, under the ID of the key that stops signing.
        let signing = ring.list().into_iter().find(|key| key.retired_at.is_none());
        let files = OfflineFiles::of(config, by);
        files.log(&files.entry("keys.rotate", &signing.map(|key| key.id).unwrap_or_default()))?;
        ring.rotate(config.session.ttl, &SystemClock, &SystemEntropy).map_err(CliError::failed)?;
    }
    table(&ring.list(), SystemClock.now(), out).map_err(|e| CliError::output(&e))
}

fn table(keys: &[KeyInfo], now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<10} {:<10} {:>14}", "KEY", "USE", "AGE (HOURS)")?;
    for key in keys {
        let used_for = if key.retired_at.is_none() { "signs" } else { "verifies" };
        let hours = key.created_at.until(now).as_secs() / 3600;
        writeln!(out, "{:<10} {used_for:<10} {hours:>14}", key.id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use clap::Parser as _;
    use fortify_captcha::{Carrier, Level, Spec, Variant};

    use super::super::{Cli, Command, render};
    use super::*;
    use fortify_core::clock::ManualClock;
    use fortify_core::pseudonym::CircuitTag;
    use fortify_engine::challenge::policy::ChallengeRequest;
    use fortify_store::record::{ChallengeRecord, ChallengeToken, Place, Secret};
    use fortify_web::app::App;

    /// Within a style period that is not the first of its day: both matter.
    const NOW: Timestamp = Timestamp::from_secs(1_800_001_234);
    const HOUR: u64 = 3600;

    fn style_at(at: Timestamp, config: &Config) -> String {
        let mut printed = Vec::new();
        let action = Action::Style { at: Some(at.as_secs()) };
        run(&action, "operator".to_owned(), config, &mut printed).unwrap();
        String::from_utf8(printed).unwrap()
    }

    /// The picture that `fortify render` draws from the seed `a1` in the style of `key`.
    fn rendered(key: &str, out: &Path) -> Vec<u8> {
        let out = out.to_str().unwrap();
        let what = ["--variant", "arithmetic", "--level", "5", "--count", "1", "--seed", "a1"];
        let args = ["fortify", "render", "--style", key, "--out", out];
        let cli = Cli::try_parse_from(args.into_iter().chain(what)).unwrap();
        let Command::Render(args) = cli.command else { panic!("another command") };
        render::run(&args, &mut Vec::new()).unwrap();
        std::fs::read(Path::new(out).join("arithmetic-ink-05-000000.png")).unwrap()
    }

    #[tokio::test]
    async fn with_the_key_of_its_style_render_draws_what_the_gate_draws() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().join("data");
        config.captcha.drawn_ahead = 0;
        config.captcha.style_period = std::time::Duration::from_secs(HOUR);
        let (config, clock) = (Arc::new(config), Arc::new(ManualClock::at(NOW)));
        let app = App::build(config.clone(), clock, Arc::new(SystemEntropy)).unwrap();
        let circuit = CircuitTag::from_bytes([1; 16]);
        let issued = app
            .engine
            .parts()
            .challenges
            .issue(circuit, ChallengeRequest::default(), false, Place::Beside(None))
            .await
            .unwrap()
            .unwrap()
            .0;
        let record = app.engine.parts().store.challenge(&issued.token).await.unwrap().unwrap();
        // The same challenge with another task, from a known seed.
        let spec = Spec::new(Variant::Arithmetic, Level::new(5).unwrap());
        let seed = render::seed("a1", &spec, 0).unwrap();
        let known = ChallengeRecord {
            variant: Variant::Arithmetic.as_str().into(),
            carrier: Carrier::Ink.as_str().into(),
            level: 5,
            length: spec.length,
            seed: Secret::new(*seed.as_bytes()),
            ..record
        };
        let token = ChallengeToken::random(&SystemEntropy).unwrap();
        app.engine.parts().store.put_challenge(&token, known, Place::Beside(None)).await.unwrap();
        let drawn =
            app.engine.parts().challenges.picture(&token, circuit).await.unwrap().unwrap().bytes;

        let key = style_at(NOW, &config);
        assert_eq!(rendered(key.trim_end(), &dir.path().join("now")), drawn);
        let before = style_at(Timestamp::from_secs(NOW.as_secs() - HOUR), &config);
        assert_ne!(rendered(before.trim_end(), &dir.path().join("before")), drawn);
    }
}
