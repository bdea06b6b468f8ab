//! How busy the protected service is: the numbers of the limiter, and why a request got no place.

/// Why a request got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// As many wait as may, and this session with as many as any.
    Full,
    /// It waited for [`crate::limiter::WAIT_LONGEST`].
    Deadline,
}

impl Busy {
    /// A fixed word for a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Deadline => "deadline",
        }
    }
}

/// The numbers for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The limit.
    pub limit: usize,
    /// Requests under way that hold a place.
    pub in_flight: usize,
    /// Requests that wait.
    pub waiting: usize,
}
