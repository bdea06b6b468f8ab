//! Fortify on a free port in front of a real web service, and a visitor who keeps cookies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use fortify::daemon::Daemon;
use fortify_admin::SharedAdmin;
use fortify_captcha::{
    Answer, Carrier, Generator, Puzzle, RenderError, Rendered, Seed, Spec, Style, StyleKey, Variant,
};
use fortify_config::{AdminSocket, Config, UpstreamServer};
use fortify_core::allowance::Rate;
use fortify_core::circuit::IdentityMode;
use fortify_core::clock::{ManualClock, Timestamp};
use fortify_core::entropy::{Entropy, SystemEntropy};
use fortify_demo::DemoSite;
use fortify_engine::challenge::render::Render;
use fortify_engine::limits::waits::FailureWaits;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::table::{Admits, LevelOverride};
use fortify_http::server::LocalAddress;
use fortify_keys::KeyRing;
use fortify_store::StateStore;
use fortify_store::memory::{MemoryBounds, MemoryStore};
use fortify_store::record::ChallengeToken;
use fortify_web::app::{App, SharedApp};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::oneshot;

/// The time at which every test starts.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A running Fortify, the site behind it, and its clock.
pub struct TestGate {
    pub app: SharedApp,
    pub clock: Arc<ManualClock>,
    pub site: DemoSite,
    pub address: SocketAddr,
    pub data_dir: tempfile::TempDir,
    /// The admin interface, where the test turned it on, and where its port is.
    pub admin: Option<SharedAdmin>,
    pub admin_address: Option<SocketAddr>,
    pub setup_token: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<()>>,
}

/// The parts of a [`TestGate`] that a test can replace.
pub struct Parts {
    pub config: Config,
    pub store: Option<Arc<dyn StateStore>>,
    pub renderer: Option<Arc<dyn Render>>,
    pub entropy: Arc<dyn Entropy>,
}

impl Parts {
    /// Has the gate forward to the service at `address`.
    pub fn service_at(&mut self, address: SocketAddr) {
        let service = UpstreamServer::Http(address.to_string().parse().unwrap());
        self.config.upstream.servers = vec![service];
    }
}

impl TestGate {
    /// Starts one that identifies visitors by address, at a level that asks for letters.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Parts)) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let site = DemoSite::start().await.unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.port = 0;
        // The admin interface is off unless a test turns it on.
        config.admin.listen = None;
        config.admin.socket = AdminSocket::Off;
        config.captcha.level = 5;
        // Letters in ink, so that the challenge is predictable.
        config.captcha.variant_weights = vec![(Variant::DistortedText, 1)];
        config.captcha.carrier_weights = vec![(Carrier::Ink, 1)];
        // All visitors of a test have the same address.
        config.captcha.max_active_per_circuit = 100;
        config.security.identity = IdentityMode::Peer;
        config.security.max_captcha_failures = 1000;
        config.limits.failure_waits = FailureWaits::new(vec![Duration::ZERO]).unwrap();
        config.limits.challenges_per_minute = 1000;
        // Time stands still unless a test moves it, so limits would never recover.
        config.limits.service = Rate { per_minute: u32::MAX, per_second: u32::MAX };
        let often = |level| LevelOverride {
            challenges_per_hour: Some(10_000),
            admits: Some(Admits::Session),
            pages_per_minute: Some(100_000),
            page_burst: Some(100_000),
            pages_per_session: Some(1_000_000),
            sessions_per_hour: Some(1000),
            ..LevelOverride::of(level)
        };
        config.threat.levels = ThreatLevel::ALL.map(often).to_vec();
        // Tests answer at once.
        config.reputation.scoring.suspects = false;
        config.storage.data_dir = data_dir.path().join("data");
        let service = UpstreamServer::Http(site.address().to_string().parse().unwrap());
        config.upstream.servers = vec![service];
        let entropy = Arc::new(SystemEntropy);
        let mut parts = Parts { config, store: None, renderer: None, entropy };
        change(&mut parts);
        let (config, entropy) = (Arc::new(parts.config), parts.entropy);
        let app = match (parts.store, parts.renderer) {
            (None, None) => App::build(config, clock.clone(), entropy),
            (store, renderer) => {
                let data_dir = &config.storage.data_dir;
                let keys = KeyRing::open(data_dir, &*clock, &*entropy).unwrap();
                let store = store.unwrap_or_else(|| Arc::new(memory_store(data_dir)));
                let renderer = renderer.unwrap_or_else(|| Arc::new(Generator::new().unwrap()));
                App::over(config, keys, store, renderer, clock.clone(), entropy)
            }
        };
        let app = app.unwrap();
        let gate = Daemon::with_app(app.clone()).await.unwrap();
        let LocalAddress::Tcp(address) = gate.address() else { panic!("not a port") };
        let operators = gate.admin();
        let admin = operators.map(|side| side.admin().clone());
        let setup_token = admin.as_ref().and_then(|admin| admin.begin_setup().unwrap());
        let setup_token = setup_token.map(|token| token.expose().clone());
        let admin_address = operators.and_then(|side| match side.address() {
            Some(LocalAddress::Tcp(address)) => Some(address),
            _ => None,
        });
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            gate.run(async move {
                let _dropped_is_stop_too = stopped.await;
            })
            .await;
        });
        Self {
            app,
            clock,
            site,
            address,
            data_dir,
            admin,
            admin_address,
            setup_token,
            stop: Some(stop),
            running: Some(running),
        }
    }

    /// Stops it, and waits until it has ended.
    pub async fn stop(mut self) {
        self.stop_gate().await;
    }

    /// Stops Fortify only: its site and its store stay.
    pub async fn stop_gate(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::at(self.address)
    }

    /// The answer to a challenge, read from the store.
    pub async fn answer(&self, token: &str) -> String {
        let token: ChallengeToken = token.parse().unwrap();
        let record = self
            .app
            .engine
            .parts()
            .store
            .challenge(&token)
            .await
            .unwrap()
            .expect("a live challenge");
        Answer::decode(record.answer.expose()).unwrap().reveal()
    }

    /// Solves the challenge on `page` for `visitor`.
    pub async fn solve(&self, visitor: &mut Visitor, page: &Reply) -> Reply {
        let answer = self.answer(&page.field("token")).await;
        self.submit(visitor, page, &answer).await
    }

    /// Submits the form on `page` with `answer` as a browser would.
    pub async fn submit(&self, visitor: &mut Visitor, page: &Reply, answer: &str) -> Reply {
        let mut fields = vec![("answer".to_owned(), answer.to_owned())];
        for name in ["token", "return_to", "carried"] {
            if let Some(value) = page.try_field(name) {
                fields.push((name.to_owned(), value));
            }
        }
        visitor.post_form("/validate-captcha", &fields).await
    }

    /// A visitor with a session.
    pub async fn admitted(&self) -> Visitor {
        let mut visitor = self.visitor();
        let page = visitor.get("/").await;
        let reply = self.solve(&mut visitor, &page).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER);
        visitor
    }
}

impl Drop for TestGate {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// A generator that renders nothing while it is held.
pub struct Easel {
    generator: Generator,
    state: Mutex<EaselState>,
    changed: Condvar,
}

#[derive(Default)]
struct EaselState {
    held: bool,
    /// Pictures that are requested and not rendered.
    waiting: usize,
}

/// Holds an easel until it is dropped.
pub struct Held(Arc<Easel>);

impl Easel {
    pub fn new() -> Arc<Self> {
        let generator = Generator::new().unwrap();
        Arc::new(Self { generator, state: Mutex::default(), changed: Condvar::new() })
    }

    pub fn hold(self: &Arc<Self>) -> Held {
        self.state.lock().unwrap().held = true;
        Held(self.clone())
    }

    /// Waits until this many pictures are requested and not rendered.
    pub async fn waiting(&self, pictures: usize) {
        let started = Instant::now();
        while self.state.lock().unwrap().waiting < pictures {
            assert!(started.elapsed() < Duration::from_secs(20), "nothing is drawn");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().held = false;
        self.0.changed.notify_all();
    }
}

impl Render for Easel {
    fn style(&self, key: &StyleKey) -> Style {
        self.generator.style(key)
    }

    /// Continues after 20 s even while it is held, so that a test fails instead of hanging.
    fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        let longest = Duration::from_secs(20);
        let held = |state: &mut EaselState| state.held;
        let (mut state, _) = self.changed.wait_timeout_while(state, longest, held).unwrap();
        state.waiting -= 1;
        drop(state);
        self.generator.render(spec, style, seed)
    }

    fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
        self.generator.puzzle(spec, seed)
    }
}

/// An HTTP client that keeps cookies, unless `keeps_cookies` is false.
#[derive(Clone)]
pub struct Visitor {
    client: Client<HttpConnector, Body>,
    pub address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    pub keeps_cookies: bool,
    /// Sent with every request.
    pub headers: HeaderMap,
}

impl Visitor {
    pub fn at(address: SocketAddr) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            address,
            cookies: BTreeMap::new(),
            keeps_cookies: true,
            headers: HeaderMap::new(),
        }
    }

    pub fn circuit(mut self, address: &str) -> Self {
        self.headers.insert("x-circuit-id", address.parse().unwrap());
        self
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    pub async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::GET, path, headers, Body::empty()).await
    }

    /// A form, sent from a page of the site.
    pub async fn post_form(&mut self, path: &str, fields: &[(String, String)]) -> Reply {
        let host = self.headers.get("host").and_then(|host| host.to_str().ok());
        let origin = format!("http://{}", host.unwrap_or(&self.address.to_string()));
        self.post_body(path, &form(fields), &[("origin", &origin)]).await
    }

    pub async fn post_body(&mut self, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, Body::from(body.to_owned())).await
    }

    pub async fn post_json(&mut self, path: &str, body: &serde_json::Value) -> Reply {
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        self.send(Method::POST, path, &headers, Body::from(body.to_string())).await
    }

    /// Sends a request; headers given here replace the visitor's own of the same name.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .body(body)
            .unwrap();
        request.headers_mut().extend(self.headers.clone());
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            request.headers_mut().insert(header::COOKIE, cookies.join("; ").parse().unwrap());
        }
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let response = tokio::time::timeout(Duration::from_secs(20), self.client.request(request))
            .await
            .expect("no answer within 20 s")
            .unwrap();
        let (parts, body) = response.into_parts();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        };
        if self.keeps_cookies {
            self.remember(&reply);
        }
        reply
    }

    fn remember(&mut self, reply: &Reply) {
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie::Cookie::parse(cookie.to_str().unwrap()).unwrap();
            let (name, value) = (cookie.name().to_owned(), cookie.value().to_owned());
            if cookie.max_age().is_some_and(|age| age.is_zero()) {
                self.cookies.remove(&name);
            } else {
                self.cookies.insert(name, value);
            }
        }
    }
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers.get_all(header::SET_COOKIE).iter().map(|v| v.to_str().unwrap()).collect()
    }

    /// Whether the response sets a session cookie.
    pub fn admits(&self) -> bool {
        self.set_cookies().iter().any(|cookie| cookie.starts_with("cerberus_session=e"))
    }

    /// Whether it is the challenge page.
    pub fn is_challenge(&self) -> bool {
        self.try_field("token").is_some()
    }

    pub fn field(&self, name: &str) -> String {
        self.try_field(name).unwrap_or_else(|| panic!("no field {name} in {}", self.text()))
    }

    /// The unescaped value of a hidden input.
    pub fn try_field(&self, name: &str) -> Option<String> {
        let text = self.text();
        let rest = text.split(&format!("name=\"{name}\" value=\"")).nth(1)?;
        let value = rest.split('"').next()?;
        let escapes =
            [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
        Some(escapes.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to)))
    }
}

/// Encodes form fields as a browser does.
pub fn form(fields: &[(String, String)]) -> String {
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// Owned fields.
pub fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A store whose clock stands still, for a test to wrap.
pub fn memory_store(data_dir: &Path) -> MemoryStore {
    let bounds = MemoryBounds { challenges: 100, challenges_per_circuit: 100 };
    MemoryStore::open(Arc::new(ManualClock::at(NOW)), bounds, data_dir)
}
