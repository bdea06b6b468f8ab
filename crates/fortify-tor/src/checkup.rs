//! The questions that `fortify doctor` asks tor: its services, and the validity of its consensus.

use super::control::Control;
use super::error::TorError;
use crate::config::{ControlAddress, TorConfig};
use fortify_core::clock::{Timestamp, civil};
use fortify_core::entropy::SystemEntropy;

/// The findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// Tor's version.
    pub version: String,
    /// The services in torrc, without those that were added over the control port.
    pub services: Vec<HiddenService>,
    /// The start and end of its consensus' validity; `None` if it has none yet.
    pub consensus: Option<[Timestamp; 2]>,
}

/// An onion service in torrc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HiddenService {
    /// `HiddenServiceDir`.
    pub directory: String,
    /// The targets of its ports: `127.0.0.1:10000`, `unix:/path`.
    pub targets: Vec<String>,
    /// Whether it has `HiddenServiceExportCircuitID haproxy`.
    pub exports_circuits: bool,
}

/// Asks tor over a new connection.
///
/// # Errors
///
/// [`TorError`], with what to do.
pub async fn checkup(config: &TorConfig, address: &ControlAddress) -> Result<Checkup, TorError> {
    let mut control = Control::open(config, address, &SystemEntropy).await?;
    let version = control.version().await?;
    let (services, [after, until]) = control.services_and_consensus().await?;
    let consensus = match (after.as_deref().and_then(time), until.as_deref().and_then(time)) {
        (Some(after), Some(until)) => Some([after, until]),
        _ => None,
    };
    Ok(Checkup { version, services: parse_services(&services), consensus })
}

/// Groups each `HiddenServiceDir=` with the lines after it, as `GETCONF HiddenServiceOptions` lists them.
fn parse_services(lines: &[String]) -> Vec<HiddenService> {
    let mut services: Vec<HiddenService> = Vec::new();
    let harmless = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect();
    for line in lines {
        let Some((key, value)) = line.split_once('=') else { continue };
        match (key, services.last_mut()) {
            ("HiddenServiceDir", _) => {
                let directory = harmless(value);
                services.push(HiddenService { directory, ..HiddenService::default() });
            }
            ("HiddenServicePort", Some(service)) => service.targets.push(target(&harmless(value))),
            ("HiddenServiceExportCircuitID", Some(service)) => {
                service.exports_circuits = value.eq_ignore_ascii_case("haproxy");
            }
            _ => {}
        }
    }
    services
}

/// The target of `PORT`, `PORT PORT` or `PORT TARGET`, as in tor's manual.
fn target(value: &str) -> String {
    let mut words = value.split_ascii_whitespace();
    let port = words.next().unwrap_or_default();
    let target = words.next().unwrap_or(port).trim_matches('"');
    let is_port = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { format!("127.0.0.1:{target}") } else { target.to_owned() }
}

/// Reads `2026-11-22 08:00:00`.
fn time(text: &str) -> Option<Timestamp> {
    let mut numbers = text.split(['-', ' ', ':']).map(|word| word.parse().ok());
    let mut next = || numbers.next().flatten();
    civil(next()?, next()?, next()?, [next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_0_4_9_says_is_read() {
        let lines = [
            "HiddenServiceDir=/var/lib/tor/site",
            "HiddenServicePort=80 127.0.0.1:10000",
            "HiddenServicePort=81 unix:/run/x",
            "HiddenServiceExportCircuitID=haproxy",
            "HiddenServiceDir=/var/lib/tor/other",
            "HiddenServicePort=80",
            "HiddenServicePort=80 8080",
        ];
        let services = parse_services(&lines.map(str::to_owned));
        assert_eq!(services[0].targets, ["127.0.0.1:10000", "unix:/run/x"]);
        assert!(services[0].exports_circuits && !services[1].exports_circuits);
        assert_eq!(services[1].targets, ["127.0.0.1:80", "127.0.0.1:8080"]);
        assert!(parse_services(&["HiddenServiceOptions".to_owned()]).is_empty());
    }

    #[test]
    fn a_consensus_has_its_times() {
        assert_eq!(time("2027-01-15 08:00:00"), Some(Timestamp::from_secs(1_800_000_000)));
        for text in ["", "x", "2027-13-15 08:00:00", "2027-01-15", "2027-01-15 25:00:00"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
