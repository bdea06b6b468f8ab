//! Real browsers for the tests: Firefox ESR and Chromium, with scripts off.
//!
//! The gate's promise is to people whose browser runs no script, so the promise is tested with
//! such browsers, not with an HTTP client that pretends. The tests themselves are in `tests/`.
//!
//! # Layout
//!
//! - [`Browser`]: what a test does with a page. Every wait is a bounded poll of a condition.
//! - [`Options`]: how the browser is set up; the default is the visitor the gate is made for.
//! - `capabilities`: the switches that make it so, for each browser.
//! - `driver`: the WebDriver server, a child process that ends with its [`Browser`].
//!
//! A missing browser is a failed test that says what to run, never a skipped one.

mod browser;
mod capabilities;
mod driver;
mod error;

pub use browser::Browser;
pub use capabilities::{Kind, Options};
pub use error::BrowserError;
pub use fantoccini::cookies::Cookie;
pub use fantoccini::key::Key;
