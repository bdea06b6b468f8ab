//! The start of the learning period: a new installation does not act on findings in its first day.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;

/// The length of the learning period: one day, as the requirements say, which covers every hour once.
pub const FIRST_DAY: Duration = Duration::from_secs(86_400);

/// The file in the data directory: the version of its format, seconds since the Unix epoch, and the checksum of
/// both. Earlier versions wrote the seconds alone.
const FILE_NAME: &str = "watching-since";

/// No earlier version ran before: November 2023. A part of a number would be the start of a period long over.
const FIRST_POSSIBLE: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Reads the start of the learning period from `data_dir`, or sets it to `now` if it is missing, damaged or in the
/// future; and says if it was damaged. If the file cannot be used at all, the period begins at every start.
pub fn watching_since(data_dir: &Path, now: Timestamp) -> (Timestamp, Option<Damage>) {
    let path = data_dir.join(FILE_NAME);
    let (since, damaged) = match fs::read(&path).map(|bytes| parse(&bytes)) {
        Ok(Some(since)) => (Some(since), false),
        Ok(None) => (None, true),
        Err(error) => (None, error.kind() != io::ErrorKind::NotFound),
    };
    let damage = damaged.then(|| {
        tracing::error!(file = FILE_NAME, "damaged: the learning period begins again");
        Damage { file: FILE_NAME, lost: Some(1) }
    });
    if let Some(since) = since.filter(|since| *since <= now) {
        return (since, damage);
    }
    if let Err(error) = write(&path, now) {
        tracing::error!(%error, file = FILE_NAME, "cannot be written: the learning period begins at every start");
    }
    (now, damage)
}

fn write(path: &Path, since: Timestamp) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{}", text(since))
}

fn text(since: Timestamp) -> String {
    let line = format!("1 {}", since.as_secs());
    format!("{line} {:08x}", crc32fast::hash(line.as_bytes()))
}

fn parse(bytes: &[u8]) -> Option<Timestamp> {
    let line = str::from_utf8(bytes).ok()?.trim_end();
    let seconds = line.split(' ').nth(1).unwrap_or(line);
    let since = Timestamp::from_secs(seconds.parse().ok()?);
    (line == seconds && FIRST_POSSIBLE <= since || line == text(since)).then_some(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_is_remembered_and_a_broken_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let first = Timestamp::from_secs(1_800_000_000);
        let later = first.after(FIRST_DAY);
        assert_eq!(watching_since(dir.path(), first), (first, None));
        assert_eq!(watching_since(dir.path(), later), (first, None));
        let earlier = first.before(FIRST_DAY);
        assert_eq!(watching_since(dir.path(), earlier), (earlier, None), "the clock was set back");
        let damage = Some(Damage { file: FILE_NAME, lost: Some(1) });
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() - 1 {
            let mut bytes = good.clone();
            bytes[at] ^= 0x80 >> (at % 8);
            fs::write(&path, bytes).unwrap();
            assert_eq!(watching_since(dir.path(), later), (later, damage), "byte {at}");
            assert_eq!(watching_since(dir.path(), later.after(FIRST_DAY)), (later, None));
        }
        for cut in 0..good.len() - 1 {
            fs::write(&path, &good[..cut]).unwrap();
            assert_eq!(watching_since(dir.path(), later), (later, damage), "cut at {cut}");
        }
        fs::write(&path, "1800000000\n").unwrap();
        assert_eq!(watching_since(dir.path(), later), (first, None), "of an earlier version");
        assert_eq!(watching_since(Path::new("/nowhere"), first), (first, None));
    }
}
