//! The start of the learning period: a new installation does not act on findings in its first day.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use fortify_core::clock::Timestamp;

/// The length of the learning period: one day, as the requirements say, which covers every hour once.
pub const FIRST_DAY: Duration = Duration::from_secs(86_400);

/// The file in the data directory, which contains seconds since the Unix epoch.
const FILE_NAME: &str = "watching-since";

/// Reads the start of the learning period from `data_dir`, or sets it to `now` if it is missing, invalid or in the
/// future.
///
/// # Errors
///
/// Fails if the file can be neither read nor created.
pub fn watching_since(data_dir: &Path, now: Timestamp) -> io::Result<Timestamp> {
    let path = data_dir.join(FILE_NAME);
    let written = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().ok().map(Timestamp::from_secs),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(since) = written.filter(|since| *since <= now) {
        return Ok(since);
    }
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{}", now.as_secs())?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_is_remembered_and_a_broken_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = Timestamp::from_secs(1_800_000_000);
        let later = first.after(FIRST_DAY);
        assert_eq!(watching_since(dir.path(), first).unwrap(), first);
        assert_eq!(watching_since(dir.path(), later).unwrap(), first);
        assert_eq!(
            watching_since(dir.path(), first.before(FIRST_DAY)).unwrap(),
            first.before(FIRST_DAY)
        );
        fs::write(dir.path().join(FILE_NAME), "yesterday").unwrap();
        assert_eq!(watching_since(dir.path(), later).unwrap(), later);
        assert_eq!(watching_since(dir.path(), later.after(FIRST_DAY)).unwrap(), later);
        assert!(watching_since(Path::new("/nowhere"), first).is_err());
    }
}
