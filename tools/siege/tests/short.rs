//! The short form of the siege suite against the program: what has to hold under every attack, however busy the
//! machine is.

use std::process::Command;

use fortify_testkit::program::binary;

#[test]
fn people_get_in_and_attackers_get_no_more_than_they_paid_for() {
    let mut short = Command::new(env!("CARGO_BIN_EXE_fortify-siege"));
    let done = short.arg("short").arg("--program").arg(binary()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", said(&done.stdout), said(&done.stderr));
}
