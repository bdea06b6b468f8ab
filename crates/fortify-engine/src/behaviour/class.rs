//! The classes of behaviour that a circuit can be found to show.

use schemars::JsonSchema;
use serde::Serialize;

/// What a circuit looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Scans for vulnerabilities.
    Probing,
    /// Tries user names and passwords.
    CredentialStuffing,
    /// Holds connections open with very slow request bodies.
    SlowDrip,
    /// Sends more requests than any person would.
    Flood,
    /// Collects challenges without answering them.
    ChallengeFarming,
    /// Copies the service page by page.
    Scraping,
}

impl Class {
    /// All classes, in order of precedence: the most harmful ones, which are least often an accident, come first.
    pub const ALL: [Self; 6] = [
        Self::Probing,
        Self::CredentialStuffing,
        Self::SlowDrip,
        Self::Flood,
        Self::ChallengeFarming,
        Self::Scraping,
    ];

    /// The label in metrics and reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Probing => "probing",
            Self::CredentialStuffing => "credential_stuffing",
            Self::SlowDrip => "slow_drip",
            Self::Flood => "flood",
            Self::ChallengeFarming => "challenge_farming",
            Self::Scraping => "scraping",
        }
    }
}

/// A set of [`Class`]es.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(u8);

impl Classes {
    /// Adds a class, and returns whether it is new.
    pub(super) fn insert(&mut self, class: Class) -> bool {
        let before = self.0;
        self.0 |= 1 << class as u8;
        self.0 != before
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
