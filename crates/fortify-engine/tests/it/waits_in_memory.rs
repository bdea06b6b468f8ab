//! Waits and windows over the embedded store.

use std::sync::Arc;
use std::time::Duration;

use fortify_core::clock::{Clock as _, ManualClock};
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::limits::waits::FailureWaits;
use fortify_store::memory::{MemoryBounds, MemoryStore};
use fortify_store::record::{Quota, WindowLimit};
use fortify_store::{StateStore as _, contract};

#[tokio::test]
async fn a_clock_that_jumps_changes_no_wait_and_no_window() {
    let (clock, dir) = (Arc::new(ManualClock::at(contract::START)), tempfile::tempdir().unwrap());
    let bounds = MemoryBounds { challenges: 10, challenges_per_circuit: 3 };
    let store = MemoryStore::open(clock.clone(), bounds, dir.path());
    let (circuit, hour) = (CircuitTag::from_bytes([7; 16]), Duration::from_secs(3600));
    let bounds = [WindowLimit { within: Duration::from_secs(60), most: 1 }; 2];
    let waits = FailureWaits::default();
    for to in [contract::START.after(hour * 24), contract::START.before(hour)] {
        store.forget_failures(circuit).await.unwrap();
        for _ in 0..3 {
            store.record_failure(circuit, hour).await.unwrap();
        }
        assert!(matches!(
            store.acquire_quota(circuit, bounds, None).await,
            Ok(Quota::Granted { .. })
        ));
        clock.jump(to);
        for (step, left, full) in [(0, 30, 60), (29, 1, 31), (1, 0, 30)] {
            clock.advance(Duration::from_secs(step));
            let failures = store.failures(circuit).await.unwrap();
            let wait = waits.remaining(failures, hour, clock.now()).unwrap_or_default();
            assert_eq!((failures.count, wait), (3, Duration::from_secs(left)));
            let asked = store.acquire_quota(circuit, bounds, None).await.unwrap();
            assert_eq!(asked, Quota::Exceeded(Duration::from_secs(full)));
            let recent = store.quota_usage(circuit, [hour, Duration::from_secs(1)]).await.unwrap();
            assert_eq!(recent.unwrap()[0], 1, "as it is told to operators");
        }
        clock.advance(Duration::from_secs(60));
    }
}
