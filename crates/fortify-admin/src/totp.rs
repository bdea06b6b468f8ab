//! Time-based one-time codes: RFC 6238 with SHA-1, 30 seconds and six digits, which every authenticator app
//! supports.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use fortify_core::clock::Timestamp;
use fortify_store::record::Secret;

/// The length of a secret in bytes: RFC 4226, section 4, recommends 160 bits.
pub const SECRET_BYTES: usize = 20;

/// How long a code is valid, in seconds.
const STEP_SECONDS: u64 = 30;

/// Steps before and after the current one that are valid too, for inaccurate clocks and slow circuits. RFC 6238,
/// section 5.2, recommends at most one.
const TOLERATED: u64 = 1;

/// The alphabet of RFC 4648's base 32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A secret that an app and the gate share.
pub type TotpSecret = Secret<[u8; SECRET_BYTES]>;

/// The code of one step.
fn code(secret: &TotpSecret, step: u64) -> String {
    let mut block = [0; 64];
    let (head, _padding) = block.split_at_mut(SECRET_BYTES);
    head.copy_from_slice(secret.expose());
    // HMAC pads a shorter key with zeros anyway, and no key of the block's length is rejected.
    let mut mac = <Hmac<Sha1> as KeyInit>::new(&block.into());
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last().copied().unwrap_or(0) & 15);
    let four = digest.get(offset..offset + 4).and_then(|four| four.try_into().ok());
    let number = u32::from_be_bytes(four.unwrap_or_default()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// The step whose code is `text`, if it is valid at `now` and later than the step `used`.
#[must_use]
pub fn step_of(secret: &TotpSecret, text: &str, used: u64, now: Timestamp) -> Option<u64> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).take(7).collect();
    let present = now.as_secs() / STEP_SECONDS;
    let steps = present.saturating_sub(TOLERATED)..=present.saturating_add(TOLERATED);
    let mut found = None;
    for step in steps {
        let is: bool = code(secret, step).as_bytes().ct_eq(text.as_bytes()).into();
        if is && step > used {
            found = Some(step);
        }
    }
    found
}

/// The code at `now`, for tests.
#[must_use]
pub fn code_at(secret: &TotpSecret, now: Timestamp) -> String {
    code(secret, now.as_secs() / STEP_SECONDS)
}

/// The secret in the form that apps accept.
#[must_use]
pub fn base32(secret: &TotpSecret) -> String {
    let (mut text, mut bits, mut have) = (String::new(), 0_u32, 0);
    for byte in secret.expose() {
        bits = bits << 8 | u32::from(*byte);
        have += 8;
        while have >= 5 {
            have -= 5;
            let index = (bits >> have & 31) as usize;
            text.extend(BASE32.get(index).map(|letter| char::from(*letter)));
        }
    }
    text
}

/// The `otpauth` address for a QR code. `name` must satisfy [`super::identity::is_name`].
#[must_use]
pub fn address(secret: &TotpSecret, name: &str) -> String {
    let name = name.replace('@', "%40");
    format!("otpauth://totp/Fortify:{name}?secret={}&issuer=Fortify", base32(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> TotpSecret {
        Secret::new(*b"12345678901234567890")
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B, less the two leading digits of eight.
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(&secret(), Timestamp::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_code_is_valid_for_its_step_and_one_either_side_and_once() {
        let now = Timestamp::from_secs(1_800_000_000);
        let step = now.as_secs() / STEP_SECONDS;
        for (off, counts) in [(-2_i64, false), (-1, true), (0, true), (1, true), (2, false)] {
            let text = code(&secret(), step.saturating_add_signed(off));
            assert_eq!(step_of(&secret(), &text, 0, now).is_some(), counts, "{off}");
            assert_eq!(step_of(&secret(), &text, step + 1, now), None, "used");
        }
        for text in ["", "000000", "28708", "2870822", "abcdef"] {
            assert_eq!(step_of(&secret(), text, 0, now), None, "{text}");
        }
        let spaced = code(&secret(), step);
        let spaced = format!("{} {}", &spaced[..3], &spaced[3..]);
        assert_eq!(step_of(&secret(), &spaced, 0, now), Some(step));
    }

    #[test]
    fn the_secret_is_encoded_for_apps() {
        // RFC 4648, section 10, has no text of 20 bytes; this is coreutils' base32.
        assert_eq!(base32(&secret()), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let address = address(&secret(), "ada@site");
        assert!(address.starts_with("otpauth://totp/Fortify:ada%40site?secret=GEZ"), "{address}");
    }
}
