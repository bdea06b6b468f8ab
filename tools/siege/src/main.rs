//! Attacks on a running Fortify beside generated people. `make siege` runs it.
#![allow(clippy::print_stdout, reason = "its output is for people and for files")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use fortify_siege::attacks::Attack;
use fortify_siege::endure::{self, Trial};
use fortify_siege::people::Habits;
use fortify_siege::plan::{self, Wish};
use fortify_siege::report::{self, Line};
use fortify_siege::run::{self, Spec, Timing, Version};
use fortify_siege::stack::{self, Mode, Store};
use fortify_siege::{cost, host, short};
use tokio::signal::unix::{SignalKind, signal};

/// Attacks on a running Fortify beside generated people, and what both of them got.
#[derive(Debug, Parser)]
#[command(name = "fortify-siege")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play all attacks.
    Run(Run),
    /// Play one attack.
    One(One),
    /// Play a little of everything on a small scale, and check what no other load on the machine can change.
    Short {
        /// The program `fortify`.
        #[arg(long)]
        program: PathBuf,
    },
    /// Measure the CPU time of a proxied request beside that of another program, in turns.
    Cost {
        /// The program `fortify`.
        #[arg(long, default_value = "target/release/fortify")]
        program: PathBuf,
        /// The program to compare it with.
        #[arg(long)]
        old: PathBuf,
    },
    /// Play what a gate endures in operation, and print a line of JSON for each: restarts and upgrades, SIGHUP while it
    /// starts, the growth of the log, rotations of keys.
    Endure {
        /// Only these.
        trials: Vec<Trial>,
        /// The program `fortify`.
        #[arg(long, default_value = "target/release/fortify")]
        program: PathBuf,
        /// An earlier one, with socket activation, to upgrade from and go back to.
        #[arg(long)]
        old: Option<PathBuf>,
    },
    /// Write docs/siege.md and its pictures from the runs in a folder.
    Docs {
        /// The folder of the runs.
        #[arg(long, default_value = "target/siege")]
        out: PathBuf,
    },
    /// Serve as Fortify over a store in memory whose answers the suite may ask for (used by the suite itself).
    Host {
        /// The configuration.
        config: PathBuf,
        /// Where answers are given.
        answers: PathBuf,
    },
}

/// All attacks.
#[derive(Debug, clap::Args)]
struct Run {
    /// The program `fortify`.
    #[arg(long, default_value = "target/release/fortify")]
    program: PathBuf,
    /// A program to compare it with, under attacks 1 to 5.
    #[arg(long)]
    old: Option<PathBuf>,
    /// Only these attacks.
    #[arg(long, value_delimiter = ' ', num_args = 0..)]
    attacks: Vec<Attack>,
    /// In how many minutes.
    #[arg(long, default_value_t = 40.0)]
    minutes: f64,
    /// The folder of the runs.
    #[arg(long, default_value = "target/siege")]
    out: PathBuf,
    /// Write docs/siege.md and its pictures.
    #[arg(long)]
    write_docs: bool,
}

/// One attack.
#[derive(Debug, clap::Args)]
struct One {
    /// Which.
    attack: Attack,
    /// The program `fortify`.
    #[arg(long, default_value = "target/release/fortify")]
    program: PathBuf,
    /// Whether it is the one to compare with.
    #[arg(long)]
    old: bool,
    /// How visitors reach it.
    #[arg(long, default_value = "proxy")]
    mode: Mode,
    /// Where challenges are kept.
    #[arg(long, default_value = "redis")]
    store: Store,
    /// Seconds of the attack.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
    /// The share of its strength.
    #[arg(long, default_value_t = 1.0)]
    strength: f64,
    /// People who are in before.
    #[arg(long, default_value_t = 60)]
    residents: usize,
    /// The folder of the runs.
    #[arg(long, default_value = "target/siege")]
    out: PathBuf,
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Host { config, answers } => runtime()?.block_on(host::serve(&config, &answers))?,
        Command::Short { program } => {
            let started = std::time::Instant::now();
            let wrong = runtime()?.block_on(unless_stopped(short::play(program)))?;
            wrong.iter().for_each(|wrong| println!("{wrong}"));
            println!("{} wrong, after {:.0} s", wrong.len(), started.elapsed().as_secs_f64());
            return Ok(exit_code(wrong.is_empty()));
        }
        Command::Cost { program, old } => {
            let core = pin_generator()?;
            let cost = runtime()?.block_on(unless_stopped(cost::compare(&program, &old, core)))?;
            println!("{}", serde_json::to_string(&cost)?);
        }
        Command::Endure { trials, program, old } => {
            let trials = if trials.is_empty() { Trial::ALL.to_vec() } else { trials };
            let playing = unless_stopped(endure_all(trials, program, old));
            return runtime()?.block_on(playing).map(exit_code);
        }
        Command::Docs { out } => report::write_docs(&out, Path::new("docs"))?,
        Command::One(one) => {
            let core = pin_generator()?;
            let line = runtime()?.block_on(unless_stopped(play(one.spec(core), &one.out)))?;
            return Ok(exit_code(line.is_good()));
        }
        Command::Run(all) => {
            let core = pin_generator()?;
            return runtime()?.block_on(unless_stopped(play_all(all, core))).map(exit_code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// 0 if every bar was held, otherwise 2: 1 is for a suite that did not run.
fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("threads")
}

/// Puts the generator on the last core, and gives the first to the stack; on one core nothing is pinned.
fn pin_generator() -> Result<Option<usize>> {
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        println!("one core only: the generator takes time from the stack");
        return Ok(None);
    }
    stack::pin(cores - 1)?;
    Ok(Some(0))
}

/// Drops `work`, and with it all processes, at Ctrl-C or SIGTERM.
async fn unless_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => anyhow::bail!("stopped"),
        _ = terminate.recv() => anyhow::bail!("stopped"),
    }
}

impl One {
    fn spec(&self, core: Option<usize>) -> Spec {
        Spec {
            version: if self.old { Version::Old } else { Version::New },
            program: self.program.clone(),
            mode: self.mode,
            store: self.store,
            attack: self.attack,
            length: Duration::from_secs(self.seconds),
            timing: Timing::WHOLE,
            strength: self.strength,
            newcomers: 1.0,
            residents: self.residents,
            habits: Habits::PEOPLE,
            core,
            more: String::new(),
            rate: 1000.0,
        }
    }
}

/// Plays one run, keeps it in `out` and prints its bars.
async fn play(spec: Spec, out: &Path) -> Result<Line> {
    let seen = run::run(&spec).await?;
    let line = report::keep(out, &seen)?;
    println!("{}", line.text());
    Ok(line)
}

/// Plays trials one after the other and prints what came of each as soon as it is known.
async fn endure_all(trials: Vec<Trial>, program: PathBuf, old: Option<PathBuf>) -> Result<bool> {
    let mut good = true;
    for trial in trials {
        for outcome in endure::play(trial, &program, old.as_deref()).await? {
            println!("{}", serde_json::to_string(&outcome)?);
            good &= outcome.missed.is_empty();
        }
    }
    Ok(good)
}

async fn play_all(all: Run, core: Option<usize>) -> Result<bool> {
    let wish = Wish {
        program: &all.program,
        old: all.old.as_deref(),
        only: &all.attacks,
        minutes: all.minutes,
        core,
    };
    let (mut good, mut failed) = (true, Vec::new());
    for spec in plan::runs(&wish) {
        let name = format!(
            "{} ({:?}, {:?}, {:?})",
            spec.attack.name(),
            spec.mode,
            spec.store,
            spec.version
        );
        println!("{name}: {:.0} s", spec.length.as_secs_f64());
        // The others are still worth knowing.
        match play(spec, &all.out).await {
            Ok(line) => good &= line.is_good() || name.ends_with("Old)"),
            Err(error) => {
                println!("{name}: did not run: {error:#}");
                failed.push(name);
            }
        }
    }
    if all.write_docs {
        report::write_docs(&all.out, Path::new("docs"))?;
    }
    anyhow::ensure!(failed.is_empty(), "did not run: {}", failed.join("; "));
    Ok(good)
}
