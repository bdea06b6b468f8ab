//! A form that met the challenge, on its way through it.
//!
//! Nothing of it is kept here: its fields travel in the challenge page and come back with the
//! answer. They are signed, because the page that sends them on comes from this origin, and what
//! the backend then sees passes for the visitor's own request: only a form that this circuit itself
//! sent, from a page of this site, may take that way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::form::{self, Fields};
use crate::return_to::ReturnTo;
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::pseudonym::CircuitTag;
use fortify_keys::{KeyRing, Purpose};

/// Bytes of a form that is carried: the requirement's figure. Larger ones are sent again.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// Bytes of a form's seal: base64 and the rest of the claims around [`MAX_FORM_BYTES`], within what
/// an answer's form may have.
const MAX_SEALED_BYTES: usize = 24 * 1024;

/// How long a form may be on its way: three challenges of five minutes.
const LIFETIME: Duration = Duration::from_secs(900);

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    circuit_id: CircuitTag,
    issued_at: Timestamp,
    action: String,
    body: String,
}

/// A form to be sent on: where to, and its fields.
pub struct CarriedForm {
    /// The address it was sent to.
    pub action: ReturnTo,
    /// Its fields in their order.
    pub fields: Fields,
}

/// Signs a form for its way through the challenge page; `None` when it is not one that can take
/// this way unchanged.
#[must_use]
pub fn seal(
    keys: &KeyRing,
    clock: &dyn Clock,
    circuit: CircuitTag,
    action: &ReturnTo,
    body: &[u8],
) -> Option<String> {
    if body.len() > MAX_FORM_BYTES {
        return None;
    }
    form::parse(body)?;
    let claims = Claims {
        circuit_id: circuit,
        issued_at: clock.now(),
        action: action.as_str().to_owned(),
        body: std::str::from_utf8(body).ok()?.to_owned(),
    };
    // What JSON has to escape doubles: the form may be small enough and its seal too large.
    keys.sign(Purpose::CarriedForm, &claims).ok().filter(|sealed| sealed.len() <= MAX_SEALED_BYTES)
}

/// The form in `sealed`, if this circuit sealed it and not too long ago.
#[must_use]
pub fn open(
    keys: &KeyRing,
    clock: &dyn Clock,
    circuit: CircuitTag,
    sealed: &str,
) -> Option<CarriedForm> {
    let verified = keys.verify::<Claims>(Purpose::CarriedForm, sealed)?;
    let (claims, now) = (&verified.claims, clock.now());
    if !verified.is_in_force(claims.issued_at, LIFETIME, now) || claims.circuit_id != circuit {
        return None;
    }
    let fields = form::parse(claims.body.as_bytes())?;
    Some(CarriedForm { action: ReturnTo::parse(&claims.action), fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::clock::ManualClock;
    use fortify_core::entropy::SystemEntropy;

    const CIRCUIT: CircuitTag = CircuitTag::from_bytes([1; 16]);

    fn fixture() -> (tempfile::TempDir, KeyRing, ManualClock) {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let keys = KeyRing::open(dir.path(), &clock, &SystemEntropy).unwrap();
        (dir, keys, clock)
    }

    #[test]
    fn a_form_comes_out_as_it_went_in() {
        let (_dir, keys, clock) = fixture();
        let action = ReturnTo::parse("/guestbook?page=2");
        let sealed = seal(&keys, &clock, CIRCUIT, &action, b"name=A+%C3%A9&text=1%0D%0A2").unwrap();
        let form = open(&keys, &clock, CIRCUIT, &sealed).unwrap();
        assert_eq!(form.action, action);
        let expected = [("name", "A é"), ("text", "1\r\n2")];
        assert!(form.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(expected));
    }

    #[test]
    fn a_form_is_its_circuits_alone_and_not_for_ever() {
        let (_dir, keys, clock) = fixture();
        let sealed = seal(&keys, &clock, CIRCUIT, &ReturnTo::parse("/a"), b"a=1").unwrap();
        assert!(open(&keys, &clock, CircuitTag::from_bytes([2; 16]), &sealed).is_none());
        assert!(open(&keys, &clock, CIRCUIT, &sealed[1..]).is_none());
        assert!(open(&keys, &clock, CIRCUIT, "").is_none());
        keys.rotate(LIFETIME, &clock, &SystemEntropy).unwrap();
        assert!(open(&keys, &clock, CIRCUIT, &sealed).is_some(), "a rotation lost a form");
        clock.advance(LIFETIME);
        assert!(open(&keys, &clock, CIRCUIT, &sealed).is_none());
    }

    #[test]
    fn the_largest_form_fits_and_a_larger_one_is_not_carried() {
        let (_dir, keys, clock) = fixture();
        let action = ReturnTo::parse("/a");
        let largest = format!("a={}", "x".repeat(MAX_FORM_BYTES - 2));
        let sealed = seal(&keys, &clock, CIRCUIT, &action, largest.as_bytes()).unwrap();
        assert!(open(&keys, &clock, CIRCUIT, &sealed).is_some());
        let doubled = "\"".repeat(MAX_FORM_BYTES);
        assert!(seal(&keys, &clock, CIRCUIT, &action, doubled.as_bytes()).is_none());
        let larger = format!("{largest}x");
        assert!(seal(&keys, &clock, CIRCUIT, &action, larger.as_bytes()).is_none());
    }
}
