//! The backend of a command: the running gate over its unix socket, or this program on the gate's files.
//!
//! [`Remote`] is a client of the [admin API](fortify_admin::routes), with one connection for each request. If no
//! gate answers, [`backend`] returns [`OfflineFiles`], so that commands which make sense without a gate still work:
//! an operator needs them most when the gate is down.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::CliError;
use super::offline::OfflineFiles;
use fortify_admin::routes::API;
use fortify_config::Config;

/// How long a request may take; an export of the audit takes longest.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer: an export of the audit, 300,000 lines of about 300 bytes.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// What is said of a change that the other nodes do not know.
const AT_THIS_NODE: &str = "warning: this is in force at this node only, because Redis does not answer; the other \
                            nodes are told when it does";

/// What is said of a turn of the dial that another took the place of, before who it was.
const OVERRULED: &str = "warning: it was turned again meanwhile, by";

/// What to do if this user may not use the socket or its folder.
const OTHER_USER: &str = "run this as root or as the user that runs the gate (sudo -u fortify)";

/// Where a command takes effect.
pub(super) enum Backend<'a> {
    /// In the running gate.
    Remote(Remote),
    /// In the files of a gate that is not running.
    Offline(OfflineFiles<'a>),
}

/// The gate of `config` if it answers; otherwise its files, with a note on standard error.
///
/// # Errors
///
/// If there is a socket that this user may not use: a gate may be running, and its files are not this user's.
pub(super) fn backend(config: &Config, operator: String) -> Result<Backend<'_>, CliError> {
    let why = match Remote::of(config, operator.clone()) {
        Ok(remote) if remote.is_running()? => return Ok(Backend::Remote(remote)),
        Ok(remote) => format!("no gate answers at {}", remote.socket.display()),
        Err(_no_socket) => "admin.socket is \"\"".to_owned(),
    };
    let data_dir = config.storage.data_dir.display();
    let _nowhere_left_to_say_it =
        writeln!(io::stderr(), "note: {why}; working on the files in {data_dir}");
    Ok(Backend::Offline(OfflineFiles::of(config, operator)))
}

/// Whether the error means that no gate listens: there is no socket, or a gate left one behind.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// A client of the gate that runs with a configuration.
pub(super) struct Remote {
    socket: PathBuf,
    /// The operator's name, for the audit.
    operator: String,
}

impl Remote {
    /// A client of the gate of `config`.
    ///
    /// # Errors
    ///
    /// If the configuration has no socket.
    pub(super) fn of(config: &Config, operator: String) -> Result<Self, CliError> {
        let advice = "admin.socket is \"\", so the gate cannot be reached; set it to a path";
        let socket = config.admin_socket();
        let socket = socket.ok_or_else(|| CliError::Usage(advice.to_owned()))?;
        Ok(Self { socket, operator })
    }

    /// Whether a gate listens at the socket.
    ///
    /// # Errors
    ///
    /// If that cannot be found out, with what to do.
    pub(super) fn is_running(&self) -> Result<bool, CliError> {
        self.within(async {
            match UnixStream::connect(&self.socket).await {
                Ok(_answers) => Ok(true),
                Err(error) if is_nobody(&error) => Ok(false),
                Err(error) => Err(self.not_connected(&error)),
            }
        })
    }

    /// Sends `GET` to `path`, relative to the API.
    ///
    /// # Errors
    ///
    /// The gate's refusal, or why it cannot be reached, with what to do.
    pub(super) fn get(&self, path: &str) -> Result<Value, CliError> {
        self.read(&self.ask(Method::GET, path, None)?)
    }

    /// As [`Self::get`], without parsing the answer.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub(super) fn get_raw(&self, path: &str) -> Result<Bytes, CliError> {
        self.ask(Method::GET, path, None)
    }

    /// Sends `POST` with `args` as JSON to `path`, relative to the API.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub(super) fn post(&self, path: &str, args: &Value) -> Result<Value, CliError> {
        let answer = self.read(&self.ask(Method::POST, path, Some(args))?)?;
        if answer["reach"] == "node" {
            let _nowhere_left_to_say_it = writeln!(io::stderr(), "{AT_THIS_NODE}");
        }
        if let Some(by) = answer["overruled_by"].as_str() {
            let _nowhere_left_to_say_it = writeln!(io::stderr(), "{OVERRULED} {by}");
        }
        Ok(answer)
    }

    fn ask(&self, method: Method, path: &str, args: Option<&Value>) -> Result<Bytes, CliError> {
        self.within(self.exchange(method, path, args))
    }

    /// Runs `work` for at most [`PATIENCE`].
    fn within<T>(&self, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
        let asked = async { tokio::time::timeout(PATIENCE, work).await };
        runtime.block_on(asked).map_err(|_elapsed| self.not_reached("it does not answer"))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        args: Option<&Value>,
    ) -> Result<Bytes, CliError> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| self.not_connected(&error))?;
        // The gate closes the connection of a user that it does not accept.
        let refused = |error: hyper::Error| self.not_reached(&format!("{error}; {OTHER_USER}"));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(refused)?;
        let driving = tokio::spawn(connection);
        let body = Bytes::from(args.map(ToString::to_string).unwrap_or_default());
        let request = Request::builder()
            .method(method)
            .uri(format!("{API}{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-fortify-operator", &self.operator)
            .body(Full::<Bytes>::from(body))
            .map_err(CliError::failed)?;
        let response = sender.send_request(request).await.map_err(refused)?;
        let (status, body) = (response.status(), response.into_body());
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|error| self.not_reached(&error.to_string()))?.to_bytes();
        driving.abort();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let value = self.read(&body)?;
        let message = value.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        Err(CliError::Failed(message.to_owned()))
    }

    fn read(&self, body: &[u8]) -> Result<Value, CliError> {
        serde_json::from_slice(body)
            .map_err(|error| self.not_reached(&format!("its answer is not understood: {error}")))
    }

    fn not_connected(&self, error: &io::Error) -> CliError {
        let advice = match error.kind() {
            _ if is_nobody(error) => {
                "start it (fortify serve), or name its configuration with --config"
            }
            io::ErrorKind::PermissionDenied => OTHER_USER,
            _ => "check admin.socket",
        };
        self.not_reached(&format!("{error}; {advice}"))
    }

    fn not_reached(&self, why: &str) -> CliError {
        CliError::Failed(format!("cannot reach the gate at {}: {why}", self.socket.display()))
    }
}
