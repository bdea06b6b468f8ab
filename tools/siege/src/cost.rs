//! What a proxied request costs the gate in CPU time: two programs in turns on the same core, so that both meet the same
//! machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::{Browser, Page};
use crate::numbers::percentile;
use crate::people::{Habits, World, let_in};
use crate::service::{PEOPLE, Running};
use crate::stack::{Mode, Plan, Stack, Store};

/// Visitors of each program, each with a session and a connection that is kept.
const VISITORS: usize = 50;
/// Turns of each program. In one, every visitor loads a page and what belongs to it.
const TURNS: usize = 24;
/// Pictures of a page. Pages alone would use up what a session may request at once, after few turns.
const PICTURES: usize = 9;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Cost {
    bench: &'static str,
    /// Microseconds of CPU time a request, the median of all turns.
    new_us: f64,
    old_us: f64,
    /// What the first program takes of what the second takes in the same turn: the median, and the quartiles.
    ratio: f64,
    quartiles: [f64; 2],
    /// The load of the machine before.
    load: f64,
}

/// A program with its visitors.
struct Side {
    stack: Stack,
    visitors: Vec<Browser>,
    _service: Running,
}

/// Compares `new` with `old`, in proxy mode over Redis, on `core`.
///
/// # Errors
///
/// What does not start, or does not answer as it should.
pub async fn compare(new: &Path, old: &Path, core: Option<usize>) -> Result<Cost> {
    let load = crate::run::load();
    let mut sides =
        [Side::start(new.to_owned(), core).await?, Side::start(old.to_owned(), core).await?];
    for side in &mut sides {
        side.turn().await?;
    }
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for turn in 0..TURNS {
        let mut took = [0.0; 2];
        for place in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            took[place] = sides[place].turn().await?;
            times[place].push(took[place]);
        }
        ratios.push(took[0] / took[1]);
    }
    for side in sides {
        side.stack.stop().await?;
    }
    let at = |values: &[f64], q| percentile(values, q).unwrap_or(f64::NAN);
    let quartiles = [at(&ratios, 0.25), at(&ratios, 0.75)];
    let [new_us, old_us] = times.map(|times| at(&times, 0.5));
    let ratio = at(&ratios, 0.5);
    Ok(Cost { bench: "cost of a proxied request", new_us, old_us, ratio, quartiles, load })
}

impl Side {
    async fn start(program: PathBuf, core: Option<usize>) -> Result<Self> {
        let service = Running::start().await?;
        let more = "[limits]\nservice_challenges_per_minute = 100000\n".to_owned();
        let plan = Plan { mode: Mode::Proxy, store: Store::Redis, program, more, core };
        let stack = Stack::start(plan, service.address).await?;
        let answers = stack.answers().await.context("the answers")?;
        let world = Arc::new(World::new(stack.front, answers, service.service.clone()));
        let visitors = let_in(&world, 24..24 + VISITORS as u32, Habits::EARLY).await?;
        Ok(Self { stack, visitors, _service: service })
    }

    /// Microseconds of CPU time for each request of one turn.
    async fn turn(&mut self) -> Result<f64> {
        let before = cpu_time(self.stack.pid)?;
        let mut loading = JoinSet::new();
        for mut visitor in self.visitors.drain(..) {
            loading.spawn(async move {
                for part in 0..=PICTURES {
                    let path = match part {
                        0 => format!("{PEOPLE}page"),
                        _ => format!("{PEOPLE}asset{part}.png"),
                    };
                    let reply = visitor.get(&path).await;
                    let page = reply.map(|reply| reply.page());
                    ensure!(page == Ok(Page::Service), "{path}: {page:?}");
                }
                Ok(visitor)
            });
        }
        self.visitors = loading.join_all().await.into_iter().collect::<Result<_>>()?;
        let took = cpu_time(self.stack.pid)?.saturating_sub(before);
        Ok(took as f64 / 1000.0 / (VISITORS * (PICTURES + 1)) as f64)
    }
}

/// Nanoseconds for which threads of a process have run, those that are there still.
pub(crate) fn cpu_time(pid: u32) -> Result<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("the gate is gone")?;
    let of = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default()
    };
    Ok(threads.flatten().map(|thread| of(thread.path())).sum())
}
