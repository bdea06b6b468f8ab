//! How the browsers are set up: the visitor the gate is made for, and nothing of the network.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Which browser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Firefox ESR: what Tor Browser is made of.
    Firefox,
    /// Chromium: every other browser, more or less.
    Chromium,
}

/// How a browser is set up. The default: cookies on, scripts off, light, 1000 x 800 px.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether it accepts cookies.
    pub cookies: bool,
    /// Whether it runs scripts. Without them Firefox also shows no SVG, no MathML and no fonts of
    /// the page, as in Tor Browser's Safest level.
    pub scripts: bool,
    /// Whether pages are told that the visitor prefers dark colours.
    pub dark: bool,
    /// Size in CSS px: in Chromium of the page's area, exactly; in Firefox of the window, frame
    /// included, and never narrower than about 500 px.
    pub viewport: (u32, u32),
    /// How many pixels of the screen one CSS px takes: 4 is a page zoomed to 400 %.
    pub zoom: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { cookies: true, scripts: false, dark: false, viewport: (1000, 800), zoom: 1 }
    }
}

/// The WebDriver capabilities for `kind`, with everything it writes under `home`.
pub(crate) fn capabilities(
    kind: Kind,
    binary: &Path,
    options: Options,
    home: &Path,
) -> Map<String, Value> {
    let specific = match kind {
        Kind::Firefox => firefox(binary, options),
        Kind::Chromium => chromium(binary, options, home),
    };
    let mut all = Map::new();
    all.insert("pageLoadStrategy".to_owned(), json!("normal"));
    all.insert("timeouts".to_owned(), json!({ "implicit": 0, "pageLoad": 120_000 }));
    all.extend(specific);
    all
}

fn firefox(binary: &Path, options: Options) -> Map<String, Value> {
    let mut prefs = object(json!({
        // Nothing of the browser's own goes out: tests run where there is no network.
        "app.normandy.enabled": false,
        "app.update.disabledForTesting": true,
        "browser.newtabpage.enabled": false,
        "browser.region.network.url": "",
        "browser.safebrowsing.blockedURIs.enabled": false,
        "browser.safebrowsing.downloads.enabled": false,
        "browser.safebrowsing.malware.enabled": false,
        "browser.safebrowsing.phishing.enabled": false,
        "browser.search.update": false,
        "browser.startup.homepage": "about:blank",
        "browser.startup.page": 0,
        "datareporting.policy.dataSubmissionEnabled": false,
        "dom.push.connection.enabled": false,
        "extensions.getAddons.cache.enabled": false,
        "extensions.update.enabled": false,
        "media.gmp-manager.updateEnabled": false,
        "network.captive-portal-service.enabled": false,
        "network.connectivity-service.enabled": false,
        "network.dns.disablePrefetch": true,
        "network.http.speculative-parallel-limit": 0,
        "network.prefetch-next": false,
        "network.proxy.type": 0,
        "services.settings.server": "data:,",
        "toolkit.telemetry.enabled": false,
        // 0 is dark, 1 light.
        "layout.css.prefers-color-scheme.content-override": u8::from(!options.dark),
        "layout.css.devPixelsPerPx": options.zoom.to_string(),
        // 2 refuses every cookie, 0 takes them.
        "network.cookie.cookieBehavior": if options.cookies { 0 } else { 2 },
    }));
    if !options.scripts {
        // Tor Browser, security level Safest.
        prefs.extend(object(json!({
            "gfx.downloadable_fonts.enabled": false,
            "javascript.enabled": false,
            "mathml.disabled": true,
            "svg.disabled": true,
        })));
    }
    object(json!({
        "moz:firefoxOptions": {
            "binary": binary,
            "args": ["-headless"],
            "prefs": prefs,
            "log": { "level": "error" },
        }
    }))
}

fn chromium(binary: &Path, options: Options, home: &Path) -> Map<String, Value> {
    // Content settings: 1 allows, 2 blocks.
    let cookies = if options.cookies { 1 } else { 2 };
    let scripts = if options.scripts { 1 } else { 2 };
    let (width, height) = options.viewport;
    let args = [
        "--headless=new".to_owned(),
        "--hide-scrollbars".to_owned(),
        // Refused for root with it; only pages of these tests are ever opened.
        "--no-sandbox".to_owned(),
        // /dev/shm is small in containers.
        "--disable-dev-shm-usage".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-breakpad".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--no-first-run".to_owned(),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost".to_owned(),
        // 0 is dark, 1 light.
        format!("--blink-settings=preferredColorScheme={}", u8::from(!options.dark)),
        format!("--user-data-dir={}", home.join("chromium").display()),
    ];
    object(json!({
        "goog:chromeOptions": {
            "binary": binary,
            "args": args,
            "prefs": {
                "profile.default_content_setting_values.cookies": cookies,
                "profile.managed_default_content_settings.javascript": scripts,
            },
            // A window cannot be made as narrow as a phone; an emulated screen can.
            "mobileEmulation": {
                "deviceMetrics": {
                    "width": width, "height": height, "pixelRatio": options.zoom,
                    "touch": false, "mobile": false,
                }
            },
        }
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
