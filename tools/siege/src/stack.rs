//! The stack under attack: Fortify, and before and behind it what the deployment has, in a temporary folder on
//! loopback. Everything ends when the stack is dropped, by process id.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fortify_testkit::redis::Redis;
use fortify_testkit::servers::{Haproxy, Nginx, Process, free_address};
use serde::Serialize;

use crate::answers::Answers;

/// How visitors reach the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Tor connects to Fortify, which forwards.
    Proxy,
    /// HAProxy and nginx before it, with the files in `deploy/`.
    Gate,
}

/// Where the gate keeps challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// In its memory.
    Memory,
    /// In a Redis of the run.
    Redis,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How visitors reach it.
    pub mode: Mode,
    /// Where challenges are.
    pub store: Store,
    /// The program `fortify`.
    pub program: PathBuf,
    /// More of its configuration, after the sections that the stack writes.
    pub more: String,
    /// The core for all of it, if the machine has more than one.
    pub core: Option<usize>,
}

/// A running stack.
pub struct Stack {
    /// Where tor would connect.
    pub front: SocketAddr,
    /// The socket of the admin API.
    pub admin: PathBuf,
    /// The process id of Fortify.
    pub pid: u32,
    // In the order in which they end.
    front_servers: Servers,
    fortify: Option<Process>,
    redis: Option<Redis>,
    folder: tempfile::TempDir,
}

/// HAProxy and nginx, where the mode has them.
struct Servers {
    haproxy: Option<Haproxy>,
    nginx: Option<Nginx>,
}

impl Stack {
    /// Starts `plan` in front of `service`, on its core, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// What does not start, with what it said.
    pub async fn start(plan: Plan, service: SocketAddr) -> Result<Self> {
        // Processes run on the core of the thread that starts them.
        let starting = tokio::task::spawn_blocking(move || {
            std::thread::spawn(move || {
                if let Some(core) = plan.core {
                    pin(core)?;
                }
                Self::start_here(&plan, service)
            })
            .join()
            .map_err(|panic| anyhow!("{}", said(&*panic)))?
        });
        starting.await?
    }

    fn start_here(plan: &Plan, service: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fortify-siege-").tempdir()?;
        let gate = free_address();
        let (mode, root) = (plan.mode, folder.path());
        let redis = (plan.store == Store::Redis).then(|| Redis::start(&[]));
        let nginx_address = free_address();
        let haproxy = (mode == Mode::Gate).then(|| Haproxy::start(nginx_address));
        let admin = root.join("admin.sock");
        let mut text = format!(
            "[server]\nhost = \"{}\"\nport = {}\nproxy_protocol = {}\n\
             [session]\nsecure = \"off\"\n[log]\nlevel = \"warn\"\n\
             [admin]\nlisten = \"\"\nsocket = \"{}\"\n\
             [storage]\ndata_dir = \"{}\"\n",
            gate.ip(),
            gate.port(),
            mode == Mode::Proxy,
            admin.display(),
            root.join("data").display(),
        );
        if let Some(redis) = &redis {
            let socket = redis.socket();
            text += &format!("backend = \"redis\"\nurl = \"unix://{}\"\n", socket.display());
        }
        if mode == Mode::Proxy {
            text += &format!("[upstream]\nurl = \"http://{service}\"\n");
        }
        if let Some(haproxy) = &haproxy {
            text += &format!("[haproxy]\nsocket_path = \"{}\"\n", haproxy.socket.display());
        }
        text += &plan.more;
        let config = root.join("fortify.toml");
        fs::write(&config, text)?;
        let mut command = match plan.store {
            Store::Redis => {
                let mut command = Command::new(&plan.program);
                command.args(["serve", "--config"]).arg(&config);
                command
            }
            Store::Memory => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("host").arg(&config).arg(root.join("answers.sock"));
                command
            }
        };
        ensure!(plan.program.is_file(), "no {}: build it first", plan.program.display());
        command.env_clear();
        let fortify = Process::start(&mut command, gate, &root.join("fortify.log"));
        let pid = fortify.id();
        let nginx = (mode == Mode::Gate).then(|| Nginx::start_at(nginx_address, gate, service));
        Ok(Self {
            front: haproxy.as_ref().map_or(gate, |haproxy| haproxy.address),
            admin,
            pid,
            front_servers: Servers { haproxy, nginx },
            fortify: Some(fortify),
            redis,
            folder,
        })
    }

    /// Where the answers of its challenges are.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn answers(&self) -> Result<Answers> {
        match &self.redis {
            Some(redis) => Answers::redis(&redis.socket()).await,
            None => Ok(Answers::Host(self.folder.path().join("answers.sock"))),
        }
    }

    /// The lines of its log that are warnings or worse.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("fortify.log")).unwrap_or_default()
    }

    /// The process ids of all of it, workers of nginx included.
    fn processes(&self) -> Vec<u32> {
        let Servers { haproxy, nginx } = &self.front_servers;
        let own = [
            Some(self.pid),
            haproxy.as_ref().map(Haproxy::id),
            nginx.as_ref().map(Nginx::id),
            self.redis.as_ref().and_then(Redis::id),
        ];
        let mut all: Vec<u32> = own.into_iter().flatten().collect();
        let workers: Vec<u32> = all.iter().flat_map(|pid| children(*pid)).collect();
        all.extend(workers);
        all
    }

    /// Ends all of it, and gives the ids of processes that are still there.
    ///
    /// # Errors
    ///
    /// If its end cannot be waited for.
    pub async fn stop(mut self) -> Result<Vec<u32>> {
        tokio::task::spawn_blocking(move || {
            let mut left = self.processes();
            drop(self.fortify.take());
            drop(self);
            // A worker outlives its master by moments.
            for _ in 0..100 {
                left.retain(|pid| runs(*pid));
                if left.is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            left
        })
        .await
        .context("ending the stack")
    }
}

/// The processes that a process started from its first thread.
fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is there; one that has ended and was not waited for is not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Past the name, which may hold anything: the state.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Puts the calling thread, and what it starts, on one core.
///
/// # Errors
///
/// If `taskset` (util-linux) is missing or refuses.
pub fn pin(core: usize) -> Result<()> {
    let own = fs::read_link("/proc/thread-self")?;
    let thread = own.file_name().context("no thread id")?;
    let said = Command::new("taskset")
        .args(["--pid", "--cpu-list", &core.to_string()])
        .arg(thread)
        .output()
        .context("taskset is missing: install util-linux")?;
    if !said.status.success() {
        bail!("taskset: {}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the stack does not start".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_there_until_they_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(runs(child.id()));
        assert!(runs(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!runs(child.id()));
    }
}
