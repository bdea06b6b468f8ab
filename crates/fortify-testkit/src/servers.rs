//! HAProxy and nginx with the files in `deploy/`, on free ports and with temporary folders. They are ended by
//! their process id when dropped.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::wait::wait_for;
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The path of a file in `deploy/`.
pub fn deploy(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy"))
        .join(file)
        .canonicalize()
        .unwrap()
}

/// A loopback port that was free just now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A command that is also searched for in the folders of servers.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null());
    command
}

/// Runs a command to its end, and returns its output.
pub fn check(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run `make setup`"));
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text
}

/// A process that ends with the test.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, and waits until `address` accepts connections.
    pub fn start(command: &mut Command, address: SocketAddr, log: &Path) -> Self {
        let said = fs::File::create(log).unwrap();
        command.stdout(said.try_clone().unwrap()).stderr(said);
        let child =
            command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; run `make setup`"));
        let mut process = Self { child };
        wait_for(&format!("{command:?} listens on {address}"), || {
            let ended = process.child.try_wait().unwrap();
            let said = || fs::read_to_string(log).unwrap();
            assert!(ended.is_none(), "{command:?} ended, {ended:?}:\n{}", said());
            TcpStream::connect(address).is_ok()
        });
        process
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let started = Instant::now();
        let _ended_already = kill_process(Pid::from_child(&self.child), Signal::TERM);
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > Duration::from_secs(10) {
                drop(self.child.kill());
                drop(self.child.wait());
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// nginx with `deploy/nginx.conf`.
pub struct Nginx {
    pub address: SocketAddr,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts nginx between Fortify at `fortify` and a service at `service`.
    pub fn start(fortify: SocketAddr, service: SocketAddr) -> Self {
        Self::start_at(free_address(), fortify, service)
    }

    /// As [`Self::start`], listening at `address`.
    pub fn start_at(address: SocketAddr, fortify: SocketAddr, service: SocketAddr) -> Self {
        Self::start_with(address, fortify, service, "")
    }

    /// As [`Self::start_at`], with `more` appended to its `nginx-places/http.conf`.
    pub fn start_with(
        address: SocketAddr,
        fortify: SocketAddr,
        service: SocketAddr,
        more: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = write_nginx(folder.path(), address, fortify, service);
        let places = folder.path().join("nginx-places/http.conf");
        let http = fs::read_to_string(&places).unwrap();
        fs::write(&places, http + more).unwrap();
        let mut nginx = command("nginx");
        nginx.args(["-e", "stderr", "-g", "daemon off;", "-p"]).arg(folder.path());
        nginx.arg("-c").arg(config);
        let process = Process::start(&mut nginx, address, &folder.path().join("log"));
        Self { address, process, _folder: folder }
    }

    /// The process id of its master.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How long its workers have computed.
    pub fn cpu_time(&self) -> Duration {
        let master = self.process.child.id().to_string();
        let of_worker = |entry: fs::DirEntry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // Past the name, which may hold anything: state, parent.
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned();
            let used = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            let used = used.split_whitespace().next()?.parse().ok()?;
            (parent == master).then(|| Duration::from_nanos(used))
        };
        fs::read_dir("/proc").unwrap().filter_map(|entry| of_worker(entry.ok()?)).sum()
    }
}

/// Puts a link to the shipped configuration into `folder`, and its include files next to it.
fn write_nginx(
    folder: &Path,
    listen: SocketAddr,
    fortify: SocketAddr,
    service: SocketAddr,
) -> PathBuf {
    let config = folder.join("nginx.conf");
    symlink(deploy("nginx.conf"), &config).unwrap();
    let places = folder.join("nginx-places");
    fs::create_dir_all(&places).unwrap();
    let root = folder.display();
    // Only this user can read the folder. As root, workers would switch to another user.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    fs::write(places.join("main.conf"), format!("pid {root}/pid;\n{user}\n")).unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .concat();
    let http = format!(
        "upstream fortify {{ server {fortify}; keepalive 32; }}\n\
         upstream service {{ server {service}; keepalive 32; }}\n{temporary}"
    );
    fs::write(places.join("http.conf"), http).unwrap();
    let pages = deploy("static");
    let server = format!("listen {listen};\nset $static_pages {};\n", pages.display());
    fs::write(places.join("server.conf"), server).unwrap();
    config
}

/// `HAProxy` with the shipped configuration.
pub struct Haproxy {
    /// The address to which tor would connect.
    pub address: SocketAddr,
    /// The socket of its Runtime API.
    pub socket: PathBuf,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    /// Starts `HAProxy` in front of `behind`.
    pub fn start(behind: SocketAddr) -> Self {
        Self::start_at(free_address(), behind)
    }

    /// As [`Self::start`], listening at `address`.
    pub fn start_at(address: SocketAddr, behind: SocketAddr) -> Self {
        let (folder, peers) = (tempfile::tempdir().unwrap(), free_address());
        let socket = folder.path().join("socket");
        let mut haproxy = command("haproxy");
        haproxy
            .args(["-db", "-f"])
            .arg(haproxy_config())
            .env("FORTIFY_INGRESS", address.to_string())
            .env("FORTIFY_BACKEND", behind.to_string())
            .env("FORTIFY_PEERS_BIND", peers.to_string())
            .env("FORTIFY_STATS_SOCKET", &socket);
        let process = Process::start(&mut haproxy, address, &folder.path().join("log"));
        Self { address, socket, process, _folder: folder }
    }
}

impl Haproxy {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command to its Runtime API, and returns the answer.
    pub fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Whether what is behind it answers its checks.
    pub fn is_served(&self) -> bool {
        // Columns: backend's id and name, server's id and name, address, state; 2 is up.
        let servers = self.ask("show servers state strangers");
        servers.lines().any(|line| {
            let columns: Vec<_> = line.split(' ').collect();
            columns.get(1) == Some(&"strangers") && columns.get(5) == Some(&"2")
        })
    }

    /// The circuits in its table.
    pub fn circuits(&self) -> BTreeSet<String> {
        let table = self.ask("show table tor_ingress");
        let keys = table.lines().filter_map(|line| line.split("key=").nth(1)?.split(' ').next());
        keys.map(str::to_owned).collect()
    }

    /// The value of `gpc0` for a circuit; `None` without an entry.
    pub fn gpc0(&self, circuit: &str) -> Option<u8> {
        let entry = self.ask(&format!("show table tor_ingress key {circuit}"));
        entry.split(" gpc0=").nth(1)?.split(' ').next()?.parse().ok()
    }
}

/// The shipped configuration of `HAProxy`.
pub fn haproxy_config() -> PathBuf {
    deploy("haproxy.cfg")
}
