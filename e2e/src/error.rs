//! What can go wrong while driving a browser.

use std::fmt;
use std::path::PathBuf;

use fantoccini::error::{CmdError, NewSessionError};

/// Why a browser could not be started or did not do what it was told.
///
/// `Debug` prints the same sentence as `Display`: a test that returns the error shows it with
/// `Debug`, and "run `make setup`" must be readable there.
#[derive(thiserror::Error)]
pub enum BrowserError {
    /// A browser or its driver is not installed.
    #[error("{program} is missing: run `make setup`")]
    Missing {
        /// The program looked for.
        program: &'static str,
    },
    /// A file or process of the test itself failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The WebDriver server did not say its port in time, or ended.
    #[error("{program} did not start; its log ends with:\n{log}")]
    NotReady {
        /// The driver.
        program: PathBuf,
        /// The last lines it wrote.
        log: String,
    },
    /// The driver runs but opened no browser.
    #[error("no browser session: {source}; the driver's log ends with:\n{log}")]
    NoSession {
        /// The driver's answer.
        source: Box<NewSessionError>,
        /// The last lines the driver wrote.
        log: String,
    },
    /// The browser refused a command.
    #[error("{doing}: {source}")]
    Command {
        /// What was being done, with the selector or address.
        doing: String,
        /// The driver's answer.
        source: Box<CmdError>,
    },
    /// A condition did not come true within its bound.
    #[error("waited {seconds} s in vain {what}; the page at {url} reads:\n{page}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The bound, in seconds.
        seconds: u64,
        /// Where the browser was.
        url: String,
        /// The text of the page then.
        page: String,
    },
}

impl fmt::Debug for BrowserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what was being done when an answer was an error.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, BrowserError>;
}

impl<T> Doing<T> for Result<T, std::io::Error> {
    fn doing(self, doing: impl Into<String>) -> Result<T, BrowserError> {
        self.map_err(|source| BrowserError::Io { doing: doing.into(), source })
    }
}

impl<T> Doing<T> for Result<T, CmdError> {
    fn doing(self, doing: impl Into<String>) -> Result<T, BrowserError> {
        self.map_err(|source| BrowserError::Command {
            doing: doing.into(),
            source: Box::new(source),
        })
    }
}
