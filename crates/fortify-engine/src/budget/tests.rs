use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const ALLOWANCE: Allowance = Allowance { per_minute: 60, burst: 20, pages: 200 };
const VISIT: Price = Price { writes: false, asset: false, suspected: false, stuffing: false };
const PART: Price = Price { asset: true, ..VISIT };
const SESSION: SessionId = SessionId::from_bytes([9; 16]);

fn second(number: u64) -> Timestamp {
    NOW.after(Duration::from_secs(number))
}

fn account(allowance: Allowance) -> Account {
    Account::new(allowance, NOW, second(7200))
}

fn is_paid(spent: Spent) -> bool {
    matches!(spent, Spent::Paid(_))
}

fn circuit(number: u8) -> CircuitTag {
    CircuitTag::from_bytes([number; 16])
}

#[test]
fn a_page_costs_one_a_write_two_and_a_part_of_a_page_a_tenth() {
    let mut account = account(ALLOWANCE);
    assert_eq!(account.spend(PART, NOW), Spent::Paid(PAGE), "no page before it");
    assert_eq!(account.spend(PART, NOW), Spent::Paid(ASSET));
    assert_eq!(account.spend(Price { writes: true, ..PART }, NOW), Spent::Paid(WRITE));
    let suspected = Price { suspected: true, ..VISIT };
    assert_eq!(account.spend(suspected, NOW), Spent::Paid(SUSPECTED * PAGE));
    assert_eq!(account.left(), 200_000 - 1000 - 100 - 2000 - 4000);
}

#[test]
fn what_a_browser_calls_an_asset_is_believed_forty_times_and_for_thirty_seconds() {
    let mut account = account(Allowance { burst: 1000, pages: 10_000, ..ALLOWANCE });
    assert_eq!(account.spend(VISIT, NOW), Spent::Paid(PAGE));
    for _ in 0..ASSETS_OF_A_PAGE {
        assert_eq!(account.spend(PART, second(29)), Spent::Paid(ASSET));
    }
    assert_eq!(account.spend(PART, second(29)), Spent::Paid(PAGE), "the 41st");
    assert_eq!(account.spend(PART, second(60)), Spent::Paid(PAGE), "31 s after a page");
}

#[test]
fn what_a_browser_calls_an_asset_costs_a_page_if_the_service_answers_with_one() {
    let mut account = account(ALLOWANCE);
    assert_eq!(account.spend(VISIT, NOW), Spent::Paid(PAGE));
    assert_eq!(account.spend(PART, NOW), Spent::Paid(ASSET));
    account.surcharge(ASSET);
    assert_eq!(account.left(), 198_000);
    // And what turned out to be an asset opens no price of assets for others.
    assert_eq!(account.spend(VISIT, NOW), Spent::Paid(PAGE));
    account.refund(PAGE);
    assert_eq!(account.left(), 197_900);
    assert_eq!(account.spend(PART, NOW), Spent::Paid(PAGE));
    for _ in 0..1_000 {
        account.surcharge(ASSET * SUSPECTED);
    }
    assert_eq!(account.left(), 0);
}

#[test]
fn the_parts_of_a_page_that_is_too_fast_end_no_session() {
    let mut account = account(Allowance { per_minute: 1, burst: 2, pages: 100_000 });
    while is_paid(account.spend(VISIT, NOW)) {}
    account.grains = 0;
    account.page_at = Some(NOW);
    for tenth in 0..290 {
        let at = NOW.after(Duration::from_millis(tenth * 100));
        account.grains = 0;
        assert!(matches!(account.spend(PART, at), Spent::TooFast(_)));
    }
    let (_, _, counted) = account.refused.unwrap();
    assert_eq!(counted, 1, "the page itself");
}

#[test]
fn the_bucket_gives_its_burst_and_then_its_rate() {
    let mut account = account(ALLOWANCE);
    let at_once = (0..100).filter(|_| is_paid(account.spend(VISIT, NOW))).count();
    assert_eq!(at_once, 20);
    // Asked ten times a second for a minute.
    let asked = (1..=600).map(|tenth| NOW.after(Duration::from_millis(tenth * 100)));
    let in_a_minute = asked.filter(|at| is_paid(account.spend(VISIT, *at))).count();
    assert_eq!(in_a_minute, 60);
}

#[test]
fn a_flood_within_one_millisecond_gains_nothing() {
    let mut account = account(Allowance { per_minute: 90, pages: 100_000, ..ALLOWANCE });
    while is_paid(account.spend(VISIT, NOW)) {}
    let at = NOW.after(Duration::from_millis(1));
    assert!((0..10_000).all(|_| !is_paid(account.spend(VISIT, at))));
}

#[test]
fn a_refusal_names_a_wait_after_which_there_is_room() {
    let mut account = account(ALLOWANCE);
    while is_paid(account.spend(VISIT, NOW)) {}
    let Spent::TooFast(slow) = account.spend(VISIT, NOW) else { panic!("not refused") };
    assert_eq!(slow, Slow { wait: Duration::from_secs(2), full_rate_in: None, kept_up: false });
    assert!(account.was_refused(NOW));
    let later = NOW.after(slow.wait);
    assert!(is_paid(account.spend(VISIT, later)) && is_paid(account.spend(VISIT, later)));
    assert!(!account.was_refused(second(10)));
}

#[test]
fn a_question_costs_nothing_and_is_no_refusal() {
    let mut account = account(ALLOWANCE);
    assert!(is_paid(account.would(VISIT, NOW)));
    assert_eq!(account.left(), 200_000);
    while is_paid(account.spend(VISIT, NOW)) {}
    let before = account;
    assert!(matches!(account.would(VISIT, NOW), Spent::TooFast(_)));
    assert_eq!(account, before);
}

#[test]
fn the_last_page_has_its_assets_and_then_the_quota_is_used_up() {
    let mut account = account(Allowance { burst: 1000, pages: 50, ..ALLOWANCE });
    let pages = (0..100).filter(|_| is_paid(account.spend(VISIT, NOW))).count();
    assert_eq!(pages, 46, "four are kept for assets");
    assert_eq!(account.spend(VISIT, NOW), Spent::UsedUp);
    for _ in 0..ASSETS_OF_A_PAGE {
        assert!(is_paid(account.spend(PART, NOW)));
    }
    assert_eq!(account.spend(PART, NOW), Spent::UsedUp);
    assert_eq!(account.spend(VISIT, second(3600)), Spent::UsedUp, "time gives no pages back");
    let mut smallest = self::account(Allowance { per_minute: 1, burst: 1, pages: 2 });
    assert!(is_paid(smallest.spend(VISIT, NOW)));
}

#[test]
fn ten_tabs_that_reload_as_told_are_never_kept_up_and_a_flood_is_after_a_minute() {
    let slowest = Allowance { per_minute: 30, burst: 30, pages: 120 };
    let mut tabs = account(slowest);
    while is_paid(tabs.spend(VISIT, NOW)) {}
    let mut waiting = vec![NOW; 10];
    while !waiting.is_empty() {
        waiting.sort_unstable();
        let at = waiting.remove(0);
        match tabs.spend(VISIT, at) {
            Spent::TooFast(slow) => {
                assert!(!slow.kept_up);
                waiting.push(at.after(slow.wait));
            }
            spent => assert!(is_paid(spent)),
        }
        assert!(at < second(60), "every tab is served within a minute");
    }
    let mut flood = account(Allowance { pages: 100_000, ..slowest });
    let mut tenths = (0_u64..900).map(|tenth| NOW.after(Duration::from_millis(tenth * 100)));
    let ended =
        |at: &Timestamp| matches!(flood.spend(VISIT, *at), Spent::TooFast(slow) if slow.kept_up);
    let after = NOW.until(tenths.find(ended).unwrap());
    assert!(after >= KEPT_UP && after < KEPT_UP * 3 / 2, "{after:?}");
}

#[test]
fn a_tunnel_costs_a_page_a_minute_until_none_are_left() {
    let budgets = Budgets::new(false);
    let new = || Account::new(Allowance { pages: 3, ..ALLOWANCE }, NOW, second(7200));
    let minutes = (1..10).take_while(|minute| budgets.charge(SESSION, second(minute * 60), new));
    assert_eq!(minutes.count(), 2);
    let (spent, _) = budgets.spend(SESSION, circuit(1), VISIT, second(600), new);
    assert_eq!(spent, Spent::UsedUp);
}

#[test]
fn a_log_in_form_needs_a_solve_while_passwords_are_tried() {
    let form = Price { writes: true, stuffing: true, ..VISIT };
    let mut plain = account(ALLOWANCE);
    assert_eq!(plain.spend(form, NOW), Spent::LogIn);
    assert_eq!(plain.spend(VISIT, NOW), Spent::Paid(PAGE), "nothing else does");
    let mut solved = account(ALLOWANCE).with_log_in();
    assert_eq!(solved.spend(form, NOW), Spent::Paid(WRITE));
    assert_eq!(solved.spend(form, NOW), Spent::LogIn, "one form for one solve");
}

#[test]
fn sessions_beyond_those_of_an_hour_have_a_tenth_of_the_rate_and_are_told_until_when() {
    let budgets = Budgets::new(false);
    for minute in [0, 10] {
        assert_eq!(budgets.earn(circuit(1), 2, second(minute * 60)), None);
    }
    let eases = budgets.earn(circuit(1), 2, second(20 * 60)).unwrap();
    assert!(eases > second(50 * 60) && eases <= second(65 * 60), "{:?}", NOW.until(eases));
    assert_eq!(budgets.earn(circuit(2), 2, second(20 * 60)), None, "another circuit");
    assert_eq!(budgets.earn(circuit(1), 2, second(3 * 3600)), None, "hours later");
    let mut slow = account(ALLOWANCE).throttled_until(eases, NOW);
    let pages = (0..=600).filter(|at| is_paid(slow.spend(VISIT, second(*at)))).count();
    assert_eq!(pages, 2 + 60, "6 a minute for ten minutes");
    let Spent::TooFast(told) = slow.spend(VISIT, second(600)) else { panic!("not refused") };
    assert_eq!(told.full_rate_in, Some(second(600).until(eases)));
}

#[test]
fn what_a_circuit_earned_follows_its_session_to_the_next_circuit() {
    let budgets = Budgets::new(false);
    for _ in 0..2 {
        assert_eq!(budgets.earn(circuit(1), 2, NOW), None);
    }
    budgets.open(SESSION, circuit(1), account(ALLOWANCE));
    // Also if it is used nowhere before.
    let known = || panic!("it has an account");
    assert!(is_paid(budgets.spend(SESSION, circuit(2), VISIT, NOW, known).0));
    let left = budgets.account(SESSION, NOW).map(|account| account.left());
    assert_eq!(left, Some(199_000), "the remainder moves too");
    assert!(budgets.earn(circuit(2), 2, NOW).is_some());
}

#[test]
fn an_expired_session_has_no_account_and_an_unknown_one_gets_its_own() {
    let budgets = Budgets::new(false);
    assert_eq!(budgets.would(SESSION, VISIT, NOW), None);
    let new = || Account::new(ALLOWANCE, NOW, second(60));
    assert!(is_paid(budgets.spend(SESSION, circuit(1), VISIT, NOW, new).0));
    assert!(budgets.account(SESSION, second(59)).is_some());
    assert!(budgets.account(SESSION, second(60)).is_none());
}

#[test]
fn a_node_asks_for_a_tenth_ahead_of_need_and_waits_when_the_store_has_none() {
    let lease = |granted, left| Lease { granted, left, per_minute: 60, burst: 20_000 };
    let mut account = account(ALLOWANCE).share();
    assert_eq!(account.spend(VISIT, NOW), Spent::Lease(2000));
    account.leased(2000, lease(2000, 198_000), NOW);
    assert_eq!(account.ahead(NOW), None);
    assert!(is_paid(account.spend(VISIT, NOW)) && is_paid(account.spend(PART, NOW)));
    assert_eq!(account.ahead(NOW), Some(2000), "less than half of a lease is held");
    account.leased(2000, lease(0, 198_000), NOW);
    assert_eq!((account.ahead(NOW), account.left()), (None, 198_900));
    let Spent::TooFast(slow) = account.spend(VISIT, NOW) else { panic!("not refused") };
    assert_eq!(slow.wait, Duration::from_secs(2), "as long as a lease takes");
    assert_eq!(account.spend(VISIT, second(2)), Spent::Lease(2000));
    account.leased(2000, lease(500, 0), second(2));
    assert!(is_paid(account.spend(PART, second(2))));
    assert_eq!(account.spend(VISIT, second(90)), Spent::UsedUp, "the store has none left");
}

fn any_request() -> impl Strategy<Value = (Price, u64, bool)> {
    let price = (any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(writes, asset, suspected)| Price { writes, asset, suspected, ..VISIT });
    (price, 0_u64..5000, any::<bool>())
}

proptest! {
    #[test]
    fn a_budget_never_grows_and_never_spends_more_than_its_quota_and_rate(
        per_minute in 1_u32..300, burst in 1_u32..100, pages in 1_u32..500,
        requests in proptest::collection::vec(any_request(), 1..400),
    ) {
        let allowance = Allowance { per_minute, burst, pages };
        let mut account = account(allowance);
        let (mut now, mut spent) = (NOW, 0);
        for (price, pause, is_asset) in requests {
            now = now.after(Duration::from_millis(pause));
            let before = account.left();
            if let Spent::Paid(cost) = account.spend(price, now) {
                if is_asset && !price.writes && cost >= PAGE {
                    account.refund(cost);
                }
                spent += before - account.left();
            }
            prop_assert!(account.left() <= before, "it grew");
            prop_assert!(spent <= milli(pages));
            let elapsed = u64::try_from(NOW.until(now).as_millis()).unwrap();
            prop_assert!(spent <= milli(burst) + elapsed * u64::from(per_minute) / 60);
        }
    }

    #[test]
    fn the_rate_is_used_whatever_the_pauses_while_somebody_asks(
        per_minute in 1_u32..300, pauses in proptest::collection::vec(1_u64..200, 100..400),
    ) {
        let mut account = account(Allowance { per_minute, burst: 5, pages: 1_000_000 });
        let (mut now, mut paid) = (NOW, 0_u64);
        for pause in pauses {
            now = now.after(Duration::from_millis(pause));
            while is_paid(account.spend(VISIT, now)) {
                paid += u64::from(PAGE);
            }
        }
        let elapsed = u64::try_from(NOW.until(now).as_millis()).unwrap();
        let due = 5 * u64::from(PAGE) + elapsed * u64::from(per_minute) / 60;
        prop_assert!(paid <= due && paid + 2 * u64::from(PAGE) > due, "{} of {}", paid, due);
    }

    #[test]
    fn a_clock_that_jumps_fills_no_bucket_twice(
        jumps in proptest::collection::vec(0_u64..60_000, 1..50),
    ) {
        let mut account = account(ALLOWANCE);
        let mut paid = 0;
        for at in jumps {
            while is_paid(account.spend(VISIT, NOW.after(Duration::from_millis(at)))) {
                paid += 1;
            }
        }
        prop_assert!(paid <= 20 + 60, "burst, and what a minute gives");
    }

    #[test]
    fn a_bucket_fills_again_after_the_clock_was_set_back(seconds in 61_u64..1_000_000) {
        let mut account = account(ALLOWANCE);
        while is_paid(account.spend(VISIT, NOW)) {}
        let back = NOW.before(Duration::from_secs(seconds));
        prop_assert!(!is_paid(account.spend(VISIT, back)));
        prop_assert!(is_paid(account.spend(VISIT, back.after(Duration::from_secs(1)))));
    }

    #[test]
    fn nodes_that_share_a_budget_spend_no_more_than_one(
        per_minute in 1_u32..300, burst in 1_u32..100, pages in 1_u32..500,
        requests in proptest::collection::vec((0_usize..3, any_request(), any::<bool>()), 1..400),
    ) {
        // The store, as `StateStore::lease_budget` has it: a bucket and a quota of its own.
        let allowance = Allowance { per_minute, burst, pages };
        let mut store = account(allowance);
        let mut nodes = [account(allowance).share(); 3];
        let (mut now, mut spent) = (NOW, 0_u64);
        for (node, (price, pause, _), comes) in requests {
            now = now.after(Duration::from_millis(pause));
            let node = &mut nodes[node];
            let mut outcome = node.spend(price, now);
            if let (Spent::Lease(most), true) = (outcome, comes) {
                store.fill(now);
                let granted = most.min(store.tokens()).min(store.left);
                store.grains -= grains(granted);
                store.left -= granted;
                let (left, burst) = (store.left, milli(burst));
                node.leased(most, Lease { granted, left, per_minute, burst }, now);
                outcome = node.spend(price, now);
            }
            if let Spent::Paid(cost) = outcome {
                spent += u64::from(cost);
            }
            prop_assert!(spent <= milli(pages), "more than the quota");
            let elapsed = u64::try_from(NOW.until(now).as_millis()).unwrap();
            prop_assert!(spent <= milli(burst) + elapsed * u64::from(per_minute) / 60);
        }
    }
}

proptest! {
    // Each restart waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_restart_gives_a_session_no_more_than_was_not_written(
        steps in proptest::collection::vec((0_u8..12, 0_u64..40), 1..150),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let until = second(20_000);
        let session =
            Session { id: SESSION, threat_level: 2, issued_at: NOW, expires_at: until };
        let mut budgets = Budgets::from_files(false, dir.path(), NOW);
        let (mut now, mut paid, mut unwritten, mut given_back) = (NOW, 0, 0, 0);
        for (step, seconds) in steps {
            now = now.after(Duration::from_secs(seconds));
            match step {
                0 | 1 => {
                    budgets.keep(now);
                    unwritten = 0;
                }
                2 => {
                    budgets = Budgets::from_files(false, dir.path(), now);
                    prop_assert_eq!(budgets.damages(), vec![]);
                    given_back += unwritten;
                    unwritten = 0;
                }
                _ => {
                    let new = || budgets.resume(&session, Account::new(ALLOWANCE, now, until), now);
                    let (spent, _) = budgets.spend(SESSION, circuit(1), VISIT, now, new);
                    if let Spent::Paid(cost) = spent {
                        paid += u64::from(cost);
                        unwritten += u64::from(cost);
                    }
                    let account = budgets.account(SESSION, now).unwrap();
                    prop_assert_eq!(account.left(), milli(ALLOWANCE.pages) + given_back - paid);
                }
            }
        }
    }
}
