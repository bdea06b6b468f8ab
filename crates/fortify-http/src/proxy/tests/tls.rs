//! TLS to the service, with certificates made for the test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::UpstreamServer;

/// A certificate and its key in `dir`, for 127.0.0.1 and signed by `by`, or an authority's.
fn certificate(dir: &Path, name: &str, by: Option<&str>) {
    let path = |name: &str, kind: &str| dir.join(format!("{name}.{kind}")).display().to_string();
    let (key, cert) = (path(name, "key"), path(name, "crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "30", "-subj", &format!("/CN={name}")]);
    openssl.args(["-keyout", &key, "-out", &cert]);
    if let Some(by) = by {
        openssl.args(["-CA", &path(by, "crt"), "-CAkey", &path(by, "key")]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    }
    let made = openssl.output().expect("openssl is missing: run scripts/setup.sh test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A service over TLS with this certificate.
async fn tls_service(dir: &Path, name: &str) -> SocketAddr {
    let file = |kind: &str| dir.join(format!("{name}.{kind}"));
    let certificate = CertificateDer::from_pem_file(file("crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust it says so, and goes.
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    if !matches!(socket.read_buf(&mut head).await, Ok(1..)) {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nencrypted";
                drop(socket.write_all(answer).await);
                drop(socket.shutdown().await);
            });
        }
    });
    address
}

fn upstream(host: &str, address: SocketAddr, ca: &Path) -> Upstream {
    let server = format!("{host}:{}", address.port());
    let config = UpstreamConfig {
        servers: vec![UpstreamServer::Https(server.parse().unwrap())],
        tls_ca: Some(ca.to_owned()),
        response_timeout: PATIENCE,
        ..UpstreamConfig::default()
    };
    Upstream::new(&config, UpstreamMetrics::default()).unwrap().unwrap()
}

#[tokio::test]
async fn tls_is_spoken_to_a_service_that_its_authority_vouches_for_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for (name, by) in [("ca", None), ("other", None), ("server", Some("ca"))] {
        certificate(dir.path(), name, by);
    }
    let address = tls_service(dir.path(), "server").await;
    let ca = dir.path().join("ca.crt");
    let good = upstream("127.0.0.1", address, &ca);
    for method in ["GET", "POST"] {
        let response = within(good.forward(request(method, "/", "x"), forwarded())).await;
        assert_eq!(text(response.unwrap()).await, "encrypted");
    }
    assert!(!good.is_down());

    // An authority that did not sign it, and a name that it does not have. What is wrong is in the message.
    let other = dir.path().join("other.crt");
    for (host, ca, says) in
        [("127.0.0.1", &other, "UnknownIssuer"), ("localhost", &ca, "not valid for name")]
    {
        let bad = upstream(host, address, ca);
        let error = within(bad.forward(request("GET", "/", ""), forwarded())).await.unwrap_err();
        assert_eq!(error.label(), "unreachable");
        assert!(error.to_string().contains(says), "{error}");
        assert!(bad.is_down(), "{error}");
        let error = within(bad.forward(request("GET", "/", ""), forwarded())).await.unwrap_err();
        assert_eq!(error.label(), "down");
    }
}
