//! Bars for long work: on a terminal, and never where anything is piped.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far something is.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// `total` of `what`, none of which is done.
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

    /// So many more are done.
    pub(super) fn add(&self, done: u64) {
        self.0.inc(done);
    }

    /// Writes in front of the bar.
    pub(super) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
