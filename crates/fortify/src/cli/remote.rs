//! The running gate, asked over its unix socket: `fortify status` and `fortify explain`.
//!
//! `Remote` is the client that other commands use too: the API of
//! [`admin`](crate::admin::routes), one connection for each question.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::CliError;
use crate::admin::routes::API;
use crate::config::Config;

/// How long a question may take: an export of the audit is the longest.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer: an export of the audit, 300,000 lines of about 300 bytes.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// How an answer is shown.
#[derive(Debug, clap::Args)]
pub struct Format {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which circuit to explain, and how.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Its pseudonym (32 hexadecimal digits, as in the dashboard), or its address as tor and HAProxy have it,
    /// such as fc00:dead:beef:4dad::19.
    #[arg(value_name = "CIRCUIT")]
    circuit: String,
    #[command(flatten)]
    format: Format,
}

/// The gate that runs by a configuration.
pub(super) struct Remote {
    socket: PathBuf,
    /// Who is at the command line, for the audit.
    operator: String,
}

impl Remote {
    /// The gate of `config`.
    ///
    /// # Errors
    ///
    /// Where the configuration has no socket.
    pub(super) fn of(config: &Config, operator: String) -> Result<Self, CliError> {
        let advice = "admin.socket is \"\", so that there is no way to ask the gate: set it";
        let socket = config.admin_socket();
        let socket = socket.ok_or_else(|| CliError::Usage(advice.to_owned()))?;
        Ok(Self { socket, operator })
    }

    /// What the gate says at `path`, which is below the API.
    ///
    /// # Errors
    ///
    /// What the gate says against it, or why it is not reached, with what to do.
    pub(super) fn get(&self, path: &str) -> Result<Value, CliError> {
        self.ask(Method::GET, path, None)
    }

    /// Has the gate do what is at `path`, with these arguments.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    #[allow(dead_code, reason = "for the commands that change things")]
    pub(super) fn post(&self, path: &str, args: &Value) -> Result<Value, CliError> {
        self.ask(Method::POST, path, Some(args))
    }

    fn ask(&self, method: Method, path: &str, args: Option<&Value>) -> Result<Value, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
        let asked =
            async { tokio::time::timeout(PATIENCE, self.exchange(method, path, args)).await };
        runtime.block_on(asked).map_err(|_elapsed| self.not_reached("it does not answer"))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        args: Option<&Value>,
    ) -> Result<Value, CliError> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| self.not_connected(&error))?;
        // Refused after the connection was made: it is hung up.
        let refused = |error: hyper::Error| {
            let advice = "run this as root or as the user that runs the gate (sudo -u fortify)";
            self.not_reached(&format!("{error}; {advice}"))
        };
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
        let value: Value = serde_json::from_slice(&body)
            .map_err(|error| self.not_reached(&format!("its answer is not understood: {error}")))?;
        if status == StatusCode::OK {
            return Ok(value);
        }
        let message = value.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        Err(CliError::Failed(message.to_owned()))
    }

    fn not_connected(&self, error: &io::Error) -> CliError {
        let advice = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "start it (fortify serve), or name its configuration with --config"
            }
            io::ErrorKind::PermissionDenied => {
                "run this as root or as the user that runs the gate (sudo -u fortify)"
            }
            _ => "check admin.socket",
        };
        self.not_reached(&format!("{error}; {advice}"))
    }

    fn not_reached(&self, why: &str) -> CliError {
        CliError::Failed(format!("the gate is not reached at {}: {why}", self.socket.display()))
    }
}

/// `fortify status`.
pub(super) fn status(
    remote: &Remote,
    format: &Format,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let status = remote.get("/status")?;
    write(format, &status, out, |status, out| {
        let ready = if status["ready"] == true { "ready" } else { "not ready" };
        line(out, "GATE", &format!("{}, version {}", ready, text(&status["version"])))?;
        line(out, "UPTIME", &format!("{} s", status["uptime_seconds"]))?;
        line(out, "LEVEL", &format!("{}, {}", status["level"], text(&status["mode"])))?;
        for dependency in status["dependencies"].as_array().into_iter().flatten() {
            let name = text(&dependency["name"]).to_ascii_uppercase();
            line(out, &name, text(&dependency["state"]))?;
        }
        let (totals, rates) = (&status["totals"], &status["per_second"]);
        for (name, key) in
            [("ADMITTED", "admitted"), ("CHALLENGED", "challenged"), ("REFUSED", "refused")]
        {
            let rate = rates[key].as_f64().unwrap_or(0.0);
            line(out, name, &format!("{} ({rate:.1} a second)", totals[key]))?;
        }
        line(out, "CHALLENGES", &format!("{} wait for an answer", status["active_challenges"]))?;
        line(out, "QUEUE", &format!("{} wait for a challenge", status["queue"]))?;
        line(
            out,
            "CIRCUITS",
            &format!("{} favoured, {} banned", status["favoured"], status["banned"]),
        )?;
        for reason in status["reasons"].as_array().into_iter().flatten() {
            line(out, "REASON", &format!("{} ({})", text(&reason["reason"]), reason["count"]))?;
        }
        Ok(())
    })
}

/// `fortify explain`.
pub(super) fn explain(
    remote: &Remote,
    args: &ExplainArgs,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let circuit = segment(&args.circuit);
    let explanation = remote.get(&format!("/circuits/{circuit}/explain"))?;
    write(&args.format, &explanation, out, |it, out| {
        let circuit = &it["circuit"];
        line(out, "CIRCUIT", text(&circuit["circuit"]))?;
        let standing = circuit["standing"].as_str().unwrap_or("like any other");
        let reason = circuit["reason"].as_str().map(|it| format!(" ({it})")).unwrap_or_default();
        line(out, "STANDING", &format!("{standing}{reason}"))?;
        line(out, "LEVEL", &it["level"].to_string())?;
        for (name, key) in
            [("WITHOUT SESSION", "without_session"), ("WITH SESSION", "with_session")]
        {
            line(out, name, &decided(&it[key]))?;
        }
        if let Some(conduct) = it["conduct"].as_object() {
            let of = |key: &str| conduct.get(key).cloned().unwrap_or_default();
            let points = of("points").as_f64().unwrap_or(0.0);
            let points = format!("{points:.1} of {} points", of("ban_at"));
            line(
                out,
                "CONDUCT",
                &format!("{points}, {} right, {} wrong", of("solved"), of("failed")),
            )?;
            if let Some(words) = words(&of("suspicions")) {
                line(out, "SUSPICIONS", &words)?;
            }
        }
        line(out, "FAILURES", &format!("{}, waits {} s", it["failures"], it["wait_seconds"]))?;
        let asked = &it["asked"];
        if asked.is_object() {
            let (minute, hour) = (&asked["minute"], &asked["hour"]);
            let most = (&asked["minute_most"], &asked["hour_most"]);
            let asked =
                format!("{minute} of {} in a minute, {hour} of {} in an hour", most.0, most.1);
            line(out, "ASKED", &asked)?;
        }
        let behaviour = &it["behaviour"];
        if behaviour.is_object() {
            let class = behaviour["class"].as_str().unwrap_or("like anybody");
            let why = words(&behaviour["reasons"]).map(|it| format!(" ({it})")).unwrap_or_default();
            line(out, "LOOKS", &format!("{class}{why}"))?;
            let rate = behaviour["requests_per_minute"].as_f64().unwrap_or(0.0);
            line(out, "REQUESTS", &format!("{rate:.0} a minute, {}", behaviour["counts"]))?;
        }
        Ok(())
    })
}

fn decided(decided: &Value) -> String {
    let mut said = text(&decided["verdict"]).to_owned();
    if let Some(stages @ 1..) = decided["stages"].as_u64() {
        let hard = if decided["hard"] == true { " of a harder kind" } else { "" };
        said += &format!(", {stages} challenge(s){hard}");
    }
    if let Some(seconds) = decided["seconds"].as_u64() {
        said += &format!(", for {seconds} s");
    }
    match words(&decided["reasons"]) {
        Some(reasons) => format!("{said}: {reasons}"),
        None => said,
    }
}

/// A text as part of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Writes an answer as JSON, or as `table` has it.
pub(super) fn write(
    format: &Format,
    value: &Value,
    out: &mut dyn Write,
    table: impl FnOnce(&Value, &mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let written = match format.json {
        true => writeln!(out, "{}", json!(value)),
        false => table(value, out),
    };
    written.map_err(|e| CliError::output(&e))
}

/// One line of a table.
pub(super) fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:<16} {value}")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn words(list: &Value) -> Option<String> {
    let words: Vec<_> = list.as_array()?.iter().filter_map(Value::as_str).collect();
    (!words.is_empty()).then(|| words.join(", "))
}
