//! Cryptography without C code, and certificates, for TLS to Redis.
//!
//! The provider is Graviola: Rust, and assembly that was formally verified; it builds with the Rust compiler alone. It
//! needs a processor of about 2014 or later, and aborts the process on an older one, so that is checked first
//! ([`processor::runs_graviola`]).

use std::path::Path;

use fortify_core::processor;
use redis::{ClientTlsConfig, TlsCertificates};
use tokio::io::AsyncReadExt as _;

use super::fault::Cause;
use crate::config::RedisTls;

/// The most bytes of a PEM file; a chain of ten certificates has about 20 KiB.
const MAX_PEM_BYTES: u64 = 256 * 1024;

/// Reads the certificates that `config` names.
///
/// They are read for every new connection, so that renewed ones need no restart.
///
/// # Errors
///
/// Says what is wrong and what to do; never contains the content of a file.
pub(super) async fn certificates(config: &RedisTls) -> Result<TlsCertificates, Cause> {
    if !processor::runs_graviola() {
        let needed =
            "TLS needs a processor with AES and AVX2 (x86) or AES and SHA-2 (ARM) instructions";
        return Err(Cause::new(needed).advise("use a unix socket or a tunnel"));
    }
    // Only the first installation has an effect.
    let _installed_already = rustls_graviola::default_provider().install_default().is_err();
    let root_cert = match &config.ca {
        Some(path) => Some(read("storage.tls_ca_file", path).await?),
        None => None,
    };
    let client_tls = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("storage.tls_certificate_file", certificate).await?,
            client_key: read("storage.tls_key_file", key).await?,
        }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

async fn read(key: &str, path: &Path) -> Result<Vec<u8>, Cause> {
    let place = path.display();
    let fail = |error: std::io::Error| {
        Cause::new(format!("{key} {place} cannot be read ({error})"))
            .advise("the user that runs Fortify must be able to read it")
    };
    let file = tokio::fs::File::open(path).await.map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(MAX_PEM_BYTES).read_to_end(&mut bytes).await.map_err(fail)?;
    match bytes.windows(10).any(|window| window == b"-----BEGIN") {
        true => Ok(bytes),
        false => Err(Cause::new(format!("{key} {place} is no PEM file"))),
    }
}
