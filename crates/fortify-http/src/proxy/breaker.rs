//! Whether a server accepts connections: a circuit breaker, pure.
//!
//! Only connections count against a server, never answers: a page that is a 500 or slow says nothing about the others,
//! and whatever the server answers says that it is there. Nor does it count when this machine could not try, because it
//! has no port, descriptor or memory left. An open breaker asks for a probe (the half-open state) every two seconds at
//! least, and the first connection closes it, so a server that comes and goes is never shut out for longer than that.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// Failed connections in a row that open the breaker: with one, a moment's restart would count.
const FAILURES: u32 = 2;

/// The time to the first probe, and the longest to a later one.
const PROBES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// Whether one server accepts connections.
///
/// Times are those since any moment that all calls share.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// When the server last accepted a connection or answered.
    last_success: Option<Duration>,
    /// Set while the breaker is open: the time to the next probe.
    probe_in: Option<Duration>,
    /// Whether somebody probes, who notices only at the next probe when the breaker was closed meanwhile.
    probing: bool,
}

/// Whether a connection failed for a reason of this machine, which says nothing about the server: no port, descriptor or
/// memory is left, or the queue of a unix socket is full, in which everybody is before a server that works.
pub(super) fn is_of_this_machine(error: &io::Error) -> bool {
    let own = [
        Errno::AGAIN,
        Errno::ADDRNOTAVAIL,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
    ];
    match Errno::from_io_error(error) {
        Some(errno) => own.contains(&errno),
        None => matches!(
            error.kind(),
            io::ErrorKind::WouldBlock
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::OutOfMemory
        ),
    }
}

impl Breaker {
    pub(super) const fn is_open(&self) -> bool {
        self.probe_in.is_some()
    }

    /// The server accepted a connection or answered. Returns whether this closed the breaker.
    pub(super) fn succeeded(&mut self, now: Duration) -> bool {
        self.failures = 0;
        self.last_success = Some(now);
        self.probe_in.take().is_some()
    }

    /// A connection that was begun at `began` failed. Returns whether this opened the breaker.
    ///
    /// It does not count if the server accepted another one in the meantime: a full backlog drops some connections
    /// while others succeed, and such a server is busy, not down.
    pub(super) fn failed(&mut self, began: Duration) -> bool {
        if self.last_success.is_some_and(|success| success > began) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let opens = self.failures >= FAILURES && !self.is_open();
        if opens {
            self.probe_in = Some(PROBES.0);
        }
        opens
    }

    /// Whether a prober is to be started: the breaker is open, and there is none.
    pub(super) const fn wants_prober(&mut self) -> bool {
        let wanted = self.is_open() && !self.probing;
        self.probing = self.probing || wanted;
        wanted
    }

    /// The time until the prober's next probe is due; each is twice as far off as the one before. `None` if the breaker
    /// is closed: then the prober ends.
    pub(super) fn next_probe(&mut self) -> Option<Duration> {
        let wait = self.probe_in;
        self.probing = wait.is_some();
        self.probe_in = wait.map(|wait| (wait * 2).min(PROBES.1));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn two_failures_in_a_row_open_it_and_one_success_closes_it() {
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(at(1)) && !breaker.is_open());
        assert!(breaker.failed(at(2)) && breaker.is_open());
        assert!(!breaker.failed(at(3)), "opened twice");
        let waits: Vec<_> = (0..5).filter_map(|_| breaker.next_probe()).collect();
        assert_eq!(waits, [at(250), at(500), at(1000), at(2000), at(2000)]);
        assert!(breaker.succeeded(at(4)) && !breaker.is_open());
        assert_eq!(breaker.next_probe(), None);
        // The next time begins like the first.
        assert!(!breaker.failed(at(5)) && breaker.failed(at(6)));
        assert_eq!(breaker.next_probe(), Some(at(250)));
    }

    #[test]
    fn a_breaker_that_closes_and_opens_again_before_a_probe_has_one_prober() {
        let mut breaker = Breaker::default();
        assert!(!breaker.wants_prober());
        breaker.failed(at(1));
        breaker.failed(at(2));
        assert!(breaker.wants_prober() && !breaker.wants_prober());
        breaker.succeeded(at(3));
        breaker.failed(at(4));
        breaker.failed(at(5));
        assert!(!breaker.wants_prober(), "the first is still there");
        assert!(breaker.next_probe().is_some());
        breaker.succeeded(at(6));
        assert_eq!(breaker.next_probe(), None, "and ends");
        breaker.failed(at(7));
        breaker.failed(at(8));
        assert!(breaker.wants_prober());
    }

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_server_refuses() {
        let of = |errno: Errno| is_of_this_machine(&errno.into());
        for errno in [Errno::AGAIN, Errno::ADDRNOTAVAIL, Errno::MFILE, Errno::NFILE, Errno::NOBUFS]
        {
            assert!(of(errno), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::NOENT, Errno::CONNRESET] {
            assert!(!of(errno), "{errno}");
        }
        assert!(!is_of_this_machine(&io::ErrorKind::TimedOut.into()));
    }

    proptest! {
        #[test]
        fn a_server_that_comes_and_goes_is_not_shut_out(rounds in 1..200_u64) {
            let mut breaker = Breaker::default();
            for round in 0..rounds {
                breaker.failed(at(2 * round));
                prop_assert!(!breaker.is_open());
                breaker.succeeded(at(2 * round + 1));
            }
        }

        #[test]
        fn failures_while_others_succeed_do_not_count(failures in 1..50_u32) {
            let mut breaker = Breaker::default();
            breaker.succeeded(at(5000));
            for _ in 0..failures {
                breaker.failed(at(100));
            }
            prop_assert!(!breaker.is_open());
        }
    }
}
