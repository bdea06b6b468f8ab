//! What a test does with a page.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use fantoccini::cookies::Cookie;
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::Instant;

use crate::capabilities::{Kind, Options, capabilities};
use crate::driver::{Driver, find_browser};
use crate::error::{BrowserError, Doing};

/// How long a condition may take to come true. Generous: a busy machine is not a wrong page.
const WAIT: Duration = Duration::from_secs(120);

/// How often a browser is started before its test fails.
const STARTS: u32 = 4;

const POLL_EVERY: Duration = Duration::from_millis(50);

/// Whether the page has loaded with all that it names, pictures included. The driver's scripts run where
/// those of pages do not.
const LOADED: &str = "document.readyState === 'complete'";

type Result<T> = std::result::Result<T, BrowserError>;

/// A browser with one page, driven through WebDriver, ended with the value.
///
/// Selectors are CSS. What a method reads, it reads of a page that has loaded, pictures included: half a
/// page has no `[role=alert]` either. A method that needs an element fails when the loaded page has none;
/// after something that loads another page use [`Browser::wait_for`].
#[derive(Debug)]
pub struct Browser {
    client: Client,
    // After the client: it must outlive the session.
    driver: Driver,
}

impl Browser {
    /// Firefox as at Tor Browser's Safest level.
    ///
    /// # Errors
    ///
    /// When Firefox or geckodriver is missing or does not start.
    pub async fn firefox() -> Result<Self> {
        Self::start(Kind::Firefox, Options::default()).await
    }

    /// Chromium with scripts off.
    ///
    /// # Errors
    ///
    /// When Chromium or chromedriver is missing or does not start.
    pub async fn chromium() -> Result<Self> {
        Self::start(Kind::Chromium, Options::default()).await
    }

    /// A browser set up as `options` say.
    ///
    /// # Errors
    ///
    /// When the browser or its driver is missing or does not start.
    pub async fn start(kind: Kind, options: Options) -> Result<Self> {
        // A driver gives its browser a minute, which is too short for a machine with a load of 20: what is
        // tested is what a browser shows, not how soon it starts.
        for _ in 1..STARTS {
            match Self::try_start(kind, options).await {
                Err(BrowserError::NoSession { .. }) => {}
                started => return started,
            }
        }
        Self::try_start(kind, options).await
    }

    async fn try_start(kind: Kind, options: Options) -> Result<Self> {
        let binary = find_browser(kind)?;
        let driver = Driver::start(kind).await?;
        let capabilities = capabilities(kind, &binary, options, driver.home());
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url())
            .await
            .map_err(|source| BrowserError::NoSession {
                source: Box::new(source),
                log: driver.log(),
            })?;
        let browser = Self { client, driver };
        if kind == Kind::Firefox {
            let (width, height) = options.viewport;
            browser.set_window_size(width, height).await?;
        }
        Ok(browser)
    }

    /// Opens an address and waits until the page is loaded.
    ///
    /// # Errors
    ///
    /// When the page does not load within 120 s.
    pub async fn goto(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.doing(format!("opening {url}"))
    }

    /// Loads the page again. A page that answered a POST is posted again.
    ///
    /// # Errors
    ///
    /// When the page does not load within 120 s.
    pub async fn reload(&self) -> Result<()> {
        self.client.refresh().await.doing("loading the page again")
    }

    /// Goes to the page before.
    ///
    /// # Errors
    ///
    /// If the browser cannot, or does not answer in time.
    pub async fn back(&self) -> Result<()> {
        self.client.back().await.doing("going back")
    }

    /// The address shown.
    ///
    /// # Errors
    ///
    /// When the browser does not say.
    pub async fn url(&self) -> Result<String> {
        self.client.current_url().await.map(String::from).doing("reading the address")
    }

    /// The page's title.
    ///
    /// # Errors
    ///
    /// When the browser does not say.
    pub async fn title(&self) -> Result<String> {
        self.client.title().await.doing("reading the title")
    }

    /// The page's document as the browser has it now.
    ///
    /// # Errors
    ///
    /// When the browser does not say.
    pub async fn source(&self) -> Result<String> {
        self.client.source().await.doing("reading the source")
    }

    /// The visible text of an element.
    ///
    /// # Errors
    ///
    /// When there is no such element.
    pub async fn text(&self, css: &str) -> Result<String> {
        self.read(css, &format!("reading {css}"), async |element| element.text().await).await
    }

    /// An attribute of an element, if it has it.
    ///
    /// # Errors
    ///
    /// When there is no such element.
    pub async fn attribute(&self, css: &str, name: &str) -> Result<Option<String>> {
        let doing = format!("reading {name} of {css}");
        self.read(css, &doing, async |element| element.attr(name).await).await
    }

    /// A property of an element that is a number, such as the `naturalWidth` of a picture in px.
    ///
    /// # Errors
    ///
    /// When there is no such element, or the property is no number.
    pub async fn number(&self, css: &str, name: &str) -> Result<f64> {
        let doing = format!("reading {name} of {css}");
        self.read(css, &doing, async |element| match element.prop(name).await {
            // The client takes properties for text only.
            Err(CmdError::NotW3C(value)) => value.as_f64().ok_or(CmdError::NotW3C(value)),
            Err(error) => Err(error),
            Ok(text) => Err(CmdError::NotW3C(text.into())),
        })
        .await
    }

    /// The computed value of a CSS property.
    ///
    /// # Errors
    ///
    /// When there is no such element.
    pub async fn css_value(&self, css: &str, name: &str) -> Result<String> {
        let doing = format!("reading {name} of {css}");
        self.read(css, &doing, async |element| element.css_value(name).await).await
    }

    /// Whether the page has such an element, visible or not.
    ///
    /// # Errors
    ///
    /// When the browser does not say.
    pub async fn has(&self, css: &str) -> Result<bool> {
        Ok(self.count(css).await? > 0)
    }

    /// Number of such elements.
    ///
    /// # Errors
    ///
    /// When the browser does not say.
    pub async fn count(&self, css: &str) -> Result<usize> {
        self.wait_until_loaded().await?;
        let found = self.client.find_all(Locator::Css(css)).await;
        found.map(|all| all.len()).doing(format!("counting {css}"))
    }

    /// Where an element is: x, y, width and height in CSS px.
    ///
    /// # Errors
    ///
    /// When there is no such element.
    pub async fn rectangle(&self, css: &str) -> Result<(f64, f64, f64, f64)> {
        self.read(css, &format!("measuring {css}"), async |element| element.rectangle().await).await
    }

    /// Waits until an element is the one that gets the keys, for `autofocus`: that is done when the page is
    /// drawn, which may be after it has loaded.
    ///
    /// # Errors
    ///
    /// When it does not get the focus within 120 s.
    pub async fn wait_for_focus(&self, css: &str) -> Result<()> {
        self.until(&format!("for the focus on {css}"), async || {
            let active = self.client.active_element().await?;
            let wanted = self.client.find(Locator::Css(css)).await?;
            Ok(active.element_id() == wanted.element_id())
        })
        .await
    }

    /// Puts a text in place of what a field held, key by key.
    ///
    /// # Errors
    ///
    /// When there is no such field, or it cannot be typed into.
    pub async fn fill(&self, css: &str, text: &str) -> Result<()> {
        let field = self.find(css).await?;
        field.clear().await.doing(format!("clearing {css}"))?;
        field.send_keys(text).await.doing(format!("typing into {css}"))
    }

    /// Types keys into an element as they are, for example the path of a file to upload.
    ///
    /// # Errors
    ///
    /// When there is no such element, or it cannot be typed into.
    pub async fn type_keys(&self, css: &str, keys: &str) -> Result<()> {
        self.find(css).await?.send_keys(keys).await.doing(format!("typing into {css}"))
    }

    /// Presses a key where the focus is. Where this loads a page, [`Browser::press_to_follow`] waits
    /// for it.
    ///
    /// # Errors
    ///
    /// When nothing takes keys.
    pub async fn press(&self, key: Key) -> Result<()> {
        self.press_all(&char::from(key).to_string()).await
    }

    async fn press_all(&self, keys: &str) -> Result<()> {
        let active = self.client.active_element().await.doing("looking for the focus")?;
        active.send_keys(keys).await.doing("pressing a key")
    }

    /// Presses a key where the focus is and waits until another page has taken the place of this
    /// one.
    ///
    /// # Errors
    ///
    /// When nothing takes keys, or the page stays for 120 s.
    pub async fn press_to_follow(&self, key: Key) -> Result<()> {
        self.press_all_to_follow(&char::from(key).to_string()).await
    }

    /// Presses a key twice, as fast as a double click, and waits until another page has taken the
    /// place of this one. In two commands the second could meet the next page: Chromium's driver
    /// waits for it in between.
    ///
    /// # Errors
    ///
    /// As [`Browser::press_to_follow`].
    pub async fn press_twice_to_follow(&self, key: Key) -> Result<()> {
        self.press_all_to_follow(&char::from(key).to_string().repeat(2)).await
    }

    async fn press_all_to_follow(&self, keys: &str) -> Result<()> {
        let old = self.find("html").await?;
        self.press_all(keys).await?;
        self.until("for another page after a key", || is_gone(&old)).await?;
        self.wait_for("body").await
    }

    /// Clicks an element. Where this loads a page, [`Browser::follow`] waits for it.
    ///
    /// # Errors
    ///
    /// When there is no such element, or another one covers it.
    pub async fn click(&self, css: &str) -> Result<()> {
        self.find(css).await?.click().await.doing(format!("clicking {css}"))
    }

    /// Clicks a link or button and waits until another page has taken the place of this one.
    ///
    /// # Errors
    ///
    /// When there is no such element, or the page stays for 120 s.
    pub async fn follow(&self, css: &str) -> Result<()> {
        let old = self.find("html").await?;
        self.click(css).await?;
        self.until(&format!("for another page after clicking {css}"), || is_gone(&old)).await?;
        self.wait_for("body").await
    }

    /// Sends a form with its submit button and waits for the page that answers.
    ///
    /// # Errors
    ///
    /// When there is no such form, it has no submit button, or the page stays for 120 s.
    pub async fn submit(&self, form: &str) -> Result<()> {
        self.follow(&format!(
            "{form} button:not([type]), {form} [type=submit], {form} input[type=image]"
        ))
        .await
    }

    /// Waits, at most 120 s, until a page has such an element and has loaded, pictures included.
    ///
    /// # Errors
    ///
    /// When there is no such page in time.
    pub async fn wait_for(&self, css: &str) -> Result<()> {
        // One question, so that both are said of the same page.
        let both = format!("return {LOADED} && document.querySelector(arguments[0]) !== null");
        self.until(&format!("for {css} on a loaded page"), async || {
            Ok(self.client.execute(&both, vec![css.into()]).await? == true)
        })
        .await
    }

    /// Waits, at most 120 s, until what an element shows is as `condition` wants it, and gives the picture of
    /// it, a PNG. A picture is painted some time after it has loaded; until then its place is plain.
    ///
    /// `what` completes "waited in vain for the element".
    ///
    /// # Errors
    ///
    /// When it does not look so in time.
    pub async fn see(
        &self,
        css: &str,
        what: &str,
        mut condition: impl FnMut(&[u8]) -> bool,
    ) -> Result<Vec<u8>> {
        self.wait_until_loaded().await?;
        let deadline = Instant::now() + WAIT;
        loop {
            let picture = self.screenshot_of(css).await?;
            if condition(&picture) {
                return Ok(picture);
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(&format!("for {css} {what}")).await);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// The cookies that the page's address would be sent.
    ///
    /// # Errors
    ///
    /// When the browser does not say.
    pub async fn cookies(&self) -> Result<Vec<Cookie<'static>>> {
        self.client.get_all_cookies().await.doing("reading the cookies")
    }

    /// Forgets the cookies of the page's address.
    ///
    /// # Errors
    ///
    /// When the browser refuses.
    pub async fn delete_cookies(&self) -> Result<()> {
        self.client.delete_all_cookies().await.doing("deleting the cookies")
    }

    /// Makes the window this large, in CSS px, frame included.
    ///
    /// # Errors
    ///
    /// When the browser refuses.
    pub async fn set_window_size(&self, width: u32, height: u32) -> Result<()> {
        self.client.set_window_size(width, height).await.doing("setting the size of the window")
    }

    /// Writes what the window shows to a PNG file.
    ///
    /// # Errors
    ///
    /// When the browser gives no picture or the file cannot be written.
    pub async fn screenshot(&self, file: &Path) -> Result<()> {
        let png = self.client.screenshot().await.doing("taking a picture")?;
        std::fs::write(file, png).doing(format!("writing {}", file.display()))
    }

    /// What an element shows now, borders included, as a PNG; it is scrolled into the window first.
    ///
    /// # Errors
    ///
    /// When there is no such element, or the browser gives no picture.
    pub async fn screenshot_of(&self, css: &str) -> Result<Vec<u8>> {
        let doing = format!("taking a picture of {css}");
        self.read(css, &doing, async |element| element.screenshot().await).await
    }

    /// An attribute of the element that gets the keys, if it has it.
    ///
    /// # Errors
    ///
    /// When nothing takes keys.
    pub async fn attribute_of_focused(&self, name: &str) -> Result<Option<String>> {
        let active = self.client.active_element().await.doing("looking for the focus")?;
        active.attr(name).await.doing(format!("reading {name} of what has the focus"))
    }

    /// The WebDriver session, for what this type has no method for.
    pub fn client(&self) -> &Client {
        &self.client
    }

    #[cfg(test)]
    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Closes the browser in good order; dropping the value ends it as well, less gently.
    ///
    /// # Errors
    ///
    /// When the browser was already gone.
    pub async fn close(self) -> Result<()> {
        let Self { client, driver } = self;
        let closed = client.close().await.doing("closing the browser");
        drop(driver);
        closed
    }

    async fn find(&self, css: &str) -> Result<Element> {
        self.wait_until_loaded().await?;
        self.client.find(Locator::Css(css)).await.doing(format!("looking for {css}"))
    }

    /// Reads something of an element, of a loaded page. A page that loads itself again may take the place
    /// of the one that was looked at: then it is looked at again.
    async fn read<T>(
        &self,
        css: &str,
        doing: &str,
        read: impl AsyncFn(Element) -> std::result::Result<T, CmdError>,
    ) -> Result<T> {
        let deadline = Instant::now() + WAIT;
        let mut missed = 0;
        loop {
            self.wait_until_loaded().await?;
            let found = match self.client.find(Locator::Css(css)).await {
                Ok(element) => read(element).await,
                Err(error) => Err(error),
            };
            match found {
                Err(error) if error.is_no_such_element() && missed == 0 => missed += 1,
                Err(error) if error.is_stale_element_reference() && Instant::now() < deadline => {}
                found => return found.doing(doing),
            }
        }
    }

    async fn wait_until_loaded(&self) -> Result<()> {
        let loaded = format!("return {LOADED}");
        self.until("for the page to load", async || {
            Ok(self.client.execute(&loaded, Vec::new()).await? == true)
        })
        .await
    }

    /// Polls a condition until it is true; `what` completes "waited in vain".
    async fn until<F>(&self, what: &str, mut condition: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = std::result::Result<bool, CmdError>>,
    {
        let deadline = Instant::now() + WAIT;
        loop {
            // An error may just mean that a page is being exchanged for another.
            if matches!(condition().await, Ok(true)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(what).await);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// The text of the page, loaded or not.
    async fn text_now(&self) -> std::result::Result<String, CmdError> {
        self.client.find(Locator::Css("body")).await?.text().await
    }

    async fn timed_out(&self, what: &str) -> BrowserError {
        BrowserError::TimedOut {
            what: what.to_owned(),
            seconds: WAIT.as_secs(),
            url: self.url().await.unwrap_or_default(),
            page: self.text_now().await.unwrap_or_default(),
        }
    }
}

/// Whether the document that an element belonged to has been replaced.
async fn is_gone(element: &Element) -> std::result::Result<bool, CmdError> {
    match element.tag_name().await {
        Ok(_) => Ok(false),
        Err(error) if error.is_stale_element_reference() || error.is_no_such_element() => Ok(true),
        Err(error) => Err(error),
    }
}
