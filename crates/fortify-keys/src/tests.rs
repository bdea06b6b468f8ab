use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

use super::*;
use fortify_core::clock::ManualClock;
use fortify_core::entropy::SystemEntropy;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn open(dir: &Path) -> Result<KeyRing, KeyRingError> {
    KeyRing::open(dir, &ManualClock::at(NOW), &SystemEntropy)
}

fn signed(ring: &KeyRing, purpose: Purpose) -> String {
    ring.sign(purpose, &BTreeMap::from([("is", "claims")])).unwrap()
}

fn verifies(ring: &KeyRing, purpose: Purpose, text: &str) -> bool {
    let verified = ring.verify::<BTreeMap<String, String>>(purpose, text);
    verified.is_some_and(|v| v.claims["is"] == "claims")
}

#[test]
fn the_first_start_makes_keys_that_only_the_owner_reads() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let ring = open(&data).unwrap();
    let mode = fs::metadata(data.join(FILE_NAME)).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "a temporary file stayed");

    let text = signed(&ring, Purpose::Session);
    let again = open(&data).unwrap();
    assert!(verifies(&again, Purpose::Session, &text));
}

#[test]
fn a_value_signed_for_one_purpose_is_nothing_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path()).unwrap();
    let text = signed(&ring, Purpose::CarriedForm);
    assert!(verifies(&ring, Purpose::CarriedForm, &text));
    assert!(!verifies(&ring, Purpose::Session, &text));
}

#[test]
fn rotation_signs_with_a_new_key_and_lets_the_old_one_verify_for_its_lifetime() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW);
    let running = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
    let old = signed(&running, Purpose::Session);

    let operator = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
    operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    assert!(running.refresh().unwrap(), "the running gate did not notice");
    assert!(!running.refresh().unwrap(), "read again without a change");
    assert_eq!(running.list().len(), 2);
    assert!(verifies(&running, Purpose::Session, &old));
    let new = signed(&running, Purpose::Session);
    assert!(verifies(&operator, Purpose::Session, &new));

    clock.advance(HOUR);
    operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    assert!(!verifies(&operator, Purpose::Session, &old), "a dead key verified");
    assert!(verifies(&operator, Purpose::Session, &new));
    while operator.list().len() < MAX_KEYS {
        operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    }
    let full = operator.rotate(HOUR, &clock, &SystemEntropy);
    assert!(matches!(full, Err(KeyRingError::Full(_))), "a live key was dropped");
    assert!(verifies(&operator, Purpose::Session, &new));
    clock.advance(HOUR);
    operator.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    assert_eq!(operator.list().len(), 2);
}

/// Rings of two nodes that were given the same file, and their folders.
fn two_nodes() -> [(KeyRing, tempfile::TempDir); 2] {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    open(first.path()).unwrap();
    fs::copy(first.path().join(FILE_NAME), second.path().join(FILE_NAME)).unwrap();
    [first, second].map(|dir| (open(dir.path()).unwrap(), dir))
}

#[test]
fn a_rotation_on_one_node_holds_on_the_other_at_once_and_the_other_follows() {
    let [(one, _one_dir), (two, _two_dir)] = two_nodes();
    let clock = ManualClock::at(NOW);
    let before = signed(&two, Purpose::Session);
    one.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    let after = signed(&one, Purpose::Session);
    for purpose in [Purpose::Session, Purpose::CarriedForm, Purpose::Ticket, Purpose::Stage] {
        assert!(verifies(&two, purpose, &signed(&one, purpose)), "before it heard of it");
        assert!(verifies(&one, purpose, &signed(&two, purpose)), "after the rotation");
    }
    assert!(!verifies(&two, Purpose::Stage, &after));

    clock.advance(Duration::from_secs(5));
    assert!(two.follow(one.note(), HOUR, &clock, &SystemEntropy).unwrap());
    assert!(!two.follow(one.note(), HOUR, &clock, &SystemEntropy).unwrap(), "followed twice");
    assert_eq!((two.note(), two.list()), (one.note(), one.list()), "retired at the same moment");
    for text in [&before, &after, &signed(&two, Purpose::Session)] {
        assert!(verifies(&one, Purpose::Session, text) && verifies(&two, Purpose::Session, text));
    }
    assert!(!one.follow(two.note(), HOUR, &clock, &SystemEntropy).unwrap());

    // A node that was away while the key before ended.
    let (late, _late_dir) = {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(_two_dir.path().join(FILE_NAME), dir.path().join(FILE_NAME)).unwrap();
        (open(dir.path()).unwrap(), dir)
    };
    one.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    clock.advance(HOUR);
    assert!(late.follow(one.note(), HOUR, &clock, &SystemEntropy).unwrap());
    assert!(!verifies(&late, Purpose::Session, &after));
}

#[test]
fn a_node_with_another_root_or_far_ahead_is_not_followed() {
    let [(one, _one_dir), (two, _two_dir)] = two_nodes();
    let clock = ManualClock::at(NOW);
    let stranger_dir = tempfile::tempdir().unwrap();
    let stranger = open(stranger_dir.path()).unwrap();
    stranger.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    assert_ne!(stranger.note().root, one.note().root);
    assert!(!verifies(&one, Purpose::Session, &signed(&stranger, Purpose::Session)));
    assert!(!one.follow(stranger.note(), HOUR, &clock, &SystemEntropy).unwrap());

    for (period, is_followed) in [(0, false), (1, false), (10, false), (u32::MAX, false), (9, true)]
    {
        let note = KeyNote { period, ..one.note() };
        let followed = two.follow(note, HOUR, &clock, &SystemEntropy).unwrap();
        assert_eq!(followed, is_followed, "{period}");
    }
    // Nobody signs in a period that is far ahead, whoever may write into the shared store.
    let far = signed(&two, Purpose::Session);
    two.rotate(HOUR, &clock, &SystemEntropy).unwrap();
    assert!(verifies(&one, Purpose::Session, &far), "eight ahead");
    assert!(!verifies(&one, Purpose::Session, &signed(&two, Purpose::Session)), "nine ahead");
}

#[test]
fn a_file_without_a_root_signs_on_and_gets_the_same_root_everywhere() {
    let [(one, one_dir), (_, two_dir)] = two_nodes();
    drop(one);
    let [key, secret] = [text_of(&[7; 32]), text_of(&[8; 32])];
    let text = format!(
        r#"{{"version":1,"pseudonym_key":"{key}","keys":[{{"id":"Zm9ydGlm","secret":"{secret}","created_at":{0},"retired_at":null}}]}}"#,
        NOW.as_millis()
    );
    let [one, two] = [&one_dir, &two_dir].map(|dir| {
        fs::write(dir.path().join(FILE_NAME), &text).unwrap();
        open(dir.path()).unwrap()
    });
    let old = signed(&one, Purpose::Session);
    one.rotate(HOUR, &ManualClock::at(NOW), &SystemEntropy).unwrap();
    let new = signed(&one, Purpose::Session);
    for ring in [&one, &two] {
        assert!(verifies(ring, Purpose::Session, &old) && verifies(ring, Purpose::Session, &new));
    }
    assert!(two.follow(one.note(), HOUR, &ManualClock::at(NOW), &SystemEntropy).unwrap());
    assert_eq!(two.list(), one.list());
    assert!(verifies(&open(one_dir.path()).unwrap(), Purpose::Session, &old));
}

mod as_root {
    use super::*;

    /// Only root can give a file away, and only for root does it matter.
    #[test]
    #[ignore = "needs root: make test runs it where it can"]
    fn a_rotation_by_root_leaves_the_keys_to_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).expect("needs root");
        ring.rotate(HOUR, &ManualClock::at(NOW), &SystemEntropy).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12_345, 54_321, 0o600));
    }
}

#[test]
fn whoever_only_looks_makes_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(KeyRing::load(dir.path()), Err(KeyRingError::Missing(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn rotation_leaves_circuits_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path()).unwrap();
    let before = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    ring.rotate(HOUR, &ManualClock::at(NOW), &SystemEntropy).unwrap();
    let after = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    let key = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["pseudonym_key"].clone()
    };
    assert_eq!(key(&before), key(&after));
}

#[test]
fn keys_that_others_may_read_are_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    let path = dir.path().join(FILE_NAME);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let message = open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("0640") && message.contains("chmod 600"), "{message}");
}

#[test]
fn a_broken_file_is_refused_without_showing_it_and_kept_in_use_as_it_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path()).unwrap();
    let text = signed(&ring, Purpose::Session);
    let path = dir.path().join(FILE_NAME);
    let whole = fs::read_to_string(&path).unwrap();
    for broken in ["", "{}", "[]", "secretsecret", &whole[..whole.len() / 2]] {
        fs::write(&path, broken).unwrap();
        let message = ring.refresh().unwrap_err().to_string();
        assert!(message.contains("keys.json") && !message.contains("secretsecret"));
        assert!(verifies(&ring, Purpose::Session, &text));
    }
}

#[test]
fn a_folder_that_cannot_be_made_says_which_key_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let message = open(&file.join("data")).unwrap_err().to_string();
    assert!(message.contains("storage.data_dir"), "{message}");
}

#[test]
fn two_first_starts_at_once_agree_on_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let rings: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| open(dir.path()).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let text = signed(&rings[0], Purpose::Session);
    assert!(rings.iter().all(|ring| verifies(ring, Purpose::Session, &text)));
}
