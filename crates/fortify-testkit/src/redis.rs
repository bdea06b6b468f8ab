//! A Redis on a free port and a socket in a temporary folder, which ends with the test.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up fails the test"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fortify_store::config::{RedisAddress, RedisConfig, RedisServer};
use fortify_testkit::wait::wait_for;
pub use fortify_testkit::wait::{PATIENCE, until};

/// One `redis-server`.
pub struct Redis {
    pub port: u16,
    pub dir: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Starts a server without persistence, with additional `arguments`.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut redis = Self { port: 0, dir, arguments, child: None };
        // Another process may take the port in the meantime.
        for _ in 0..5 {
            redis.port = free_port();
            redis.spawn();
            if redis.answers_or_ends() {
                return redis;
            }
        }
        panic!("redis-server does not start; arguments: {:?}", redis.arguments);
    }

    /// Starts it again, empty, on its port.
    pub fn run(&mut self) {
        self.spawn();
        assert!(self.answers_or_ends(), "redis-server does not start again");
    }

    fn spawn(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--maxmemory-policy", "volatile-ttl", "--loglevel", "warning"])
            .args(["--unixsocket", self.socket().to_str().unwrap(), "--unixsocketperm", "700"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is missing: run scripts/setup.sh test");
        self.child = Some(child);
    }

    /// Waits until it answers or has ended, and returns whether it answers.
    fn answers_or_ends(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let mut runs = true;
        wait_for("redis-server to answer", || {
            runs = child.try_wait().unwrap().is_none();
            // With a password it refuses the command, which is an answer too.
            let answer = self.try_tell(&["PING"]);
            !runs || answer.is_ok_and(|text| text == "+PONG" || text.starts_with("-NOAUTH"))
        });
        self.child = runs.then_some(child);
        runs
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it with all its connections (`STOP`), or continues it (`CONT`).
    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().unwrap();
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its process id; `None` once it was killed.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The path of its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// The configuration of a store for it.
    pub fn config(&self) -> RedisConfig {
        RedisConfig { servers: vec![server(self.port)], ..RedisConfig::default() }
    }

    /// The first line of the answer to a command, such as `+OK` or `:1`; for a bulk text the text.
    pub fn tell(&self, command: &[&str]) -> String {
        self.try_tell(command).unwrap()
    }

    fn try_tell(&self, command: &[&str]) -> std::io::Result<String> {
        tell(self.port, command)
    }

    /// A field of `INFO`.
    pub fn info(&self, name: &str) -> String {
        let all = self.tell(&["INFO", "everything"]);
        let line = all.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in {all}")).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Neither fails for a child that was not waited for.
            let _ended = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Masters that share the slots, three of them, and their replicas.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Three masters without replicas.
    pub fn start() -> Self {
        Self::of(3, "0")
    }

    /// Three masters with a replica each, which takes over however old what it has is.
    pub fn with_replicas() -> Self {
        Self::of(6, "1")
    }

    fn of(nodes: usize, replicas: &str) -> Self {
        let nodes: Vec<_> = (0..nodes)
            .map(|_| {
                // The default bus port, the port plus 10,000, may be out of range.
                let bus = free_port().to_string();
                let arguments =
                    ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout"];
                let more = ["1000", "--cluster-replica-validity-factor", "0"];
                Redis::start(&[&arguments[..], &more].concat())
            })
            .collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        for node in &nodes {
            create.arg(format!("127.0.0.1:{}", node.port));
        }
        create.args(["--cluster-replicas", replicas, "--cluster-yes"]);
        let created = create.output().expect("redis-cli is missing");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until every node reports that all slots are served.
    pub fn wait_until_whole(&self) {
        wait_for("the cluster to be whole", || {
            self.nodes.iter().all(|node| {
                node.try_tell(&["CLUSTER", "INFO"])
                    .is_ok_and(|info| info.contains("cluster_state:ok"))
            })
        });
    }

    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            servers: self.nodes.iter().map(|node| server(node.port)).collect(),
            cluster: true,
            ..RedisConfig::default()
        }
    }
}

/// A server on loopback.
pub fn server(port: u16) -> RedisServer {
    let address = RedisAddress::Tcp { host: "127.0.0.1".to_owned(), port, tls: false };
    RedisServer { address, database: 0 }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends one command over a new connection. See [`Redis::tell`].
fn tell(port: u16, command: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("*{}\r\n", command.len());
    for word in command {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let got = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..got]);
        let text = String::from_utf8_lossy(&answer);
        let Some((first, rest)) = text.split_once("\r\n") else {
            if got == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        match first.strip_prefix('$').map(|length| length.parse::<usize>()) {
            Some(Ok(length)) if rest.len() >= length + 2 => return Ok(rest[..length].to_owned()),
            Some(Ok(_)) if got > 0 => {}
            _ => return Ok(first.to_owned()),
        }
    }
}
