//! Arguments that several commands take, and who runs them.

use fortify_core::circuit::TorCircuit;
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::threat::history::{MAX_NAME, MAX_REASON};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The variables that name an operator; the first that is set counts.
const NAMES: [&str; 3] = ["SUDO_USER", "LOGNAME", "USER"];

/// The circuit to act on.
#[derive(Debug, clap::Args)]
pub struct Circuit {
    /// Its pseudonym (32 hexadecimal digits, as list and the dashboard show it), or its address as tor and
    /// HAProxy know it, such as fc00:dead:beef:4dad::19.
    #[arg(value_name = "CIRCUIT", value_parser = parse_circuit)]
    pub(super) circuit: CircuitArg,
}

/// A circuit, as the operator names it.
#[derive(Clone, Debug)]
pub enum CircuitArg {
    /// By its pseudonym.
    Pseudonym(CircuitTag),
    /// By its address.
    Address(TorCircuit),
}

impl Circuit {
    /// Its path in the admin API.
    pub(super) fn path(&self) -> String {
        format!("/circuits/{}", segment(&self.circuit.text()))
    }
}

impl CircuitArg {
    /// Its name in the admin API.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Pseudonym(tag) => tag.hex(),
            Self::Address(circuit) => circuit.address().to_string(),
        }
    }
}

pub(super) fn parse_circuit(text: &str) -> Result<CircuitArg, String> {
    if let Some(tag) = CircuitTag::from_hex(text) {
        return Ok(CircuitArg::Pseudonym(tag));
    }
    text.parse().map(CircuitArg::Address).map_err(|error| {
        format!("{error}; use 32 hexadecimal digits, or an address such as fc00:dead:beef:4dad::19")
    })
}

pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_REASON).contains(&text.len()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("use one line of 1 to {MAX_REASON} bytes that says why"))
}

/// The operator's name, as the environment gives it.
pub(super) fn operator(env: &[(String, String)]) -> String {
    let name = NAMES.iter().find_map(|name| env.iter().find(|(key, _)| key == name));
    let name = name.map_or("unknown", |(_, name)| name);
    let mut length = 0;
    let fits = |c: &char| {
        length += c.len_utf8();
        length <= MAX_NAME && !c.is_control()
    };
    name.chars().take_while(fits).collect()
}

/// `text`, encoded as part of a path or a query.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
