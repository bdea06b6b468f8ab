//! The gate in front of a real service, met with real browsers that run no scripts.
//!
//! Each test runs in both browsers, before a gate of its own. The right answer comes from the
//! gate's store, in the process: no endpoint tells it. Pictures of the pages are in `target/tmp/`,
//! for people to look at.

mod cookies_off;
mod forms;
mod kinds;
mod layout;
mod moving;
mod operator;
mod other_site;
mod tabs;
mod visit;
mod waiting;
mod way_in;

/// Makes of each async function that takes a [`fortify_e2e::Kind`] one test per browser.
macro_rules! in_both_browsers {
    ($($name:ident),+ $(,)?) => {
        mod firefox {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> $crate::visit::Outcome {
                super::$name(fortify_e2e::Kind::Firefox).await
            })+
        }
        mod chromium {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> $crate::visit::Outcome {
                super::$name(fortify_e2e::Kind::Chromium).await
            })+
        }
    };
}
use in_both_browsers;
