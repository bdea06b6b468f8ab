//! A bound for the log: a line that says what one said a moment before is left out, and so is what is too much at once.
//!
//! While Redis is away, every refused request has a line to write, and an attack refuses 50,000 in a second: the disk would
//! be full before the operator is up, and then bans cannot be written either. What was left out is counted, and reported
//! within a second. Events of `debug` and below are not bounded: who asks for every decision gets it.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter};

/// For how long a line is not repeated, and how often what was left out is reported.
const WINDOW: Duration = Duration::from_secs(1);

/// The most lines in a second, in the long run: at 350 bytes, a long one in JSON, 840 KB a minute.
const LINES_PER_SECOND: u32 = 40;

/// The most lines at once, as at a start or a reload.
const BURST: u32 = 200;

/// The most messages that a report names; the others are counted.
const MAX_NAMED: usize = 10;

/// The bytes that are kept of a message, to name it; a character more where it has several.
const MAX_MESSAGE: usize = 200;

/// The filter of a log.
pub(super) struct Bounded {
    targets: Targets,
    hashes: RandomState,
    repeats: Arc<Repeats>,
}

impl Bounded {
    pub(super) fn new(targets: Targets) -> Self {
        let repeats = Repeats(Mutex::new(State::at(Instant::now())));
        Self { targets, hashes: RandomState::new(), repeats: Arc::new(repeats) }
    }

    pub(super) const fn repeats(&self) -> &Arc<Repeats> {
        &self.repeats
    }
}

/// Starts the thread that reports what was left out, for as long as the log exists.
///
/// # Errors
///
/// If there can be no further thread.
pub(super) fn start_reporting(repeats: &Arc<Repeats>) -> std::io::Result<()> {
    let repeats = Arc::downgrade(repeats);
    let report = move || {
        loop {
            std::thread::sleep(WINDOW);
            let Some(repeats) = repeats.upgrade() else { return };
            repeats.report(Instant::now());
        }
    };
    std::thread::Builder::new().name("log".to_owned()).spawn(report).map(drop)
}

impl<S: Subscriber> Filter<S> for Bounded {
    fn enabled(&self, metadata: &Metadata<'_>, cx: &Context<'_, S>) -> bool {
        Filter::<S>::enabled(&self.targets, metadata, cx)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = Filter::<S>::callsite_enabled(&self.targets, metadata);
        // A filter that refuses single events has to be asked about each: for those of a callsite that is always enabled,
        // the registry does not undo a refusal, and the thread would log nothing any more.
        if interest.is_always() { Interest::sometimes() } else { interest }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.targets)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        // Reports have a bound of their own, and are needed most when there is no room for anything else.
        let is_report = event.metadata().target() == module_path!();
        if is_report || *event.metadata().level() > Level::INFO {
            return true;
        }
        let mut line = Line { hasher: self.hashes.build_hasher(), message: String::new() };
        event.metadata().callsite().hash(&mut line.hasher);
        event.record(&mut line);
        let key = line.hasher.finish();
        self.repeats.lock().admits(key, line.message, Instant::now())
    }
}

/// What an event says.
struct Line<H> {
    hasher: H,
    message: String,
}

impl<H: Hasher> Visit for Line<H> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        field.name().hash(&mut self.hasher);
        let mut text = Text { hasher: &mut self.hasher, kept: None };
        if field.name() == "message" {
            text.kept = Some(&mut self.message);
        }
        let _never_fails = write!(text, "{value:?}");
    }
}

/// Hashes text, and keeps the beginning of it.
struct Text<'a, H> {
    hasher: &'a mut H,
    kept: Option<&'a mut String>,
}

impl<H: Hasher> fmt::Write for Text<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        if let Some(kept) = &mut self.kept {
            kept.extend(text.chars().take(MAX_MESSAGE.saturating_sub(kept.len())));
        }
        Ok(())
    }
}

/// The lines of the last second, and what was left out.
pub(super) struct Repeats(Mutex<State>);

struct State {
    /// By the hash of the whole line.
    lines: HashMap<u64, Repeated>,
    /// Lines that may still be written, and since when.
    room: f64,
    at: Instant,
    too_many: u64,
}

struct Repeated {
    since: Instant,
    message: String,
    left_out: u64,
}

impl Repeats {
    /// Logs what was left out since the last report.
    pub(super) fn report(&self, now: Instant) {
        let (mut repeated, mut others) = self.lock().left_out(now);
        repeated.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        for (line, times) in repeated.drain(..repeated.len().min(MAX_NAMED)) {
            tracing::warn!(times, line, "a line that was logged a moment before was left out");
        }
        others += repeated.iter().map(|(_, times)| times).sum::<u64>();
        if others > 0 {
            tracing::warn!(lines = others, "lines were left out, there were too many");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn at(now: Instant) -> Self {
        Self { lines: HashMap::new(), room: f64::from(BURST), at: now, too_many: 0 }
    }

    /// Whether the line may be written.
    fn admits(&mut self, key: u64, message: String, now: Instant) -> bool {
        let is_recent = |line: &Repeated| now.saturating_duration_since(line.since) < WINDOW;
        if let Some(line) = self.lines.get_mut(&key)
            && is_recent(line)
        {
            line.left_out += 1;
            return false;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.room = (self.room + passed * f64::from(LINES_PER_SECOND)).min(f64::from(BURST));
        self.at = now;
        if self.room < 1.0 {
            self.too_many += 1;
            return false;
        }
        self.room -= 1.0;
        match self.lines.get_mut(&key) {
            Some(line) => line.since = now,
            // No more than were written in the window: the others go with a report, or here.
            None => {
                if self.lines.len() >= 2 * BURST as usize {
                    self.lines.retain(|_, line| is_recent(line) || line.left_out > 0);
                }
                self.lines.insert(key, Repeated { since: now, message, left_out: 0 });
            }
        }
        true
    }

    /// The messages that were left out and how often, and how many lines were too many; they are forgotten.
    fn left_out(&mut self, now: Instant) -> (Vec<(String, u64)>, u64) {
        let mut repeated = Vec::new();
        self.lines.retain(|_, line| {
            if line.left_out > 0 {
                repeated.push((line.message.clone(), std::mem::take(&mut line.left_out)));
            }
            now.saturating_duration_since(line.since) < WINDOW
        });
        (repeated, std::mem::take(&mut self.too_many))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(state: &mut State, key: u64, now: Instant) -> bool {
        state.admits(key, format!("line {key}"), now)
    }

    #[test]
    fn a_line_is_written_once_a_second_and_counted() {
        let start = Instant::now();
        let mut state = State::at(start);
        let mut written = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            written += u32::from(admitted(&mut state, 7, now));
            if millis % 1000 == 999 {
                assert_eq!(state.left_out(now), (vec![("line 7".to_owned(), 999)], 0));
            }
        }
        assert_eq!(written, 10);
        assert_eq!(state.left_out(start + 2 * WINDOW), (Vec::new(), 0));
    }

    #[test]
    fn lines_that_differ_are_bounded_too_and_so_is_what_is_kept_of_them() {
        let start = Instant::now();
        let mut state = State::at(start);
        let mut written = 0;
        for number in 0..60_000 {
            let now = start + Duration::from_millis(number);
            written += u64::from(admitted(&mut state, number, now));
            assert!(state.lines.len() <= 2 * BURST as usize);
        }
        let most = u64::from(60 * LINES_PER_SECOND + BURST);
        assert!((most - 2..=most).contains(&written), "{written}");
        assert_eq!(state.left_out(start).1, 60_000 - written);
    }
}
