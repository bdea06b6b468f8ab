//! The JSON of a challenge in Redis, with the field names of the requirements.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::record::{ChallengeRecord, Receipt, Secret, Taken};
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;

/// The most bytes of a value; a usual one has about 300.
const MAX_BYTES: usize = 4096;

/// The first byte of a challenge, which is a JSON object.
pub(super) const CHALLENGE: &str = "{";

/// The first byte of what stands at a challenge's key while an answer to it is being checked.
const PENDING: &str = "~";

/// The first byte of a receipt, which stands at the key of a challenge that was answered rightly: a JSON list.
const RECEIPT: &str = "[";

/// What stands at a challenge's key until `until` while an answer to it is being checked.
pub(super) fn pending(until: Timestamp) -> String {
    format!("{PENDING}{}", until.as_millis())
}

/// The value of a challenge's key.
///
/// Times are in seconds, as the requirement says, with a fraction where needed: a double is precise enough to restore a
/// millisecond of this era. Fields that the requirement does not name are in a list without names: with 316 bytes a
/// value fits into an allocation of 320 bytes, the next larger size is 384, and there are a hundred thousand values.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    answer: Cow<'a, str>,
    variant: Cow<'a, str>,
    level: u8,
    mode: Cow<'a, str>,
    #[serde(borrow)]
    seed: Cow<'a, str>,
    /// Since the Unix epoch.
    created_at: Seconds,
    circuit_id: CircuitTag,
    /// From `created_at`.
    ttl: Seconds,
    /// The kind wished for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wish: Option<Cow<'a, str>>,
    /// The last field, so that the run is at the end of the value.
    draw: StoredRendering<'a>,
}

/// The other values for the picture: carrier, length, renderer, style period (its start, in seconds since the
/// Unix epoch), decoy; and the run of the server that took it.
#[derive(Serialize, Deserialize)]
struct StoredRendering<'a>(
    Cow<'a, str>,
    u8,
    u16,
    u64,
    Option<Cow<'a, str>>,
    /// What was stored by an earlier version has none.
    #[serde(default)]
    Cow<'a, str>,
);

/// The place of the run, which the script puts there (`scripts`).
const NO_RUN: &str = "000000";

/// A time as a JSON number of seconds: an integer if it is whole, otherwise a fraction.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(u64),
    Fraction(f64),
}

impl Seconds {
    fn of_millis(millis: u64) -> Self {
        match millis % 1000 {
            0 => Self::Whole(millis / 1000),
            _ => Self::Fraction(millis as f64 / 1000.0),
        }
    }

    /// Whole milliseconds; `None` for a number that is not a time.
    fn millis(self) -> Option<u64> {
        /// A thousand years. Beyond that, a double no longer distinguishes milliseconds.
        const MOST: f64 = 32e9;
        let seconds = match self {
            Self::Whole(seconds) => seconds as f64,
            Self::Fraction(seconds) => seconds,
        };
        (0.0..=MOST).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
    }
}

/// The value of `record`'s key.
///
/// # Errors
///
/// Never for a record: JSON can represent all of its fields.
pub(super) fn write(record: &ChallengeRecord) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let seed = Zeroizing::new(URL_SAFE_NO_PAD.encode(record.seed.expose()));
    serde_json::to_vec(&Stored {
        answer: Cow::Borrowed(record.answer.expose()),
        variant: Cow::Borrowed(&record.variant),
        level: record.level,
        mode: Cow::Borrowed(&record.mode),
        seed: Cow::Borrowed(&seed),
        created_at: Seconds::of_millis(record.created_at.as_millis()),
        circuit_id: record.circuit,
        ttl: Seconds::of_millis(
            record.expires_at.as_millis().saturating_sub(record.created_at.as_millis()),
        ),
        draw: StoredRendering(
            Cow::Borrowed(&record.carrier),
            record.length,
            record.renderer,
            record.style_period,
            record.decoy.as_ref().map(|decoy| Cow::Borrowed(decoy.expose().as_str())),
            Cow::Borrowed(NO_RUN),
        ),
        wish: record.wish.as_deref().map(Cow::Borrowed),
    })
    .map(Zeroizing::new)
}

/// The value of the key of a challenge that was answered rightly: a list of one receipt.
///
/// # Errors
///
/// Never for a receipt: JSON can represent all of its fields.
pub(super) fn write_receipt(receipt: &Receipt) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    serde_json::to_vec(&[receipt]).map(Zeroizing::new)
}

/// What the value of a challenge's key means at `now`; `None` for anything that Fortify does not write.
pub(super) fn read_taken(value: &[u8], now: Timestamp) -> Option<Taken> {
    if let Some(until) = value.strip_prefix(PENDING.as_bytes()) {
        let until = str::from_utf8(until).ok()?.parse().ok().map(Timestamp::from_millis)?;
        return Some(if now < until { Taken::Pending } else { Taken::Absent });
    }
    if value.starts_with(RECEIPT.as_bytes()) && value.len() <= MAX_BYTES {
        let [receipt] = serde_json::from_slice::<[Receipt; 1]>(value).ok()?;
        let kept = now < receipt.expires_at;
        return Some(if kept { Taken::Answered(receipt) } else { Taken::Absent });
    }
    read(value).map(Taken::Challenge)
}

/// Parses `value`; `None` for anything that [`write`] does not write.
pub(super) fn read(value: &[u8]) -> Option<ChallengeRecord> {
    if value.len() > MAX_BYTES {
        return None;
    }
    let stored: Stored<'_> = serde_json::from_slice(value).ok()?;
    let seed = Zeroizing::new(URL_SAFE_NO_PAD.decode(stored.seed.as_bytes()).ok()?);
    let created_at = Timestamp::from_millis(stored.created_at.millis()?);
    let ttl = Duration::from_millis(stored.ttl.millis()?);
    let StoredRendering(carrier, length, renderer, style_period, decoy, _run) = stored.draw;
    Some(ChallengeRecord {
        variant: Cow::Owned(stored.variant.into_owned()),
        carrier: Cow::Owned(carrier.into_owned()),
        mode: Cow::Owned(stored.mode.into_owned()),
        level: stored.level,
        length,
        seed: Secret::new(seed.as_slice().try_into().ok()?),
        answer: Secret::new(stored.answer.into_owned()),
        decoy: decoy.map(|decoy| Secret::new(decoy.into_owned())),
        wish: stored.wish.map(|wish| Cow::Owned(wish.into_owned())),
        renderer,
        style_period,
        circuit: stored.circuit_id,
        created_at,
        expires_at: created_at.after(ttl),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn the_value_has_the_required_names_and_reads_back() {
        for millis in [0, 1, 999, 123] {
            let created_at = Timestamp::from_millis(contract::START.as_millis() + millis);
            let record = ChallengeRecord {
                created_at,
                decoy: Some(Secret::new("t:BBBB".to_owned())),
                wish: Some(Cow::Borrowed("letters")),
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
            // Where the script writes.
            assert!(value.ends_with(b"\"000000\"]}"));
            let again = read(&value).unwrap();
            assert_eq!(again.created_at, record.created_at);
            assert_eq!(again.expires_at, record.expires_at);
            assert_eq!(again.seed, record.seed);
            assert_eq!(again.answer, record.answer);
            assert_eq!((&again.decoy, &again.wish), (&record.decoy, &record.wish));
            assert_eq!((&again.variant, &again.carrier), (&record.variant, &record.carrier));
            assert_eq!((&again.mode, again.level), (&record.mode, record.level));
            assert_eq!((again.length, again.renderer), (record.length, record.renderer));
            assert_eq!(again.style_period, record.style_period);
            assert_eq!(again.circuit, record.circuit);
        }
    }

    #[test]
    fn the_largest_value_fits_the_allocation_it_is_meant_for() {
        let created_at = Timestamp::from_millis(contract::START.as_millis() + 123);
        let record = ChallengeRecord {
            level: 10,
            length: 8,
            carrier: Cow::Borrowed("motion"),
            answer: Secret::new("t:ACDEFHKL".to_owned()),
            decoy: Some(Secret::new("t:ACDEFHKL".to_owned())),
            renderer: 12,
            style_period: 1_799_971_200,
            created_at,
            ..contract::record(created_at.after(Duration::from_secs(300)))
        };
        assert!(write(&record).unwrap().len() <= 316, "{}", write(&record).unwrap().len());
    }

    #[test]
    fn what_is_no_challenge_does_not_read() {
        let good = write(&contract::record(contract::START)).unwrap();
        let good = String::from_utf8(good.to_vec()).unwrap();
        assert!(read(good.as_bytes()).is_some());
        // As an earlier version wrote it.
        assert!(read(good.replace(",\"000000\"]", "]").as_bytes()).is_some());
        let bad = [
            String::new(),
            "{}".to_owned(),
            "null".to_owned(),
            good[..good.len() - 1].to_owned(),
            good.replace("\"ttl\":", "\"tt\":"),
            good.replace("\"ttl\":0", "\"ttl\":-1"),
            good.replace("\"ttl\":0", "\"ttl\":1e300"),
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
