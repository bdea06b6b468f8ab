//! The WebDriver server: found, started on a free port, and ended with all it started.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::capabilities::Kind;
use crate::error::{BrowserError, Doing};

/// How long a driver may take to say its port. It takes milliseconds on an idle machine.
const START_WITHIN: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Bytes of the driver's log that an error shows.
const LOG_TAIL: usize = 4000;

/// A running driver. Dropping it kills it, its browser and their helpers, and removes its folder.
#[derive(Debug)]
pub(crate) struct Driver {
    child: Child,
    program: PathBuf,
    port: u16,
    // Home, profile and temporary files of driver and browser; removed after the processes.
    home: TempDir,
}

impl Driver {
    /// Starts the driver for `kind` and waits until it has told its port.
    pub(crate) async fn start(kind: Kind) -> Result<Self, BrowserError> {
        Self::start_program(kind, find_driver(kind)?).await
    }

    async fn start_program(kind: Kind, program: PathBuf) -> Result<Self, BrowserError> {
        let home = TempDir::with_prefix("fortify-e2e-").doing("making a temporary folder")?;
        let child = spawn(kind, &program, home.path())?;
        let mut driver = Self { child, program, port: 0, home };
        driver.port = driver.announced_port().await?;
        Ok(driver)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The end of what driver and browser wrote.
    pub(crate) fn log(&self) -> String {
        let log = read_log(self.home.path());
        let start = log.len().saturating_sub(LOG_TAIL);
        let start = (start..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
        log.get(start..).unwrap_or_default().to_owned()
    }

    /// The driver takes port 0 and says which one it got: no port is guessed, so none is lost to
    /// another test between guess and use.
    async fn announced_port(&mut self) -> Result<u16, BrowserError> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Some(port) = port_in(&read_log(self.home.path())) {
                return Ok(port);
            }
            let ended = self.child.try_wait().doing("looking after the driver")?.is_some();
            if ended || Instant::now() >= deadline {
                return Err(BrowserError::NotReady {
                    program: self.program.clone(),
                    log: self.log(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Driver {
    /// Kills until nothing is left, two seconds at most.
    ///
    /// A process ends some time after its signal, and must not write into the folder while that
    /// is being removed, so it is not enough to have sent the signals.
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
        for _ in 0..100 {
            let left = family(self.child.id(), self.home.path());
            if left.is_empty() {
                return;
            }
            for process in left {
                kill_process(process, Signal::KILL).ok();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The living processes of a driver's process group, or with its home.
///
/// Both browsers detach their crash reporters from the group; these are known by the `HOME` they
/// inherited, which no other process has.
fn family(group: u32, home: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let ours = living_group(id)? == group || has_home(id, home);
            if ours { Pid::from_raw(id) } else { None }
        })
        .collect()
}

/// The process group, from `/proc/<id>/stat`; `None` for a process that has ended.
fn living_group(id: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // After the name, which is in brackets and may hold anything: state, parent, group.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let group = fields.nth(1)?.parse().ok()?;
    if ended { None } else { Some(group) }
}

fn has_home(id: i32, home: &Path) -> bool {
    let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let home = format!("HOME={}", home.display());
    environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
}

/// Runs the driver (`$0`) and kills the process group when it ends, or when standard input does.
///
/// The other end of that pipe is this process, so a test run that is interrupted or killed, and
/// so drops nothing, leaves no browser behind either.
const SUPERVISE: &str = r#"{ "$0" "$@" </dev/null; kill -KILL 0; } & read -r _; kill -KILL 0"#;

fn spawn(kind: Kind, program: &Path, home: &Path) -> Result<Child, BrowserError> {
    let log = File::create(log_path(home)).doing("making the driver's log")?;
    let errors = log.try_clone().doing("making the driver's log")?;
    let mut command = Command::new("sh");
    command.arg("-c").arg(SUPERVISE).arg(program);
    match kind {
        Kind::Firefox => command.args(["--port", "0", "--log", "info"]),
        Kind::Chromium => command.args(["--port=0"]),
    };
    command
        // A home of its own: as root in a container the usual one may belong to someone else,
        // which Firefox refuses.
        .env("HOME", home)
        .env("TMPDIR", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .env("MOZ_CRASHREPORTER_DISABLE", "1")
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .doing(format!("starting {}", program.display()))
}

fn log_path(home: &Path) -> PathBuf {
    home.join("driver.log")
}

fn read_log(home: &Path) -> String {
    let bytes = std::fs::read(log_path(home)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The port in `Listening on 127.0.0.1:4444` (geckodriver) or
/// `ChromeDriver was started successfully on port 4444.` (chromedriver).
fn port_in(log: &str) -> Option<u16> {
    log.lines().find_map(|line| {
        let (_, rest) = line
            .split_once("Listening on 127.0.0.1:")
            .or_else(|| line.split_once("started successfully on port "))?;
        // Only a whole line: a port that is still being written would be cut short.
        let rest = rest.trim_end_matches('.');
        rest.parse().ok().filter(|_| log.ends_with('\n'))
    })
}

fn find_driver(kind: Kind) -> Result<PathBuf, BrowserError> {
    let (program, variable) = match kind {
        Kind::Firefox => ("geckodriver", "GECKODRIVER"),
        Kind::Chromium => ("chromedriver", "CHROMEDRIVER"),
    };
    if let Some(chosen) = std::env::var_os(variable) {
        return Ok(PathBuf::from(chosen));
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin").join(program);
    if own.is_file() {
        return Ok(own);
    }
    on_path(program).ok_or(BrowserError::Missing { program })
}

/// The browser itself; Debian and other systems name it differently.
pub(crate) fn find_browser(kind: Kind) -> Result<PathBuf, BrowserError> {
    let (program, names): (_, &[&str]) = match kind {
        Kind::Firefox => ("firefox-esr", &["firefox-esr", "firefox"]),
        Kind::Chromium => ("chromium", &["chromium", "chromium-browser", "google-chrome"]),
    };
    names.iter().find_map(|name| on_path(name)).ok_or(BrowserError::Missing { program })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Browser;

    #[test]
    fn the_port_is_read_from_what_each_driver_says() {
        let gecko = "1700000000000\tgeckodriver\tINFO\tListening on 127.0.0.1:40123\n";
        let chrome = "Starting\nChromeDriver was started successfully on port 40124.\n";
        assert_eq!(port_in(gecko), Some(40123));
        assert_eq!(port_in(chrome), Some(40124));
    }

    #[test]
    fn a_port_that_is_still_being_written_is_not_taken() {
        assert_eq!(port_in("Listening on 127.0.0.1:401"), None);
    }

    #[tokio::test]
    async fn no_process_and_no_file_of_a_dropped_firefox_is_left() {
        leaves_nothing(Browser::firefox().await.unwrap());
    }

    #[tokio::test]
    async fn no_process_and_no_file_of_a_dropped_chromium_is_left() {
        leaves_nothing(Browser::chromium().await.unwrap());
    }

    #[tokio::test]
    async fn a_driver_ends_when_the_process_that_started_it_does() {
        let mut driver = Driver::start(Kind::Chromium).await.unwrap();
        let group = driver.child.id();
        // What the system does with the pipe of a process that was killed.
        drop(driver.child.stdin.take());
        let ended = tokio::time::timeout(START_WITHIN, async {
            driver.child.try_wait().unwrap();
            while !family(group, driver.home()).is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
                driver.child.try_wait().unwrap();
            }
        });
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_driver_that_does_not_start_is_noticed_at_once() {
        let program = PathBuf::from("/nonexistent/driver");
        let start = Driver::start_program(Kind::Firefox, program);
        let started = tokio::time::timeout(START_WITHIN / 2, start).await.unwrap();
        let Err(BrowserError::NotReady { log, .. }) = started else { panic!("it started") };
        assert!(log.contains("/nonexistent/driver"), "{log}");
    }

    fn leaves_nothing(browser: Browser) {
        let group = browser.driver().child.id();
        let home = browser.driver().home().to_owned();
        assert!(family(group, &home).len() > 3, "driver, browser and its helpers are found");
        drop(browser);
        assert_eq!(family(group, &home), []);
        assert!(!home.exists());
    }
}
