//! Tor's control port, and whether torrc exports circuit numbers.

use super::places::{Places, target_of_tor};
use super::{Finding, within};
use fortify_config::Config;
use fortify_core::advice::Advise;
use fortify_core::circuit::IdentityMode;
use fortify_tor::figures;
use fortify_tor::metrics::TorFigures;
use fortify_tor::{self, Checkup, HiddenService, TorError};

pub(super) type TorProbe = Result<Checkup, TorError>;

pub(super) async fn probe(config: &Config) -> Option<TorProbe> {
    let address = config.tor.control.as_ref()?;
    let asked = within(fortify_tor::checkup(&config.tor, address)).await;
    Some(asked.unwrap_or_else(|| Err(TorError::Slow(address.clone()))))
}

pub(super) fn check(config: &Config, found: Option<&TorProbe>, places: &Places) -> Vec<Finding> {
    const CHECK: &str = "tor";
    let (Some(found), Some(address)) = (found, &config.tor.control) else {
        let why = "tor.control is not set: Fortify does not notice a restart of tor, after which circuit numbers repeat";
        return vec![Finding::skipped(CHECK, why)];
    };
    match found {
        Err(error) => vec![Finding::error(CHECK, error)],
        Ok(found) => {
            let version = &found.version;
            vec![
                Finding::ok(CHECK, format!("tor {version} at {address} accepts Fortify")),
                check_services(config.security.identity, &found.services, places),
            ]
        }
    }
}

/// Whether tor's metrics port answers, where `tor.metrics_address` is set.
pub(super) async fn check_figures(config: &Config) -> Finding {
    const CHECK: &str = "tor.metrics";
    let Some(address) = config.tor.metrics_address else {
        let why = "tor.metrics_address is not set: what tor makes wait or asks proof of work for is not known";
        return Finding::skipped(CHECK, why);
    };
    match figures::read(address).await {
        Ok(found) => {
            let TorFigures { effort, queued, rejected } = found;
            Finding::ok(
                CHECK,
                format!(
                    "{address} answers: proof of work of effort {effort}, {queued} introductions waiting, \
                     {rejected} rejected since tor started"
                ),
            )
        }
        // Only the dial knows less.
        Err(error) => Finding::warn(CHECK, error.problem(), error.advice().unwrap_or_default()),
    }
}

fn check_services(identity: IdentityMode, services: &[HiddenService], places: &Places) -> Finding {
    const CHECK: &str = "tor.service";
    if identity == IdentityMode::Peer {
        return Finding::skipped(CHECK, "security.identity is \"peer\": circuits are not used");
    }
    if services.is_empty() {
        let why = "torrc has no HiddenServiceDir; services that were created over the control port are not visible here";
        return Finding::skipped(CHECK, why);
    }
    // The service that leads to the ingress if that is known, otherwise any.
    let leads = |service: &&HiddenService| match &places.ingress {
        Some(ingress) => {
            service.targets.iter().any(|target| target_of_tor(target).as_ref() == Some(ingress))
        }
        None => true,
    };
    let ours: Vec<_> = services.iter().filter(leads).collect();
    let exporting = ours.iter().find(|service| service.exports_circuits);
    let names = |services: &[&HiddenService]| {
        let names: Vec<_> = services.iter().map(|service| service.directory.as_str()).collect();
        names.join(", ")
    };
    match (exporting, places.ingress.as_ref()) {
        (Some(service), _) => {
            let target = service.targets.join(", ");
            Finding::ok(CHECK, format!("{} exports circuits to {target}", service.directory))
        }
        (None, Some(ingress)) if ours.is_empty() => Finding::fail(
            CHECK,
            format!("no service in torrc leads to {ingress}"),
            format!("in torrc, below HiddenServiceDir: HiddenServicePort 80 {ingress}"),
        ),
        _ => Finding::fail(
            CHECK,
            format!(
                "{} does not export circuits: all visitors look alike, and are refused",
                names(&ours)
            ),
            "in torrc, below its HiddenServiceDir: HiddenServiceExportCircuitID haproxy; then reload tor",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[tokio::test]
    async fn a_metrics_port_that_is_set_and_closed_is_a_warning_with_the_line_for_torrc() {
        let mut config = Config::default();
        assert_eq!(check_figures(&config).await.status, CheckStatus::Skipped);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.tor.metrics_address = Some(closed);
        let finding = check_figures(&config).await;
        let advice = finding.advice.unwrap();
        assert_eq!(finding.status, CheckStatus::Warn);
        assert!(advice.contains(&format!("MetricsPort {closed}")), "{advice}");
    }

    #[test]
    fn the_service_that_leads_to_the_gate_must_export_circuits() {
        let service = |target: &str, exports_circuits| HiddenService {
            directory: "/var/lib/tor/site".to_owned(),
            targets: vec![target.to_owned()],
            exports_circuits,
        };
        let to = |address: &str| Places { ingress: target_of_tor(address), ..Places::default() };
        let judged = |services: &[HiddenService], places: &Places| {
            check_services(IdentityMode::Circuit, services, places).status
        };
        let (here, there) = (to("127.0.0.1:10000"), to("127.0.0.1:7"));
        let good = service("127.0.0.1:10000", true);
        let silent = service("127.0.0.1:10000", false);
        assert_eq!(judged(std::slice::from_ref(&good), &here), CheckStatus::Ok);
        assert_eq!(judged(std::slice::from_ref(&good), &Places::default()), CheckStatus::Ok);
        assert_eq!(judged(std::slice::from_ref(&good), &there), CheckStatus::Fail);
        assert_eq!(judged(std::slice::from_ref(&silent), &here), CheckStatus::Fail);
        assert_eq!(judged(std::slice::from_ref(&silent), &Places::default()), CheckStatus::Fail);
        assert_eq!(judged(&[], &here), CheckStatus::Skipped);
    }
}
