//! Passwords: argon2id on threads for blocking work; a check takes the same time for an unknown name.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use super::error::AdminError;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_store::record::Secret;

/// From OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The most passwords that are hashed at one time: this takes 38 MiB, and leaves cores for visitors.
const AT_ONCE: usize = 2;

/// The most passwords that wait to be hashed; one more is refused.
const MOST_WAITING: usize = 16;

/// The shortest password, in characters. NIST SP 800-63B requires at least 8 and recommends more; an operator's
/// password can be attacked over the network.
pub const MIN_PASSWORD: usize = 12;
/// The longest password, in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// Hashes and checks passwords, a few at a time.
pub(super) struct Hasher {
    slots: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// The hash that passwords for unknown names are compared with.
    decoy: Arc<str>,
}

fn argon2() -> Result<Argon2<'static>, argon2::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash of `password` with a fresh salt, in the PHC form.
///
/// # Errors
///
/// Without randomness.
pub fn hash(password: &Secret<String>, entropy: &dyn Entropy) -> Result<String, AdminError> {
    let salt: [u8; 16] = random_bytes(entropy)?;
    hash_with(password, &salt)
}

fn hash_with(password: &Secret<String>, salt: &[u8; 16]) -> Result<String, AdminError> {
    let fault = |error: String| AdminError::Unavailable(format!("passwords: {error}"));
    let salt = SaltString::encode_b64(salt).map_err(|error| fault(error.to_string()))?;
    let argon2 = argon2().map_err(|error| fault(error.to_string()))?;
    let hash = argon2.hash_password(password.expose().as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| fault(error.to_string()))
}

fn verify(password: &Secret<String>, hash: &str) -> bool {
    let (Ok(parsed), Ok(argon2)) = (PasswordHash::new(hash), argon2()) else { return false };
    argon2.verify_password(password.expose().as_bytes(), &parsed).is_ok()
}

/// Checks the length of a new password.
///
/// # Errors
///
/// [`AdminError::BadRequest`] with the length to use.
pub fn check(password: &str) -> Result<(), AdminError> {
    let count = password.chars().count();
    if count >= MIN_PASSWORD && password.len() <= MAX_PASSWORD {
        return Ok(());
    }
    let message =
        format!("use a password of at least {MIN_PASSWORD} characters, such as four words");
    Err(AdminError::BadRequest(message))
}

impl Hasher {
    pub(super) fn new(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let salt: [u8; 16] = random_bytes(entropy)?;
        let nobody: [u8; 32] = random_bytes(entropy)?;
        // Random bytes in the form of a hash: no work at the start, the same work at a log-in.
        let [salt, nobody] = [&salt[..], &nobody[..]].map(unpadded);
        let decoy = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${nobody}");
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let places = Arc::new(Semaphore::new(AT_ONCE + MOST_WAITING));
        Ok(Self { slots, places, decoy: decoy.into() })
    }

    /// Whether `password` matches `hash`. Without a hash the answer is `false`, after the same time.
    pub(super) async fn verify(
        &self,
        password: Secret<String>,
        hash: Option<String>,
    ) -> Result<bool, AdminError> {
        let decoy = self.decoy.clone();
        self.work(move || match hash {
            Some(hash) => verify(&password, &hash),
            None => {
                let _never_right = verify(&password, &decoy);
                false
            }
        })
        .await
    }

    /// The hash of `password`.
    pub(super) async fn hash(
        &self,
        password: Secret<String>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<String, AdminError> {
        self.work(move || hash(&password, &*entropy)).await?
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let full = AdminError::Busy("passwords are being checked");
        let Ok(_place) = self.places.clone().try_acquire_owned() else { return Err(full) };
        let slot = self.slots.clone().acquire_owned().await;
        let Ok(slot) = slot else { return Err(full) };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // Held until the work is done, even if the caller stops waiting.
            drop(slot);
            done
        });
        done.await.map_err(|ended| AdminError::Unavailable(format!("passwords: {ended}")))
    }
}

fn unpadded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::entropy::SystemEntropy;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_password_matches_its_hash_which_has_the_recommended_parameters() {
        let hash = hash(&secret("four plain words here"), &SystemEntropy).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify(&secret("four plain words here"), &hash));
        assert!(!verify(&secret("four plain words her"), &hash));
        assert!(!verify(&secret(""), &hash) && !verify(&secret("x"), "no hash"));
    }

    #[tokio::test]
    async fn an_unknown_name_is_compared_with_a_hash_of_the_same_cost() {
        let hasher = Hasher::new(&SystemEntropy).unwrap();
        let decoy = PasswordHash::new(&hasher.decoy).unwrap();
        let real = hash(&secret("four plain words here"), &SystemEntropy).unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!((decoy.algorithm, &decoy.params), (real.algorithm, &real.params));
        assert_eq!(decoy.hash.unwrap().len(), real.hash.unwrap().len());
        assert!(!hasher.verify(secret("anything"), None).await.unwrap());
    }

    #[test]
    fn short_passwords_are_refused() {
        assert!(check("short").is_err() && check(&"a".repeat(1025)).is_err());
        assert!(check("four words do").is_ok());
    }
}
