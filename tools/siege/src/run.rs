//! One run: a stack, people, one attack, and what was seen.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::attacks::{Attack, Counted, Field, Tally};
use crate::monitor::{Monitor, Sample, ask, process};
use crate::numbers::Pacer;
use crate::people::{Habits, Newcomer, Visit, World, newcomer, resident};
use crate::service::Running;
use crate::stack::{Mode, Plan, Stack, Store};

/// How long people who are to be in before the run may take.
const RESIDENTS_WAIT: Duration = Duration::from_secs(40);

/// How long the parts of a run take that are not the attack.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The calm before the attack, with which it is compared.
    pub calm: Duration,
    /// How long newcomers come whose way in is the recovery.
    pub recovery: Duration,
    /// How long newcomers are waited for after the last of them came.
    pub patience: Duration,
}

impl Timing {
    /// That of a run for the table: its bar for newcomers is a minute.
    pub const WHOLE: Self = Self {
        calm: Duration::from_secs(10),
        recovery: Duration::from_secs(10),
        patience: Duration::from_secs(60),
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
    /// Why the run is void, if it is.
    pub void: Option<String>,
    /// The share of what the generator had to start that it started late.
    pub late: f64,
    /// When what happened.
    pub phases: Phases,
    /// Newcomers.
    pub newcomers: Vec<Newcomer>,
    /// Requests of those who were in.
    pub requests: Vec<Visit>,
    /// People who were in before, of how many who were to be.
    pub residents: (usize, usize),
    /// What the gate said of itself.
    pub samples: Vec<Sample>,
    /// What the attackers did and got, until the end of the attack.
    pub attackers: Counted,
    /// Requests of attackers that reached the service, while they attacked.
    pub reached: u64,
    /// What a page of the service took by itself during the attack, in milliseconds.
    pub service_ms: f64,
    /// Memory (KiB) and descriptors just before the attack, and descriptors after everybody left.
    pub before: (Option<u64>, Option<u64>),
    /// Descriptors after everybody left.
    pub fds_after: Option<u64>,
    /// Whether the program has budgets for sessions at all: older ones have none.
    pub has_budgets: bool,
    /// Whether every process of the stack ended.
    pub ended: bool,
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
    };

    let dial = ask(&stack.admin, http::Method::GET, "/dial", None).await?;
    let has_budgets = dial.contains("pages_per_minute");

    let mut people = JoinSet::new();
    let inside = let_in(spec, &world, &mut people).await;
    let prepared = field.prepare(spec.attack).await;
    let idle = process(stack.pid).1;

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
    let reached_before = service.service.counts().1;
    let attack = world.now();
    let end = attack + spec.length.as_secs_f64();
    let attacking = {
        let (field, kind) = (field.clone(), spec.attack);
        tokio::spawn(async move { field.attack(kind, prepared).await })
    };
    spawn_until(&mut coming, &mut arrived, end).await;
    let service_ms = service.service.page_takes().as_secs_f64() * 1000.0;
    let (attackers, reached) = (tally.counted(), service.service.counts().1 - reached_before);
    attacking.abort();
    // Dropped by now, and all that it began with it.
    let _aborted = attacking.await;
    let end = world.now();
    service.service.slow_down(1);

    let pause: f64 = if spec.attack.is_for_challenges() { 30.0 } else { 5.0 };
    let recovery = end + pause.min(spec.length.as_secs_f64());
    let last = recovery + spec.timing.recovery.as_secs_f64();
    spawn_until(&mut coming, &mut arrived, last).await;
    arriving.abort();
    let decided = || world.newcomers().iter().all(|newcomer| newcomer.in_after.is_some());
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
    let ended = stack.stop().await?;
    let lost = log.lines().find(|line| line.contains("panicked"));
    Ok(Seen {
        version: spec.version,
        mode: spec.mode,
        store: spec.store,
        attack: spec.attack,
        strength: spec.strength,
        rate: spec.rate,
        void: world.punctuality.verdict().or_else(|| lost.map(str::to_owned)),
        late: world.punctuality.late(),
        phases: Phases { calm, attack, end, recovery, last },
        newcomers,
        requests,
        residents: (inside, spec.residents),
        samples,
        attackers,
        reached,
        service_ms,
        before: (before.0, idle),
        fds_after,
        has_budgets,
        ended,
        load,
    })
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
