//! The server as a place: what it refuses, what an outage leaves, what a call costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use std::time::{Duration, Instant};

use common::{beside, config, entry, failed, holds, key, namespace, opened, own, refused, succeeded, tell};
use test_servers::Server;
use tracker_api::{
    AttemptId, Captured, Change, Decision, ErrorKind, Gaps, Order, Outcome, Partition, Progress, Purgeable,
    Query, Resolution, Secret, SecretUrl, Timestamp,
};
use tracker_redis::{Config, open};

/// How many commands clients have sent, by name; a script's own are counted apart.
async fn asked(server: &Server) -> u64 {
    let told: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut beside(server).await)
        .await
        .unwrap();
    let calls = |line: &str| -> Option<u64> {
        let name = line.strip_prefix("cmdstat_")?;
        let ours = [
            "eval:",
            "evalsha:",
            "hgetall:",
            "script|load:",
            "multi:",
            "exists:",
        ];
        ours.iter().any(|of| name.starts_with(of)).then_some(())?;
        line.split("calls=").nth(1)?.split(',').next()?.parse().ok()
    };
    told.lines().filter_map(calls).sum()
}

#[tokio::test]
async fn each_call_is_one_exchange_with_the_server_whatever_its_size() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let slice: Vec<_> = (0..2_000).map(failed).collect();
    let ids: Vec<_> = slice.iter().map(|entry| entry.id.clone()).collect();
    let progress = [common_progress()];
    let changes: Vec<_> = slice
        .iter()
        .map(|entry| Change {
            id: entry.id.clone(),
            revision: 0,
            to: Some(Resolution {
                decision: Decision::Discarded,
                about: entry.version,
                actor: "ada".into(),
                reason: "a test".into(),
                at: Timestamp(1),
            }),
        })
        .collect();
    // A server is sent a script's text once; after that its hash is enough.
    let query = Query {
        limit: 1_000,
        ..Query::default()
    };
    tracker.record(&slice[..1], &progress).await.unwrap();
    tracker.import(&slice[..1], &progress).await.unwrap();
    tracker.get(&ids[..1]).await.unwrap();
    tracker.resolve(&changes[..0]).await.unwrap();
    tracker
        .resolve(&[Change {
            revision: 9,
            ..changes[0].clone()
        }])
        .await
        .unwrap();
    tracker.list(&query).await.unwrap();
    tracker.groups(&query).await.unwrap();
    tracker
        .purge(Purgeable::Succeeded, Timestamp(0), 1)
        .await
        .unwrap();
    tracker.progress().await.unwrap();

    macro_rules! one_exchange {
        ($what:literal, $call:expr) => {{
            let before = asked(&server).await;
            let answer = $call.await.unwrap();
            assert_eq!(asked(&server).await - before, 1, $what);
            answer
        }};
    }
    let stand = one_exchange!("record", tracker.record(&slice, &progress));
    assert_eq!(stand, vec![true; 2_000]);
    one_exchange!("import", tracker.import(&slice, &progress));
    let held = one_exchange!("get", tracker.get(&ids));
    assert!(
        held.iter()
            .zip(&slice)
            .all(|(held, entry)| held.as_ref() == Some(entry))
    );
    let page = one_exchange!("list", tracker.list(&query));
    assert_eq!(page.entries.len(), 1_000);
    let newest = Query {
        order: Order::NewestFirst,
        ..query.clone()
    };
    one_exchange!("list, newest first", tracker.list(&newest));
    assert_eq!(one_exchange!("groups", tracker.groups(&query)).len(), 1);
    assert_eq!(
        one_exchange!("resolve", tracker.resolve(&changes)),
        vec![true; 2_000]
    );
    one_exchange!("progress", tracker.progress());
    assert_eq!(
        one_exchange!("purge", tracker.purge(Purgeable::Resolved, Timestamp(500), 1_000)),
        500
    );
    one_exchange!("ping", async {
        tracker.ping().await?;
        tracker.progress().await
    });
}

fn common_progress() -> Progress {
    Progress {
        partition: Partition::new("orders", 0),
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        floor: 0,
        received: 9,
        committed: 9,
        gaps: [3..5, 7..8].into_iter().collect(),
        missed: std::iter::once(3..4).collect(),
        failed: 1,
        succeeded: 2,
        at: Timestamp(0),
    }
}

#[tokio::test]
async fn wrong_credentials_are_told_without_the_password() {
    let server = own(&[("requirepass", "0pen-sesame")]);
    let port = server.port();
    let with = |username: Option<&str>, password: Option<&str>| Config {
        username: username.map(str::to_owned),
        password: password.map(Secret::new),
        ..config(&format!("redis://127.0.0.1:{port}"))
    };
    for (wrong, user) in [
        (with(None, None), "password"),
        (with(None, Some("swordfish")), "default"),
        (with(Some("ada"), Some("swordfish")), "ada"),
        (config(&format!("redis://ada:swordfish@127.0.0.1:{port}")), "ada"),
    ] {
        let error = refused(open(wrong, &namespace("orders")).await);
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(
            text.contains(&format!("127.0.0.1:{port}")) && text.contains(user),
            "{text}"
        );
        assert!(!text.contains("swordfish") && !text.contains("sesame"), "{text}");
    }
    for right in [
        with(None, Some("0pen-sesame")),
        with(Some("default"), Some("0pen-sesame")),
        config(&format!("redis://:0pen%2Dsesame@127.0.0.1:{port}")),
        Config {
            password: Some(Secret::new("0pen-sesame")),
            ..config(&format!("redis://default:outdated@127.0.0.1:{port}"))
        },
    ] {
        let tracker = open(right, &namespace("orders")).await.unwrap();
        assert!(!format!("{tracker:?}").contains("sesame"));
        tracker.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let server = own(&[]);
    let url = |user: &str| format!("redis://{user}:pw@127.0.0.1:{}", server.port());
    let user = |name: &'static str, rules: &'static [&'static str]| {
        let words = [&["ACL", "SETUSER", name, "on", ">pw"], rules].concat();
        let server = &server;
        async move { tell(server, &words).await }
    };
    user("whole", &["~tracker:*", "+@all"]).await;
    opened(&url("whole"), "orders").await.unwrap();
    user("mute", &["~tracker:*", "+@all", "-evalsha"]).await;
    user("elsewhere", &["~other:*", "+@all"]).await;
    user("reader", &["~tracker:*", "+@all", "-hset"]).await;
    for (name, what) in [
        ("mute", "evalsha"),
        ("elsewhere", "key"),
        ("reader", "permission"),
    ] {
        let error = refused(opened(&url(name), "orders of another").await);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(what) && text.contains("docs/stores/redis.md"),
            "{text}"
        );
    }
    // The least that docs/stores/redis.md says to grant.
    let least = [
        "+evalsha", "+eval", "+hset", "+hget", "+hmget", "+hgetall", "+hdel", "+zadd", "+zrem", "+zrange",
    ];
    let words = [
        &["ACL", "SETUSER", "least", "on", ">pw", "~tracker:*"][..],
        &least,
        &["+zlexcount", "+type"],
    ]
    .concat();
    tell(&server, &words).await;
    let tracker = opened(&url("least"), "orders").await.unwrap();
    let names: Vec<_> = tracker
        .risks()
        .await
        .unwrap()
        .into_iter()
        .map(|risk| risk.name)
        .collect();
    assert_eq!(names, ["redis-unknown"]);
    tell(&server, &["ACL", "SETUSER", "least", "+info", "+config|get"]).await;
    assert_eq!(
        opened(&url("least"), "orders")
            .await
            .unwrap()
            .risks()
            .await
            .unwrap(),
        []
    );
    tracker.record(&[failed(1)], &[common_progress()]).await.unwrap();
    tracker.groups(&Query::default()).await.unwrap();
    tracker.list(&Query::default()).await.unwrap();
    tracker
        .purge(Purgeable::Superseded, Timestamp(9), 9)
        .await
        .unwrap();
    tracker.progress().await.unwrap();
    tracker.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = refused(opened(&format!("redis://127.0.0.1:{port}"), "orders").await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn one_that_accepts_and_never_answers_is_a_timeout_within_the_bound() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config {
        connect_timeout_ms: 300,
        ..config(&format!("redis://{}", silent.local_addr().unwrap()))
    };
    let begun = Instant::now();
    let error = refused(open(config, &namespace("orders")).await);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_late_answer_is_not_read_by_the_next_call() {
    let server = own(&[]);
    let config = Config {
        call_timeout_ms: 500,
        connect_timeout_ms: 20_000,
        ..config(&server.url())
    };
    let tracker = open(config, &namespace("orders")).await.unwrap();
    tracker.record(&[failed(1), failed(2)], &[]).await.unwrap();
    server.freeze().unwrap();
    let begun = Instant::now();
    let error = refused(tracker.get(&[failed(1).id]).await);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.thaw().unwrap();
    for offset in [2, 1, 2, 3] {
        let held = tracker.get(&[failed(offset).id]).await.unwrap();
        assert_eq!(held, [(offset < 3).then(|| failed(offset))], "of offset {offset}");
    }
}

#[tokio::test]
async fn after_an_outage_the_same_tracker_goes_on_and_nothing_acknowledged_is_lost() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let slice: Vec<_> = (0..500).map(failed).collect();
    tracker.record(&slice, &[common_progress()]).await.unwrap();
    server.kill().unwrap();
    for _ in 0..3 {
        let error = refused(tracker.record(&[failed(1)], &[]).await);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    server.start_again().unwrap();
    let ids: Vec<_> = slice.iter().map(|entry| entry.id.clone()).collect();
    let held = tracker.get(&ids).await.unwrap();
    assert!(
        held.iter()
            .zip(&slice)
            .all(|(held, entry)| held.as_ref() == Some(entry))
    );
    assert_eq!(tracker.progress().await.unwrap(), [common_progress()]);
    tracker.record(&[succeeded(900)], &[]).await.unwrap();
}

#[tokio::test]
async fn what_a_server_acknowledged_before_it_was_killed_is_there() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let mut acknowledged = 0;
    for round in 1..=3_u64 {
        let writer = tokio::spawn({
            let tracker = tracker.clone();
            async move {
                let mut last = acknowledged;
                while tracker.record(&[failed(last)], &[]).await.is_ok() {
                    last += 1;
                }
                last
            }
        });
        tokio::time::sleep(Duration::from_millis(50 + round * 37)).await;
        server.kill().unwrap();
        let last = writer.await.unwrap();
        assert!(last > acknowledged, "it was killed while it wrote");
        acknowledged = last;
        server.start_again().unwrap();
        for from in (0..acknowledged).step_by(2_000) {
            let written: Vec<_> = (from..acknowledged.min(from + 2_000)).map(failed).collect();
            let ids: Vec<_> = written.iter().map(|entry| entry.id.clone()).collect();
            let held = tracker.get(&ids).await.unwrap();
            assert!(
                held.iter()
                    .zip(&written)
                    .all(|(held, entry)| held.as_ref() == Some(entry))
            );
        }
    }
}

#[tokio::test]
async fn a_connection_that_was_cut_while_nobody_used_it_is_no_outage() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    for offset in 1..4 {
        tell(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(tracker.record(&[failed(offset)], &[]).await.unwrap(), [true]);
        tell(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert!(holds(&tracker, &failed(offset)).await);
    }
    // A claim is not repeated: its caller is told that it may have taken.
    tell(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let change = Change {
        id: failed(1).id,
        revision: 0,
        to: None,
    };
    let error = refused(tracker.resolve(std::slice::from_ref(&change)).await);
    assert!(error.is_transient(), "{error}");
    assert_eq!(tracker.resolve(&[change]).await.unwrap(), [true]);
}

#[tokio::test]
async fn calls_whose_futures_are_dropped_leave_the_connection_clean() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let slice: Vec<_> = (0..2_000).map(failed).collect();
    for patience in 0..40_u64 {
        let call = tracker.record(&slice, &[]);
        tokio::time::timeout(Duration::from_micros(patience * 250), call)
            .await
            .ok();
        assert_eq!(tracker.get(&[succeeded(5_000).id]).await.unwrap(), [None]);
    }
    tracker.record(&slice, &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1_999)).await);
}

#[tokio::test]
async fn a_replica_takes_no_writes_and_is_unavailable_until_it_is_the_master() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    tell(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    for error in [
        refused(tracker.record(&[failed(2)], &[]).await),
        refused(tracker.ping().await),
        refused(opened(&server.url(), "orders").await),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("replica"), "{error}");
    }
    assert!(holds(&tracker, &failed(1)).await, "it can be read");
    tell(&server, &["REPLICAOF", "NO", "ONE"]).await;
    tracker.record(&[failed(2)], &[]).await.unwrap();
}

#[tokio::test]
async fn a_full_memory_takes_nothing_by_halves_and_can_be_read() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    tell(&server, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let slice: Vec<_> = (1..2_000)
        .map(|offset| entry(offset, 2, Outcome::Succeeded))
        .collect();
    for error in [
        refused(tracker.record(&slice, &[common_progress()]).await),
        refused(tracker.ping().await),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    assert!(holds(&tracker, &failed(1)).await);
    assert_eq!(
        tracker.list(&Query::default()).await.unwrap().entries,
        [failed(1)]
    );
    assert_eq!(tracker.progress().await.unwrap(), []);
    tell(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    tracker.record(&slice, &[common_progress()]).await.unwrap();
}

#[tokio::test]
async fn a_purge_frees_a_full_memory() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let slice: Vec<_> = (0..1_000).map(succeeded).collect();
    tracker.record(&slice, &[]).await.unwrap();
    tell(&server, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    assert_eq!(refused(tracker.ping().await).kind(), ErrorKind::Unavailable);
    // A service that starts now is one that can purge.
    let tracker = opened(&server.url(), "orders").await.unwrap();
    assert_eq!(
        tracker
            .purge(Purgeable::Succeeded, Timestamp(i64::MAX), 5_000)
            .await
            .unwrap(),
        1_000
    );
    assert_eq!(tracker.list(&Query::default()).await.unwrap().entries, []);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_to_is_unavailable() {
    let server = own(&[("dbfilename", "blocked.rdb"), ("save", "3600 1")]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    // The snapshot cannot take the place of a directory, as it could not on a full disk.
    std::fs::create_dir(server.folder().join("data/blocked.rdb")).unwrap();
    tell(&server, &["BGSAVE"]).await;
    let begun = Instant::now();
    let error = loop {
        match tracker.record(&[failed(1)], &[]).await {
            Err(error) => break error,
            Ok(_) if begun.elapsed() > Duration::from_secs(20) => panic!("the snapshot did not fail"),
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("disk"), "{error}");
    tell(&server, &["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    tracker.record(&[failed(1)], &[]).await.unwrap();
}

#[tokio::test]
async fn a_script_of_somebody_elses_that_does_not_end_is_unavailable() {
    let server = own(&[("busy-reply-threshold", "50")]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let mut endless = beside(&server).await;
    let running = tokio::spawn(async move {
        let mut script = redis::cmd("EVAL");
        let _: redis::RedisResult<redis::Value> = script
            .arg("while true do end")
            .arg(0)
            .query_async(&mut endless)
            .await;
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = refused(tracker.record(&[failed(1)], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("SCRIPT KILL"), "{error}");
    tell(&server, &["SCRIPT", "KILL"]).await;
    running.await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
}

#[tokio::test]
async fn clients_that_are_too_many_are_unavailable_not_a_wrong_password() {
    let server = own(&[("maxclients", "1")]);
    let _taken = beside(&server).await;
    let config = Config {
        password: Some(Secret::new("any")),
        ..config(&server.url())
    };
    let error = refused(open(config, &namespace("orders")).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_scripts_is_sent_them_again() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    tell(&server, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(tracker.record(&[failed(2)], &[]).await.unwrap(), [true]);
    assert!(holds(&tracker, &failed(2)).await);
}

#[tokio::test]
async fn what_the_server_refuses_for_its_size_is_no_outage() {
    let server = own(&[]);
    tell(&server, &["CONFIG", "SET", "proto-max-bulk-len", "1mb"]).await;
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let mut large = failed(1);
    large.captured = Some(Captured {
        value: Some(vec![7; 3 << 20].into()),
        ..Captured::default()
    });
    let error = refused(tracker.record(&[failed(2), large], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("orders:0:1"), "{error}");
    tracker.record(&[failed(2)], &[]).await.unwrap();
}

#[tokio::test]
async fn what_somebody_else_wrote_is_left_out_and_named_and_a_write_lands_as_on_nothing() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    tracker
        .record(&[failed(1), failed(2)], &[common_progress()])
        .await
        .unwrap();
    let entries = key(&server, "entries").await;
    let mut connection = beside(&server).await;
    let fields: Vec<Vec<u8>> = redis::cmd("HKEYS")
        .arg(&entries)
        .query_async(&mut connection)
        .await
        .unwrap();
    let field = fields.iter().find(|field| field.ends_with(&[2])).unwrap();
    let whole: Vec<u8> = redis::cmd("HGET")
        .arg(&entries)
        .arg(field)
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut other = whole.clone();
    *other.last_mut().unwrap() = 9;
    for value in [
        b"hello".to_vec(),
        Vec::new(),
        vec![9; 80],
        whole[..whole.len() - 3].to_vec(),
        other,
    ] {
        let _: redis::Value = redis::cmd("HSET")
            .arg(&entries)
            .arg(field)
            .arg(&value)
            .query_async(&mut connection)
            .await
            .unwrap();
        let found = tracker.get(&[failed(2).id, failed(1).id]).await.unwrap();
        assert!(found[0].is_none() && found[1].is_some(), "{value:?}: {found:?}");
        for (order, limit) in [(Order::Id, 0), (Order::NewestFirst, 0), (Order::NewestFirst, 1)] {
            let query = Query {
                order,
                limit,
                ..Query::default()
            };
            let page = tracker.list(&query).await.unwrap();
            assert_eq!((page.entries.len(), page.next), (1, None), "{value:?}");
        }
        assert_eq!(
            tracker.groups(&Query::default()).await.unwrap().len(),
            1,
            "{value:?}"
        );
        let gone = tracker.purge(Purgeable::Resolved, Timestamp(i64::MAX), 10).await;
        assert_eq!(gone.unwrap(), 0, "{value:?}");
        let rows = tracker.corrupt_rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(
            rows[0].row == "orders:0:2" && rows[0].why.contains(&entries),
            "{rows:?}"
        );
    }
    // Where the damage shows without reading all of it, a write lands as on nothing, and what stood there is kept.
    let _: redis::Value = redis::cmd("HSET")
        .arg(&entries)
        .arg(field)
        .arg("hello")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(tracker.record(&[failed(2)], &[]).await.unwrap(), [true]);
    assert_eq!(tracker.get(&[failed(2).id]).await.unwrap(), [Some(failed(2))]);
    for order in [Order::Id, Order::NewestFirst] {
        let query = Query {
            order,
            ..Query::default()
        };
        assert_eq!(tracker.list(&query).await.unwrap().entries.len(), 2, "each once");
    }
    let aside = entries.replace(":entries", ":aside");
    let kept: Vec<Vec<u8>> = redis::cmd("HVALS")
        .arg(&aside)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, [b"hello".to_vec()]);

    let progress = key(&server, "progress").await;
    tell(&server, &["HSET", &progress, "mine", "hello"]).await;
    assert_eq!(tracker.progress().await.unwrap(), [common_progress()]);
    let _: redis::Value = redis::cmd("HSET")
        .arg(&progress)
        .arg(b"orders\0\0\x80\0\0\0")
        .arg("hello")
        .query_async(&mut connection)
        .await
        .unwrap();
    tracker.record(&[], &[common_progress()]).await.unwrap();
    assert_eq!(tracker.progress().await.unwrap(), [common_progress()]);
    let rows = tracker.corrupt_rows();
    let names: Vec<&str> = rows.iter().map(|row| &row.row[..]).collect();
    assert_eq!(names, ["orders:0:2", "progress of mine", "progress of orders:0"]);
}

/// As a program of format 1 left it.
#[tokio::test]
async fn a_namespace_of_format_1_is_read_and_is_of_this_format_from_then_on() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    let old = Progress {
        term: 0,
        attempt: AttemptId::default(),
        missed: Gaps::default(),
        ..common_progress()
    };
    tracker.record(&[], std::slice::from_ref(&old)).await.unwrap();
    let (format, progress) = (key(&server, "format").await, key(&server, "progress").await);
    let mut connection = beside(&server).await;
    let cut = "local f = redis.call('HGETALL', KEYS[1]) \
        redis.call('HSET', KEYS[1], f[1], f[2]:sub(1, 56) .. f[2]:sub(81))";
    let _: redis::Value = redis::cmd("EVAL")
        .arg(cut)
        .arg(1)
        .arg(&progress)
        .query_async(&mut connection)
        .await
        .unwrap();
    tell(&server, &["HSET", &format, "format", "1"]).await;
    let tracker = opened(&server.url(), "orders").await.unwrap();
    assert_eq!(tracker.progress().await.unwrap(), [old]);
    let closed = Progress {
        gaps: Gaps::default(),
        missed: Gaps::default(),
        ..common_progress()
    };
    tracker.record(&[], std::slice::from_ref(&closed)).await.unwrap();
    assert_eq!(tracker.progress().await.unwrap(), [closed]);
    let held = tell(&server, &["HGET", &format, "format"]).await;
    assert_eq!(held, redis::Value::BulkString(b"2".to_vec()));
}

#[tokio::test]
async fn a_key_of_another_type_is_named() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    let index = key(&server, "index").await;
    tell(&server, &["SET", &index, "mine"]).await;
    for error in [
        refused(tracker.record(&[failed(2)], &[]).await),
        refused(tracker.list(&Query::default()).await),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(
            error.to_string().contains(&format!("`{index}`, a string")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_namespace_of_another_format_is_refused_untouched() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    let format = key(&server, "format").await;
    for number in ["3", "0"] {
        tell(&server, &["HSET", &format, "format", number]).await;
        tell(&server, &["HDEL", &format, "cluster"]).await;
        let before = tell(&server, &["HGETALL", &format]).await;
        let mut orders = namespace("orders");
        orders.cluster = Some("cluster-a".into());
        let error = refused(open(config(&server.url()), &orders).await);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(&format!("format {number}")), "{error}");
        assert_eq!(tell(&server, &["HGETALL", &format]).await, before, "as it was");
    }
    tell(&server, &["HSET", &format, "format", "mine"]).await;
    assert_eq!(
        refused(opened(&server.url(), "orders").await).kind(),
        ErrorKind::Corrupt
    );
}

#[tokio::test]
async fn any_text_is_a_namespace_of_its_own() {
    let server = own(&[]);
    let names = [
        "",
        "a",
        "a}",
        "{a}",
        "a:entries",
        "a\0",
        "a\nb",
        "á",
        "*",
        &"x".repeat(5_000),
    ];
    for name in names {
        let tracker = opened(&server.url(), name).await.unwrap();
        assert_eq!(
            tracker.list(&Query::default()).await.unwrap().entries,
            [],
            "{name:?}"
        );
        tracker.record(&[failed(1)], &[]).await.unwrap();
    }
}

#[tokio::test]
async fn two_writers_that_race_leave_the_greater_version() {
    let server = own(&[]);
    let one = opened(&server.url(), "orders").await.unwrap();
    let two = opened(&server.url(), "orders").await.unwrap();
    for round in 0..5 {
        let of = |term| -> Vec<_> {
            (0..400)
                .map(|n| entry(round * 400 + n, term, Outcome::Succeeded))
                .collect()
        };
        let (less, greater) = (of(1), of(2));
        let (first, second) = tokio::join!(one.record(&less, &[]), two.record(&greater, &[]));
        first.unwrap();
        assert_eq!(second.unwrap(), vec![true; 400]);
        let ids: Vec<_> = less.iter().map(|entry| entry.id.clone()).collect();
        let held = one.get(&ids).await.unwrap();
        assert!(
            held.iter()
                .zip(&greater)
                .all(|(held, greater)| held.as_ref() == Some(greater))
        );
    }
}

#[tokio::test]
async fn what_a_server_cannot_promise_is_a_risk_by_name() {
    let names = |server: &Server| {
        let url = server.url();
        async move {
            let tracker = opened(&url, "orders").await.unwrap();
            assert!(
                tracker
                    .risks()
                    .await
                    .unwrap()
                    .iter()
                    .all(|risk| risk.what.len() > 40)
            );
            tracker
                .risks()
                .await
                .unwrap()
                .into_iter()
                .map(|risk| risk.name)
                .collect::<Vec<_>>()
        }
    };
    let server = own(&[]);
    assert!(names(&server).await.is_empty(), "as it should be set up");
    tell(&server, &["CONFIG", "SET", "appendfsync", "everysec"]).await;
    assert_eq!(names(&server).await, ["redis-everysec"]);
    tell(&server, &["CONFIG", "SET", "appendonly", "no"]).await;
    tell(&server, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert_eq!(names(&server).await, ["redis-no-aof", "redis-evicts"]);

    let master = own(&[]);
    let replica = own(&[]);
    tell(&replica, &["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    let begun = Instant::now();
    while names(&master).await != ["redis-failover"] {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the replica is not seen"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_search_that_one_call_does_not_end_goes_on_to_the_same_answer() {
    let server = own(&[]);
    let tracker = opened(&server.url(), "orders").await.unwrap();
    for part in 0..8 {
        let slice: Vec<_> = (0..2_000).map(|n| failed(part * 2_000 + n)).collect();
        tracker.record(&slice, &[]).await.unwrap();
    }
    for (text, found) in [
        ("byte 15999 is", vec![15_999]),
        ("BYTE 3 ", vec![3]),
        ("byte 3%", vec![]),
    ] {
        for order in [Order::Id, Order::NewestFirst] {
            let query = Query {
                text: Some(text.into()),
                order,
                ..Query::default()
            };
            let page = tracker.list(&query).await.unwrap();
            let offsets: Vec<_> = page.entries.iter().map(|entry| entry.id.offset).collect();
            assert_eq!(offsets, found, "{text}, {order:?}");
            assert_eq!(page.next, None);
        }
    }
    let by_reading = Query {
        class: Some("malformed".into()),
        ..Query::default()
    };
    let groups = tracker.groups(&by_reading).await.unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(
        (groups[0].count, groups[0].first.0, groups[0].last.0),
        (16_000, 0, 15_999)
    );
    assert_eq!(
        groups,
        tracker.groups(&Query::default()).await.unwrap(),
        "by the index"
    );
    let within = Query {
        first_failed: Some(Timestamp(10)..Timestamp(12_000)),
        ..Query::default()
    };
    let groups = tracker.groups(&within).await.unwrap();
    assert_eq!((groups[0].count, groups[0].sample.offset), (11_990, 10));
}

#[tokio::test]
async fn a_plain_connection_that_would_leave_the_machine_is_refused_before_it_is_made() {
    let error = refused(opened("redis://ada:swordfish@192.0.2.1:6379", "orders").await);
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(
        text.contains("rediss://") && text.contains("allow-plaintext"),
        "{text}"
    );
    assert!(
        text.contains("192.0.2.1") && !text.contains("swordfish"),
        "{text}"
    );
    let allowed = Config {
        url: SecretUrl::new("redis://192.0.2.1:6379"),
        allow_plaintext: true,
        connect_timeout_ms: 200,
        ..Config::default()
    };
    assert!(refused(open(allowed, &namespace("orders")).await).is_transient());
}
