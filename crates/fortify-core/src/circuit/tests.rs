//! What counts as a visitor's identity, as a specification.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const BOOT: TorBoot = TorBoot { instance: 0, generation: 0 };

const TOR_LINE: &[u8] = b"PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 81\r\n";

fn circuit(text: &str) -> Result<u32, CircuitError> {
    text.parse::<TorCircuit>().map(|circuit| circuit.number())
}

fn headers(values: &[&str]) -> HeaderMap {
    values
        .iter()
        .map(|v| (HeaderName::from_static(CIRCUIT_HEADER), HeaderValue::from_str(v).unwrap()))
        .collect()
}

fn tcp(address: &str) -> Connection {
    Connection { peer: PeerAddress::Tcp(address.parse().unwrap()), proxy_line: None }
}

fn with_line(peer: &str, line: &[u8]) -> Connection {
    Connection { proxy_line: Some(parse_proxy_line(line).unwrap()), ..tcp(peer) }
}

fn ask(connection: &Connection, values: &[&str]) -> Result<CircuitId, CircuitError> {
    identify(IdentityMode::Circuit, &TrustedProxies::default(), BOOT, connection, &headers(values))
}

fn ask_peer(connection: &Connection, values: &[&str]) -> Result<CircuitId, CircuitError> {
    identify(IdentityMode::Peer, &TrustedProxies::default(), BOOT, connection, &headers(values))
}

#[test]
fn abuse_02_every_spelling_of_a_circuit_address_is_the_same_circuit() {
    for text in [
        "fc00:dead:beef:4dad::0:1a2b",
        "fc00:dead:beef:4dad::1a2b",
        "FC00:DEAD:BEEF:4DAD:0:0:0:1A2B",
        "fc00:dead:beef:4dad:0000:0000:0000:1a2b",
        "fc00:dead:beef:4dad::0.0.26.43",
    ] {
        assert_eq!(circuit(text), Ok(0x1a2b), "{text}");
    }
    assert_eq!(circuit("fc00:dead:beef:4dad::0:19"), Ok(25));
    assert_eq!(circuit("fc00:dead:beef:4dad::1:0"), Ok(0x1_0000));
    assert_eq!(circuit("fc00:dead:beef:4dad::ffff:ffff"), Ok(u32::MAX));
}

#[test]
fn abuse_02_an_address_that_is_no_circuit_is_refused() {
    for text in [
        "::0:1a2b",
        "::1a2b",
        "::ffff:ffff",
        "::ffff:127.0.0.1",
        "fc00:dead:beef:4dae::19",
        "fc00:dead:beef::19",
        "fc00:dead:beef:4dad:1::19",
        "fc00:dead:beef:4dad:0:1:0:19",
    ] {
        assert_eq!(circuit(text), Err(CircuitError::NotTor), "{text}");
    }
}

#[test]
fn abuse_02_text_that_is_no_address_is_refused() {
    let long = "f".repeat(64 * 1024);
    let padded = format!("fc00:dead:beef:4dad::{}19", "0".repeat(64 * 1024));
    for text in [
        "",
        " ",
        "25",
        "127.0.0.1",
        "fc00:dead:beef:4dad::19%lo",
        "fc00:dead:beef:4dad::19%25lo",
        "[fc00:dead:beef:4dad::19]",
        "[fc00:dead:beef:4dad::19]:80",
        " fc00:dead:beef:4dad::19",
        "fc00:dead:beef:4dad::19 ",
        "fc00:dead:beef:4dad::19\n",
        "fc00:dead:beef:4dad::19;",
        "fc00:dead:beef:4dad::00019",
        "fc00:dead:beef:4dad::19/128",
        "fc00:dead:beef:4dad::\u{ff11}",
        &long,
        &padded,
    ] {
        assert_eq!(circuit(text), Err(CircuitError::Malformed), "{:.40}", text);
    }
}

#[test]
fn abuse_05_only_a_trusted_peers_header_counts() {
    let good = "fc00:dead:beef:4dad::0:19";
    let expected = CircuitId::Header(good.parse().unwrap());
    for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(ask(&tcp(peer), &[good]), Ok(expected), "{peer}");
    }
    let unix = Connection { peer: PeerAddress::Unix, proxy_line: None };
    assert_eq!(ask(&unix, &[good]), Ok(expected));
    for peer in ["10.0.0.1", "203.0.113.5", "::2", "::ffff:10.0.0.1", "fc00:dead:beef:4dad::19"] {
        assert_eq!(ask(&tcp(peer), &[good]), Err(CircuitError::UntrustedPeer), "{peer}");
    }
}

#[test]
fn abuse_05_a_duplicate_header_is_refused() {
    let good = "fc00:dead:beef:4dad::19";
    for values in [
        &[good, good][..],
        &[good, "fc00:dead:beef:4dad::20"],
        &["fc00:dead:beef:4dad::19,fc00:dead:beef:4dad::20"],
        &["fc00:dead:beef:4dad::19,"],
        &["", good],
    ] {
        assert_eq!(ask(&tcp("127.0.0.1"), values), Err(CircuitError::Duplicate), "{values:?}");
    }
}

#[test]
fn abuse_05_no_circuit_where_one_is_required_is_an_error() {
    assert_eq!(ask(&tcp("127.0.0.1"), &[]), Err(CircuitError::Missing));
    assert_eq!(ask(&tcp("203.0.113.5"), &[]), Err(CircuitError::Missing));
    assert_eq!(ask(&tcp("127.0.0.1"), &[""]), Err(CircuitError::Malformed));
}

#[test]
fn abuse_05_a_header_behind_a_proxy_line_is_forged() {
    let connection = with_line("127.0.0.1", TOR_LINE);
    let expected = CircuitId::ProxyLine(Origin::Tor("fc00:dead:beef:4dad::19".parse().unwrap()));
    assert_eq!(ask(&connection, &[]), Ok(expected));
    assert_eq!(
        ask(&connection, &["fc00:dead:beef:4dad::19"]),
        Err(CircuitError::HeaderBesideProxyLine)
    );
}

#[test]
fn abuse_05_a_proxy_line_from_an_untrusted_peer_is_refused() {
    let connection = with_line("203.0.113.5", TOR_LINE);
    assert_eq!(ask(&connection, &[]), Err(CircuitError::UntrustedPeer));
    assert_eq!(ask_peer(&connection, &[]), Err(CircuitError::UntrustedPeer));
}

#[test]
fn a_proxy_line_that_names_no_circuit_is_refused_for_an_onion() {
    for line in [
        &b"PROXY TCP4 203.0.113.5 127.0.0.1 5000 80\r\n"[..],
        b"PROXY TCP6 2001:db8::1 ::1 5000 80\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad:1::19 ::1 5000 80\r\n",
    ] {
        assert_eq!(ask(&with_line("127.0.0.1", line), &[]), Err(CircuitError::NotTor));
    }
}

#[test]
fn on_clearnet_the_header_counts_for_nothing() {
    let with = ask_peer(&tcp("127.0.0.1"), &["fc00:dead:beef:4dad::19"]);
    assert_eq!(with, ask_peer(&tcp("127.0.0.1"), &[]));
    let line = b"PROXY TCP4 203.0.113.5 127.0.0.1 5000 80\r\n";
    let with = ask_peer(&with_line("127.0.0.1", line), &["fc00:dead:beef:4dad::19"]);
    assert_eq!(with, ask_peer(&with_line("127.0.0.1", line), &[]));
}

#[test]
fn on_clearnet_a_peer_is_an_ipv4_address_or_an_ipv6_64() {
    let id = |peer| ask_peer(&tcp(peer), &[]).unwrap();
    assert_eq!(id("2001:db8::1"), id("2001:db8::ffff:0:0:2"));
    assert_ne!(id("2001:db8::1"), id("2001:db8:0:1::1"));
    assert_eq!(id("192.0.2.1"), id("::ffff:192.0.2.1"));
    assert_ne!(id("192.0.2.1"), id("192.0.2.2"));
}

#[test]
fn on_clearnet_a_proxy_line_from_tor_still_names_its_circuit() {
    let one = ask_peer(&with_line("127.0.0.1", TOR_LINE), &[]).unwrap();
    assert_eq!(one, ask(&with_line("127.0.0.1", TOR_LINE), &[]).unwrap());
    let odd = with_line("127.0.0.1", b"PROXY TCP6 fc00:dead:beef:4dad:1::19 ::1 5 80\r\n");
    assert_eq!(ask_peer(&odd, &[]), Err(CircuitError::NotTor));
}

#[test]
fn proxy_lines_other_than_one_v1_tcp_line_are_refused() {
    let long = format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2{}\r\n", " ".repeat(107));
    for line in [
        &b""[..],
        b"\r\n",
        b"GET / HTTP/1.1\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN fc00:dead:beef:4dad::19 ::1 25 81\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25 81",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25 81\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25 81\r",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25 81\r\nGET / HTTP/1.1\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25 81 9\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 +25 81\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19 ::1 25 99999\r\n",
        b"PROXY TCP6 fc00:dead:beef:4dad::19%lo ::1 25 81\r\n",
        b"PROXY TCP4 fc00:dead:beef:4dad::19 ::1 25 81\r\n",
        b"PROXY TCP6  fc00:dead:beef:4dad::19 ::1 25 81\r\n",
        b"proxy TCP6 fc00:dead:beef:4dad::19 ::1 25 81\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x50\0\x50\r\n",
        long.as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(line);
        assert_eq!(parse_proxy_line(line), Err(CircuitError::BadProxyLine), "{shown}");
    }
}

#[test]
fn trusted_proxies_are_networks_addresses_or_unix() {
    let trusted = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::5"]).unwrap();
    let trusts = |address: &str| trusted.trusts(&PeerAddress::Tcp(address.parse().unwrap()));
    assert!(trusts("10.1.2.3") && trusts("2001:db8::5") && trusts("::ffff:10.1.2.3"));
    assert!(!trusts("127.0.0.1") && !trusts("2001:db8::6") && !trusts("11.0.0.1"));
    assert!(!trusted.trusts(&PeerAddress::Unix));
    assert!(TrustedProxies::parse(["unix"]).unwrap().trusts(&PeerAddress::Unix));
    let defaults = TrustedProxies::parse(["127.0.0.0/8", "::1/128", "unix"]).unwrap();
    assert_eq!(defaults, TrustedProxies::default());
    for bad in ["", "localhost", "10.0.0.0/33", "10.0.0.0/8 ", "Unix"] {
        assert!(TrustedProxies::parse([bad]).is_err(), "{bad}");
    }
}

#[test]
fn different_identities_have_different_canonical_bytes() {
    let tor: TorCircuit = "fc00:dead:beef:4dad::c000:201".parse().unwrap();
    let block = |text: &str| AddressBlock::of(&PeerAddress::Tcp(text.parse().unwrap()));
    let mut ids = vec![CircuitId::Header(tor), CircuitId::ProxyLine(Origin::Tor(tor))];
    for block in [
        block("192.0.2.1"),
        block("0.0.0.0"),
        block("c000:201::"),
        block("::"),
        AddressBlock::of(&PeerAddress::Unix),
    ] {
        ids.push(CircuitId::Peer(block));
        ids.push(CircuitId::ProxyLine(Origin::Address(block)));
    }
    for circuit in [
        TorCircuit { instance: 1, ..tor },
        TorCircuit { generation: 1, ..tor },
        TorCircuit { number: 1, ..tor },
    ] {
        ids.push(CircuitId::Header(circuit));
    }
    let spellings: HashSet<_> = ids.iter().map(CircuitId::canonical_bytes).collect();
    assert_eq!(spellings.len(), ids.len());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn abuse_03_04_the_same_number_of_another_start_or_another_tor_is_another_circuit() {
    let modes = [IdentityMode::Circuit, IdentityMode::Peer];
    let line = modes.map(|mode| (mode, with_line("127.0.0.1", TOR_LINE), headers(&[])));
    let header = (IdentityMode::Circuit, tcp("127.0.0.1"), headers(&["fc00:dead:beef:4dad::19"]));
    for (mode, connection, headers) in line.into_iter().chain([header]) {
        let at = |instance, generation| {
            let boot = TorBoot { instance, generation };
            identify(mode, &TrustedProxies::default(), boot, &connection, &headers).unwrap()
        };
        let one = at(3, 7);
        assert_eq!(one, at(3, 7));
        for other in [at(3, 8), at(4, 7), at(7, 3), at(0, 0)] {
            assert_ne!(one, other);
            assert_ne!(one.canonical_bytes(), other.canonical_bytes());
        }
    }
}

#[test]
fn debug_output_and_errors_name_no_circuit_and_no_address() {
    let line = with_line("127.0.0.1", TOR_LINE);
    let header = ask(&tcp("127.0.0.1"), &["fc00:dead:beef:4dad::19"]).unwrap();
    let peer = ask_peer(&tcp("127.0.0.1"), &[]).unwrap();
    assert_eq!(format!("{header:?}"), "CircuitId(header ..)");
    let tor: TorCircuit = "fc00:dead:beef:4dad::19".parse().unwrap();
    let all = format!("{line:?} {header:?} {peer:?} {:?} {tor:?}", Origin::Tor(tor));
    for secret in ["19", "25", "127", "dead"] {
        assert!(!all.contains(secret), "{all}");
    }
}

proptest! {
    #[test]
    fn abuse_02_any_text_is_refused_or_is_the_circuit_its_address_says(text in ".{0,60}") {
        if let Ok(found) = text.parse::<TorCircuit>() {
            let address: Ipv6Addr = text.parse().unwrap();
            prop_assert_eq!(address.segments()[..4].to_vec(), TOR_PREFIX.to_vec());
            prop_assert_eq!(u128::from(address) as u32, found.number());
        }
    }

    #[test]
    fn abuse_02_a_circuit_survives_every_way_of_writing_it(number: u32) {
        let (high, low) = (number >> 16, number & 0xffff);
        for text in [
            format!("fc00:dead:beef:4dad::{high:x}:{low:x}"),
            format!("FC00:DEAD:BEEF:4DAD:0:0:{high:04X}:{low:04X}"),
            Ipv6Addr::new(0xfc00, 0xdead, 0xbeef, 0x4dad, 0, 0, high as u16, low as u16)
                .to_string(),
        ] {
            prop_assert_eq!(circuit(&text), Ok(number));
        }
    }

    #[test]
    fn abuse_02_only_one_address_in_the_prefix_names_a_number(bits: u128) {
        let address = Ipv6Addr::from(bits);
        let tor = bits >> 32 == 0xfc00_dead_beef_4dad_0000_0000;
        prop_assert_eq!(TorCircuit::from_address(address).is_ok(), tor);
        let near = Ipv6Addr::from(0xfc00_dead_beef_4dad_u128 << 64 | bits >> 64);
        prop_assert_eq!(TorCircuit::from_address(near).is_ok(), bits >> 96 == 0);
    }

    #[test]
    fn any_bytes_as_a_proxy_line_never_panic(line: Vec<u8>) {
        let accepted = parse_proxy_line(&line).is_ok();
        prop_assert!(!accepted || line.starts_with(b"PROXY TCP"));
    }

    #[test]
    fn anything_after_the_word_proxy_is_refused_or_is_its_source(
        rest in "[A-Z]{3}[46] [0-9a-f:.]{2,40} [0-9a-f:.]{2,40} [0-9]{1,5} [0-9]{1,5}",
    ) {
        let line = format!("PROXY {rest}\r\n");
        if let Ok(source) = parse_proxy_line(line.as_bytes()) {
            let said: IpAddr = line.split(' ').nth(2).unwrap().parse().unwrap();
            prop_assert_eq!(source.clearnet_address(), Some(said.to_canonical()));
        }
    }
}
