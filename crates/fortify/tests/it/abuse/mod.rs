//! Abuse cases against a running gate, each under its number in docs/abuse.md, a module for each threat.
//!
//! Those that are settled below HTTP are tested beside the code, under the same names.

mod admission;
mod answer_leaks;
mod cookies;
mod durability;
mod floods;
mod identity;
mod malformed_input;
mod one_place;
mod redirects;
mod replay;
mod session_binding;
mod smuggling;
mod store_faults;
mod table;
mod tries;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use fortify_config::SecureCookie;
use fortify_core::circuit::IdentityMode;
use fortify_core::clock::Clock as _;
use fortify_core::entropy::{Entropy, EntropyError, SystemEntropy};
use fortify_testkit::wait::eventually;
use fortify_testkit::{TestGate, Visitor, fields};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CIRCUIT: &str = "fc00:dead:beef:4dad::0:19";

async fn circuit_bed() -> TestGate {
    TestGate::with(|parts| parts.config.security.identity = IdentityMode::Circuit).await
}

/// Sends bytes and reads until the gate closes, within a bound.
async fn raw(test_gate: &TestGate, bytes: impl AsRef<[u8]>) -> String {
    let mut socket = TcpStream::connect(test_gate.address).await.unwrap();
    // A gate that has seen enough may close before it has read all of it.
    let _closed_early = socket.write_all(bytes.as_ref()).await;
    let mut reply = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut reply)).await;
    let _reset_counts_as_closed = read.expect("the connection stayed open for 20 s");
    String::from_utf8_lossy(&reply).into_owned()
}
