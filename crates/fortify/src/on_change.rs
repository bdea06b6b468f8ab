//! `[threat] on_change`: a program of the operator that is told when the state of the site changes.
//!
//! It runs as the user that runs Fortify, so its command comes from the configuration file alone, never from the
//! environment or the admin interface. There is no shell, its environment is empty, and what it reads on standard
//! input are enums and numbers, so that nothing that a visitor sends reaches it.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use fortify_core::clock::Timestamp;
use fortify_engine::threat::ThreatLevel;
use fortify_engine::threat::verdict::Verdict;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How long the program may run; then it is killed. What it started in its process group ends with it in any case, so
/// that calls leave nothing behind that adds up.
const LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether the program has ended.
const POLL: Duration = Duration::from_millis(50);

/// The calls that wait while the program runs; further ones are dropped.
const QUEUED: usize = 16;

/// A call of the program.
struct Call {
    /// The program and its arguments.
    command: Vec<String>,
    input: String,
}

/// Runs the program, one call after the other, on a thread of its own.
pub struct OnChange(SyncSender<Call>);

impl OnChange {
    /// Starts the thread; it ends with this value.
    ///
    /// # Errors
    ///
    /// If there can be no further thread.
    pub fn start() -> io::Result<Self> {
        let (sender, calls) = sync_channel(QUEUED);
        std::thread::Builder::new()
            .name("on-change".to_owned())
            .spawn(move || run_all(&calls, LIMIT))?;
        Ok(Self(sender))
    }

    /// Calls `command` for a change from `before` to `now`, or logs that too many calls wait.
    pub fn call(
        &self,
        command: Vec<String>,
        before: Verdict,
        now: Verdict,
        level: ThreatLevel,
        at: Timestamp,
    ) {
        let input = serde_json::json!({
            "at": at,
            "before": before.state.as_str(),
            "state": now.state.as_str(),
            "attack": now.kind.map(|kind| kind.as_str()),
            "circuits": now.circuits,
            "requests_per_second": now.requests_per_second,
            "level": level,
        });
        let call = Call { command, input: input.to_string() };
        match self.0.try_send(call) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!("threat.on_change is too slow; it is not told of a change");
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("threat.on_change cannot be called any more; restart Fortify");
            }
        }
    }
}

fn run_all(calls: &Receiver<Call>, limit: Duration) {
    for call in calls {
        match run(&call, limit) {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => tracing::warn!(%status, "threat.on_change failed"),
            Ok(None) => tracing::warn!("threat.on_change took too long and was killed"),
            Err(error) => tracing::warn!(%error, "threat.on_change cannot be run"),
        }
    }
}

/// Runs one call; `None` if it had to be killed.
fn run(call: &Call, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let Some((program, arguments)) = call.command.split_first() else { return Ok(None) };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read is no failure; so little always fits into the pipe.
        let _unread = input.write_all(call.input.as_bytes());
    }
    let pid = Pid::from_child(&child);
    let mut ended = false;
    for _ in 0..limit.as_millis() / POLL.as_millis() {
        ended = has_ended(pid)?;
        if ended {
            break;
        }
        std::thread::sleep(POLL);
    }
    // Before the program is reaped: until then nobody else can have its number.
    let _gone = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// Whether the program has ended; it is not reaped.
fn has_ended(pid: Pid) -> io::Result<bool> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), look) {
            Ok(status) => return Ok(status.is_some()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_engine::threat::verdict::{AttackKind, State};

    fn sh(script: &str, argument: &str) -> Call {
        let command = ["/bin/sh", "-c", script, argument].map(str::to_owned).to_vec();
        Call { command, input: "{\"state\":\"busy\"}".to_owned() }
    }

    #[test]
    fn the_program_gets_the_change_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told");
        let path = file.to_str().unwrap();
        let status =
            run(&sh("cat > \"$0\"; pwd >> \"$0\"; echo \"$HOME$USER\" >> \"$0\"", path), LIMIT);
        assert!(status.unwrap().unwrap().success());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"state\":\"busy\"}/\n\n");
        assert!(
            run(&Call { command: vec!["/no/such".to_owned()], input: String::new() }, LIMIT)
                .is_err()
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alive");
        let script = "(sleep 600; :) & echo $! > \"$0\"; wait";
        let ended = run(&sh(script, file.to_str().unwrap()), Duration::from_secs(3)).unwrap();
        assert!(ended.is_none());
        ends(&file);
    }

    #[test]
    fn what_a_program_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alive");
        let script = "(sleep 600; :) & echo $! > \"$0\"; exit 3";
        let status = run(&sh(script, file.to_str().unwrap()), LIMIT).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        ends(&file);
    }

    /// Waits until the process whose number is in the file has ended.
    fn ends(file: &std::path::Path) {
        let pid = std::fs::read_to_string(file).unwrap();
        // Init reaps it, as soon as it gets to.
        let zombie = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        assert!((0..600).any(|_| zombie() || {
            std::thread::sleep(POLL);
            false
        }));
    }

    #[test]
    fn sixteen_calls_wait_and_further_ones_are_dropped() {
        let (sender, calls) = sync_channel(QUEUED);
        let hook = OnChange(sender);
        let now = Verdict {
            state: State::UnderAttack,
            kind: Some(AttackKind::NeverAnswered),
            circuits: 2_000,
            requests_per_second: 100,
            load: None,
        };
        for _ in 0..40 {
            let command = vec!["/bin/true".to_owned()];
            hook.call(command, Verdict::default(), now, ThreatLevel::MAX, Timestamp::from_secs(1));
        }
        drop(hook);
        let inputs: Vec<_> = calls.into_iter().map(|call| call.input).collect();
        assert_eq!(inputs.len(), QUEUED);
        let told: serde_json::Value = serde_json::from_str(&inputs[0]).unwrap();
        let expected = serde_json::json!({
            "at": 1_000, "before": "calm", "state": "under_attack", "attack": "never_answered",
            "circuits": 2_000, "requests_per_second": 100, "level": 10,
        });
        assert_eq!(told, expected);
    }
}
