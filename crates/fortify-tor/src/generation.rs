//! Generations: numbers for the runs of tor, each used once.
//!
//! Tor restarts its circuit counter when it restarts, so a circuit's state is kept under its number and a
//! *generation*. The rules:
//!
//! - While the control connection is open, tor is the same process, and the generation stays.
//! - When the connection ends, the generation changes **at once** to a new, *provisional* one: requests of a
//!   new tor can arrive before Fortify can ask it. The same happens when Fortify starts.
//! - Connected again to the **same** process: its generation returns. State of the provisional one is void.
//! - Connected to **another** process: a new generation. Not the provisional one, under which circuits of the
//!   old process may still have arrived.
//!
//! Every number is on disk before it is used, together with the next provisional one, so that a lost connection
//! needs no write and a full disk cannot delay it.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use fortify_core::advice::{Advise, both};
use fortify_core::clock::Timestamp;
use fortify_core::damage::{Damage, copy_aside};

/// The file's name in `storage.data_dir`.
const FILE_NAME: &str = "tor-generation.json";

/// The most bytes of the file, which has about 200.
const MAX_FILE_BYTES: u64 = 4096;

/// How far two computed start times of the same run may differ: tor reports its uptime in whole seconds, which a
/// timer advances. A tor that restarts sooner than this with the same process id (as in a container) had no
/// time to publish its service, and so no visitors.
const TOLERANCE: Duration = Duration::from_secs(3);

/// How far the computed start time may move on one connection before it is written again: tor's uptime does
/// not include jumps of the clock.
const DRIFT: Duration = Duration::from_secs(1);

/// Why the file of generations cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", both(self))]
pub enum GenerationError {
    /// It cannot be read or written.
    Io(PathBuf, #[source] io::Error),
    /// It is not what was written there.
    Malformed(PathBuf),
    /// All numbers were used.
    Exhausted(PathBuf),
}

impl Advise for GenerationError {
    fn problem(&self) -> String {
        match self {
            Self::Io(path, error) => {
                format!(
                    "{}: cannot read or write the count of tor's starts: {error}",
                    path.display()
                )
            }
            Self::Malformed(path) => format!("{}: not the count of tor's starts", path.display()),
            Self::Exhausted(path) => format!("{}: no numbers left", path.display()),
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        let advice = match self {
            Self::Io(..) => {
                "check free space and that the user that runs Fortify may write there \
                 (storage.data_dir)"
            }
            Self::Malformed(_) => "move it away, and the next start makes a new one",
            Self::Exhausted(_) => "move it away together with keys.json",
        };
        Some(advice.into())
    }
}

/// One run of one tor process, as it can be recognised again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TorRun {
    /// Its process id, in its own namespace.
    pub pid: u32,
    /// Its uptime when it was last asked, in seconds; it never decreases.
    pub uptime: u32,
    /// Its start: the local time less its uptime.
    pub started: Timestamp,
    /// A keyed hash of its authentication cookie, which is new for every run: if there is one, it alone
    /// decides.
    pub(super) cookie: Option<String>,
}

impl TorRun {
    pub(super) fn seen(pid: u32, uptime: u32, cookie: Option<String>, now: Timestamp) -> Self {
        let ran = u64::from(uptime) * 1000;
        let started = Timestamp::from_millis(now.as_millis().saturating_sub(ran));
        Self { pid, uptime, started, cookie }
    }

    /// Whether `later` is the same run, asked later.
    #[must_use]
    pub fn is_same(&self, later: &Self) -> bool {
        let settled = match (&self.cookie, &later.cookie) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.moved(later) <= TOLERANCE,
        };
        settled && self.pid == later.pid && self.uptime <= later.uptime
    }

    fn moved(&self, later: &Self) -> Duration {
        self.started.until(later.started).max(later.started.until(self.started))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// The highest number that may have been used.
    reserved: u32,
    /// The run of tor that was last asked, and its generation.
    known: Option<KnownRun>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownRun {
    generation: u32,
    run: TorRun,
}

/// How a run of tor compares with the known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunMatch {
    /// The known run.
    Same,
    /// The first run; none was known.
    First,
    /// Another run than the known one.
    Restarted,
}

/// The generations, and their file.
#[derive(Debug)]
pub(super) struct Generations {
    path: PathBuf,
    record: Record,
    /// The current number: that of `record.known` while connected, otherwise `record.reserved`.
    current: u32,
}

impl Generations {
    /// Version 2 has a checksum.
    const VERSION: u32 = 2;

    /// Reads the generations from `data_dir` and starts with a provisional one; says if the file was damaged. Then
    /// no run of tor is known, and every circuit counts as new.
    pub(super) fn open(
        data_dir: &Path,
        now: Timestamp,
    ) -> Result<(Self, Option<Damage>), GenerationError> {
        let path = data_dir.join(FILE_NAME);
        let (mut record, damage) = match read(&path) {
            Err(error @ (GenerationError::Malformed(_) | GenerationError::Io(..))) => {
                let aside = copy_aside(&path, now).ok();
                let aside = aside.as_deref().map(Path::display);
                tracing::error!(%error, ?aside, "every circuit counts as new");
                let damage = Damage { file: FILE_NAME, lost: Some(1) };
                (Record { version: Self::VERSION, reserved: 0, known: None }, Some(damage))
            }
            read => (read?, None),
        };
        // At least the time: a file that was lost or restored from a backup must not lead to numbers
        // that were used since.
        let floor = u32::try_from(now.as_secs()).unwrap_or(u32::MAX / 2);
        record.reserved = next(&path, record.reserved, 1)?.max(floor);
        if let Err(error) = write(&path, &record) {
            // The time is in the number, so another start finds another one.
            tracing::error!(%error, "the number of this start of tor is not on disk");
        }
        Ok((Self { current: record.reserved, path, record }, damage))
    }

    /// The current number.
    pub(super) const fn current(&self) -> u32 {
        self.current
    }

    /// Switches to the provisional generation, because the connection to tor ended.
    pub(super) fn invalidate(&mut self) -> u32 {
        self.current = self.record.reserved;
        self.current
    }

    /// Switches to the generation of `run`, the tor that answered. On an error the provisional one stays.
    pub(super) async fn confirm(&mut self, run: TorRun) -> Result<RunMatch, GenerationError> {
        let known = self.record.known.as_ref();
        let (finding, fresh) = match known {
            Some(known) if known.run.is_same(&run) => (RunMatch::Same, 0),
            Some(_other) => (RunMatch::Restarted, 1),
            None => (RunMatch::First, 1),
        };
        let generation = match (known, finding) {
            (Some(known), RunMatch::Same) => known.generation,
            _ => next(&self.path, self.record.reserved, 1)?,
        };
        // One more, for the provisional generation after the next lost connection.
        let reserved = next(&self.path, self.record.reserved, fresh + 1)?;
        let known = Some(KnownRun { generation, run });
        self.keep(Record { version: Self::VERSION, reserved, known }).await?;
        self.current = generation;
        Ok(finding)
    }

    /// Records the uptime that the same connection reported, and the start time if a jump of the clock moved it.
    pub(super) async fn refresh(&mut self, run: TorRun) -> Result<(), GenerationError> {
        let Some(known) = &self.record.known else { return Ok(()) };
        if run.cookie.is_some() || known.run.moved(&run) <= DRIFT {
            return Ok(());
        }
        let known = Some(KnownRun { generation: known.generation, run });
        self.keep(Record { known, ..self.record.clone() }).await
    }

    async fn keep(&mut self, record: Record) -> Result<(), GenerationError> {
        let (path, written) = (self.path.clone(), record.clone());
        // Disk writes run outside the threads that serve requests.
        let kept = tokio::task::spawn_blocking(move || write(&path, &written)).await;
        kept.map_err(|ended| GenerationError::Io(self.path.clone(), io::Error::other(ended)))??;
        self.record = record;
        Ok(())
    }
}

/// The generation and the run of tor last recorded in `data_dir`, for `fortify tor status`.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn last_known(data_dir: &Path) -> Result<Option<(u32, TorRun)>, GenerationError> {
    Ok(read(&data_dir.join(FILE_NAME))?.known.map(|known| (known.generation, known.run)))
}

fn next(path: &Path, from: u32, steps: u32) -> Result<u32, GenerationError> {
    from.checked_add(steps).ok_or_else(|| GenerationError::Exhausted(path.to_owned()))
}

fn read(path: &Path) -> Result<Record, GenerationError> {
    let failed = |error| GenerationError::Io(path.to_owned(), error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Record { version: Generations::VERSION, reserved: 0, known: None });
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let malformed = || GenerationError::Malformed(path.to_owned());
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (text, sum) = (parts.next().unwrap_or_default(), parts.next());
    let mut record: Record = serde_json::from_slice(text).map_err(|_json| malformed())?;
    let is_whole = match record.version {
        1 => sum.is_none(),
        Generations::VERSION => sum == Some(sum_of(text).as_bytes()),
        _ => false,
    };
    record.version = Generations::VERSION;
    let sound =
        is_whole && record.known.as_ref().is_none_or(|known| known.generation <= record.reserved);
    if sound { Ok(record) } else { Err(malformed()) }
}

/// The second line of the file: the checksum of the first, which is JSON.
fn sum_of(text: &[u8]) -> String {
    format!("{:08x}\n", crc32fast::hash(text))
}

/// Writes the file under another name and renames it, so that a crash never leaves half of it.
fn write(path: &Path, record: &Record) -> Result<(), GenerationError> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
        let sum = sum_of(&bytes);
        bytes.push(b'\n');
        bytes.extend_from_slice(sum.as_bytes());
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    })();
    written.map_err(|error| GenerationError::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn secs(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn run(pid: u32, uptime: u32, now: u64) -> TorRun {
        TorRun::seen(pid, uptime, None, secs(now))
    }

    fn with_cookie(pid: u32, uptime: u32, now: u64, cookie: &str) -> TorRun {
        TorRun::seen(pid, uptime, Some(cookie.to_owned()), secs(now))
    }

    #[test]
    fn abuse_03_a_run_is_known_again_and_another_is_not_taken_for_it() {
        let known = run(7, 100, 100);
        for same in [run(7, 100, 100), run(7, 160, 160), run(7, 159, 161), run(7, 161, 160)] {
            assert!(known.is_same(&same), "{same:?}");
        }
        for other in [
            run(8, 160, 160), // another process
            run(7, 99, 100),  // the uptime went back
            run(7, 0, 101),   // so did this one: a container, where the id is always the same
            run(7, 110, 160), // started 50 s later
            run(7, 160, 100), // started earlier
        ] {
            assert!(!known.is_same(&other), "{other:?}");
        }
        let known = with_cookie(7, 100, 100, "a");
        assert!(known.is_same(&with_cookie(7, 100, 5000, "a")), "leaps of the clock do not matter");
        for other in [with_cookie(7, 160, 160, "b"), with_cookie(8, 160, 160, "a")] {
            assert!(!known.is_same(&other), "{other:?}");
        }
        assert!(known.is_same(&run(7, 160, 160)), "a password in place of the cookie");
    }

    #[tokio::test]
    async fn abuse_03_every_start_and_every_doubt_has_a_number_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        let mut used = vec![generations.current()];
        assert_eq!(generations.confirm(run(7, 100, 100)).await.unwrap(), RunMatch::First);
        let first = generations.current();
        used.push(first);
        // A break, and the same process again.
        used.push(generations.invalidate());
        assert_eq!(generations.confirm(run(7, 160, 160)).await.unwrap(), RunMatch::Same);
        assert_eq!(generations.current(), first);
        // A second one does not come back to the numbers of the first.
        used.push(generations.invalidate());
        assert_eq!(generations.confirm(run(9, 1, 170)).await.unwrap(), RunMatch::Restarted);
        let second = generations.current();
        used.push(second);
        // Fortify restarts; tor does not.
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        used.push(generations.current());
        assert_eq!(generations.confirm(run(9, 11, 180)).await.unwrap(), RunMatch::Same);
        assert_eq!(generations.current(), second);
        // Both do.
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        used.push(generations.current());
        assert_eq!(generations.confirm(run(10, 1, 190)).await.unwrap(), RunMatch::Restarted);
        used.push(generations.current());
        let distinct: std::collections::BTreeSet<_> = used.iter().collect();
        assert_eq!(distinct.len(), used.len(), "{used:?}");
        let mode = fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn abuse_27_a_number_is_on_disk_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let reserved = || read(&dir.path().join(FILE_NAME)).unwrap().reserved;
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        assert!(generations.current() <= reserved());
        for pid in 1..5 {
            generations.confirm(run(pid, 1, 1)).await.unwrap();
            assert!(generations.current() <= reserved());
            assert!(
                generations.invalidate() <= reserved(),
                "a break would have to wait for the disk"
            );
            // Killed here, the next start takes a number after all of these.
            assert!(
                Generations::open(dir.path(), NOW).unwrap().0.current() > generations.current()
            );
            generations = Generations::open(dir.path(), NOW).unwrap().0;
        }
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_leaves_the_provisional_generation() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        generations.confirm(run(7, 1, 1)).await.unwrap();
        let provisional = generations.invalidate();
        fs::create_dir(dir.path().join("tor-generation.new")).unwrap();
        for run in [run(7, 2, 2), run(8, 2, 2)] {
            let reported = generations.confirm(run).await.unwrap_err().to_string();
            assert!(
                reported.contains("tor-generation.json") && reported.contains("storage.data_dir"),
                "{reported}"
            );
            assert_eq!(generations.current(), provisional);
        }
        fs::remove_dir(dir.path().join("tor-generation.new")).unwrap();
        assert_eq!(generations.confirm(run(8, 3, 3)).await.unwrap(), RunMatch::Restarted);
        assert_ne!(generations.current(), provisional);
    }

    #[tokio::test]
    async fn a_leap_of_the_clock_does_not_make_another_tor_of_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        generations.confirm(run(7, 10, 10)).await.unwrap();
        let generation = generations.current();
        // The machine slept for an hour, which tor does not count.
        generations.refresh(run(7, 20, 3620)).await.unwrap();
        let mut generations = Generations::open(dir.path(), NOW).unwrap().0;
        assert_eq!(generations.confirm(run(7, 30, 3630)).await.unwrap(), RunMatch::Same);
        assert_eq!(generations.current(), generation);
    }

    #[test]
    fn abuse_03_a_file_that_is_lost_or_old_leads_to_no_number_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let old = Generations::open(dir.path(), NOW).unwrap().0.current();
        fs::remove_file(&path).unwrap();
        let new = Generations::open(dir.path(), secs(10)).unwrap().0.current();
        assert!(new > old);
        for broken in ["", "{}", "null", "{\"version\":2,\"reserved\":1,\"known\":null}"] {
            fs::write(&path, broken).unwrap();
            assert!(last_known(dir.path()).unwrap_err().to_string().contains("move it away"));
            let (next, damage) = Generations::open(dir.path(), secs(20)).unwrap();
            assert_eq!(damage, Some(Damage { file: FILE_NAME, lost: Some(1) }));
            assert!(next.current() > new, "a number that was used");
            let (_, damage) = Generations::open(dir.path(), secs(30)).unwrap();
            assert_eq!(damage, None, "said once");
        }
        fs::write(&path, "{\"version\":1,\"reserved\":4294967295,\"known\":null}").unwrap();
        assert!(matches!(Generations::open(dir.path(), NOW), Err(GenerationError::Exhausted(_))));
    }
}
