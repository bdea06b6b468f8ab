//! `fortify doctor`: the arguments and the output of [`crate::doctor`].

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;

use super::{CliError, ConfigArgs};
use crate::doctor::{CheckStatus, DoctorContext, examine, report};
use fortify_config::Config;
use fortify_core::clock::SystemClock;

/// The arguments of `fortify doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// Where nginx listens, such as http://127.0.0.1:10001; by default the server behind HAProxy.
    #[arg(long, value_name = "URL", value_parser = parse_nginx)]
    nginx: Option<SocketAddr>,
    /// Where tor connects, such as 127.0.0.1:10000; by default the target of the service in torrc, which
    /// tor's control port reports.
    #[arg(long, value_name = "ADDRESS")]
    ingress: Option<SocketAddr>,
}

/// Parses an address and a port after `http://`, without looking anything up.
fn parse_nginx(text: &str) -> Result<SocketAddr, String> {
    let advice =
        || "use http:// with an address and a port, such as http://127.0.0.1:10001".to_owned();
    let uri: Uri = text.parse().map_err(|_no_uri| advice())?;
    let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP));
    let plain = uri.query().is_none() && matches!(uri.path(), "" | "/");
    let host = authority.filter(|_| plain).map(|authority| authority.host()).ok_or_else(advice)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse().map_err(|_name| advice())?;
    Ok(SocketAddr::new(address, uri.port_u16().unwrap_or(80)))
}

pub(super) fn run(
    args: &Args,
    config: &ConfigArgs,
    env: Vec<(String, String)>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let colour = io::stdout().is_terminal() && may_colour(&env);
    let (read, mistakes) = Config::load_leniently(config.file(), env);
    let context = DoctorContext {
        config: read,
        mistakes,
        file: config.file().map(ToOwned::to_owned),
        nginx: args.nginx,
        ingress: args.ingress,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
    let findings = runtime.block_on(examine(&context, &SystemClock));
    // Does not wait for a thread that still reads a large or damaged file.
    runtime.shutdown_background();
    let written = match args.json {
        true => report::json(&findings, out),
        false => report::text(&findings, colour, out),
    };
    written.map_err(|e| CliError::output(&e))?;
    let failed = findings.iter().filter(|finding| finding.status == CheckStatus::Fail).count();
    match failed {
        0 => Ok(()),
        count => Err(CliError::Failed(format!("{count} of {} checks failed", findings.len()))),
    }
}

/// Whether the environment allows colour (<https://no-color.org>).
fn may_colour(env: &[(String, String)]) -> bool {
    let value = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..]);
    value("NO_COLOR").is_none_or(str::is_empty) && value("TERM") != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_is_an_address_and_a_port() {
        assert_eq!(parse_nginx("http://127.0.0.1:10001"), Ok("127.0.0.1:10001".parse().unwrap()));
        assert_eq!(parse_nginx("http://[::1]/"), Ok("[::1]:80".parse().unwrap()));
        for text in
            ["127.0.0.1:10001", "https://127.0.0.1", "http://example.org", "http://127.0.0.1/x"]
        {
            assert!(parse_nginx(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_color_is_respected() {
        let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert!(may_colour(&[]) && may_colour(&env("NO_COLOR", "")));
        assert!(!may_colour(&env("NO_COLOR", "1")) && !may_colour(&env("TERM", "dumb")));
    }
}
