//! The log.
//!
//! Only Fortify's own events follow `log.level`. Libraries may log warnings and errors only: at finer levels
//! an HTTP library prints what it parses, including cookies and circuit headers.

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::repeats::{self, Bounded};

/// The prefix of the targets of Fortify's own events: its crates' names start with it.
const OWN: &str = "fortify";

/// `[log]`: how much is logged, and in which format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogConfig {
    /// `level`: how much is logged, `info` by default.
    pub level: LogLevel,
    /// `format`: for people or for programs, `text` by default.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Problems that need an operator now.
    Error,
    /// Also problems that may need an operator soon.
    Warn,
    /// Also what the service does, without events of single visitors.
    #[default]
    Info,
    /// Also every decision.
    Debug,
    /// Also every step.
    Trace,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// Installs the log of this process, which goes to standard error.
///
/// # Errors
///
/// If the process already has a log, or can have no further thread.
pub fn init(config: &LogConfig) -> io::Result<()> {
    let bounded = Bounded::new(filter(config.level.into()));
    repeats::start_reporting(bounded.repeats())?;
    with_filter(config, io::stderr, bounded).try_init().map_err(io::Error::other)
}

/// A log with the settings of `config` that writes to `writer`.
pub fn subscriber<W>(config: &LogConfig, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    with_filter(config, writer, Bounded::new(filter(config.level.into())))
}

fn with_filter<W>(
    config: &LogConfig,
    writer: W,
    bounded: Bounded,
) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::registry().with(format(config, writer).with_filter(bounded))
}

fn format<S, W>(config: &LogConfig, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match config.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    }
}

fn filter(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OWN, level)
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Makes panics log their place only: the message may contain values of visitors.
pub fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            place,
            "internal error (panic); please report this place as a bug in Fortify"
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = subscriber(&LogConfig { level, format }, move || writer.clone());
        tracing::subscriber::with_default(log, || {
            tracing::debug!(target: "hyper::proto", "a cookie that a library parsed");
            tracing::warn!(target: "hyper::proto", "a warning of a library");
            tracing::debug!("ours, fine");
            tracing::error!("ours, grave");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn libraries_are_heard_from_warnings_up_whatever_the_level() {
        let text = logged(LogLevel::Trace, LogFormat::Text);
        assert!(!text.contains("a cookie"), "{text}");
        assert!(text.contains("a warning") && text.contains("ours, fine"), "{text}");
    }

    #[test]
    fn what_was_said_a_moment_ago_is_not_said_again_and_what_differs_is() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = subscriber(&LogConfig::default(), move || writer.clone());
        tracing::subscriber::with_default(log, || {
            for number in 0..1000 {
                tracing::error!(error = "Redis is away", "refused");
                tracing::error!(error = number % 3, "refused");
            }
        });
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        // Each once, or a few times on a machine that stands still now and then.
        assert!((4..100).contains(&text.lines().count()), "{text}");
    }

    #[test]
    fn what_was_left_out_is_reported_also_when_there_is_no_room_for_more() {
        let lines = Lines::default();
        let writer = lines.clone();
        let bounded = Bounded::new(filter(LevelFilter::INFO));
        let repeats = bounded.repeats().clone();
        let config = LogConfig { format: LogFormat::Json, ..LogConfig::default() };
        let log = with_filter(&config, move || writer.clone(), bounded);
        tracing::subscriber::with_default(log, || {
            for _ in 0..50 {
                tracing::error!(error = "Redis is away", "refused");
            }
            for number in 0..5000 {
                tracing::error!(number, "different");
            }
            repeats.report(std::time::Instant::now());
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let fields = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let all: Vec<_> = text.lines().map(|line| fields(line)["fields"].clone()).collect();
        let reports = |message: &str| all.iter().filter(|it| it["message"] == message).count();
        let named = all.iter().find(|it| it["line"] == "refused").expect("it is not named");
        assert_eq!(named["message"], "a line that was logged a moment before was left out");
        assert!(named["times"].as_u64().unwrap() >= 40, "{named}");
        assert_eq!(reports("lines were left out, there were too many"), 1);
        // The same room for everything else.
        assert!(reports("different") < 1000, "{}", reports("different"));
    }

    #[test]
    fn the_level_and_the_form_are_the_configured_ones() {
        let text = logged(LogLevel::Error, LogFormat::Json);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!(lines[0]["fields"]["message"], "ours, grave");
    }
}
