//! The policy of each threat level.

use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::{Carrier, Variant, carrier_weights, variant_weights};

use super::ThreatLevel;

/// The shortest session that a level sets: the minimum of `session.ttl_seconds`.
const SHORTEST_SESSION: Duration = Duration::from_secs(60);

/// What a request needs to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Admits {
    /// A valid session cookie or a trusted circuit.
    Either,
    /// A valid session cookie, whether or not the circuit is trusted.
    Session,
    /// A valid session cookie on a trusted circuit.
    Both,
}

/// The policy of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelPolicy {
    /// The level.
    pub level: ThreatLevel,
    /// How often each task is drawn; empty for the level's own weights.
    pub variants: Vec<(Variant, u32)>,
    /// How often each carrier is used; empty for the level's own weights.
    pub carriers: Vec<(Carrier, u32)>,
    /// Challenges to solve one after another for a session, 1 to 3.
    pub stages: u8,
    /// How long a challenge can be answered.
    pub challenge_ttl: Duration,
    /// Challenges that a circuit may request per hour.
    pub challenges_per_hour: u32,
    /// How long a new session lasts.
    pub session_ttl: Duration,
    /// What a request needs to be admitted.
    pub admits: Admits,
    /// Pages a minute that a session earned at this level may request.
    pub pages_per_minute: u32,
    /// Pages that it may request at once, after a pause.
    pub page_burst: u32,
    /// Pages that it may request in all; then it has to solve again.
    pub pages_per_session: u32,
    /// Sessions that a circuit may earn in an hour at the full rate.
    pub sessions_per_hour: u32,
    /// Connections that a circuit may hold open.
    pub connections_per_circuit: u32,
}

impl LevelPolicy {
    /// How often each task is drawn: as configured, or the level's own weights.
    #[must_use]
    pub fn tasks(&self) -> &[(Variant, u32)] {
        match self.variants.is_empty() {
            true => variant_weights(self.level.difficulty()),
            false => &self.variants,
        }
    }

    /// How often each carrier is used: as configured, or the level's own weights.
    #[must_use]
    pub fn shown_by(&self) -> &[(Carrier, u32)] {
        match self.carriers.is_empty() {
            true => carrier_weights(self.level.difficulty()),
            false => &self.carriers,
        }
    }
}

/// The overrides of one level: each value that is present replaces the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelOverride {
    /// `level`: the level.
    pub level: ThreatLevel,
    /// `variant_weights`, 0 to 1000 each.
    pub variants: Option<Vec<(Variant, u32)>>,
    /// `carrier_weights`, 0 to 1000 each.
    pub carriers: Option<Vec<(Carrier, u32)>>,
    /// `stages`, 1 to 3.
    pub stages: Option<u8>,
    /// `challenge_ttl_seconds`, at most `captcha.ttl_seconds`.
    pub challenge_ttl: Option<Duration>,
    /// `challenges_per_hour`, 1 to 1,000.
    pub challenges_per_hour: Option<u32>,
    /// `session_ttl_seconds`, at most `session.ttl_seconds`.
    pub session_ttl: Option<Duration>,
    /// `admits`: `either` or `both`.
    pub admits: Option<Admits>,
    /// `pages_per_minute`, 1 to 100,000.
    pub pages_per_minute: Option<u32>,
    /// `page_burst`, 1 to 100,000.
    pub page_burst: Option<u32>,
    /// `pages_per_session`, 1 to 1,000,000.
    pub pages_per_session: Option<u32>,
    /// `sessions_per_hour`, 1 to 1,000.
    pub sessions_per_hour: Option<u32>,
    /// `connections_per_circuit`, 1 to 1,000.
    pub connections_per_circuit: Option<u32>,
}

impl LevelOverride {
    /// No overrides for `level`.
    #[must_use]
    pub const fn of(level: ThreatLevel) -> Self {
        Self {
            level,
            variants: None,
            carriers: None,
            stages: None,
            challenge_ttl: None,
            challenges_per_hour: None,
            session_ttl: None,
            admits: None,
            pages_per_minute: None,
            page_burst: None,
            pages_per_session: None,
            sessions_per_hour: None,
            connections_per_circuit: None,
        }
    }
}

/// The values from the rest of the configuration, which apply to every level.
#[derive(Clone, Debug, Default)]
pub struct Basis {
    /// `captcha.variant_weights`.
    pub variants: Vec<(Variant, u32)>,
    /// `captcha.carrier_weights`.
    pub carriers: Vec<(Carrier, u32)>,
    /// `captcha.ttl_seconds`.
    pub challenge_ttl: Duration,
    /// `session.ttl_seconds`.
    pub session_ttl: Duration,
}

/// The policies of all levels.
#[derive(Clone, Debug)]
pub struct LevelTable([Arc<LevelPolicy>; ThreatLevel::COUNT]);

impl LevelTable {
    /// The default rows over `basis`, and `overrides` over those.
    #[must_use]
    pub fn new(basis: &Basis, overrides: &[LevelOverride]) -> Self {
        Self(ThreatLevel::ALL.map(|level| {
            let row = default_row(level, basis);
            Arc::new(match overrides.iter().find(|written| written.level == level) {
                Some(written) => overridden(row, written),
                None => row,
            })
        }))
    }

    /// The policy of `level`.
    #[must_use]
    pub fn policy(&self, level: ThreatLevel) -> &Arc<LevelPolicy> {
        // A level is 1 to 10, and there are ten rows.
        &self.0[usize::from(level.get()) - 1]
    }
}

/// The numbers of the requirements. Sessions get shorter above 5, so that visitors admitted during an attack are
/// challenged again soon: three quarters of `session.ttl_seconds` at 6 and 7, half at 8, a quarter above.
///
/// A person reads two to four pages a minute, so the budgets are for the busiest: at levels 1 to 5 a simulation of
/// 3,000 people over two hours meets neither limit (`budget::simulation`).
fn default_row(level: ThreatLevel, basis: &Basis) -> LevelPolicy {
    let number = level.get();
    let quarters = match number {
        ..=5 => 4,
        6..=7 => 3,
        8 => 2,
        9.. => 1,
    };
    let [
        pages_per_minute,
        page_burst,
        pages_per_session,
        sessions_per_hour,
        connections_per_circuit,
    ] = match number {
        ..=2 => [120, 60, 3000, 6, 32],
        3..=5 => [90, 60, 600, 4, 32],
        6..=8 => [60, 45, 300, 2, 24],
        9.. => [30, 30, 120, 2, 16],
    };
    LevelPolicy {
        level,
        variants: basis.variants.clone(),
        carriers: basis.carriers.clone(),
        stages: match number {
            ..=8 => 1,
            9 => 2,
            10.. => 3,
        },
        challenge_ttl: basis.challenge_ttl,
        challenges_per_hour: match number {
            ..=2 => 60,
            3..=5 => 30,
            6.. => 10,
        },
        session_ttl: (basis.session_ttl * quarters / 4).max(SHORTEST_SESSION),
        admits: if number <= 5 { Admits::Either } else { Admits::Both },
        pages_per_minute,
        page_burst,
        pages_per_session,
        sessions_per_hour,
        connections_per_circuit,
    }
}

fn overridden(row: LevelPolicy, written: &LevelOverride) -> LevelPolicy {
    LevelPolicy {
        level: row.level,
        variants: written.variants.clone().unwrap_or(row.variants),
        carriers: written.carriers.clone().unwrap_or(row.carriers),
        stages: written.stages.unwrap_or(row.stages),
        challenge_ttl: written.challenge_ttl.unwrap_or(row.challenge_ttl),
        challenges_per_hour: written.challenges_per_hour.unwrap_or(row.challenges_per_hour),
        session_ttl: written.session_ttl.unwrap_or(row.session_ttl),
        admits: written.admits.unwrap_or(row.admits),
        pages_per_minute: written.pages_per_minute.unwrap_or(row.pages_per_minute),
        page_burst: written.page_burst.unwrap_or(row.page_burst),
        pages_per_session: written.pages_per_session.unwrap_or(row.pages_per_session),
        sessions_per_hour: written.sessions_per_hour.unwrap_or(row.sessions_per_hour),
        connections_per_circuit: (written.connections_per_circuit)
            .unwrap_or(row.connections_per_circuit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis() -> Basis {
        let (challenge_ttl, session_ttl) = (Duration::from_secs(300), Duration::from_secs(3600));
        Basis { challenge_ttl, session_ttl, ..Basis::default() }
    }

    fn level(number: u8) -> ThreatLevel {
        ThreatLevel::new(number).unwrap()
    }

    #[test]
    fn a_higher_level_is_never_milder() {
        let table = LevelTable::new(&basis(), &[]);
        for pair in ThreatLevel::ALL.windows(2) {
            let (mild, severe) = (table.policy(pair[0]), table.policy(pair[1]));
            assert!(mild.level < severe.level);
            assert!(mild.stages <= severe.stages);
            assert!(mild.challenge_ttl >= severe.challenge_ttl);
            assert!(mild.challenges_per_hour >= severe.challenges_per_hour);
            assert!(mild.session_ttl >= severe.session_ttl);
            assert!(mild.admits <= severe.admits);
            assert!(mild.pages_per_minute >= severe.pages_per_minute);
            assert!(mild.page_burst >= severe.page_burst);
            assert!(mild.pages_per_session >= severe.pages_per_session);
            assert!(mild.sessions_per_hour >= severe.sessions_per_hour);
            assert!(mild.connections_per_circuit >= severe.connections_per_circuit);
        }
    }

    #[test]
    fn the_default_rows_are_the_requirements() {
        let table = LevelTable::new(&basis(), &[]);
        let column =
            |read: fn(&LevelPolicy) -> u64| ThreatLevel::ALL.map(|level| read(table.policy(level)));
        assert_eq!(column(|row| row.stages.into()), [1, 1, 1, 1, 1, 1, 1, 1, 2, 3]);
        assert_eq!(
            column(|row| row.challenges_per_hour.into()),
            [60, 60, 30, 30, 30, 10, 10, 10, 10, 10]
        );
        assert_eq!(column(|row| row.challenge_ttl.as_secs()), [300; 10]);
        let sessions = [3600, 3600, 3600, 3600, 3600, 2700, 2700, 1800, 900, 900];
        assert_eq!(column(|row| row.session_ttl.as_secs()), sessions);
        assert_eq!(column(|row| row.admits as u64), [0, 0, 0, 0, 0, 2, 2, 2, 2, 2]);
        let pages = [3000, 3000, 600, 600, 600, 300, 300, 300, 120, 120];
        assert_eq!(column(|row| row.pages_per_session.into()), pages);
        assert_eq!(
            column(|row| row.pages_per_minute.into()),
            [120, 120, 90, 90, 90, 60, 60, 60, 30, 30]
        );
        assert_eq!(column(|row| row.page_burst.into()), [60, 60, 60, 60, 60, 45, 45, 45, 30, 30]);
        assert_eq!(column(|row| row.sessions_per_hour.into()), [6, 6, 4, 4, 4, 2, 2, 2, 2, 2]);
        let connections = [32, 32, 32, 32, 32, 24, 24, 24, 16, 16];
        assert_eq!(column(|row| row.connections_per_circuit.into()), connections);
    }

    #[test]
    fn a_written_column_takes_the_place_of_the_defaults_and_the_rest_stays() {
        let written = LevelOverride {
            variants: Some(vec![(Variant::Arithmetic, 1)]),
            stages: Some(2),
            challenges_per_hour: Some(5),
            admits: Some(Admits::Both),
            pages_per_session: Some(50),
            ..LevelOverride::of(level(3))
        };
        let (plain, table) =
            (LevelTable::new(&basis(), &[]), LevelTable::new(&basis(), &[written]));
        assert_eq!(table.policy(level(2)), plain.policy(level(2)));
        let expected = LevelPolicy {
            variants: vec![(Variant::Arithmetic, 1)],
            stages: 2,
            challenges_per_hour: 5,
            admits: Admits::Both,
            pages_per_session: 50,
            ..LevelPolicy::clone(plain.policy(level(3)))
        };
        assert_eq!(**table.policy(level(3)), expected);
    }
}
