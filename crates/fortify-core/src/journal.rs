//! An append-only file of records: each is on disk before it is acknowledged, and damage is noticed.
//!
//! A record has a format version, a number, the time when it was written and a checksum. Records are numbered
//! without a gap over the life of the file, and the number of the last one is in the [`manifest`] too, so what
//! is missing is counted, wherever it was. Damaged records are skipped; those after them are found again.
//!
//! A file begins with a head, and is rewritten as a whole (a head, then what still counts) when it is opened
//! and when it has grown too long.
//!
//! What the lost records said cannot be known, but when: not after the next record that is there was written.
//! [`Recovered::lost_until`] is that time, and outlasts further restarts in the head.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::damage::{Damage, copy_aside};
use crate::manifest::{self, Progress, Recorded, Slot};

/// The start of a record; the last byte is the version of the format.
const MARKER: [u8; 4] = *b"FJR\x01";

/// Bytes of a record before its content: the marker, its place in the file, its number, when it was written.
const HEADER_BYTES: usize = 4 + 4 + 8 + 8;

/// Bytes of the checksum (CRC-32) after it.
const SUM_BYTES: usize = 4;

/// Bytes of the head's content: until when records were lost, milliseconds, big-endian; 0 if none were.
const HEAD_BYTES: usize = 8;

/// A file of records with `N` bytes each, at least 8.
#[derive(Debug)]
pub struct Journal<const N: usize> {
    path: PathBuf,
    name: &'static str,
    slot: Slot,
    /// `None` if it has to be rewritten before anything is appended: that failed, or it was not done yet.
    file: Option<File>,
    /// Bytes; more than its table can hold means that it is time to rewrite it.
    length: u64,
    progress: Progress,
    /// When the last record was written: no later one is earlier, whatever the clock says.
    latest: Timestamp,
    /// As in [`Recovered`], but not bounded by the clock of this start.
    lost_until: Option<Timestamp>,
}

/// What was found in a file.
#[derive(Debug)]
pub struct Recovered<const N: usize> {
    /// The file. It has to be rewritten before it takes records.
    pub journal: Journal<N>,
    /// The contents of all records that are there, in their order.
    pub entries: Vec<[u8; N]>,
    /// The time until which records were lost, now or at an earlier start; never in the future, so that what is
    /// issued now is after it. The file keeps the time of the last record where that is later, because the clock was
    /// set back: a start after the clock has caught up then counts until there.
    pub lost_until: Option<Timestamp>,
    /// What was found damaged now.
    pub damages: Vec<Damage>,
}

/// A record that is there.
struct Frame<const N: usize> {
    /// Its place in the file; the head's is 0.
    index: u32,
    number: u64,
    at: Timestamp,
    content: [u8; N],
}

/// What is in the bytes of a file.
struct Frames<const N: usize> {
    /// By number, of the file's last writing.
    frames: Vec<Frame<N>>,
    /// Whether there were bytes between records, or after the last, that are none.
    gaps: bool,
}

impl<const N: usize> Journal<N> {
    /// Bytes of a record.
    pub const RECORD_BYTES: u64 = (HEADER_BYTES + N + SUM_BYTES) as u64;

    /// Reads the file `name` in `data_dir`, whatever is in it or is not.
    ///
    /// `matters_for` is how long after its loss a record can still matter. A file of more than `most` records is
    /// damaged: it is read that far, and no copy of it is kept. `is_plausible` says whether content without a checksum
    /// can be what it seems: earlier versions wrote nothing but content.
    #[must_use]
    pub fn open(
        data_dir: &Path,
        name: &'static str,
        now: Timestamp,
        matters_for: Duration,
        most: u64,
        is_plausible: impl Fn(&[u8; N]) -> bool,
    ) -> Recovered<N> {
        let path = data_dir.join(name);
        let (slot, recorded) = Slot::open(data_dir, name);
        // One more for the head.
        let max_bytes = most.saturating_add(1).saturating_mul(Self::RECORD_BYTES);
        let read = match read_at_most(&path, max_bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), false)),
            read => read,
        };
        let (bytes, is_too_long) = read.unwrap_or_else(|error| {
            tracing::error!(%error, file = name, "cannot be read; nothing of it is known");
            (vec![0], false)
        });
        let found = scan::<N>(&bytes);
        let last = found.frames.last().map_or(0, |frame| frame.number);
        let mut recovered = if found.frames.is_empty() && recorded.progress().is_none() {
            earlier_version(&bytes, now, is_plausible)
        } else {
            assess(found, recorded, now)
        };
        // A file with records had a number.
        let manifest_lost = match recorded {
            Recorded::Nothing => last > 0,
            Recorded::Damaged => true,
            Recorded::Progress(_) => false,
        };
        let last = last.max(recorded.progress().map_or(0, |progress| progress.last));
        let latest = recovered.latest;
        // A record that a clock far ahead wrote must not end the sessions of every later start.
        let lost_until = recovered.lost_until.map(|at| at.min(now.after(matters_for)));
        let lost_until = lost_until.filter(|at| now < at.after(matters_for));
        let mut damages = Vec::new();
        let damaged = recovered.damaged.take().or_else(|| is_too_long.then_some(Some(0)));
        if let Some(lost) = damaged {
            let aside = (!is_too_long).then(|| copy_aside(&path, now).ok()).flatten();
            let aside = aside.as_deref().map(Path::display);
            tracing::error!(
                file = name,
                lost,
                ?aside,
                "a damaged file: what is left of it is in use, the lost records are gone"
            );
            damages.push(Damage { file: name, lost });
        }
        if manifest_lost {
            damages.push(Damage { file: manifest::FILE_NAME, lost: None });
        }
        let progress = Progress { first: last, last };
        let (file, length) = (None, 0);
        let journal = Self { path, name, slot, file, length, progress, latest, lost_until };
        let lost_until = lost_until.map(|at| at.min(now));
        Recovered { journal, entries: recovered.entries, lost_until, damages }
    }

    /// Replaces the file by `entries`. It is written under another name first, so that a crash loses neither.
    ///
    /// # Errors
    ///
    /// If it cannot be written; the old one is still there then.
    pub fn rewrite<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a [u8; N]>,
        now: Timestamp,
    ) -> io::Result<()> {
        let at = self.latest.max(now);
        let first = self.progress.last.saturating_add(1);
        let mut last = first;
        let lost_until = self.lost_until.map_or(0, Timestamp::as_millis);
        let mut head = [0; N];
        head[..HEAD_BYTES].copy_from_slice(&lost_until.to_be_bytes());
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &Frame { index: 0, number: first, at, content: head });
        for (index, content) in (1..).zip(entries) {
            last += 1;
            write_frame(&mut bytes, &Frame { index, number: last, at, content: *content });
        }
        let temporary = self.path.with_extension("new");
        let written = write_file(&temporary, &bytes).and_then(|file| {
            // From here on the open file may be the one that is gone: nothing must be acknowledged that is only there.
            self.file = None;
            fs::rename(&temporary, &self.path)?;
            if let Some(dir) = self.path.parent() {
                File::open(dir)?.sync_all()?;
            }
            Ok(file)
        });
        if written.is_err() {
            // On a full disk it would take the room that the next attempt needs.
            let _renamed_or_never_made = fs::remove_file(&temporary);
        }
        self.file = Some(written?);
        self.length = bytes.len() as u64;
        self.latest = at;
        self.progress = Progress { first, last };
        self.slot.set(self.progress);
        self.slot.sync();
        Ok(())
    }

    /// Whether the file has to be rewritten before it takes records.
    #[must_use]
    pub const fn needs_rewrite(&self) -> bool {
        self.file.is_none()
    }

    /// Appends records with these contents and waits until they are on disk.
    ///
    /// # Errors
    ///
    /// If they cannot be written: none of them is there then.
    pub fn append(&mut self, contents: &[[u8; N]], now: Timestamp) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("it could not be written when it was opened"));
        };
        let at = self.latest.max(now);
        let mut number = self.progress.last;
        let mut bytes = Vec::with_capacity(contents.len() * Self::RECORD_BYTES as usize);
        for content in contents {
            number += 1;
            let index = u32::try_from(number - self.progress.first).unwrap_or(u32::MAX);
            write_frame(&mut bytes, &Frame { index, number, at, content: *content });
        }
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.latest = at;
                self.progress.last = number;
                self.slot.set(self.progress);
            }
            // Half a record, or one that is not known to be on disk, must not stay.
            Err(_) => {
                let cut = file
                    .set_len(self.length)
                    .and_then(|()| file.seek(io::SeekFrom::Start(self.length)));
                if cut.is_err() {
                    self.file = None;
                }
            }
        }
        written
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Makes every append from now on find the disk full.
    ///
    /// # Errors
    ///
    /// If there is no such device.
    #[cfg(any(test, feature = "test-support"))]
    pub fn fail_writes(&mut self) -> io::Result<()> {
        self.file = Some(OpenOptions::new().write(true).open("/dev/full")?);
        Ok(())
    }
}

/// Writes a new file with `bytes`, and waits until it is on disk.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// The first `most` bytes of a file, and whether it has more.
fn read_at_most(path: &Path, most: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    Read::take(&mut file, most).read_to_end(&mut bytes)?;
    Ok((bytes, file.read(&mut [0])? > 0))
}

struct Assessed<const N: usize> {
    entries: Vec<[u8; N]>,
    latest: Timestamp,
    lost_until: Option<Timestamp>,
    /// Whether the file was damaged, and how many records were lost.
    damaged: Option<Option<u64>>,
}

/// What was lost of a file with `found` in it, of which the manifest says `recorded`.
fn assess<const N: usize>(found: Frames<N>, recorded: Recorded, now: Timestamp) -> Assessed<N> {
    let Frames { frames, gaps } = found;
    let first = frames.first().map_or(0, |frame| frame.number - u64::from(frame.index));
    // A manifest that is behind the file says nothing about its end.
    let recorded =
        recorded.progress().filter(|progress| frames.is_empty() || progress.first >= first);
    let written = recorded.map_or(first, |progress| progress.first);
    let highest = frames.last().map_or(0, |frame| frame.number);
    let last = recorded.map_or(0, |progress| progress.last).max(highest);
    // What is missing at the end was written after what is there, and the clock may have been set back since.
    let written_at = frames.last().map_or(Timestamp::default(), |frame| frame.at);
    let mut lost = 0;
    let mut lost_until = None;
    if written > first || frames.is_empty() {
        // An old copy, or nothing at all: all that was written since is lost.
        lost = last.saturating_sub(written).max(1);
        lost_until = Some(written_at.max(now));
    } else {
        let mut expected = first;
        for frame in &frames {
            if frame.number > expected {
                lost += frame.number - expected;
                lost_until = Some(frame.at);
            }
            expected = frame.number.saturating_add(1);
        }
        // What a crash left of a last record was never acknowledged; without a number that cannot be told.
        let cut_off = last.saturating_add(1).saturating_sub(expected);
        let unclear = recorded.is_none() && gaps && lost == 0;
        if cut_off > 0 || unclear {
            lost += cut_off.max(1);
            lost_until = Some(written_at.max(now));
        }
    }
    let head = frames.first().filter(|frame| frame.index == 0);
    let before = head.and_then(|head| {
        let millis = head.content.first_chunk().copied().map(u64::from_be_bytes)?;
        (millis > 0).then_some(Timestamp::from_millis(millis))
    });
    let damaged = (lost > 0).then_some(Some(lost));
    let latest = written_at.min(now);
    let contents = frames.into_iter().filter(|frame| frame.index > 0);
    let entries = contents.map(|frame| frame.content).collect();
    Assessed { entries, latest, lost_until: lost_until.max(before), damaged }
}

/// Reads a file of which the manifest knows nothing and that has no record: a new one, or one that an earlier
/// version wrote.
fn earlier_version<const N: usize>(
    bytes: &[u8],
    now: Timestamp,
    is_plausible: impl Fn(&[u8; N]) -> bool,
) -> Assessed<N> {
    let mut entries = Vec::new();
    let mut implausible = 0;
    // What a crash left of a last entry was never acknowledged.
    let (chunks, rest) = bytes.as_chunks::<N>();
    for content in chunks {
        if is_plausible(content) {
            entries.push(*content);
        } else {
            implausible += 1;
        }
    }
    if entries.is_empty() && !rest.is_empty() {
        implausible += 1;
    }
    let damaged = (implausible > 0).then_some(Some(implausible));
    let lost_until = damaged.map(|_| now);
    Assessed { entries, latest: Timestamp::default(), lost_until, damaged }
}

/// Finds the records in `bytes`.
fn scan<const N: usize>(bytes: &[u8]) -> Frames<N> {
    let length = HEADER_BYTES + N + SUM_BYTES;
    let (mut frames, mut gaps, mut at) = (Vec::<Frame<N>>::new(), false, 0);
    while at < bytes.len() {
        match bytes.get(at..at + length).and_then(read_frame) {
            Some(frame) => {
                frames.push(frame);
                at += length;
            }
            None => {
                gaps = true;
                at += 1;
            }
        }
    }
    // Of an older writing of the file only what was put back into it can be left.
    let first = |frame: &Frame<N>| frame.number - u64::from(frame.index);
    let newest = frames.iter().map(first).max().unwrap_or(0);
    frames.retain(|frame| first(frame) == newest);
    frames.sort_by_key(|frame| frame.number);
    frames.dedup_by_key(|frame| frame.number);
    Frames { frames, gaps }
}

fn write_frame<const N: usize>(bytes: &mut Vec<u8>, frame: &Frame<N>) {
    let start = bytes.len();
    bytes.extend_from_slice(&MARKER);
    bytes.extend_from_slice(&frame.index.to_be_bytes());
    bytes.extend_from_slice(&frame.number.to_be_bytes());
    bytes.extend_from_slice(&frame.at.as_millis().to_be_bytes());
    bytes.extend_from_slice(&frame.content);
    let sum = crc32fast::hash(bytes.get(start..).unwrap_or_default());
    bytes.extend_from_slice(&sum.to_be_bytes());
}

fn read_frame<const N: usize>(bytes: &[u8]) -> Option<Frame<N>> {
    let rest = bytes.strip_prefix(&MARKER)?;
    let (covered, sum) = bytes.split_last_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (at, rest) = rest.split_first_chunk()?;
    if crc32fast::hash(covered) != u32::from_be_bytes(*sum) {
        return None;
    }
    let frame = Frame {
        index: u32::from_be_bytes(*index),
        number: u64::from_be_bytes(*number),
        at: Timestamp::from_millis(u64::from_be_bytes(*at)),
        content: *rest.first_chunk()?,
    };
    (u64::from(frame.index) < frame.number).then_some(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const NAME: &str = "moves";

    type Content = [u8; 16];

    /// Content of today begins with a zero.
    fn is_plausible(content: &Content) -> bool {
        content[0] == 0
    }

    fn content(number: u8) -> Content {
        let mut content = [number; 16];
        content[0] = 0;
        content
    }

    fn open(dir: &Path, now: Timestamp) -> Recovered<16> {
        Journal::open(dir, NAME, now, DAY, 100, is_plausible)
    }

    fn at(minute: u64) -> Timestamp {
        NOW.after(Duration::from_secs(60 * minute))
    }

    /// Six records: three of the last rewrite, three appended a minute apart.
    fn six(dir: &Path) {
        let mut journal = open(dir, at(0)).journal;
        journal.rewrite(&[1, 2, 3].map(content), at(0)).unwrap();
        for number in 4..=6 {
            journal.append(&[content(number)], at(u64::from(number))).unwrap();
        }
    }

    fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, Recovered<16>) {
        let dir = tempfile::tempdir().unwrap();
        six(dir.path());
        let path = dir.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let found = open(dir.path(), at(60));
        (dir, found)
    }

    const RECORD: usize = Journal::<16>::RECORD_BYTES as usize;

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let (_dir, found) = damaged(|_| {});
        assert_eq!(found.entries, [1, 2, 3, 4, 5, 6].map(content));
        assert_eq!((found.lost_until, found.damages), (None, vec![]));
    }

    /// What was damaged, how many records that costs, and the minute until which some are lost.
    #[test]
    fn what_is_damaged_is_skipped_counted_and_dated() {
        type Damaging = fn(&mut Vec<u8>);
        let cases: [(Damaging, u64, u64); 9] = [
            (|bytes| bytes[RECORD + HEADER_BYTES + 3] ^= 1, 1, 0),
            (|bytes| bytes[4 * RECORD + 9] ^= 1, 1, 5),
            (|bytes| bytes[6 * RECORD] ^= 1, 1, 60),
            (|bytes| bytes[0] ^= 1, 1, 0),
            (|bytes| drop(bytes.drain(2 * RECORD + 5..2 * RECORD + 13)), 1, 0),
            (|bytes| bytes[4 * RECORD..6 * RECORD].fill(0), 2, 6),
            (|bytes| bytes.truncate(5 * RECORD), 2, 60),
            (|bytes| bytes.truncate(5 * RECORD + 7), 2, 60),
            (Vec::clear, 6, 60),
        ];
        for (number, (damage, lost, minute)) in cases.into_iter().enumerate() {
            let (dir, found) = damaged(damage);
            assert_eq!(found.damages, [Damage { file: NAME, lost: Some(lost) }], "{number}");
            assert_eq!(found.lost_until, Some(at(minute)), "{number}");
            // Remembered at later starts, for as long as it can matter.
            let Recovered { mut journal, entries, .. } = found;
            journal.rewrite(&entries, at(60)).unwrap();
            let again = open(dir.path(), at(70));
            assert_eq!((again.lost_until, again.damages), (Some(at(minute)), vec![]), "{number}");
            assert_eq!(again.entries, entries, "{number}");
            assert_eq!(open(dir.path(), at(minute).after(DAY)).lost_until, None, "{number}");
        }
    }

    #[test]
    fn a_missing_file_and_an_old_copy_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        six(dir.path());
        let path = dir.path().join(NAME);
        let old = fs::read(&path).unwrap();
        let Recovered { mut journal, entries, .. } = open(dir.path(), at(10));
        journal.rewrite(&entries, at(10)).unwrap();
        journal.append(&[content(7)], at(11)).unwrap();
        for damage in [Some(old), None] {
            match &damage {
                Some(old) => fs::write(&path, old).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let found = open(dir.path(), at(60));
            assert_eq!(found.damages, [Damage { file: NAME, lost: Some(7) }]);
            assert_eq!(found.lost_until, Some(at(60)));
        }
    }

    #[test]
    fn half_a_record_that_was_never_acknowledged_is_no_loss() {
        let (dir, found) = damaged(|bytes| bytes.extend_from_within(..20));
        assert_eq!((found.entries.len(), found.lost_until, found.damages), (6, None, vec![]));
        // Without a number nobody knows whether it was acknowledged.
        let path = dir.path().join(NAME);
        six(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 5);
        fs::write(&path, bytes).unwrap();
        fs::remove_file(dir.path().join(manifest::FILE_NAME)).unwrap();
        let found = open(dir.path(), at(60));
        assert_eq!(found.lost_until, Some(at(60)));
        let names: Vec<_> = found.damages.iter().map(|damage| damage.file).collect();
        assert_eq!(names, [NAME, manifest::FILE_NAME]);
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read_and_its_damage_noticed() {
        for (written, lost) in [([1, 2, 3].map(content).concat(), 0), (vec![7; 48], 3)] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(NAME), written).unwrap();
            let found = open(dir.path(), NOW);
            assert_eq!(found.entries.len(), if lost == 0 { 3 } else { 0 });
            assert_eq!(found.lost_until.is_some(), lost > 0);
            assert_eq!(found.damages.first().and_then(|one| one.lost).unwrap_or(0), lost);
            let Recovered { mut journal, entries, .. } = found;
            journal.rewrite(&entries, NOW).unwrap();
            assert_eq!(open(dir.path(), NOW).entries, entries);
        }
    }

    #[test]
    fn a_disk_that_takes_nothing_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        six(dir.path());
        let mut journal = open(dir.path(), at(10)).journal;
        assert!(journal.needs_rewrite() && journal.append(&[content(7)], at(10)).is_err());
        assert_eq!(open(dir.path(), at(10)).entries.len(), 6);
    }

    #[test]
    fn a_rewrite_that_fails_half_way_leaves_nothing_and_takes_no_records() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path(), at(0)).journal;
        journal.rewrite(&[1, 2, 3].map(content), at(0)).unwrap();
        let path = dir.path().join(NAME);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        journal.rewrite(&[content(1)], at(1)).unwrap_err();
        assert!(!path.with_extension("new").exists(), "it takes the room of the next attempt");
        // What is open is not what the name stands for.
        assert!(journal.needs_rewrite() && journal.append(&[content(4)], at(1)).is_err());
        fs::remove_dir(&path).unwrap();
        journal.rewrite(&[1, 4].map(content), at(2)).unwrap();
        assert_eq!(open(dir.path(), at(3)).entries, [1, 4].map(content));
    }

    #[test]
    fn of_a_file_that_is_too_long_no_more_is_read_than_it_may_have() {
        let dir = tempfile::tempdir().unwrap();
        six(dir.path());
        let path = dir.path().join(NAME);
        // A sparse file: to read it would take all memory.
        OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let found = open(dir.path(), at(60));
        assert_eq!(found.entries, [1, 2, 3, 4, 5, 6].map(content));
        assert_eq!(
            found.damages,
            [Damage { file: NAME, lost: Some(0) }],
            "named, though all is there"
        );
        assert_eq!(found.lost_until, None);
        let Recovered { mut journal, entries, .. } = found;
        journal.rewrite(&entries, at(60)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 7 * RECORD as u64);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "no copy is kept: the file and the manifest");
    }

    /// Sessions issued by the clock that was ahead are accepted again once this one has caught up.
    #[test]
    fn a_loss_under_a_clock_that_was_set_back_counts_until_the_last_record_later() {
        let dir = tempfile::tempdir().unwrap();
        six(dir.path());
        let path = dir.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - RECORD);
        fs::write(&path, bytes).unwrap();
        let Recovered { mut journal, entries, lost_until, .. } = open(dir.path(), at(2));
        assert_eq!(lost_until, Some(at(2)), "who comes now is after it");
        journal.rewrite(&entries, at(2)).unwrap();
        assert_eq!(open(dir.path(), at(3)).lost_until, Some(at(3)));
        assert_eq!(open(dir.path(), at(60)).lost_until, Some(at(5)), "the last that is there");
    }

    proptest! {
        /// Whatever happens to the bytes: every record that is missing is before the time until which some
        /// are lost, and no record is there that was not written.
        #[test]
        fn no_damage_is_silent(at_byte in 0_usize..500, length in 1_usize..200, kind in 0..5) {
            let (_dir, found) = damaged(|bytes| {
                let start = at_byte.min(bytes.len() - 1);
                let end = (start + length).min(bytes.len());
                match kind {
                    0 => bytes[start] ^= 1 << (length % 8),
                    1 => bytes.truncate(start),
                    2 => bytes[start..end].fill(0),
                    3 => drop(bytes.drain(start..end)),
                    _ => {
                        let copied = bytes[..end - start].to_vec();
                        bytes[start..end].copy_from_slice(&copied);
                    }
                }
            });
            let written_at = |number: u8| at(if number > 3 { u64::from(number) } else { 0 });
            for number in 1..=6 {
                if !found.entries.contains(&content(number)) {
                    prop_assert!(found.lost_until >= Some(written_at(number)), "{number}");
                    prop_assert!(found.damages.iter().any(|one| one.file == NAME && one.lost > Some(0)));
                }
            }
            prop_assert!(found.entries.iter().all(|one| (1..=6).any(|number| content(number) == *one)));
        }
    }
}
