//! The harness itself, against the demonstration site without a gate.
//!
//! A test that drives a browser "with scripts off" proves nothing unless scripts really are off,
//! so every switch is shown to work here, and to make a difference.

use std::path::Path;

use fortify_demo::DemoSite;
use fortify_e2e::{Browser, BrowserError, Kind, Options};

type Outcome = Result<(), BrowserError>;

#[tokio::test]
async fn firefox_without_scripts_reads_pages_and_posts_forms() -> Outcome {
    reads_pages_and_posts_forms(Kind::Firefox).await
}

#[tokio::test]
async fn chromium_without_scripts_reads_pages_and_posts_forms() -> Outcome {
    reads_pages_and_posts_forms(Kind::Chromium).await
}

#[tokio::test]
async fn firefox_runs_scripts_and_shows_svg_only_when_told_to() -> Outcome {
    runs_scripts_only_when_told_to(Kind::Firefox).await
}

#[tokio::test]
async fn chromium_runs_scripts_only_when_told_to() -> Outcome {
    runs_scripts_only_when_told_to(Kind::Chromium).await
}

#[tokio::test]
async fn firefox_keeps_cookies_only_when_told_to() -> Outcome {
    keeps_cookies_only_when_told_to(Kind::Firefox).await
}

#[tokio::test]
async fn chromium_keeps_cookies_only_when_told_to() -> Outcome {
    keeps_cookies_only_when_told_to(Kind::Chromium).await
}

#[tokio::test]
async fn chromium_shows_a_page_as_narrow_as_a_phone() -> Outcome {
    let site = demo_site().await;
    let options = Options { viewport: (320, 640), dark: true, ..Options::default() };
    let browser = Browser::start(Kind::Chromium, options).await?;
    browser.goto(&site.url()).await?;
    let (_, _, width, _) = browser.rectangle("html").await?;
    assert_eq!(width as u32, 320);
    take_picture(&browser, "demo-narrow-dark").await?;
    browser.close().await
}

async fn reads_pages_and_posts_forms(kind: Kind) -> Outcome {
    let site = demo_site().await;
    let browser = Browser::start(kind, Options::default()).await?;
    browser.goto(&site.url()).await?;
    assert_eq!(browser.text("#welcome").await?, "You are in");
    take_picture(&browser, &format!("demo-home-{kind:?}")).await?;

    browser.follow("nav a[href='/guestbook']").await?;
    browser.fill("#name", "Ada & Grace").await?;
    browser.fill("#message", "<b>hello</b>").await?;
    browser.submit("#sign").await?;

    assert_eq!(browser.url().await?, format!("{}/guestbook", site.url()));
    assert_eq!(browser.text(".entry strong").await?, "Ada & Grace");
    assert_eq!(browser.text(".entry p").await?, "<b>hello</b>");
    let methods: Vec<_> = site.seen().at("/guestbook").into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["GET", "POST", "GET"], "answered with a 303 and followed");
    browser.close().await
}

async fn runs_scripts_only_when_told_to(kind: Kind) -> Outcome {
    let site = demo_site().await;
    for scripts in [false, true] {
        let browser = Browser::start(kind, Options { scripts, ..Options::default() }).await?;
        browser.goto(&format!("{}/script-check", site.url())).await?;
        let title = if scripts { "a script ran" } else { "no script ran" };
        assert_eq!(browser.title().await?, title);
        // With scripts on, what is inside `noscript` is text and no element.
        assert_eq!(browser.has("#noscript").await?, !scripts);
        if !scripts {
            assert_eq!(browser.text("#noscript").await?, "Scripts are off.");
        }
        let svg_shown = browser.rectangle("#svg").await?.2 as u32 == 120;
        assert_eq!(svg_shown, scripts || kind == Kind::Chromium);
        browser.close().await?;
    }
    Ok(())
}

async fn keeps_cookies_only_when_told_to(kind: Kind) -> Outcome {
    let site = demo_site().await;
    for (cookies, sent_back) in [(true, "plain=1; secure=1"), (false, "")] {
        let browser = Browser::start(kind, Options { cookies, ..Options::default() }).await?;
        let page = format!("{}/cookie-check", site.url());
        browser.goto(&page).await?;
        browser.goto(&page).await?;
        assert_eq!(browser.text("#cookies").await?, sent_back);
        assert_eq!(browser.cookies().await?.len(), if cookies { 2 } else { 0 });
        browser.close().await?;
    }
    Ok(())
}

#[allow(clippy::expect_used, reason = "in a test a panic is the failure report")]
async fn demo_site() -> DemoSite {
    DemoSite::start().await.expect("a free loopback port")
}

/// The pictures stay in the build directory, for people to look at.
async fn take_picture(browser: &Browser, name: &str) -> Outcome {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    browser.screenshot(&file).await?;
    let png = std::fs::read(&file).unwrap_or_default();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 1000, "{} bytes", png.len());
    Ok(())
}
