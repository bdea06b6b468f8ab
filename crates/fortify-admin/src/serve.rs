//! The listeners: a TCP port and a unix socket, with the same kinds of limits as the gate's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::access::Ingress;
use super::accounts::AccountsError;
use super::routes::router;
use super::{Admin, AdminBuildError, SharedAdmin, figures};
use fortify_http::server::{
    self, BindError, CircuitLimit, Limits, Listener, LocalAddress, ServerEvent,
};
use fortify_store::record::Secret;
use fortify_web::reload::Live;

/// The most connections per listener: browsers open six each, and there are scrapers.
const CONNECTIONS: usize = 256;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time between two requests of a connection.
const IDLE: Duration = Duration::from_secs(60);

/// How often refusals are written to the file.
const KEPT_EVERY: Duration = Duration::from_secs(10);

/// The admin interface with its listeners.
#[derive(Debug)]
pub struct AdminListeners {
    admin: SharedAdmin,
    port: Option<Listener>,
    socket: Option<Listener>,
}

/// Why the admin interface does not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminStartError {
    /// A part of it cannot be built.
    #[error(transparent)]
    Build(#[from] AdminBuildError),
    /// It cannot listen on its address.
    #[error("admin.listen: {}; set another address, or \"\" for none", why(.0))]
    Listen(BindError),
    /// It cannot listen on its socket.
    #[error("admin.socket: {}; set another path, or \"\" for none", why(.0))]
    Socket(BindError),
}

/// Why an address cannot be used. The advice differs from that for the gate's own address.
fn why(error: &BindError) -> String {
    match error {
        BindError::InUse(address) => format!("{address} is in use, perhaps by another gate"),
        BindError::Forbidden(address) => format!("this user may not listen on {address}"),
        BindError::NotLocal(address) => format!("{address} is not an address of this machine"),
        BindError::NoDirectory(address) => format!("the directory of {address} does not exist"),
        BindError::NotASocket(address) => {
            format!("{address} exists and is not a socket, move it away")
        }
        other => other.to_string(),
    }
}

/// The notice to operators while there is no account.
#[derive(Debug)]
pub struct SetupNotice {
    token: Option<(Secret<String>, LocalAddress)>,
}

impl SetupNotice {
    /// The notice in one line. It may contain a secret.
    #[must_use]
    pub fn line(&self) -> Secret<String> {
        Secret::new(match &self.token {
            Some((token, address)) => format!(
                "there is no account yet: open {address}/admin/setup and create the first one with the \
                 setup token {} (it is shown only once; without it, use: fortify admin add)",
                token.expose()
            ),
            None => {
                "there is no account yet: create one with: fortify admin add NAME (as the user that \
                     runs the gate, or as root)"
                    .to_owned()
            }
        })
    }
}

impl AdminListeners {
    /// Builds the admin interface and its listeners; `None` if it is off, or if its file cannot be used. The latter is
    /// logged and does not stop the gate: visitors need not wait until an operator has decided about the file.
    ///
    /// # Errors
    ///
    /// [`AdminStartError`], with what to do.
    pub async fn bind(live: &Arc<Live>) -> Result<Option<Self>, AdminStartError> {
        let app = live.app();
        let (listen, path) = (app.config.admin.listen, app.config.admin_socket());
        if listen.is_none() && path.is_none() {
            return Ok(None);
        }
        let admin = match Admin::build(live.clone()) {
            Err(AdminBuildError::Accounts(error)) => {
                tracing::error!(%error, "the admin interface is unavailable until the gate is restarted");
                app.admin_unavailable.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            built => built?,
        };
        let _set_by_an_earlier_one = app.admin_damages.set(admin.accounts.damages().to_vec());
        let port = match listen {
            Some(address) => {
                Some(Listener::bind_tcp(address).await.map_err(AdminStartError::Listen)?)
            }
            None => None,
        };
        let socket = match path {
            Some(path) => Some(Listener::bind_own(&path).await.map_err(AdminStartError::Socket)?),
            None => None,
        };
        Ok(Some(Self { admin, port, socket }))
    }

    /// The state that its requests share.
    #[must_use]
    pub fn admin(&self) -> &SharedAdmin {
        &self.admin
    }

    /// The address of the TCP port, if there is one.
    #[must_use]
    pub fn address(&self) -> Option<LocalAddress> {
        self.port.as_ref().map(Listener::local_addr)
    }

    /// The notice to operators; `None` if there is an account.
    ///
    /// It contains a setup token, which is created only once, and only if there is a port to use it at and an operator
    /// `watches`: a standard error that is not a terminal is a journal, which is kept and which others may read.
    ///
    /// # Errors
    ///
    /// Faults of the file.
    pub fn setup_notice(&self, watches: bool) -> Result<Option<SetupNotice>, AccountsError> {
        if self.admin.accounts.has_users()? {
            return Ok(None);
        }
        let address = self.address().filter(|_| watches);
        let token = match address {
            Some(address) => self.admin.begin_setup()?.map(|token| (token, address)),
            None => None,
        };
        Ok(Some(SetupNotice { token }))
    }

    /// Answers requests until `stop` is true, then finishes open requests.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let Self { admin, port, socket } = self;
        let mut listeners = JoinSet::new();
        for (listener, ingress) in [(port, Ingress::Port), (socket, Ingress::Socket)] {
            let Some(listener) = listener else { continue };
            let (service, metrics) = (router(&admin, ingress), admin.metrics.clone());
            let count = Arc::new(move |event: ServerEvent| metrics.connection(event));
            let limits = Limits {
                max_connections: CONNECTIONS,
                max_connections_per_circuit: CircuitLimit::new(CONNECTIONS),
                header_timeout: PATIENCE,
                body_timeout: PATIENCE,
                idle_timeout: IDLE,
                drain: admin.app().config.server.drain,
                proxy_protocol: false,
            };
            let mut stop = stop.clone();
            let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
            listeners.spawn(async move {
                server::serve(listener, service, limits, count, stopped).await;
            });
        }
        let keeping = tokio::spawn(keep(admin.clone()));
        let counting = tokio::spawn(figures::follow(admin.clone()));
        while listeners.join_next().await.is_some() {}
        keeping.abort();
        counting.abort();
        if let Err(error) = admin.accounts.with(super::accounts::Accounts::keep_refusals).await {
            tracing::warn!(%error, "cannot save the last counts of refused operators");
        }
    }
}

/// Writes refusals to the file from time to time; logs a failure once.
async fn keep(admin: SharedAdmin) {
    let mut tick = tokio::time::interval(KEPT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        tick.tick().await;
        match admin.accounts.with(super::accounts::Accounts::keep_refusals).await {
            Ok(()) => complained = false,
            Err(error) if !complained => {
                complained = true;
                tracing::error!(%error, "cannot save the counts of refused operators");
            }
            Err(_same_as_before) => {}
        }
    }
}
