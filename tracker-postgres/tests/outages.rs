//! Servers that are away, silent, full or in the way: each is a classed error, and passes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use std::time::{Duration, Instant};

use common::{admin, config, entry, failed, holds, number, opened, own, refused, run, succeeded, until};
use tokio::{net::TcpListener, time::timeout};
use tracker_api::{Change, Decision, ErrorKind, Outcome, Purgeable, Resolution, SecretUrl, Timestamp};
use tracker_postgres::Config;

#[tokio::test]
async fn nobody_there_is_an_outage_and_silence_a_timeout_within_its_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Config {
        url: SecretUrl::new(format!("postgres://ada:hunter2@127.0.0.1:{port}/orders")),
        connect_timeout_ms: 300,
        ..Config::default()
    };
    let begun = Instant::now();
    let error = refused(opened(&config).await);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let text = format!("{error} {error:?}");
    assert!(
        text.contains(&format!("127.0.0.1:{port}/orders as ada")),
        "{text}"
    );
    assert!(
        text.contains("postgres.connect-timeout-ms") && !text.contains("hunter2"),
        "{text}"
    );

    drop(listener);
    let error = refused(opened(&config).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("is the server up"), "{error}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_the_same_tracker_goes_on() {
    let server = own();
    let tracker = opened(&config(&server, "orchestrator")).await.unwrap();
    for offset in 0..50 {
        assert_eq!(tracker.record(&[succeeded(offset)], &[]).await.unwrap(), [true]);
    }
    server.kill().unwrap();
    let error = tracker.record(&[succeeded(99)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.start_again().unwrap();
    assert_eq!(tracker.record(&[succeeded(99)], &[]).await.unwrap(), [true]);
    for offset in (0..50).chain([99]) {
        assert!(holds(&tracker, offset).await, "{offset}");
    }
}

#[tokio::test]
async fn a_frozen_server_times_out_within_the_bound_and_then_goes_on() {
    let server = own();
    let config = Config {
        call_timeout_ms: 500,
        connect_timeout_ms: 500,
        connections: 2,
        ..config(&server, "orchestrator")
    };
    let tracker = opened(&config).await.unwrap();
    tracker.record(&[succeeded(1)], &[]).await.unwrap();
    server.freeze().unwrap();
    // More calls than there are connections.
    for _ in 0..4 {
        let begun = Instant::now();
        let error = tracker.record(&[succeeded(2)], &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(
            begun.elapsed() < Duration::from_millis(1_500),
            "{:?}",
            begun.elapsed()
        );
    }
    server.thaw().unwrap();
    until("a call is answered", async || tracker.ping().await.is_ok()).await;
    tracker.record(&[succeeded(2)], &[]).await.unwrap();
    assert!(holds(&tracker, 1).await && holds(&tracker, 2).await);
}

#[tokio::test]
async fn a_session_that_is_ended_is_replaced_without_an_error() {
    let server = own();
    let tracker = opened(&config(&server, "orchestrator")).await.unwrap();
    tracker.record(&[failed(1, 1)], &[]).await.unwrap();
    let mut admin = admin(&server).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'orders-orchestrator'";
    assert!(number(&mut admin, end).await > 0);
    assert_eq!(tracker.record(&[succeeded(2)], &[]).await.unwrap(), [true]);

    // What must not be answered by a second try says so, and the next call finds a new session.
    assert!(number(&mut admin, end).await > 0);
    let change = Change {
        id: failed(1, 1).id,
        revision: 0,
        to: Some(Resolution {
            decision: Decision::Discarded,
            about: failed(1, 1).version,
            actor: "ada".into(),
            reason: String::new(),
            at: Timestamp(1),
        }),
    };
    let error = tracker.resolve(std::slice::from_ref(&change)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(tracker.resolve(&[change]).await.unwrap(), [true]);
}

#[tokio::test]
async fn a_server_that_only_reads_is_an_outage_that_passes() {
    let server = own();
    let tracker = opened(&config(&server, "orchestrator")).await.unwrap();
    let mut admin = admin(&server).await;
    run(&mut admin, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    run(&mut admin, "SELECT pg_reload_conf()").await;
    until("writes are refused", async || tracker.ping().await.is_err()).await;
    let error = tracker.record(&[succeeded(1)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(
        error.to_string().contains("25006") && error.to_string().contains("only reads"),
        "{error}"
    );
    assert_eq!(
        tracker.get(&[succeeded(1).id]).await.unwrap(),
        [None],
        "it still reads"
    );
    run(&mut admin, "SET default_transaction_read_only = off").await;
    run(&mut admin, "ALTER SYSTEM RESET default_transaction_read_only").await;
    run(&mut admin, "SELECT pg_reload_conf()").await;
    until("writes are taken", async || {
        tracker.record(&[succeeded(1)], &[]).await.is_ok()
    })
    .await;
}

/// A full disk cannot be had here: the server's own code for it is raised where a row is written.
#[tokio::test]
async fn a_full_disk_and_no_memory_are_outages_that_pass() {
    let server = test_servers::postgres();
    let tracker = opened(&config(server, "full")).await.unwrap();
    let mut admin = admin(server).await;
    for (code, says) in [
        ("53100", "disk is full"),
        ("53200", "out of memory"),
        ("53400", "log"),
        ("58030", "log"),
    ] {
        run(
            &mut admin,
            &format!(
                "CREATE FUNCTION \"full\".no() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{code}'; END $$;
                CREATE TRIGGER no BEFORE INSERT ON \"full\".entry FOR EACH ROW EXECUTE FUNCTION \"full\".no()"
            ),
        )
        .await;
        let error = tracker.record(&[succeeded(1)], &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(
            error.to_string().contains(code) && error.to_string().contains(says),
            "{error}"
        );
        run(&mut admin, "DROP FUNCTION \"full\".no() CASCADE").await;
        assert_eq!(tracker.record(&[succeeded(1)], &[]).await.unwrap(), [true]);
    }
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_an_outage() {
    let settings = [("max_connections", "5"), ("superuser_reserved_connections", "0")];
    let server = test_servers::Server::start_with(test_servers::Kind::Postgres, &settings).unwrap();
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(admin(&server).await);
    }
    let error = refused(opened(&config(&server, "orchestrator")).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("postgres.connections"), "{error}");
    others.clear();
    until("a connection is free", async || {
        opened(&config(&server, "orchestrator")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_is_held_is_a_timeout_and_dropped_calls_leave_nothing_open() {
    let server = own();
    let config = Config {
        call_timeout_ms: 1_000,
        connections: 2,
        ..config(&server, "orchestrator")
    };
    let tracker = opened(&config).await.unwrap();
    let mut admin = admin(&server).await;
    run(&mut admin, "BEGIN; LOCK TABLE orchestrator.entry").await;
    let error = tracker.record(&[succeeded(1)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(
        error.to_string().contains("55P03") && error.to_string().contains("lock"),
        "{error}"
    );
    // Dropped at every step: while it connects, while it waits for the lock.
    for step in 0..20_u64 {
        let slice = [succeeded(2), failed(3, 1)];
        let record = timeout(Duration::from_millis(step * 3), tracker.record(&slice, &[])).await;
        let purge = tracker.purge(Purgeable::Succeeded, Timestamp(i64::MAX), 10);
        let purge = timeout(Duration::from_millis(step * 3), purge).await;
        assert!(record.is_err() && purge.is_err(), "nothing goes past the lock");
    }
    run(&mut admin, "COMMIT").await;
    let begun = Instant::now();
    tracker.record(&[succeeded(2), failed(3, 1)], &[]).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "no call waits for a dropped one"
    );
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orders-orchestrator' AND
        (state LIKE 'idle in transaction%' OR state = 'active')";
    until("no session is in the middle of anything", async || {
        number(&mut admin, open).await == 0
    })
    .await;
    assert!(holds(&tracker, 2).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_in_each_others_way_end_without_an_error() {
    let server = test_servers::postgres();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..6_u128 {
        let tracker = opened(&config(server, "races")).await.unwrap();
        tasks.spawn(async move {
            for round in 0..15_u128 {
                let attempt = round * 10 + writer;
                let mut slice: Vec<_> = (0..60).map(|offset| failed(offset, attempt)).collect();
                if writer % 2 == 0 {
                    slice.reverse();
                }
                tracker.record(&slice, &[]).await.unwrap();
                if writer == 0 {
                    let done: Vec<_> = (0..60)
                        .map(|offset| entry(offset, attempt, Outcome::Succeeded))
                        .collect();
                    tracker.record(&done, &[]).await.unwrap();
                    tracker
                        .purge(Purgeable::Succeeded, Timestamp(i64::MAX), 40)
                        .await
                        .unwrap();
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    // The greatest version of all is of the last round.
    let tracker = opened(&config(server, "races")).await.unwrap();
    let ids: Vec<_> = (0..60).map(|offset| failed(offset, 145).id).collect();
    for held in tracker.get(&ids).await.unwrap() {
        assert_eq!(held.unwrap().version, failed(0, 145).version);
    }
}
