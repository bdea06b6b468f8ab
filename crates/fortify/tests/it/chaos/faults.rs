//! What happens to Redis, to the way there, and to the machine of one gate.

use std::sync::Arc;
use std::time::Duration;

use fortify_config::RedisConfig;
use fortify_core::clock::{Clock as _, ManualClock};
use fortify_testkit::redis::{Cluster, Redis, server};
use fortify_testkit::wait::wait_for;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{CALM, EVERYWHERE};

/// How Redis is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server; the third gate's way to it can be cut.
    One,
    /// Three masters with a replica each.
    Cluster,
}

impl Topology {
    /// What happens to it.
    pub(super) fn faults(self) -> &'static [&'static str] {
        match self {
            Self::One => &[
                "killed, and back empty",
                "killed, and back with older data",
                "away for longer than its word is taken",
                "stopped for 3 s",
                "takes no writes",
                "flushed",
                "slow",
                "cuts every connection",
                "out of memory",
                "holds foreign values",
                "one gate is cut off by reset",
                "one gate is cut off by silence",
                "one gate's way is slow",
                "the clock of one gate is ahead",
            ],
            Self::Cluster => &[
                "a master is killed, and back empty at once",
                "a master is killed, and its replica takes over",
                "a replica that lagged takes over",
                "a master is stopped for 3 s",
                "all are killed, and back empty",
                "takes no writes",
                "flushed",
                "cuts every connection",
                "out of memory",
                "holds foreign values",
            ],
        }
    }
}

/// The servers, and what else can be harmed.
pub(super) struct Victims {
    topology: Topology,
    servers: Vec<Redis>,
    way: Option<Way>,
    clock: Option<Arc<ManualClock>>,
    /// Which master is next.
    turn: usize,
}

impl Victims {
    pub(super) async fn start(topology: Topology) -> Self {
        let servers = match topology {
            Topology::One => vec![Redis::start(&["--enable-debug-command", "yes"])],
            Topology::Cluster => {
                tokio::task::spawn_blocking(|| Cluster::with_replicas().nodes).await.unwrap()
            }
        };
        let way = match (topology, servers.as_slice()) {
            (Topology::One, [redis]) => Some(Way::to(redis.port).await),
            _ => None,
        };
        Self { topology, servers, way, clock: None, turn: 0 }
    }

    /// How gates reach it.
    pub(super) fn config(&self) -> RedisConfig {
        RedisConfig {
            servers: self.servers.iter().map(|node| server(node.port)).collect(),
            cluster: self.topology == Topology::Cluster,
            ..RedisConfig::default()
        }
    }

    /// How the gate reaches it whose way can be cut.
    pub(super) fn config_of_last(&self) -> RedisConfig {
        match &self.way {
            Some(way) => RedisConfig { servers: vec![server(way.port)], ..self.config() },
            None => self.config(),
        }
    }

    /// The clock that can be set.
    pub(super) fn harms(&mut self, clock: Arc<ManualClock>) {
        self.clock = Some(clock);
    }

    /// Does it; all of it is over when this returns.
    pub(super) fn harm(&mut self, fault: &str) {
        self.turn += 1;
        match fault {
            "killed, and back empty" | "all are killed, and back empty" => {
                self.servers.iter_mut().for_each(Redis::kill);
                self.servers.iter_mut().for_each(back_empty);
            }
            "killed, and back with older data" => {
                self.tell_masters(&["SAVE"]);
                std::thread::sleep(2 * CALM);
                self.servers.iter_mut().for_each(Redis::kill);
                self.servers.iter_mut().for_each(Redis::run);
            }
            "away for longer than its word is taken" => {
                self.servers.iter_mut().for_each(Redis::kill);
                std::thread::sleep(EVERYWHERE + CALM);
                self.servers.iter_mut().for_each(Redis::run);
            }
            "stopped for 3 s" | "a master is stopped for 3 s" => {
                let master = self.master();
                self.servers[master].signal(Signal::STOP);
                std::thread::sleep(Duration::from_secs(3));
                self.servers[master].signal(Signal::CONT);
            }
            "a master is killed, and back empty at once" => {
                let master = self.master();
                self.servers[master].kill();
                back_empty(&mut self.servers[master]);
            }
            "a master is killed, and its replica takes over" => {
                let master = self.master();
                self.take_over(master, |_| ());
            }
            "a replica that lagged takes over" => {
                let master = self.master();
                let port = self.servers[master].port.to_string();
                let replica = (0..self.servers.len())
                    .find(|at| {
                        role(&self.servers[*at]) == "slave"
                            && self.servers[*at].info("master_port") == port
                    })
                    .unwrap();
                self.servers[replica].signal(Signal::STOP);
                std::thread::sleep(CALM / 2);
                self.take_over(master, |servers| servers[replica].signal(Signal::CONT));
            }
            "takes no writes" => {
                self.tell_masters(&["CONFIG", "SET", "min-replicas-to-write", "3"]);
                std::thread::sleep(CALM);
                self.tell_masters(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
            }
            "flushed" => self.tell_masters(&["FLUSHALL"]),
            "slow" => {
                for _ in 0..5 {
                    self.tell_masters(&["DEBUG", "SLEEP", "0.15"]);
                }
            }
            "cuts every connection" => {
                for _ in 0..20 {
                    for server in &self.servers {
                        server.tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            "out of memory" => {
                self.tell_masters(&["CONFIG", "SET", "maxmemory", "1"]);
                std::thread::sleep(CALM);
                self.tell_masters(&["CONFIG", "SET", "maxmemory", "0"]);
            }
            "holds foreign values" => {
                for key in ["fortify:{revocations}:stream", "fortify:{status}:stream"] {
                    // In a cluster one of them has the key.
                    for master in self.masters() {
                        self.servers[master].tell(&["SET", key, "of another program"]);
                    }
                }
            }
            "one gate is cut off by reset" => self.cut(Cut::Reset, EVERYWHERE + CALM),
            "one gate is cut off by silence" => self.cut(Cut::Silent, EVERYWHERE + CALM),
            "one gate's way is slow" => self.cut(Cut::Slow, CALM),
            "the clock of one gate is ahead" => {
                let clock = self.clock.as_ref().unwrap();
                let before = clock.now();
                clock.advance(Duration::from_secs(4));
                std::thread::sleep(CALM);
                clock.set(before);
            }
            other => panic!("no such fault: {other}"),
        }
        if self.topology == Topology::Cluster {
            wait_for("the cluster to be whole", || self.is_whole());
        }
    }

    fn cut(&self, cut: Cut, long: Duration) {
        let way = self.way.as_ref().unwrap();
        way.cut.send_replace(cut);
        std::thread::sleep(long);
        way.cut.send_replace(Cut::No);
    }

    fn masters(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|at| role(&self.servers[*at]) == "master").collect()
    }

    /// The next master in turn.
    fn master(&self) -> usize {
        let masters = self.masters();
        masters[self.turn % masters.len()]
    }

    fn tell_masters(&self, command: &[&str]) {
        for master in self.masters() {
            assert_eq!(self.servers[master].tell(command), "+OK");
        }
    }

    /// Kills a master, and has it back when its replica is the master.
    fn take_over(&mut self, master: usize, then: impl FnOnce(&[Redis])) {
        self.servers[master].kill();
        then(&self.servers);
        let others = |this: &Self| {
            let there = |at: &usize| *at != master && role(&this.servers[*at]) == "master";
            (0..this.servers.len()).filter(there).count()
        };
        wait_for("a replica to take over", || others(self) == 3);
        self.servers[master].run();
    }

    /// Whether every server says that all slots are served, by masters with a replica that follows.
    fn is_whole(&self) -> bool {
        self.servers.iter().all(|server| {
            let serves = server.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            let follows = role(server) == "master" || server.info("master_link_status") == "up";
            serves && follows
        }) && self.masters().len() == 3
    }
}

fn role(server: &Redis) -> String {
    server.info("role")
}

fn back_empty(redis: &mut Redis) {
    let _there_is_none = std::fs::remove_file(redis.dir.path().join("dump.rdb"));
    redis.run();
}

/// What is wrong with a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    No,
    /// Connections are closed, and new ones too.
    Reset,
    /// Nothing arrives, and nobody is told.
    Silent,
    /// Everything takes 100 ms longer.
    Slow,
}

/// A port that leads to Redis, unless it is cut.
struct Way {
    port: u16,
    cut: Arc<watch::Sender<Cut>>,
}

impl Way {
    async fn to(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(watch::Sender::new(Cut::No));
        let way = cut.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(lead(near, redis, way.subscribe()));
            }
        });
        Self { port, cut }
    }
}

async fn lead(near: TcpStream, redis: u16, mut cut: watch::Receiver<Cut>) {
    if *cut.borrow() == Cut::Reset {
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", redis)).await else { return };
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::select! {
        () = pass(near_in, far_out, cut.clone()) => {}
        () = pass(far_in, near_out, cut.clone()) => {}
        _ = cut.wait_for(|cut| *cut == Cut::Reset) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<Cut>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let Ok(now) = cut.wait_for(|cut| *cut != Cut::Silent).await.map(|cut| *cut) else { return };
        if now == Cut::Slow {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
