//! A challenge as Redis holds it: JSON with the names that the requirement gives.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::pseudonym::CircuitTag;
use crate::store::record::{ChallengeRecord, Secret};

/// Bytes that a value may have: a written one has about 300.
const MAX_BYTES: usize = 4096;

/// The value of a challenge's key.
///
/// Times are in seconds, with fractions, as the requirement counts them: a double holds a
/// millisecond of this era exactly enough to give it back.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    answer: Cow<'a, str>,
    variant: Cow<'a, str>,
    carrier: Cow<'a, str>,
    level: u8,
    mode: Cow<'a, str>,
    length: u8,
    #[serde(borrow)]
    seed: Cow<'a, str>,
    /// Seconds since the Unix epoch.
    created_at: f64,
    circuit_id: CircuitTag,
    /// Seconds from `created_at`.
    ttl: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decoy: Option<Cow<'a, str>>,
    renderer: u16,
    style_epoch: u64,
}

/// The value of `record`'s key.
///
/// # Errors
///
/// Never, for a record: the type has nothing that JSON cannot say.
pub(super) fn write(record: &ChallengeRecord) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let seed = Zeroizing::new(URL_SAFE_NO_PAD.encode(record.seed.expose()));
    serde_json::to_vec(&Stored {
        answer: Cow::Borrowed(record.answer.expose()),
        variant: Cow::Borrowed(&record.variant),
        carrier: Cow::Borrowed(&record.carrier),
        level: record.level,
        mode: Cow::Borrowed(&record.mode),
        length: record.length,
        seed: Cow::Borrowed(&seed),
        created_at: seconds(record.created_at.as_millis()),
        circuit_id: record.circuit,
        ttl: record.created_at.until(record.expires_at).as_secs_f64(),
        decoy: record.decoy.as_ref().map(|decoy| Cow::Borrowed(decoy.expose().as_str())),
        renderer: record.renderer,
        style_epoch: record.style_epoch,
    })
    .map(Zeroizing::new)
}

/// The record that `value` is; `None` for anything that [`write`] does not write.
pub(super) fn read(value: &[u8]) -> Option<ChallengeRecord> {
    if value.len() > MAX_BYTES {
        return None;
    }
    let stored: Stored<'_> = serde_json::from_slice(value).ok()?;
    let seed = Zeroizing::new(URL_SAFE_NO_PAD.decode(stored.seed.as_bytes()).ok()?);
    let created_at = Timestamp::from_millis(millis(stored.created_at)?);
    let ttl = Duration::from_millis(millis(stored.ttl)?);
    Some(ChallengeRecord {
        variant: Cow::Owned(stored.variant.into_owned()),
        carrier: Cow::Owned(stored.carrier.into_owned()),
        mode: Cow::Owned(stored.mode.into_owned()),
        level: stored.level,
        length: stored.length,
        seed: Secret::new(seed.as_slice().try_into().ok()?),
        answer: Secret::new(stored.answer.into_owned()),
        decoy: stored.decoy.map(|decoy| Secret::new(decoy.into_owned())),
        renderer: stored.renderer,
        style_epoch: stored.style_epoch,
        circuit: stored.circuit_id,
        created_at,
        expires_at: created_at.after(ttl),
    })
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// Whole milliseconds; `None` for what is no time.
fn millis(seconds: f64) -> Option<u64> {
    /// A thousand years, s: beyond it a double no longer tells milliseconds apart.
    const MOST: f64 = 32e9;
    (0.0..=MOST).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[test]
    fn the_value_has_the_required_names_and_reads_back() {
        for millis in [0, 1, 999, 123] {
            let created_at = Timestamp::from_millis(contract::START.as_millis() + millis);
            let record = ChallengeRecord {
                created_at,
                decoy: Some(Secret::new("t:BBBB".to_owned())),
                ..contract::record(created_at.after(Duration::from_millis(299_999)))
            };
            let value = write(&record).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&value).unwrap();
            for name in
                ["answer", "variant", "level", "mode", "seed", "created_at", "circuit_id", "ttl"]
            {
                assert!(json.get(name).is_some(), "{name}");
            }
            assert_eq!(json["ttl"], 299.999);
            let again = read(&value).unwrap();
            assert_eq!(again.created_at, record.created_at);
            assert_eq!(again.expires_at, record.expires_at);
            assert_eq!(again.seed, record.seed);
            assert_eq!(again.answer, record.answer);
            assert_eq!(again.decoy, record.decoy);
            assert_eq!((&again.variant, &again.carrier), (&record.variant, &record.carrier));
            assert_eq!((&again.mode, again.level), (&record.mode, record.level));
            assert_eq!((again.length, again.renderer), (record.length, record.renderer));
            assert_eq!(again.style_epoch, record.style_epoch);
            assert_eq!(again.circuit, record.circuit);
        }
    }

    #[test]
    fn what_is_no_challenge_does_not_read() {
        let good = write(&contract::record(contract::START)).unwrap();
        let good = String::from_utf8(good.to_vec()).unwrap();
        assert!(read(good.as_bytes()).is_some());
        let bad = [
            String::new(),
            "{}".to_owned(),
            "null".to_owned(),
            good[..good.len() - 1].to_owned(),
            good.replace("\"ttl\":", "\"tt\":"),
            good.replace("\"ttl\":0.0", "\"ttl\":-1"),
            good.replace("\"ttl\":0.0", "\"ttl\":1e300"),
            good.replace("\"level\":5", "\"level\":256"),
            good.replace("\"seed\":\"B", "\"seed\":\"?"),
            format!("{good}{}", " ".repeat(MAX_BYTES)),
        ];
        for bad in bad {
            assert_ne!(bad, good);
            assert!(read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
