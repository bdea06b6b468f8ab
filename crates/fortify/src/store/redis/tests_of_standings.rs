//! What Redis keeps of standings where there is no more room; `tests/cluster.rs` has the rest, over gates.

use super::standings::Teller;
use super::tests::bed;
use super::tests::server::{Redis, until};
use super::*;
use crate::circuit::{TorBoot, TorCircuit};
use crate::reputation::conduct::{Conducts, Scoring};
use crate::reputation::shared::Sharing;
use crate::reputation::{Reason, Reputation, Standing as Stands};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_18_at_the_bound_favours_make_room_and_bans_never() {
    let redis = Redis::start(&[]);
    let bed = bed(&redis.config(), 3).await;
    let dir = tempfile::tempdir().unwrap();
    let reputation = Arc::new(Reputation::open(dir.path(), bed.clock.clone()).unwrap());
    let conducts = Arc::new(Conducts::new(bed.clock.clone(), Scoring::default()));
    let sharing = Sharing::new(&reputation, conducts, bed.clock.clone(), TorBoot::default, [1; 8]);
    sharing.begin();
    let sharing = Arc::new(sharing);
    let (link, keys) = (bed.store.link.clone(), bed.store.keys.clone());
    let teller = Teller::new(link, keys, sharing.clone(), bed.clock.clone(), 2);
    let teller = tokio::spawn(teller.run());
    let then = bed.clock.now().after(Duration::from_secs(3600));
    let circuit = |number| TorCircuit::from_parts(0, 0, number);
    let all_told =
        || async { until("all to be told", || async { sharing.untold() == Some(0) }).await };
    let kept = || {
        ["reset", "vip", "banned"]
            .map(|word| redis.tell(&["ZCARD", &format!("fortify:{{standings}}:ends:{word}")]))
    };
    reputation.ban(circuit(1), then, Reason::Failures).await.unwrap();
    reputation.favour(circuit(2), then).await.unwrap();
    all_told().await;
    assert_eq!(kept(), [":0", ":1", ":1"]);
    reputation.ban(circuit(3), then, Reason::Failures).await.unwrap();
    all_told().await;
    assert_eq!(kept(), [":0", ":0", ":2"]);
    reputation.ban(circuit(4), then, Reason::Failures).await.unwrap();
    all_told().await;
    assert_eq!(kept(), [":0", ":0", ":2"]);
    assert_eq!(redis.tell(&["HLEN", "fortify:{standings}:rows"]), ":2");
    assert_eq!(reputation.standing(circuit(4)), Some(Stands::Banned), "it counts here");
    // What can be told is told: one that is kept already needs no room.
    let later = then.after(Duration::from_secs(60));
    reputation.ban(circuit(3), later, Reason::Failures).await.unwrap();
    all_told().await;
    let scores = redis.tell(&["ZCOUNT", "fortify:{standings}:ends:banned", "-inf", "+inf"]);
    assert_eq!(scores, ":2");
    teller.abort();
}
