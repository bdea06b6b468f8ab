//! A browser before a gate, and what every visit does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use fortify_e2e::{Browser, BrowserError, Key, Kind, Options};

use fortify_testkit::{Parts, TestGate};

pub(crate) type Outcome = Result<(), BrowserError>;

/// An answer that no challenge has, and not one letter away from one.
pub(crate) const WRONG: &str = "WRONG-ANSWER";

/// The picture's box, the field and both buttons of the challenge page.
pub(crate) const INPUT: &str = "input:not([type=hidden]):not([tabindex='-1'])";
pub(crate) const CONTINUE: &str = "button:not([name])";
pub(crate) const ANOTHER: &str = "button[name=another]";

/// The last element of the challenge page: once it is there, all of the page is.
const CHALLENGE: &str = "form[action='/validate-captcha'] ~ #hint";

pub(crate) struct Visit {
    pub(crate) test_gate: TestGate,
    pub(crate) browser: Browser,
}

impl Visit {
    pub(crate) async fn start(kind: Kind) -> Result<Self, BrowserError> {
        Self::with(kind, Options::default(), |_| {}).await
    }

    pub(crate) async fn with(
        kind: Kind,
        options: Options,
        change: impl FnOnce(&mut Parts),
    ) -> Result<Self, BrowserError> {
        let test_gate = TestGate::with(change).await;
        Ok(Self { test_gate, browser: Browser::start(kind, options).await? })
    }

    /// The same browser before another gate, as a stranger: it is quicker than another browser.
    pub(crate) async fn move_on(
        self,
        change: impl FnOnce(&mut Parts),
    ) -> Result<Self, BrowserError> {
        self.browser.delete_cookies().await?;
        Ok(Self { test_gate: TestGate::with(change).await, browser: self.browser })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.test_gate.address)
    }

    pub(crate) async fn open(&self, path: &str) -> Outcome {
        self.browser.goto(&self.url(path)).await
    }

    /// Waits for a challenge and gives its token.
    pub(crate) async fn challenge(&self) -> Result<String, BrowserError> {
        self.browser.wait_for(CHALLENGE).await?;
        let token = self.browser.attribute("input[name=token]", "value").await?;
        Ok(token.unwrap_or_default())
    }

    /// Types an answer where the focus is by itself, and presses Enter.
    pub(crate) async fn answer(&self, answer: &str) -> Outcome {
        self.browser.fill(INPUT, answer).await?;
        self.browser.press_to_follow(Key::Enter).await
    }

    /// Answers the challenge on the page and waits for what the next page has.
    pub(crate) async fn solve(&self, next: &str) -> Outcome {
        let token = self.challenge().await?;
        self.answer(&self.test_gate.answer(&token).await).await?;
        self.browser.wait_for(next).await
    }

    /// Goes through the gate to the front page.
    pub(crate) async fn enter(&self) -> Outcome {
        self.open("/").await?;
        self.solve("#welcome").await
    }

    /// How often the gate let a request pass (`admit`) or not (`challenge`).
    pub(crate) async fn decisions(&self, decision: &str) -> u32 {
        let line = format!("fortify_decisions_total{{decision=\"{decision}\"}} ");
        let metrics = self.test_gate.visitor().get("/metrics").await.text();
        let count = metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok());
        count.unwrap_or(0)
    }

    pub(crate) async fn take_picture(&self, name: &str) -> Outcome {
        self.browser.screenshot(&picture_file(name)).await
    }

    pub(crate) async fn end(self) -> Outcome {
        self.browser.close().await?;
        self.test_gate.stop().await;
        Ok(())
    }
}

pub(crate) fn picture_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gate-{name}.png"))
}

/// Another web site, with one page, under a name that is not the gate's: for a browser `localhost`
/// and 127.0.0.1 are two sites.
///
/// Gives the page's address.
pub(crate) async fn other_site(page: String) -> String {
    let site = Router::new().route("/", get(async move || Html(page)));
    format!("http://localhost:{}/", listen(site).await.port())
}

/// Starts a site on a free port; it ends with the test's runtime.
#[allow(clippy::expect_used, reason = "in a test a panic is the failure report")]
pub(crate) async fn listen(site: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, site).await });
    address
}
