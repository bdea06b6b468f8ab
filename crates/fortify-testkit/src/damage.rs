//! Damage of files: what disks, crashes and restored backups do to bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The contents of a folder's files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Reads the files of a folder.
pub fn files(dir: &Path) -> Files {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().unwrap().is_file());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

/// A new folder with these files, as their owner alone may read them.
pub fn folder(files: &Files) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

/// What `seed` does to a file with these `bytes`, and its name; `None` if it removes the file. The same seed does the
/// same. `old` is what the file had in it some time ago.
pub fn damaged(bytes: &[u8], old: &[u8], seed: u64) -> (&'static str, Option<Vec<u8>>) {
    let mut state = seed;
    // SplitMix64.
    let mut below = |most: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most.max(1) as u64) as usize
    };
    let (mut after, length) = (bytes.to_vec(), bytes.len());
    let block = [16, 512, 4096][below(3)];
    let start = below(length.div_ceil(block)) * block;
    let end = length.min(start + block);
    let what = match below(20) {
        0..=5 if length > 0 => {
            after[below(length)] ^= 1 << below(8);
            "a flipped bit"
        }
        6 | 7 if length > 0 => {
            (0..=below(16)).for_each(|_| after[below(length)] ^= 1 << below(8));
            "flipped bits"
        }
        8..=10 => {
            after.truncate(below(length));
            "cut off"
        }
        11..=13 => {
            after[start..end].fill(0);
            "a block of zeros"
        }
        14 => {
            after[start..end].iter_mut().for_each(|byte| *byte = below(256) as u8);
            "a block of noise"
        }
        15 => {
            after.drain(start..end);
            "a block is missing"
        }
        16 if start < old.len() => {
            let end = end.min(old.len());
            after[start..end].copy_from_slice(&old[start..end]);
            "a block of an old copy"
        }
        17 | 18 => {
            after = old.to_vec();
            "an old copy"
        }
        19 => return ("removed", None),
        _ => {
            after.extend((0..below(5000)).map(|_| 0xa5));
            "noise at the end"
        }
    };
    (what, Some(after))
}
