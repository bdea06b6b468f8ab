//! The status of circuits: shown and changed.

use std::cmp::Reverse;
use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::{self, KnownCircuit, resolve, tag_of};
use crate::error::AdminError;
use crate::handler::{Context, line};
use fortify_config::Config;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::operator::Reach;
use fortify_reputation::{CircuitStatus, StatusRow};
use fortify_tor::{CloseOutcome, TorError};

/// Circuits per page: the most, and the default.
const MOST: u32 = 200;
const USUALLY: u32 = 50;

/// The most circuits that one flush resets: about a second's work.
const MOST_FLUSHED: usize = 10_000;

/// Circuits in one write to the file.
pub const WRITTEN_TOGETHER: usize = 256;

/// The longest time for a ban or trust, in seconds: a year.
pub const LONGEST: u64 = 31_536_000;

/// Selects circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CircuitFilter {
    /// Banned circuits.
    Banned,
    /// Trusted circuits.
    Vip,
    /// Banned and trusted circuits.
    Any,
    /// Circuits with requests in the last hour, whatever their status.
    Seen,
}

/// The page to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Which circuits; by default, those that are banned or trusted.
    pub which: Option<CircuitFilter>,
    /// The `next` of the previous page.
    pub after: Option<String>,
    /// How many circuits: 50 by default, at most 200.
    pub limit: Option<u32>,
    /// Whether to include addresses; only allowed on the unix socket.
    pub addresses: Option<bool>,
}

/// The circuit to show.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfCircuit {
    /// Its pseudonym, 32 hexadecimal digits; on the unix socket also its address.
    pub circuit: String,
}

/// A change to a circuit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Its pseudonym, 32 hexadecimal digits; on the unix socket also its address.
    pub circuit: String,
    /// For how long; by default as configured.
    pub seconds: Option<u64>,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// The circuits to reset.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// Banned, trusted or both.
    pub which: CircuitFilter,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// A page of circuits.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Circuits {
    /// The latest first.
    pub circuits: Vec<Circuit>,
    /// The `after` of the next page; `None` on the last.
    pub next: Option<String>,
}

/// A circuit and its status.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Circuit {
    /// Its pseudonym.
    pub circuit: String,
    /// `vip` or `banned`; `None` if it is normal.
    pub status: Option<&'static str>,
    /// The reason for the status.
    pub reason: Option<&'static str>,
    /// When the status began, in ms since the Unix epoch.
    pub since: Option<Timestamp>,
    /// When it ends.
    pub until: Option<Timestamp>,
    /// The time of its last request.
    pub seen: Option<Timestamp>,
    /// Whether its number is known, so that its status can be changed.
    pub known: bool,
    /// Its address as tor and `HAProxy` know it; only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// After a change: `cluster`, or `node` if the other nodes could not be told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// A circuit's address, which `Debug` does not show.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Address(Ipv6Addr);

impl Address {
    /// The address of `circuit`.
    pub const fn of(circuit: &TorCircuit) -> Self {
        Self(circuit.address())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// The result of closing a circuit.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Killed {
    /// Whether tor still had it.
    pub closed: bool,
}

/// The result of a flush.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Flushed {
    /// How many circuits were reset.
    pub taken_back: u64,
    /// How many are left; repeat the request to reset them.
    pub left: u64,
    /// After a change: `cluster`, or `node` if the other nodes could not be told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// A page of circuits, the latest first.
///
/// # Errors
///
/// [`AdminError::BadRequest`] if `after` is not the `next` of a page, or if addresses are requested elsewhere than on
/// the unix socket; [`AdminError::Busy`] during another scan.
pub async fn list(context: Context, args: List) -> Result<Circuits, AdminError> {
    let addresses = args.addresses.unwrap_or(false);
    if addresses && !context.is_local() {
        let advice = "addresses: only available on the unix socket; leave it out";
        return Err(AdminError::BadRequest(advice.to_owned()));
    }
    let limit = args.limit.unwrap_or(USUALLY).clamp(1, MOST) as usize;
    let bad = || AdminError::BadRequest("after: use the next of the previous page".to_owned());
    let after = args.after.as_deref().map(|text| Cursor::parse(text).ok_or_else(bad));
    let (after, app) = (after.transpose()?, context.app.clone());
    let which = args.which.unwrap_or(CircuitFilter::Any);
    let permit = context.admin.scan()?;
    let page = directory::off_thread(move || {
        // Held for as long as the thread works, even if the caller stops waiting.
        let _permit = permit;
        let items: Vec<Item> = if which == CircuitFilter::Seen {
            let recent = app.engine.recent_circuits().into_iter();
            recent.map(|(tag, tor, at)| Item { at, tag: Some(tag), tor }).collect()
        } else {
            let rows = app.engine.statuses().into_iter().filter(|row| which.has(row.status));
            rows.map(|row| Item { at: row.since, tag: None, tor: Some(row.circuit) }).collect()
        };
        let tag = |item: &Item| item.tag.or_else(|| item.tor.map(|circuit| tag_of(&app, circuit)));
        cut(items, after, limit, tag)
    });
    let (page, next) = page.await?;
    let circuits = page.into_iter().map(|named| {
        let address = named.tor.filter(|_| addresses).map(|circuit| Address::of(&circuit));
        Circuit { address, ..view(&context, named) }
    });
    let circuits = circuits.collect();
    Ok(Circuits { circuits, next: next.map(|cursor| cursor.to_string()) })
}

/// Reports the status of a circuit.
///
/// # Errors
///
/// [`AdminError::BadRequest`] if the name is malformed.
pub async fn show(context: Context, args: OfCircuit) -> Result<Circuit, AdminError> {
    let named = resolve(&context, &args.circuit).await?;
    Ok(view(&context, named))
}

/// Bans a circuit.
///
/// # Errors
///
/// If the circuit is not known; faults of the files, and then nothing has changed.
pub async fn ban(context: Context, args: Change) -> Result<Circuit, AdminError> {
    change(&context, args, CircuitStatus::Banned).await
}

/// Trusts a circuit, even a banned one.
///
/// # Errors
///
/// As [`ban`].
pub async fn promote(context: Context, args: Change) -> Result<Circuit, AdminError> {
    change(&context, args, CircuitStatus::Trusted).await
}

/// Makes a circuit normal again: lifts a ban, withdraws trust, and restores the tries that it used up.
///
/// # Errors
///
/// As [`ban`].
pub async fn reset(context: Context, args: Change) -> Result<Circuit, AdminError> {
    change(&context, args, CircuitStatus::Normal).await
}

/// Closes a circuit through tor. The client returns on another one.
///
/// # Errors
///
/// [`AdminError::Conflict`] if `tor.control` is not set; the failure that tor reports.
pub async fn kill(context: Context, args: Change) -> Result<Killed, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let named = resolve(&context, &args.circuit).await?;
    let circuit = named.circuit()?;
    let Some(tor) = context.app().tor.clone() else {
        let advice = "there is no connection to tor; set tor.control, or ban the circuit";
        return Err(AdminError::Conflict(advice.to_owned()));
    };
    let entry = context.entry("circuit.kill", &named.tag.hex())?;
    context.log(entry.because(&reason)).await?;
    let closed = tor.close_circuit(circuit).await.map_err(|error| match error {
        TorError::Busy => AdminError::Busy("circuits are being closed"),
        error => AdminError::Unavailable(error.to_string()),
    })?;
    Ok(Killed { closed: closed == CloseOutcome::JustClosed })
}

/// Makes many circuits normal again, as many as take about a second.
///
/// # Errors
///
/// Faults of the files; the circuits that were reset before stay so.
pub async fn flush(context: Context, args: Flush) -> Result<Flushed, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    if args.which == CircuitFilter::Seen {
        let advice = "which: use banned, vip or any";
        return Err(AdminError::BadRequest(advice.to_owned()));
    }
    let app = context.app.clone();
    let rows = directory::off_thread(move || app.engine.statuses()).await?;
    let mut circuits: Vec<TorCircuit> =
        rows.iter().filter(|row| args.which.has(row.status)).map(|row| row.circuit).collect();
    let all = circuits.len();
    circuits.truncate(MOST_FLUSHED);
    let entry =
        context.entry("circuit.flush", args.which.as_str())?.change(all, all - circuits.len());
    context.log(entry.because(&reason)).await?;
    context.app().engine.reset_all(&circuits).await?;
    let left = (all - circuits.len()) as u64;
    let reach = Some(context.reach("circuit.flush", args.which.as_str()).await);
    Ok(Flushed { taken_back: circuits.len() as u64, left, reach })
}

async fn change(
    context: &Context,
    args: Change,
    status: CircuitStatus,
) -> Result<Circuit, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let time = match args.seconds {
        None => context.app().engine.usual_time(status),
        Some(seconds @ 1..=LONGEST) => Duration::from_secs(seconds),
        Some(_) => {
            let advice = format!("seconds: use 1 to {LONGEST}, which is a year");
            return Err(AdminError::BadRequest(advice));
        }
    };
    let named = resolve(context, &args.circuit).await?;
    let circuit = named.circuit()?;
    let app = context.app();
    let before = app.engine.status(circuit).map_or("normal", |row| row.status.as_str());
    let to = describe(status, time);
    let entry = context.entry(action(status), &named.tag.hex())?.change(before, to);
    context.log(entry.because(&reason)).await?;
    app.engine.set_status(circuit, status, time).await?;
    let reach = context.reach(action(status), &named.tag.hex()).await;
    Ok(Circuit { reach: Some(reach), ..view(context, named) })
}

/// A circuit and its status, without its number.
pub(super) fn view(context: &Context, named: KnownCircuit) -> Circuit {
    let app = context.app();
    let row: Option<StatusRow> = named.tor.and_then(|circuit| app.engine.status(circuit));
    let seen = app.engine.last_seen(named.tag);
    Circuit { seen, known: named.tor.is_some(), ..Circuit::status_of(named.tag, row) }
}

impl Circuit {
    /// A circuit with the status in `row`, of which nothing else is known.
    pub fn status_of(tag: CircuitTag, row: Option<StatusRow>) -> Self {
        let row = row.filter(|row| row.status != CircuitStatus::Normal);
        Self {
            circuit: tag.hex(),
            status: row.map(|row| row.status.as_str()),
            reason: row.map(|row| row.reason.as_str()),
            since: row.map(|row| row.since),
            until: row.map(|row| row.until),
            seen: None,
            known: false,
            address: None,
            reach: None,
        }
    }
}

/// The default duration of a status.
pub const fn usual(status: CircuitStatus, config: &Config) -> Duration {
    match status {
        CircuitStatus::Banned => config.reputation.ban,
        CircuitStatus::Trusted => config.reputation.vip,
        // For as long as failures may be remembered.
        CircuitStatus::Normal => config.security.reputation_decay,
    }
}

/// The action in the audit that gives a circuit this status.
pub const fn action(status: CircuitStatus) -> &'static str {
    match status {
        CircuitStatus::Banned => "circuit.ban",
        CircuitStatus::Trusted => "circuit.promote",
        CircuitStatus::Normal => "circuit.reset",
    }
}

/// The new value in the audit for a change to `status`.
pub fn describe(status: CircuitStatus, time: Duration) -> String {
    match status {
        CircuitStatus::Normal => "normal".to_owned(),
        _ => format!("{status} for {} s", time.as_secs()),
    }
}

/// A circuit that may be on the page. Its pseudonym costs a hash, and is computed only if it is shown.
struct Item {
    at: Timestamp,
    tag: Option<CircuitTag>,
    tor: Option<TorCircuit>,
}

/// Where a page ended: a time, and a pseudonym among the circuits of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    at: Timestamp,
    tag: [u8; 16],
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (at, tag) = text.split_once('-')?;
        let tag = CircuitTag::from_hex(tag)?.to_bytes();
        Some(Self { at: Timestamp::from_millis(at.parse().ok()?), tag })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.as_millis(), CircuitTag::from_bytes(self.tag).hex())
    }
}

/// The page after `after`: the latest first, circuits of the same time sorted by pseudonym.
fn cut(
    mut items: Vec<Item>,
    after: Option<Cursor>,
    limit: usize,
    tag: impl Fn(&Item) -> Option<CircuitTag>,
) -> (Vec<KnownCircuit>, Option<Cursor>) {
    items.retain(|item| after.is_none_or(|after| item.at <= after.at));
    items.sort_unstable_by_key(|item| Reverse(item.at));
    let mut page = Vec::new();
    for group in items.chunk_by(|a, b| a.at == b.at) {
        let mut group: Vec<_> = group
            .iter()
            .filter_map(|item| Some((item.at, tag(item)?.to_bytes(), item.tor)))
            .filter(|(at, tag, _)| {
                after.is_none_or(|after| (Reverse(*at), *tag) > (Reverse(after.at), after.tag))
            })
            .collect();
        group.sort_unstable_by_key(|(_, tag, _)| *tag);
        page.extend(group);
        if page.len() > limit {
            break;
        }
    }
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|(at, tag, _)| Cursor { at: *at, tag: *tag });
    let named = |(_, tag, tor)| KnownCircuit { tag: CircuitTag::from_bytes(tag), tor };
    (page.into_iter().map(named).collect(), next)
}

impl CircuitFilter {
    /// The name in the API and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Vip => "vip",
            Self::Any => "any",
            Self::Seen => "seen",
        }
    }

    /// Whether circuits of this status are selected.
    pub fn has(self, status: CircuitStatus) -> bool {
        match self {
            Self::Banned => status == CircuitStatus::Banned,
            Self::Vip => status == CircuitStatus::Trusted,
            Self::Any | Self::Seen => status != CircuitStatus::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gaps() {
        // Many of one time, and some of others.
        let items = || {
            (0..250_u32).map(|number| Item {
                at: Timestamp::from_secs(if number < 200 { 7 } else { number.into() }),
                tag: Some(CircuitTag::from_bytes([number as u8; 16])),
                tor: None,
            })
        };
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let (page, next) = cut(items().collect(), after, 30, |item| item.tag);
            assert!(page.len() <= 30);
            seen.extend(page.into_iter().map(|named| named.tag.to_bytes()));
            let Some(next) = next else { break };
            assert_eq!(Cursor::parse(&next.to_string()), Some(next));
            after = Some(next);
        }
        let latest: Vec<_> = (200..250).rev().chain(0..200).map(|n: u32| [n as u8; 16]).collect();
        assert_eq!(seen, latest);
        for text in ["", "1", "1-", "x-00", "-1-00112233445566778899aabbccddeeff"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
