//! Tests that need their own process, for example because the log belongs to a process.

use std::process::{Command, Stdio};

/// The environment variable that is set in the process of one test.
const MARK: &str = "FORTIFY_TEST_OWN_PROCESS";

/// Whether this process runs only `test`. If not, starts such a process, waits for it and returns `false`: the
/// caller has nothing left to do.
///
/// `test` is the path of the calling test with its crate, as `module_path!` begins it.
///
/// # Panics
///
/// If the test fails in its process, or no test has that name.
#[must_use]
pub fn is_own(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let (_crate, test) = test.split_once("::").unwrap();
    let program = std::env::current_exe().unwrap();
    let run = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "yes")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, failed) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{test} in a process of its own: {}\n{said}{failed}",
        run.status
    );
    false
}
