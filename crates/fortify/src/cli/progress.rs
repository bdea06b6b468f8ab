//! Progress bars, shown only if both standard output and standard error are terminals.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar, removed when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of `total` steps, labelled `what`.
    pub(super) fn new(total: u64, what: &'static str) -> Self {
        let seen = io::stderr().is_terminal() && io::stdout().is_terminal();
        let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left");
        Self(match style {
            Ok(style) => bar.with_style(style),
            Err(_as_it_comes) => bar,
        })
    }

    /// Adds `done` steps.
    pub(super) fn add(&self, done: u64) {
        self.0.inc(done);
    }

    /// Runs `write` with the bar hidden.
    pub(super) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
