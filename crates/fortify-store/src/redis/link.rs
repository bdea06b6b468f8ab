//! The connection to Redis, with a deadline for every operation.
//!
//! The client library's connection manager is not used: while Redis is unreachable it makes every caller wait for
//! the next attempt, and it does not support clusters. Here a caller without a connection gets an error at
//! once, one task opens connections, and a connection is used only after the revocations are known to be
//! current (`follower`).

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisFuture, Value,
};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::fault::{self, Cause, Fault, unavailable};
use super::tls;
use crate::StoreError;
use crate::config::{RedisAddress, RedisConfig, RedisServer};

/// The most steps in progress; a further one is refused. At 200 microseconds each that is millions per second, so it is
/// reached only if Redis has all but stopped.
const MAX_IN_FLIGHT: usize = 1024;

/// The most bytes of a password; one from `ACL GENPASS` has 64.
const MAX_PASSWORD_BYTES: u64 = 1024;

/// A connection to a server, or to all servers of a cluster; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Where Redis is, how to log in, and the connection in use.
pub(super) struct Link {
    config: RedisConfig,
    place: String,
    current: ArcSwapOption<Connection>,
    /// Where `WAIT` waits, which holds up everything behind it on its connection.
    waiting: ArcSwapOption<Connection>,
    /// Why there is no connection.
    why: ArcSwap<StoreError>,
    in_flight: Semaphore,
    broken: Notify,
}

impl Link {
    pub(super) fn new(config: RedisConfig) -> Self {
        let place: Vec<_> = config.servers.iter().map(ToString::to_string).collect();
        let place = place.join(", ");
        Self {
            why: ArcSwap::from_pointee(unavailable(&place, "not connected yet")),
            place,
            config,
            current: ArcSwapOption::empty(),
            waiting: ArcSwapOption::empty(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            broken: Notify::new(),
        }
    }

    /// How long one step may take.
    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// An error for the operator.
    pub(super) fn unavailable(&self, cause: impl Into<Cause>) -> StoreError {
        unavailable(&self.place, cause)
    }

    /// Runs one step of the store within the deadline, however many commands it takes.
    pub(super) async fn step<T, F>(
        &self,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let Some(connection) = self.current.load_full() else {
            return Err((**self.why.load()).clone());
        };
        let Ok(_slot) = self.in_flight.try_acquire() else {
            return Err(self.unavailable("1024 requests already wait for an answer"));
        };
        let done = self.try_within(self.config.timeout, &connection, step).await;
        done.map_err(|failed| match failed {
            None => self.too_slow(self.config.timeout),
            Some(fault) => {
                // The client of a cluster reconnects to a lost node by itself. A step that fails after its connection
                // was replaced says nothing about the new one.
                let serves =
                    self.current.load().as_ref().is_some_and(|c| Arc::ptr_eq(c, &connection));
                let single = matches!(*connection, Connection::Single(_));
                if single && serves && fault.ends_connection() {
                    self.broken.notify_one();
                }
                fault.at(&self.place)
            }
        })
    }

    /// As [`Self::step`], on a connection that is not in use yet.
    pub(super) async fn within_deadline<T, F>(
        &self,
        connection: &Connection,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.within(self.config.timeout, connection, step).await
    }

    /// As [`Self::within_deadline`], with another deadline.
    pub(super) async fn within<T, F>(
        &self,
        limit: Duration,
        connection: &Connection,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.try_within(limit, connection, step)
            .await
            .map_err(|failed| failed.map_or_else(|| self.too_slow(limit), |f| f.at(&self.place)))
    }

    /// Runs a step; the error is `None` if it took too long.
    async fn try_within<T, F>(
        &self,
        limit: Duration,
        connection: &Connection,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, Option<Fault>>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        match timeout(limit, step(connection.clone())).await {
            Ok(done) => done.map_err(Some),
            Err(_elapsed) => Err(None),
        }
    }

    fn too_slow(&self, limit: Duration) -> StoreError {
        let limit = limit.as_millis();
        let cause = Cause::new(format!("no answer within {limit} ms"));
        self.unavailable(cause.advise("is it overloaded or stopped?"))
    }

    /// Opens a connection. `patience` is how much longer than the deadline a reply may take, for connections that wait
    /// for new entries.
    pub(super) async fn open(&self, patience: Duration) -> Result<Connection, StoreError> {
        let (limit, config) = (self.config.timeout, &self.config);
        let password = match &config.password_file {
            Some(path) => Some(read_password(path).await.map_err(|cause| self.unavailable(cause))?),
            None => None,
        };
        let password = password.as_ref().map(|text| text.as_str());
        let over_tls = config.servers.iter().any(|server| server.address.is_tls());
        let certificates = match over_tls {
            true => Some(tls::certificates(&config.tls).await.map_err(|it| self.unavailable(it))?),
            false => None,
        };
        for server in &config.servers {
            if let RedisAddress::Unix(path) = &server.address {
                UnixStream::connect(path)
                    .await
                    .map_err(|error| self.unavailable(fault::of_socket(error.kind())))?;
            }
        }
        let opened = async {
            if config.cluster {
                let nodes = config.servers.iter().map(|server| info(server, config, password));
                let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
                let mut client = ClusterClientBuilder::new(nodes)
                    .retries(2)
                    .min_retry_wait(5)
                    .max_retry_wait(50)
                    .connection_timeout(limit)
                    .response_timeout(limit + patience);
                if let Some(certificates) = certificates {
                    client = client.certs(certificates);
                }
                Ok(Connection::Cluster(client.build()?.get_async_connection().await?))
            } else {
                let server = config.servers.first().ok_or(Fault::Foreign("storage.url"))?;
                let info = info(server, config, password)?;
                let client = match certificates {
                    Some(certificates) => redis::Client::build_with_tls(info, certificates)?,
                    None => redis::Client::open(info)?,
                };
                let settings = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(limit))
                    .set_response_timeout(Some(limit + patience));
                let opened = client.get_multiplexed_async_connection_with_config(&settings);
                Ok(Connection::Single(opened.await?))
            }
        };
        // The client tries the nodes of a cluster one after another.
        let all = limit * 4;
        match timeout(all, opened).await {
            Ok(opened) => opened.map_err(|fault: Fault| fault.at(&self.place)),
            Err(_elapsed) => {
                Err(self.unavailable(Cause::new("no connection in time").advise("is it stopped?")))
            }
        }
    }

    /// Opens the connection for [`Self::await_replicas`], if the operator asks for replicas.
    pub(super) async fn open_waiting(&self) -> Result<Option<Connection>, StoreError> {
        match self.config.wait_replicas {
            0 => Ok(None),
            _ => self.open(self.config.timeout).await.map(Some),
        }
    }

    /// Waits until as many replicas as `storage.wait_replicas` says have what was written to the server of `key` until
    /// now, on whichever connection, for at most half a step.
    pub(super) async fn await_replicas(&self, key: &str) -> Result<(), Fault> {
        let wanted = self.config.wait_replicas;
        if wanted == 0 {
            return Ok(());
        }
        let Some(connection) = self.waiting.load_full() else {
            return Err(Fault::Replicas { wanted, have: 0 });
        };
        // `WAIT` waits for what its connection has seen written. A command before it sees everything, and takes both to
        // the server of the key.
        let mut wait = redis::pipe();
        wait.cmd("EXISTS").arg(key).ignore();
        wait.cmd("WAIT").arg(wanted).arg((self.config.timeout / 2).as_millis() as u64);
        let (have,): (u32,) = wait.query_async(&mut (*connection).clone()).await?;
        if have < wanted { Err(Fault::Replicas { wanted, have }) } else { Ok(()) }
    }

    /// Runs steps on `connection` from now on, and waits for replicas on `waiting`.
    pub(super) async fn serve(&self, connection: Connection, waiting: Option<Connection>) {
        // A fault of the previous connection no longer matters.
        tokio::select! {
            biased;
            () = self.broken.notified() => {}
            () = std::future::ready(()) => {}
        }
        self.waiting.store(waiting.map(Arc::new));
        self.current.store(Some(Arc::new(connection)));
    }

    /// Refuses steps from now on, for the given reason.
    pub(super) fn refuse(&self, why: StoreError) {
        self.why.store(Arc::new(why));
        self.current.store(None);
    }

    /// Waits until a step finds the connection broken.
    pub(super) async fn broken(&self) {
        self.broken.notified().await;
    }
}

fn info(
    server: &RedisServer,
    config: &RedisConfig,
    password: Option<&str>,
) -> Result<ConnectionInfo, Fault> {
    let address = match &server.address {
        RedisAddress::Tcp { host, port, tls: false } => ConnectionAddr::Tcp(host.clone(), *port),
        RedisAddress::Tcp { host, port, tls: true } => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
        RedisAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut login = RedisConnectionInfo::default()
        .set_db(server.database)
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name();
    if let Some(user) = &config.user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(password);
    }
    Ok(address.into_connection_info()?.set_redis_settings(login))
}

/// Reads the password: the content of the file without the newline that editors append.
///
/// It is read for every new connection, so that a changed password needs no restart.
async fn read_password(path: &Path) -> Result<Zeroizing<String>, Cause> {
    use tokio::io::AsyncReadExt as _;
    let place = path.display();
    let fail = |error: std::io::Error| {
        Cause::new(format!("storage.password_file {place} cannot be read ({error})"))
            .advise("the user that runs Fortify must be able to read it")
    };
    let file = tokio::fs::File::open(path).await.map_err(fail)?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_PASSWORD_BYTES as usize + 1));
    file.take(MAX_PASSWORD_BYTES + 1).read_to_string(&mut text).await.map_err(fail)?;
    let password = text.trim_end_matches(['\n', '\r']);
    match password.len() as u64 {
        1..=MAX_PASSWORD_BYTES if !password.contains(['\n', '\r']) => {
            Ok(Zeroizing::new(password.to_owned()))
        }
        _ => Err(Cause::new(format!(
            "storage.password_file {place} must hold one line of 1 to {MAX_PASSWORD_BYTES} bytes"
        ))),
    }
}
