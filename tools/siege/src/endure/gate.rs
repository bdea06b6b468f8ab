//! The release program as a process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a start or an end may take before the trial is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often something is looked at that is waited for.
const EVERY: Duration = Duration::from_millis(1);

/// A running program, which ends when it is dropped.
#[derive(Debug)]
pub struct Gate {
    process: Child,
    log: PathBuf,
}

impl Gate {
    /// Starts `program`, on `socket` if one is held for it as a service manager does, and does not wait. Its log goes
    /// beside `config`.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn spawn(program: &Path, config: &Path, socket: Option<&TcpListener>) -> Result<Self> {
        let log = config.with_extension("log");
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        if let Some(socket) = socket {
            let socket: OwnedFd = socket.try_clone()?.into();
            // Standard input, which the child has in any case: no descriptor has to be kept open over its start.
            command.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0").stdin(socket);
        }
        let process = command.spawn().with_context(|| program.display().to_string())?;
        Ok(Self { process, log })
    }

    /// Starts it and waits until it is open.
    ///
    /// # Errors
    ///
    /// If it does not open, with its log.
    pub fn start(program: &Path, config: &Path, socket: Option<&TcpListener>) -> Result<Self> {
        let mut gate = Self::spawn(program, config, socket)?;
        gate.address()?;
        Ok(gate)
    }

    /// Where it listens, once it says so.
    ///
    /// # Errors
    ///
    /// If it ends or does not open in time, with its log.
    pub fn address(&mut self) -> Result<SocketAddr> {
        self.wait("opens", |gate| {
            let log = gate.log();
            let (_, rest) = log.split_once("http://")?;
            // Not before the line is whole.
            let end = rest.find(|c: char| c.is_whitespace() || c == '"')?;
            rest.get(..end)?.parse().ok()
        })
    }

    /// Waits until `SIGHUP` no longer ends it: its bit in what the process catches is the first (`proc(5)`).
    ///
    /// # Errors
    ///
    /// If it ends before.
    pub fn catches_hangups(&mut self) -> Result<()> {
        self.wait("catches SIGHUP", |gate| {
            let status = fs::read_to_string(format!("/proc/{}/status", gate.id())).ok()?;
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            (u64::from_str_radix(mask.trim(), 16).ok()? & 1 == 1).then_some(())
        })
    }

    fn wait<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            if !self.is_alive() || started.elapsed() > PATIENCE {
                bail!("it never {what}; its log:\n{}", self.log());
            }
            std::thread::sleep(EVERY);
        }
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), signal)?)
    }

    /// What it has logged since its start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops it as a service manager does, and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not end in time or ends with a failure.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let ended = self.ended()?;
        ensure!(ended.success(), "it ended with {ended}; its log:\n{}", self.log());
        Ok(())
    }

    fn ended(&mut self) -> Result<std::process::ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(EVERY);
        }
        bail!("it does not end; its log:\n{}", self.log())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Neither fails for a child that was not waited for.
        let _ended = self.process.kill().and_then(|()| self.process.wait().map(drop));
    }
}

/// Writes the configuration of a gate that tor would connect to on `port`, with its data, into `folder`.
///
/// # Errors
///
/// If that cannot be written.
pub fn write_config(folder: &Path, port: u16, storage: &str, more: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder.join("data"))?;
    let text = format!(
        "[server]\nport = {port}\nproxy_protocol = true\n[admin]\nlisten = \"\"\n\
         [storage]\ndata_dir = \"{}\"\n{storage}{more}",
        folder.join("data").display()
    );
    let (path, new) = (folder.join("fortify.toml"), folder.join("fortify.toml.new"));
    fs::write(&new, text)?;
    // A gate that reads it at this moment reads the one or the other.
    fs::rename(new, &path)?;
    Ok(path)
}

/// Runs a command of `program` over `config` to its end.
///
/// # Errors
///
/// If it fails, with what it said.
pub fn tell(program: &Path, config: &Path, words: &[&str]) -> Result<()> {
    let (group, words) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.arg(group).arg("--config").arg(config).args(words).env_clear();
    let said = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "fortify {group} {words:?}: {text}");
    Ok(())
}
