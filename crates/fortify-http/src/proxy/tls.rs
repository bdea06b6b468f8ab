//! TLS to the service: verified with the certificates of a file, and with nothing else.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fortify_core::processor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The most bytes of a PEM file; a chain of ten certificates has about 20 KiB.
const MAX_PEM_BYTES: u64 = 256 * 1024;

/// Why there can be no TLS to the service. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The processor lacks instructions.
    #[error(
        "TLS to the service needs a processor with AES and AVX2 (x86) or AES and SHA-2 (ARM) instructions; use a unix \
         socket or a tunnel"
    )]
    Processor,
    /// The file cannot be read.
    #[error("upstream.tls_ca_file {} cannot be read ({}); the user that runs Fortify must be able to read it", .0.display(), .1)]
    Unreadable(PathBuf, #[source] io::Error),
    /// It has no certificate.
    #[error("upstream.tls_ca_file {} has no certificate in PEM form; name the certificate that signed the service's, or the service's own", .0.display())]
    NoCertificate(PathBuf),
    /// The library refused.
    #[error("TLS to the service cannot be set up: {0}")]
    SetUp(#[from] rustls::Error),
}

/// A connector that trusts the certificates in the file `ca`.
pub(super) fn connector(ca: &Path) -> Result<TlsConnector, TlsError> {
    if !processor::runs_graviola() {
        return Err(TlsError::Processor);
    }
    let mut pem = Vec::new();
    File::open(ca)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut pem))
        .map_err(|error| TlsError::Unreadable(ca.to_owned(), error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCertificate(ca.to_owned()));
    }
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
