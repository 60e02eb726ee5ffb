use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time};
use tracker_api::{
    AttemptId, Entry, ErrorKind, FailureTracker, Outcome, Partition, Query, Timestamp, Version,
};

use super::{
    Circuit, Guarded, Settings,
    breaker::PROBES_TO_CLOSE,
    scripted::{Act, Scripted},
};

const DOWN: Act = Act::Fail(ErrorKind::Unavailable);

fn settings(tries: u32) -> Settings {
    Settings {
        timeout: Duration::from_millis(100),
        tries,
        failure_threshold: 3,
        open_for: Duration::from_secs(10),
    }
}

fn guarded(store: &Arc<Scripted>, tries: u32) -> Guarded {
    Guarded::new(store.clone(), settings(tries))
}

async fn opened(store: &Arc<Scripted>) -> Guarded {
    store.then(DOWN);
    let guarded = guarded(store, 1);
    for _ in 0..3 {
        guarded.ping().await.unwrap_err();
    }
    assert!(matches!(guarded.state().circuit, Circuit::Open { .. }));
    guarded
}

#[tokio::test(start_paused = true)]
async fn only_an_outage_is_tried_again_and_at_most_as_often_as_configured() {
    let store = Scripted::new(Act::Answer);
    store.first([DOWN, Act::Fail(ErrorKind::Timeout)]);
    guarded(&store, 3).ping().await.unwrap();
    assert_eq!(store.calls(), 3);

    let store = Scripted::new(DOWN);
    guarded(&store, 3).ping().await.unwrap_err();
    assert_eq!(store.calls(), 3);

    for kind in [
        ErrorKind::Refused,
        ErrorKind::Corrupt,
        ErrorKind::Config,
        ErrorKind::InUse,
    ] {
        let store = Scripted::new(Act::Fail(kind));
        assert_eq!(guarded(&store, 3).ping().await.unwrap_err().kind(), kind);
        assert_eq!(store.calls(), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_try_has_a_time_of_its_own() {
    let store = Scripted::new(Act::Answer);
    store.first([Act::Hang, Act::Hang]);
    let began = time::Instant::now();
    guarded(&store, 3).ping().await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(200 + 25 + 50), "{took:?}");
    assert!(took <= Duration::from_millis(200 + 50 + 100 + 5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_breaker_counts_a_call_once_and_not_its_tries() {
    let store = Scripted::new(DOWN);
    let guarded = guarded(&store, 3);
    guarded.ping().await.unwrap_err();
    guarded.ping().await.unwrap_err();
    assert_eq!((store.calls(), guarded.state().failures), (6, 2));
    assert_eq!(guarded.state().circuit, Circuit::Closed);
    guarded.ping().await.unwrap_err();
    assert!(matches!(guarded.state().circuit, Circuit::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_compare_and_set_is_never_sent_twice() {
    let store = Scripted::new(DOWN);
    guarded(&store, 3).resolve(&[]).await.unwrap_err();
    assert_eq!(store.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_answers_at_once_since_when_and_until_when() {
    let store = Scripted::new(DOWN);
    let guarded = opened(&store).await;
    let calls = store.calls();
    let began = time::Instant::now();
    let error = guarded.ping().await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(store.calls(), calls);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains("not asked until 20") && text.contains("failing since 20"),
        "{text}"
    );
    assert!(text.contains("(in 10.0 s)") && text.contains("as told"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn no_method_goes_round_the_breaker() {
    let store = Scripted::new(DOWN);
    let guarded = opened(&store).await;
    let calls = store.calls();
    guarded.record(&[], &[]).await.unwrap_err();
    guarded.import(&[], &[]).await.unwrap_err();
    guarded.resolve(&[]).await.unwrap_err();
    guarded.progress().await.unwrap_err();
    guarded.get(&[]).await.unwrap_err();
    guarded.list(&Query::default()).await.unwrap_err();
    guarded.groups(&Query::default()).await.unwrap_err();
    guarded
        .purge(tracker_api::Purgeable::Succeeded, Timestamp(0), 1)
        .await
        .unwrap_err();
    guarded.ping().await.unwrap_err();
    assert_eq!(store.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn half_open_lets_one_probe_through_at_a_time_and_closes_after_two() {
    let store = Scripted::new(DOWN);
    let guarded = Arc::new(opened(&store).await);
    store.then(Act::Slow(Duration::from_millis(20)));
    time::advance(Duration::from_secs(10)).await;
    for round in 1..=PROBES_TO_CLOSE {
        let calls = store.calls();
        let mut crowd = JoinSet::new();
        for _ in 0..50 {
            let guarded = guarded.clone();
            crowd.spawn(async move { guarded.ping().await });
        }
        let answers = crowd.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(store.calls(), calls + 1);
        let closed = guarded.state().circuit == Circuit::Closed;
        assert_eq!(closed, round == PROBES_TO_CLOSE);
    }
    assert_eq!(store.most.load(SeqCst), 1);
    assert!(!guarded.state().is_degraded());
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_for_the_whole_time_again_and_keeps_since() {
    let store = Scripted::new(DOWN);
    let guarded = opened(&store).await;
    let Circuit::Open { since, until } = guarded.state().circuit else {
        panic!("not open");
    };
    time::sleep_until(until).await;
    guarded.ping().await.unwrap_err();
    let Circuit::Open { since: kept, until } = guarded.state().circuit else {
        panic!("not open");
    };
    assert_eq!(kept, since);
    assert_eq!(until - time::Instant::now(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_gives_its_place_back() {
    let store = Scripted::new(DOWN);
    let guarded = opened(&store).await;
    store.then(Act::Hang);
    time::advance(Duration::from_secs(10)).await;
    time::timeout(Duration::from_millis(10), guarded.ping())
        .await
        .unwrap_err();
    assert!(matches!(guarded.state().circuit, Circuit::HalfOpen { .. }));
    store.then(Act::Answer);
    guarded.ping().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_outage_has_no_say_after_it() {
    let store = Scripted::new(DOWN);
    let guarded = Arc::new(Guarded::new(
        store.clone(),
        Settings {
            timeout: Duration::from_secs(60),
            ..settings(1)
        },
    ));
    store.first([
        Act::Slow(Duration::from_secs(11)),
        Act::FailAfter(Duration::from_secs(12), ErrorKind::Unavailable),
    ]);
    let late: Vec<_> = (0..2)
        .map(|_| {
            let guarded = guarded.clone();
            tokio::spawn(async move { guarded.ping().await })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..3 {
        guarded.ping().await.unwrap_err();
    }
    time::sleep(Duration::from_secs(10)).await;
    store.then(Act::Answer);
    guarded.ping().await.unwrap();
    let before = guarded.state();
    assert!(matches!(before.circuit, Circuit::HalfOpen { .. }));
    for call in late {
        let _ = call.await.unwrap();
    }
    assert_eq!(guarded.state(), before);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_between_starts_the_count_anew_and_a_data_error_is_an_answer() {
    let store = Scripted::new(Act::Fail(ErrorKind::Refused));
    let guarded = guarded(&store, 1);
    for _ in 0..100 {
        guarded.ping().await.unwrap_err();
    }
    assert!(!guarded.state().is_degraded());
    store.first([DOWN, DOWN, Act::Fail(ErrorKind::Refused), DOWN, DOWN]);
    for _ in 0..5 {
        guarded.ping().await.unwrap_err();
    }
    assert_eq!(
        (guarded.state().circuit, guarded.state().failures),
        (Circuit::Closed, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_sees_each_change() {
    let store = Scripted::new(DOWN);
    let guarded = guarded(&store, 1);
    let mut watch = guarded.watch();
    guarded.ping().await.unwrap_err();
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow_and_update().failures, 1);
    store.then(Act::Answer);
    guarded.ping().await.unwrap();
    watch.changed().await.unwrap();
    assert!(!watch.borrow_and_update().is_degraded());
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_one_probe_at_most_and_no_call_while_it_is_open() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let store = Scripted::new(Act::Answer);
        let guarded = Arc::new(guarded(&store, random.random_range(1..3)));
        let mut last_until = None;
        for _ in 0..150 {
            let slow = Duration::from_millis(random.random_range(0..150));
            store.then(match random.random_range(0..5) {
                0 => Act::Slow(slow),
                1 | 2 => Act::FailAfter(slow, ErrorKind::Unavailable),
                3 => Act::FailAfter(slow, ErrorKind::Refused),
                _ => Act::Hang,
            });
            let before = guarded.state().circuit;
            let (calls, began) = (store.calls(), time::Instant::now());
            store.most.store(store.now.load(SeqCst), SeqCst);
            let mut crowd = JoinSet::new();
            for _ in 0..random.random_range(1..6) {
                let guarded = guarded.clone();
                crowd.spawn(async move { guarded.ping().await });
            }
            if random.random_bool(0.2) {
                tokio::task::yield_now().await;
                crowd.shutdown().await;
            } else {
                crowd.join_all().await;
            }
            match before {
                Circuit::Open { until, .. } if began < until => {
                    assert_eq!(store.calls(), calls, "seed {seed}: a call while it was open");
                }
                Circuit::Open { .. } | Circuit::HalfOpen { .. } => {
                    assert!(store.most.load(SeqCst) <= 1, "seed {seed}: two probes at once");
                }
                Circuit::Closed => {}
            }
            if let Circuit::Open { since, until } = guarded.state().circuit {
                assert!(since < until, "seed {seed}");
                assert!(
                    last_until.is_none_or(|last| until >= last),
                    "seed {seed}: open time went back"
                );
                last_until = Some(until);
            }
            time::advance(Duration::from_millis(random.random_range(0..6_000))).await;
        }
        assert!(
            last_until.is_some(),
            "seed {seed} never opened it: the test shows nothing"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_takes_long_is_no_outage() {
    let store = Scripted::new(Act::Hang);
    let guarded = guarded(&store, 3);
    let begun = time::Instant::now();
    for _ in 0..5 {
        let error = guarded.groups(&Query::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    assert_eq!(
        begun.elapsed(),
        5 * Duration::from_secs(1),
        "ten times the time of other calls"
    );
    assert_eq!(store.calls(), 5, "it is not asked again");
    assert_eq!(guarded.state().circuit, Circuit::Closed);
    // One that finds nobody there meets an outage like any other call.
    store.then(DOWN);
    guarded.list(&Query::default()).await.unwrap_err();
    assert_eq!((store.calls(), guarded.state().failures), (8, 1));
}

fn entries(many: i64) -> Vec<Entry> {
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        outcome: Outcome::Failing,
    };
    let at = |offset| Partition::new("orders", 0).at(offset);
    (0..many)
        .map(|offset| Entry::new(at(offset), version, Timestamp(0)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_write_that_comes_too_late_is_sent_in_halves_and_what_was_learnt_stays() {
    // 3 000 entries at a millisecond each, and a write has a tenth of a second.
    let store = Scripted::new(Act::PerEntry(Duration::from_millis(1)));
    let guarded = guarded(&store, 3);
    let entries = entries(3_000);
    let mut calls = 0;
    let stands = loop {
        calls += 1;
        match guarded.record(&entries, &[]).await {
            Ok(stands) => break stands,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
        }
        assert!(calls < 3, "2 000, 1 000, 500; 250, 125, 62: taken");
    };
    assert_eq!(stands.len(), 3_000);
    assert_eq!(guarded.state().circuit, Circuit::Closed);
    assert!(!guarded.state().is_degraded());
    let (before, begun) = (store.calls(), time::Instant::now());
    guarded.import(&entries, &[]).await.unwrap();
    assert_eq!(
        store.calls() - before,
        3_000_usize.div_ceil(62),
        "none came too late"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn slices_grow_again_when_the_store_is_quick_again() {
    let store = Scripted::new(Act::PerEntry(Duration::from_millis(30)));
    let guarded = guarded(&store, 3);
    let entries = entries(2_000);
    while guarded.record(&entries, &[]).await.is_err() {
        time::sleep(Duration::from_secs(10)).await;
    }
    store.then(Act::PerEntry(Duration::from_micros(1)));
    for _ in 0..3 {
        guarded.record(&entries, &[]).await.unwrap();
    }
    let before = store.calls();
    guarded.record(&entries, &[]).await.unwrap();
    assert_eq!(store.calls() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn while_writes_come_too_late_the_store_is_read_and_operators_decide() {
    let store = Scripted::new(Act::Answer);
    store.writes(Act::Hang);
    let guarded = guarded(&store, 1);
    let one = entries(1);
    for _ in 0..3 {
        // Reads between them do not make the writes well.
        let error = guarded.record(&one, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        guarded.get(&[]).await.unwrap();
    }
    let state = guarded.state();
    assert!(
        matches!(state.circuit, Circuit::Open { .. }) && state.only_writes,
        "{state}"
    );
    assert!(state.to_string().contains("is sent no writes until"), "{state}");
    let calls = store.calls();
    guarded.record(&one, &[]).await.unwrap_err();
    guarded.import(&one, &[]).await.unwrap_err();
    assert_eq!(store.calls(), calls, "writes are refused at once");
    guarded.list(&Query::default()).await.unwrap();
    guarded.progress().await.unwrap();
    guarded.resolve(&[]).await.unwrap();
    guarded.ping().await.unwrap();

    store.writes(Act::Answer);
    time::sleep(Duration::from_secs(10)).await;
    for _ in 0..PROBES_TO_CLOSE {
        guarded.record(&one, &[]).await.unwrap();
    }
    assert!(!guarded.state().is_degraded());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_write_at_all_is_left_alone_however_many_entries_a_write_has() {
    let store = Scripted::new(Act::Answer);
    store.writes(Act::Hang);
    let guarded = guarded(&store, 3);
    let (entries, begun) = (entries(2_000), time::Instant::now());
    for _ in 0..3 {
        guarded.record(&entries, &[]).await.unwrap_err();
    }
    assert!(matches!(guarded.state().circuit, Circuit::Open { .. }));
    assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_no_outage_degrades_until_a_call_of_its_kind_succeeds() {
    let store = Scripted::new(Act::Answer);
    let guarded = guarded(&store, 3);
    for kind in [ErrorKind::Config, ErrorKind::Corrupt] {
        store.first([Act::Fail(kind)]);
        guarded.progress().await.unwrap_err();
        let state = guarded.state();
        assert!(state.is_degraded() && !state.is_away(), "{state:?}");
        let text = state.to_string();
        assert!(
            text.contains("`progress` fails since 20") && text.contains("as told"),
            "{text}"
        );
        guarded.ping().await.unwrap();
        assert!(
            guarded.state().is_degraded(),
            "another kind of call says nothing about it"
        );
        guarded.progress().await.unwrap();
        assert!(!guarded.state().is_degraded());
    }
    store.first([Act::Fail(ErrorKind::Refused)]);
    guarded.list(&Query::default()).await.unwrap_err();
    assert!(
        !guarded.state().is_degraded(),
        "a value that is refused is its own fault"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_only_a_command_met_is_found_to_be_over() {
    let store = Scripted::new(Act::Fail(ErrorKind::Corrupt));
    let guarded = Arc::new(guarded(&store, 1));
    let looks = guarded.clone();
    tokio::spawn(async move { looks.look_again().await });
    guarded.groups(&Query::default()).await.unwrap_err();
    time::sleep(Duration::from_secs(100)).await;
    assert!(guarded.state().is_degraded(), "it is not mended yet");
    store.then(Act::Answer);
    time::sleep(Duration::from_secs(31)).await;
    assert!(!guarded.state().is_degraded());
}
