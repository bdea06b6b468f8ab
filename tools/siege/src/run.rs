//! One run: a stack, people, one attack, and what was seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::attacks::{Attack, BAN_HOLDS, Counted, Field, Tally};
use crate::monitor::{Monitor, Sample, process};
use crate::numbers::Pacer;
use crate::people::{Habits, Newcomer, Visit, World, newcomer, resident};
use crate::service::{Part, Running};
use crate::stack::{Mode, Plan, Stack, Store};

/// How long people who are to be in before the run may take.
const RESIDENTS_WAIT: Duration = Duration::from_secs(40);

/// How long the parts of a run take that are not the attack.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The calm before the attack, with which it is compared.
    pub calm: Duration,
    /// How long after the end those come, at most, who count as the recovery: it is shorter where the attack is not
    /// for challenges, or itself shorter.
    pub pause: Duration,
    /// How long newcomers come whose way in is the recovery.
    pub recovery: Duration,
    /// How long newcomers are waited for after the last of them came.
    pub patience: Duration,
    /// Whether the run waits, as patiently, for whatever a busy machine delays: every part of the attack, and a page
    /// after the end for each of those who are in.
    pub unhurried: bool,
}

impl Timing {
    /// That of a run for the table: its bar for newcomers is a minute.
    pub const WHOLE: Self = Self {
        calm: Duration::from_secs(10),
        pause: Duration::from_secs(30),
        recovery: Duration::from_secs(10),
        patience: Duration::from_secs(60),
        unhurried: false,
    };
}

/// Descriptors that may be left: what the store and the log open as they need it.
pub const DESCRIPTORS_SLACK: u64 = 16;

/// Which program is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// That of this tree.
    New,
    /// The one that it is compared with.
    Old,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which program.
    pub version: Version,
    /// Its path.
    pub program: PathBuf,
    /// How visitors reach it.
    pub mode: Mode,
    /// Where it keeps challenges.
    pub store: Store,
    /// The attack.
    pub attack: Attack,
    /// How long it takes.
    pub length: Duration,
    /// How long everything else takes.
    pub timing: Timing,
    /// The share of its full strength.
    pub strength: f64,
    /// Newcomers a second, and people who are in before.
    pub newcomers: f64,
    /// People who are in before.
    pub residents: usize,
    /// What people do.
    pub habits: Habits,
    /// The core of the stack, if there is more than one.
    pub core: Option<usize>,
    /// More configuration.
    pub more: String,
    /// Challenges that the configuration lets be given out in a minute.
    pub rate: f64,
}

/// When what happened, in seconds since the start of the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Phases {
    /// Newcomers come from here on; nothing is wrong yet.
    pub calm: f64,
    /// The attack.
    pub attack: f64,
    /// Its end.
    pub end: f64,
    /// Newcomers from here on count as the recovery.
    pub recovery: f64,
    /// Nobody comes any more.
    pub last: f64,
}

/// What a run saw.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Which program, how reached, over which store, and attacked how.
    pub version: Version,
    /// How visitors reached it.
    pub mode: Mode,
    /// Where it kept challenges.
    pub store: Store,
    /// The attack.
    pub attack: Attack,
    /// The share of its full strength.
    pub strength: f64,
    /// Challenges that may be given out in a minute.
    pub rate: f64,
    /// The share of what the generator had to start that it started late.
    pub late: f64,
    /// Whether the program, or the suite that plays it, was built without optimisation.
    pub debug: bool,
    /// When what happened.
    pub phases: Phases,
    /// Newcomers a second who were to come.
    pub newcomers_per_second: f64,
    /// Newcomers.
    pub newcomers: Vec<Newcomer>,
    /// Requests of those who were in.
    pub requests: Vec<Visit>,
    /// People who were in before, of how many who were to be.
    pub residents: (usize, usize),
    /// The circuits of those who were.
    pub residents_circuits: Vec<u32>,
    /// What the gate said of itself.
    pub samples: Vec<Sample>,
    /// What the attackers did and got, until the end of the attack.
    pub attackers: Counted,
    /// Requests of attackers that reached the service, while they attacked, by part.
    pub reached: BTreeMap<Part, u64>,
    /// What a page of the service took by itself during the attack, in milliseconds.
    pub service_ms: f64,
    /// Memory (KiB) just before the attack, and descriptors before anybody came.
    pub before: (Option<u64>, Option<u64>),
    /// Descriptors after everybody left.
    pub fds_after: Option<u64>,
    /// Processes of the stack that did not end.
    pub left: Vec<u32>,
    /// A line of the log with which a part of the program ended.
    pub panicked: Option<String>,
    /// The last lines of its log, which has warnings and worse.
    #[serde(skip)]
    pub log: String,
    /// The load of the machine (one minute) at the start of the run.
    pub load: f64,
}

/// Runs it.
///
/// # Errors
///
/// What does not start.
pub async fn run(spec: &Spec) -> Result<Seen> {
    let load = load();
    let service = Running::start().await?;
    let plan = Plan {
        mode: spec.mode,
        store: spec.store,
        program: spec.program.clone(),
        more: spec.more.clone(),
        core: spec.core,
    };
    let stack = Stack::start(plan, service.address).await?;
    // Before anybody comes: what the visits of people leave behind is part of what has to be back.
    let idle = process(stack.pid).1;
    let answers = stack.answers().await.context("the answers")?;
    let world = Arc::new(World::new(stack.front, answers, service.service.clone()));
    let monitor =
        Monitor::start(stack.admin.clone(), stack.pid, service.service.clone(), world.begun);
    let tally = Arc::new(Tally::default());
    let field = Field {
        world: world.clone(),
        tally: tally.clone(),
        admin: stack.admin.clone(),
        strength: spec.strength,
        people: spec.habits,
        ban_holds: if spec.timing.unhurried { BAN_HOLDS * 5 } else { BAN_HOLDS },
    };

    let mut people = JoinSet::new();
    let inside = let_in(spec, &world, &mut people).await;
    let prepared = field.prepare(spec.attack).await;

    let calm = world.now();
    let mut coming = JoinSet::new();
    let arrivals = {
        let (world, habits, rate) = (world.clone(), spec.habits, spec.newcomers);
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut pacer = Pacer::new(rate, &world.punctuality);
            for number in 0.. {
                pacer.next().await;
                if sender.send(newcomer(world.clone(), habits, number)).is_err() {
                    return;
                }
            }
        });
        (task, receiver)
    };
    let (arriving, mut arrived) = arrivals;
    let spawn_until = async |coming: &mut JoinSet<()>,
                             arrived: &mut tokio::sync::mpsc::UnboundedReceiver<_>,
                             until: f64| {
        while world.now() < until {
            let left = Duration::from_secs_f64((until - world.now()).max(0.0));
            if let Ok(Some(one)) = timeout(left, arrived.recv()).await {
                coming.spawn(one);
            }
        }
    };
    spawn_until(&mut coming, &mut arrived, calm + spec.timing.calm.as_secs_f64()).await;

    let before = process(stack.pid);
    let reached_before = service.service.reached();
    let attack = world.now();
    let end = attack + spec.length.as_secs_f64();
    let attacking = {
        let (field, kind) = (field.clone(), spec.attack);
        tokio::spawn(async move { field.attack(kind, prepared).await })
    };
    spawn_until(&mut coming, &mut arrived, end).await;
    let latest = if spec.timing.unhurried { end + spec.timing.patience.as_secs_f64() } else { end };
    while world.now() < latest && spec.attack.missing(&tally.counted()).is_some() {
        let next = world.now() + 1.0;
        spawn_until(&mut coming, &mut arrived, next).await;
    }
    let service_ms = service.service.page_takes().as_secs_f64() * 1000.0;
    // First what arrived, then what paid for it.
    let mut reached = service.service.reached();
    let attackers = tally.counted();
    for (part, count) in &mut reached {
        *count -= reached_before.get(part).copied().unwrap_or_default();
    }
    attacking.abort();
    // Dropped by now, and all that it began with it.
    let _aborted = attacking.await;
    let end = world.now();
    service.service.slow_down(1);

    let pause = spec.timing.pause.min(spec.length);
    let sooner = Duration::from_secs(5);
    let pause = if spec.attack.is_for_challenges() { pause } else { pause.min(sooner) };
    let recovery = end + pause.as_secs_f64();
    let last = recovery + spec.timing.recovery.as_secs_f64();
    spawn_until(&mut coming, &mut arrived, last).await;
    arriving.abort();
    let decided = || {
        world.newcomers().iter().all(|newcomer| newcomer.in_after.is_some())
            && (!spec.timing.unhurried || world.residents_read_after(end))
    };
    let waited = timeout(spec.timing.patience, async {
        while !decided() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let _all_in = waited.await;

    world.over.store(true, Ordering::Relaxed);
    coming.shutdown().await;
    people.shutdown().await;
    // Connections that nobody has any more are closed within moments; those that nginx keeps, when the gate has
    // waited for its idle timeout.
    for _ in 0..450 {
        if process(stack.pid).1 <= idle.map(|idle| idle + DESCRIPTORS_SLACK) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let fds_after = process(stack.pid).1;
    let samples = monitor.samples();
    drop(monitor);
    let newcomers = world.newcomers();
    let requests = world.requests();
    let log = stack.log();
    let left = stack.stop().await?;
    let lines: Vec<&str> = log.lines().collect();
    let log_end = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
    let panicked = log.lines().find(|line| line.contains("panicked")).map(str::to_owned);
    Ok(Seen {
        version: spec.version,
        mode: spec.mode,
        store: spec.store,
        attack: spec.attack,
        strength: spec.strength,
        rate: spec.rate,
        late: world.punctuality.late(),
        debug: is_debug(&spec.program),
        phases: Phases { calm, attack, end, recovery, last },
        newcomers_per_second: spec.newcomers,
        newcomers,
        requests,
        residents: (inside, spec.residents),
        residents_circuits: world.residents(),
        samples,
        attackers,
        reached,
        service_ms,
        before: (before.0, idle),
        fds_after,
        left,
        panicked,
        log: log_end,
        load,
    })
}

/// Whether `program` lies where cargo puts what it builds without optimisation, or the suite, which plays the program
/// where the store is its memory, was built so.
fn is_debug(program: &Path) -> bool {
    cfg!(debug_assertions) || program.components().any(|part| part.as_os_str() == "debug")
}

/// Lets people in before the run, and gives how many are.
async fn let_in(spec: &Spec, world: &Arc<World>, people: &mut JoinSet<()>) -> usize {
    let (sender, mut inside) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..spec.residents {
        people.spawn(resident(world.clone(), spec.habits, number, sender.clone()));
    }
    drop(sender);
    let mut count = 0;
    let all = async {
        while count < spec.residents && inside.recv().await.is_some() {
            count += 1;
        }
    };
    let _the_others_are_late = timeout(RESIDENTS_WAIT, all).await;
    count
}

/// The load of the machine over the last minute.
#[must_use]
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
