//! docs/siege.md, written from the runs: how it was measured, the table, the bars that were missed, the pictures.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::bars::{self, Bar};
use crate::plot;
use crate::run::{Seen, Version};
use crate::stack::Mode;

/// What the table needs of a run; one JSON line each, so that runs that were interrupted still make a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The attack's name in files.
    attack: String,
    /// Its number in the list, if it has one.
    number: Option<u8>,
    /// What it does.
    title: String,
    /// How it was reached: `proxy`, or HAProxy and nginx.
    mode: String,
    /// Where challenges were.
    store: String,
    /// Whether it was the program that this tree is compared with.
    old: bool,
    /// Seconds of the attack.
    seconds: f64,
    /// The share of its full strength.
    strength: f64,
    /// Why the run is void, if it is.
    void: Option<String>,
    /// The share of late starts.
    late: f64,
    /// The load of the machine before.
    load: f64,
    /// Whether the program or the suite was built without optimisation.
    debug: bool,
    /// The bars.
    bars: Vec<Measured>,
    /// What the attackers sent, had held back, and got.
    attackers: String,
}

/// A [`Bar`] as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    name: String,
    figure: String,
    bar: String,
    held: bool,
}

impl From<Bar> for Measured {
    fn from(bar: Bar) -> Self {
        Self { name: bar.name.to_owned(), figure: bar.figure, bar: bar.bar, held: bar.held }
    }
}

impl Line {
    /// That of a run.
    #[must_use]
    pub fn of(seen: &Seen) -> Self {
        let (counted, void) = (&seen.attackers, bars::void(seen));
        let statuses: Vec<_> =
            counted.statuses.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        let faults: u64 = counted.faults.values().sum();
        let mut attackers = format!("{} requests", counted.sum(|did| did.sent));
        if !statuses.is_empty() {
            let _ok = write!(attackers, " ({})", statuses.join(", "));
        }
        for (count, what) in [
            (faults, "without a response"),
            (counted.held_back, "not sent because too many were under way"),
            (counted.sum(|did| did.sessions), "sessions"),
            (counted.most_held, "connections at once"),
        ] {
            if count > 0 {
                let _ok = write!(attackers, ", {count} {what}");
            }
        }
        Self {
            attack: seen.attack.name().to_owned(),
            number: seen.attack.number(),
            title: seen.attack.title().to_owned(),
            mode: if seen.mode == Mode::Proxy { "proxy" } else { "HAProxy + nginx" }.to_owned(),
            store: format!("{:?}", seen.store).to_lowercase(),
            old: seen.version == Version::Old,
            seconds: seen.phases.end - seen.phases.attack,
            strength: seen.strength,
            late: seen.late,
            load: seen.load,
            debug: seen.debug,
            // A run that says nothing holds nothing.
            bars: (bars::of(seen).into_iter().map(Measured::from))
                .map(|bar| Measured { held: bar.held && void.is_none(), ..bar })
                .collect(),
            void,
            attackers,
        }
    }

    /// The name of its picture.
    #[must_use]
    pub fn picture(&self) -> String {
        let mode = if self.mode == "proxy" { "proxy" } else { "gate" };
        let old = if self.old { "-old" } else { "" };
        format!("{}-{mode}-{}{old}.svg", self.attack, self.store)
    }

    /// The bars as lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let version = if self.old { " (old)" } else { "" };
        let mut text =
            format!("\n{}{version}, {}, {}: {}\n", self.attack, self.mode, self.store, self.title);
        if let Some(void) = &self.void {
            let _ok = writeln!(text, "  VOID: {void}");
        }
        for bar in &self.bars {
            let held = if bar.held { "held  " } else { "MISSED" };
            let _ok = writeln!(text, "  {held} {}: {} (bar: {})", bar.name, bar.figure, bar.bar);
        }
        text
    }

    /// Whether the run counts and every bar is held.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.void.is_none() && self.bars.iter().all(|bar| bar.held)
    }

    /// How it was played: for how long, at which strength, by which build, on how busy a machine.
    fn played(&self) -> String {
        format!(
            "{:.0} s, {:.0} %, {}, load {:.1}",
            self.seconds,
            self.strength * 100.0,
            if self.debug { "debug build" } else { "release" },
            self.load
        )
    }

    fn cell(&self, column: &Column) -> String {
        let bars: Vec<_> = (self.bars.iter())
            .filter(|bar| column.bars.iter().any(|start| bar.name.starts_with(start)))
            .map(|bar| match bar.held {
                _ if self.void.is_some() => format!("void: {}", bar.figure),
                true => bar.figure.clone(),
                false => format!("**{}** (bar {})", bar.figure, bar.bar),
            })
            .collect();
        if bars.is_empty() { "-".to_owned() } else { bars.join("; ") }
    }
}

/// A column of the table, and the bars in it by how their names start.
struct Column {
    title: &'static str,
    bars: &'static [&'static str],
}

const COLUMNS: [Column; 8] = [
    Column { title: "newcomers in within 60 s", bars: &["newcomers in within"] },
    Column { title: "at all", bars: &["newcomers in at all"] },
    Column { title: "people inside answered", bars: &["requests of people"] },
    Column { title: "their p95", bars: &["their p95"] },
    Column {
        title: "attackers at the service",
        bars: &["attackers'", "share of one", "sessions that", "requests without"],
    },
    Column { title: "given out, of the rate", bars: &["challenges given"] },
    Column { title: "recovery", bars: &["newcomers from"] },
    Column { title: "level; resources", bars: &["level", "memory", "descriptors"] },
];

/// Appends a run to `runs.jsonl` in `folder` and draws its picture there.
///
/// # Errors
///
/// What cannot be written.
pub fn keep(folder: &Path, seen: &Seen) -> Result<Line> {
    use std::io::Write as _;
    let line = Line::of(seen);
    fs::create_dir_all(folder)?;
    let mut file = fs::File::options().create(true).append(true).open(folder.join("runs.jsonl"))?;
    writeln!(file, "{}", serde_json::to_string(&line)?)?;
    let whole = folder.join(line.picture()).with_extension("json");
    fs::write(whole, serde_json::to_string(seen)?)?;
    fs::write(folder.join(line.picture()), plot::svg(seen))?;
    Ok(line)
}

/// The runs kept in `folder`; of those that were played twice, the last.
///
/// # Errors
///
/// What cannot be read.
pub fn kept(folder: &Path) -> Result<Vec<Line>> {
    let file = folder.join("runs.jsonl");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)?;
        lines.retain(|other| other.picture() != line.picture());
        lines.push(line);
    }
    Ok(lines)
}

/// Writes docs/siege.md, and its pictures into docs/siege, from the runs kept in `folder`.
///
/// # Errors
///
/// What cannot be read or written.
pub fn write_docs(folder: &Path, docs: &Path) -> Result<()> {
    let lines = kept(folder)?;
    let pictures = docs.join("siege");
    fs::create_dir_all(&pictures)?;
    for line in &lines {
        fs::copy(folder.join(line.picture()), pictures.join(line.picture()))?;
    }
    fs::write(docs.join("siege.md"), page(&lines, &machine()))?;
    Ok(())
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // The generator's thread is on one core alone, so what it may use is no count of them.
    let listed = info.lines().filter(|line| line.starts_with("processor")).count();
    let cores = match listed {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        listed => listed,
    };
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned());
    format!("{cores} {} ({model})", if cores == 1 { "processor" } else { "processors" })
}

/// The text of docs/siege.md.
fn page(lines: &[Line], machine: &str) -> String {
    let mut text = METHOD.to_owned();
    let load = lines.iter().map(|line| line.load).fold(0.0, f64::max);
    let late = lines.iter().map(|line| line.late).fold(0.0, f64::max);
    let _ok = writeln!(
        text,
        "\n## Results\n\nMeasured on {machine}. The load of the machine before a run was at most {load:.1}{}; the \
         generator started at most {:.1} % of a run's requests late. A figure in bold misses its bar, which stands \
         beside it.",
        if load > 1.5 {
            ", so other work ran beside the suite and took time from it: figures in milliseconds and memory mean \
             little, and counts are pessimistic"
        } else {
            ""
        },
        late * 100.0
    );
    if lines.iter().any(|line| line.debug) {
        text += "\nSome of these runs are of programs that were built without optimisation: they show that the suite \
                 works, and no times.\n";
    }
    let new: Vec<_> = lines.iter().filter(|line| !line.old).collect();
    table(&mut text, &new);
    let olds: Vec<_> = lines.iter().filter(|line| line.old).collect();
    if !olds.is_empty() {
        text += "\n## Before and after\n\nThe program before budgets, the fair queue and slots, under the same \
                 attacks with the same configuration:\n";
        table(&mut text, &olds);
    }
    text += "\n## Each attack\n\nA panel's curve is over the seconds of the run, the attack shaded: how long \
             newcomers of that second took to get in and how many never were, challenges given out beside the rate, \
             who waited, what reached the service, the threat level. What comes after the shade is the recovery.\n";
    for line in lines {
        let version = if line.old { ", before" } else { "" };
        let number = line.number.map_or_else(String::new, |number| format!("{number}: "));
        let _ok = writeln!(
            text,
            "\n### {number}{} ({}, {}{version})\n\n{}. Played: {}. The attackers: {}.",
            line.attack,
            line.mode,
            line.store,
            line.title,
            line.played(),
            line.attackers
        );
        if let Some(void) = &line.void {
            let _ok = writeln!(text, "\n**Void**: {void}.");
        }
        for bar in line.bars.iter().filter(|bar| !bar.held && line.void.is_none()) {
            let _ok =
                writeln!(text, "\nMissed: {}: {}; the bar is {}.", bar.name, bar.figure, bar.bar);
        }
        let _ok = writeln!(text, "\n![{}](siege/{})", line.title, line.picture());
    }
    text
}

fn table(text: &mut String, lines: &[&Line]) {
    *text += "\n| attack | played |";
    for column in &COLUMNS {
        let _ok = write!(text, " {} |", column.title);
    }
    *text += "\n|---|---|";
    *text += &"---|".repeat(COLUMNS.len());
    for line in lines {
        let number = line.number.map_or_else(String::new, |number| format!("{number}: "));
        let void = if line.void.is_some() { " (void)" } else { "" };
        let _ok =
            write!(text, "\n| {number}{}, {}, {}{void} |", line.attack, line.mode, line.store);
        let _ok = write!(text, " {} |", line.played());
        for column in &COLUMNS {
            let _ok = write!(text, " {} |", line.cell(column));
        }
    }
    *text += "\n";
}

const METHOD: &str = "\
# Under attack

<!-- Written by `make siege`; change tools/siege/src/report.rs instead. -->

What a gate is for: while it is attacked, people get in and the service behind it feels little of it. `make siege`
plays attacks against the real programs beside generated people and measures both.

## Method

**The stack** is the released program, alone (`proxy`) or behind HAProxy and nginx with the files in `deploy/`, over
its own memory or a Redis, on loopback, with the default configuration. It runs on one core; the generator, which
also plays the protected service, runs on another. Its load before each run, how long and how strong the run was, and
whether anything in it was built without optimisation, stand in the table. The service has 8 workers that take 10 ms for a page.

**People**: 60 newcomers a minute, each on a circuit of their own, and 60 who are in already. Whoever sees a challenge
reads it for 5 to 25 s; one answer in twelve is wrong, one in ten is sent twice, one newcomer in five opens the page in
two more tabs. Whoever waits does what the page says; whoever gets nothing reloads after a few seconds. Whoever is in
asks for a page and three assets every 5 to 25 s.

**Answers.** People know what a picture shows; the program tells nobody, and has no switch that would. With Redis the
suite reads the answer in its own Redis, as whoever runs the stack could. A process's memory cannot be read, so with the
memory store the stack runs the same daemon from the library over a store that the suite made (`fortify-siege host`).

**Bars.** Newcomers in within 60 s of coming, their own reading included: 95 %, and 98 % at all, while the circuits
that keep asking stay under five times what a minute gives out, as in all attacks here; beyond that, 0.9 of the chance
that a draw among all who ask would give. Requests of people who are in: 99 % answered by the service (a challenge is no
answer), p95 at most twice that of the calm before the attack (with a slow service: twice what the service takes).
Attackers at the service: none without a session or with a banned one's cookie; otherwise each part of an attack by
itself at most its sessions times a session's budget (60 at once, 69 over Redis, where a node holds leases, 2 a second
while one is held, 3,000 in all: the lowest level's, which allows the most); of one session's flood under 2 %.
Challenges given out in the longest time without a break in which anybody waits, over its whole minutes, where there is
one: 0.95 of the rate. Newcomers from 30 s after the end on (5 s, where the attack is not for challenges): 95 % in within 60 s. The
level: up within 60 s of an attack by 200 circuits or more, and not for one or fifty. Memory: 24 KiB an idle connection,
64 KiB a held download or tunnel, a second wave adds nothing; descriptors are back to what they were before anybody
came. A bar for which a run has seen nothing is missed.

**Void.** A start that comes 250 ms late is late. A run with more than 5 % of late starts says nothing about the gate and
is void. So is one in which the program panicked, in which the attack or a part of it sent nothing or had no session
that it needs, or in which newcomers, or people who are in, were missing. A void run holds no bar.

Not played by themselves, because each is one request after another, and tests of their own show them: one session on
two circuits (6), a banned circuit's cookie elsewhere (7, also a part of `all`), tunnels that outlive their session (8),
other sites' pages (11), junk cookies (14), wishes for a kind (15): `crates/fortify/tests/it/`, listed in
[abuse.md](abuse.md). That the level falls back 12 minutes after an attack is shown on the simulated clock
(`fortify-engine`, `threat::tests`).

`make siege MINUTES=10 ATTACKS=\"few farm\"` plays some of them, shorter; `OLD=path/to/fortify` plays attacks 1 to 5 also
against another program. A short form of `all`, a tenth as strong, is a test of `make test`
(`tools/siege/tests/short.rs`): it checks what no other load on the machine can change, and compares no times.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(attack: &str, old: bool, held: bool) -> Line {
        let bar = |name: &str, held| Measured {
            name: name.to_owned(),
            figure: "90.0 %".to_owned(),
            bar: "95 %".to_owned(),
            held,
        };
        Line {
            attack: attack.to_owned(),
            number: Some(4),
            title: "what it does".to_owned(),
            mode: "proxy".to_owned(),
            store: "redis".to_owned(),
            old,
            seconds: 60.0,
            strength: 1.0,
            void: None,
            late: 0.01,
            load: 0.2,
            debug: false,
            bars: vec![bar("newcomers in within 60 s", held), bar("level within 60 s", true)],
            attackers: "3 requests".to_owned(),
        }
    }

    #[test]
    fn the_page_says_what_is_missed_and_by_how_much() {
        let page = page(
            &[line("never-answered", false, false), line("never-answered", true, true)],
            "2 cores",
        );
        assert!(
            page.contains("| 60 s, 100 %, release, load 0.2 | **90.0 %** (bar 95 %) |"),
            "{page}"
        );
        assert!(page.contains("Missed: newcomers in within 60 s: 90.0 %; the bar is 95 %."));
        assert!(page.contains("## Before and after"));
        assert!(page.contains("(siege/never-answered-proxy-redis-old.svg)"));
        assert!(!page.contains("other work ran beside"));
    }

    #[test]
    fn a_void_run_holds_and_misses_nothing() {
        let mut void = line("few", false, false);
        void.void = Some("the attack never happened".to_owned());
        assert!(!void.is_good());
        let page = page(&[void], "2 cores");
        assert!(page.contains("few, proxy, redis (void) |") && page.contains("| void: 90.0 % |"));
        assert!(page.contains("**Void**: the attack never happened."));
        assert!(!page.contains("Missed:"), "{page}");
    }

    #[test]
    fn runs_are_kept_and_the_last_of_each_counts() {
        let folder = tempfile::tempdir().unwrap();
        let text: String =
            [line("few", false, false), line("few", false, true), line("few", true, true)]
                .iter()
                .map(|line| serde_json::to_string(line).unwrap() + "\n")
                .collect();
        fs::write(folder.path().join("runs.jsonl"), text).unwrap();
        let kept = kept(folder.path()).unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(Line::is_good));
    }
}
