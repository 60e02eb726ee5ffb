//! The database as a place: who may use it, what it refuses, what is told about it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use common::{admin, config, failed, number, opened, own, refused, run, succeeded};
use test_servers::{Kind, Server};
use tracker_api::{
    AttemptId, Change, Decision, Entry, ErrorKind, Gaps, Namespace, Order, Partition, Progress, Purgeable,
    Query, Resolution, Secret, SecretUrl, Timestamp,
};
use tracker_postgres::{Config, Migrations, open};

#[tokio::test]
async fn wrong_credentials_and_a_missing_database_are_errors_of_the_configuration() {
    let server = own();
    let mut admin = admin(&server).await;
    run(
        &mut admin,
        "CREATE ROLE ada LOGIN PASSWORD 'right'; GRANT CREATE ON DATABASE postgres TO ada",
    )
    .await;
    let rules = server.folder().join("hba");
    let lines = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(&rules, lines).unwrap();
    run(
        &mut admin,
        &format!("ALTER SYSTEM SET hba_file = '{}'", rules.display()),
    )
    .await;
    server.stop().unwrap();
    server.start_again().unwrap();

    let of = |password: &str| Config {
        username: Some("ada".into()),
        password: Secret::new(password),
        ..config(&server, "orchestrator")
    };
    let error = refused(opened(&of("hunter2")).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("as ada") && text.contains(&server.port().to_string()),
        "{text}"
    );
    assert!(
        text.contains("28P01") && text.contains("postgres.password"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    opened(&of("right")).await.unwrap();

    let elsewhere = Config {
        url: SecretUrl::new(server.url().replace("/postgres", "/nowhere")),
        ..config(&server, "orchestrator")
    };
    let elsewhere = Config {
        url: SecretUrl::new(format!("postgres://postgres@127.0.0.1:{}/nowhere", server.port())),
        ..elsewhere
    };
    let error = refused(opened(&elsewhere).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(
        error.to_string().contains("nowhere") && error.to_string().contains("create the database"),
        "{error}"
    );

    // This server speaks no TLS.
    let encrypted = Config {
        url: SecretUrl::new(format!("{}?sslmode=verify-full", server.url())),
        ..config(&server, "orchestrator")
    };
    let error = refused(opened(&encrypted).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn tables_are_made_once_by_whoever_may_and_only_looked_at_by_others() {
    let server = test_servers::postgres();
    let checks = Config {
        migrations: Migrations::Check,
        ..config(server, "made_once")
    };
    let error = refused(opened(&checks).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(
        text.contains("missing") && text.contains("tracker migrate") && text.contains("made_once"),
        "{text}"
    );
    let mut admin = admin(server).await;
    let there = "SELECT count(*) FROM pg_namespace WHERE nspname = 'made_once'";
    assert_eq!(number(&mut admin, there).await, 0, "looking makes nothing");

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let config = config(server, "made_once");
        tasks.spawn(async move { opened(&config).await.map(drop) });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(
        number(&mut admin, "SELECT count(*) FROM made_once.schema_version").await,
        2
    );
    opened(&checks).await.unwrap();
}

#[tokio::test]
async fn newer_tables_are_refused_and_left_alone_and_lost_ones_are_missed() {
    let server = test_servers::postgres();
    let config = config(server, "versions");
    opened(&config).await.unwrap();
    let mut admin = admin(server).await;
    run(
        &mut admin,
        "INSERT INTO versions.schema_version (version) VALUES (3)",
    )
    .await;
    for migrations in [Migrations::Apply, Migrations::Check] {
        let error = refused(
            opened(&Config {
                migrations,
                ..config.clone()
            })
            .await,
        );
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("version 3") && text.contains("up to 2"), "{text}");
    }
    assert_eq!(
        number(&mut admin, "SELECT count(*) FROM versions.schema_version").await,
        3
    );
    assert_eq!(
        number(&mut admin, "SELECT pings FROM versions.namespace").await,
        0
    );

    run(
        &mut admin,
        "DELETE FROM versions.schema_version WHERE version = 3",
    )
    .await;
    let tracker = opened(&config).await.unwrap();
    run(&mut admin, "ALTER TABLE versions.progress RENAME TO moved").await;
    let error = tracker.progress().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("42P01"), "{error}");
    assert_eq!(refused(opened(&config).await).kind(), ErrorKind::Config);
    run(&mut admin, "ALTER TABLE versions.moved RENAME TO progress").await;
    tracker.progress().await.unwrap();
    // Older ones: there is none before the first, but tables without a version are nobody's to make again.
    run(&mut admin, "DELETE FROM versions.schema_version").await;
    for migrations in [Migrations::Apply, Migrations::Check] {
        let error = refused(
            opened(&Config {
                migrations,
                ..config.clone()
            })
            .await,
        );
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}

/// The grants that the documentation lists.
fn documented_grants() -> Vec<&'static str> {
    let page = include_str!("../../docs/stores/postgres.md");
    let grants: Vec<_> = page.lines().filter(|line| line.starts_with("GRANT ")).collect();
    assert_eq!(grants.len(), 4, "{grants:?}");
    grants
}

async fn use_everything(config: &Config) -> tracker_api::Result<()> {
    let namespace = Namespace {
        name: "orders".into(),
        cluster: Some("one".into()),
    };
    let tracker = open(config.clone(), &namespace).await?;
    let dead = failed(1, 1);
    let row = Progress {
        partition: Partition::new("orders", 0),
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        floor: 0,
        received: 9,
        committed: 9,
        gaps: Gaps::default(),
        missed: Gaps::default(),
        failed: 1,
        succeeded: 1,
        at: Timestamp(1),
    };
    let slice = [dead.clone(), succeeded(2)];
    for _ in 0..2 {
        tracker.record(&slice, std::slice::from_ref(&row)).await?;
        tracker.import(&slice, std::slice::from_ref(&row)).await?;
    }
    let about = Resolution {
        decision: Decision::Discarded,
        about: dead.version,
        actor: "ada".into(),
        reason: "of no use".into(),
        at: Timestamp(1),
    };
    let revision = tracker.get(std::slice::from_ref(&dead.id)).await?[0]
        .as_ref()
        .unwrap()
        .revision;
    let change = Change {
        id: dead.id.clone(),
        revision,
        to: Some(about),
    };
    assert_eq!(tracker.resolve(&[change]).await?, [true]);
    assert_eq!(tracker.progress().await?, [row]);
    assert_eq!(tracker.list(&Query::default()).await?.entries.len(), 2);
    assert_eq!(tracker.groups(&Query::default()).await?.len(), 1);
    tracker.ping().await?;
    for what in Purgeable::ALL {
        tracker.purge(what, Timestamp(i64::MAX), 10).await?;
    }
    assert!(tracker.get(&[dead.id]).await?[0].is_none());
    Ok(())
}

#[tokio::test]
async fn the_documented_grants_are_enough_and_a_missing_one_is_named() {
    let server = own();
    let mut admin = admin(&server).await;
    opened(&config(&server, "orchestrator")).await.unwrap();
    run(
        &mut admin,
        "CREATE ROLE orders_service LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    .await;
    let service = Config {
        username: Some("orders_service".into()),
        migrations: Migrations::Check,
        ..config(&server, "orchestrator")
    };
    let grants = documented_grants();
    for grant in &grants {
        assert_eq!(
            use_everything(&service).await.unwrap_err().kind(),
            ErrorKind::Config,
            "before {grant}"
        );
        run(&mut admin, grant).await;
    }
    use_everything(&service).await.unwrap();

    run(
        &mut admin,
        "REVOKE DELETE ON orchestrator.entry FROM orders_service",
    )
    .await;
    let error = refused(opened(&service).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(
        text.contains("GRANT DELETE ON orchestrator.entry TO orders_service"),
        "{text}"
    );
    run(&mut admin, "GRANT DELETE ON orchestrator.entry TO orders_service").await;

    // One that goes while the service runs.
    let tracker = opened(&service).await.unwrap();
    run(
        &mut admin,
        "REVOKE INSERT ON orchestrator.progress FROM orders_service",
    )
    .await;
    let error = tracker.record(&[succeeded(3)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(
        error.to_string().contains("42501") && error.to_string().contains("progress"),
        "{error}"
    );
    // A role without the right to create says so, too.
    let makes = Config {
        migrations: Migrations::Apply,
        schema: "another".into(),
        ..service
    };
    let error = refused(opened(&makes).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("42501"), "{error}");
}

#[tokio::test]
async fn what_somebody_else_wrote_is_left_out_and_named() {
    let server = test_servers::postgres();
    let mut admin = admin(server).await;
    for (sql, column) in [
        ("UPDATE foreign_row SET headers = '\\x61'", "headers"),
        ("UPDATE foreign_row SET decision = 9", "decided_at"),
        ("UPDATE foreign_row SET message = NULL", "bytes_refused"),
        ("UPDATE foreign_row SET tries = -1", "bytes_refused"),
        ("UPDATE foreign_row SET message = E'\\x01'", "message"),
    ] {
        let tracker = opened(&config(server, "foreign")).await.unwrap();
        let both = [failed(1, 1), failed(2, 1)];
        tracker.record(&both, &[]).await.unwrap();
        let sql = sql.replace("foreign_row", "\"foreign\".entry") + " WHERE \"offset\" = 1";
        run(&mut admin, &sql).await;
        let ids = both.map(|entry| entry.id);
        let found = tracker.get(&ids).await.unwrap();
        assert!(found[0].is_none() && found[1].is_some(), "{sql}: {found:?}");
        for (order, limit) in [(Order::Id, 0), (Order::Id, 1), (Order::NewestFirst, 0)] {
            let query = Query {
                order,
                limit,
                ..Query::default()
            };
            let page = tracker.list(&query).await.unwrap();
            assert_eq!((page.entries.len(), page.next), (1, None), "{sql}");
        }
        let rows = tracker.corrupt_rows();
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        assert!(
            rows[0].row == "orders:0:1" && rows[0].why.contains(column) && !rows[0].why.contains("4111"),
            "{sql}: {rows:?}"
        );
        tracker.groups(&Query::default()).await.unwrap();
        assert_eq!(tracker.corrupt_rows().len(), 1, "{sql}");
        // A write is not held up.
        let later = [failed(1, 2), failed(3, 1)];
        assert_eq!(tracker.record(&later, &[]).await.unwrap(), [true, true], "{sql}");
        run(&mut admin, "DELETE FROM \"foreign\".entry").await;
    }
    let tracker = opened(&config(server, "foreign")).await.unwrap();
    tracker.record(&[failed(1, 1)], &[]).await.unwrap();
    run(
        &mut admin,
        "ALTER TABLE \"foreign\".entry ALTER COLUMN message TYPE int4 USING 7",
    )
    .await;
    let error = opened(&config(server, "foreign"))
        .await
        .unwrap()
        .get(&[failed(1, 1).id])
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Config,
        "a table's fault is no row's: {error}"
    );
    assert!(error.to_string().contains("message"), "{error}");
    let error = tracker.import(&[failed(1, 1)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    run(&mut admin, "DELETE FROM \"foreign\".namespace").await;
    assert_eq!(tracker.ping().await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_value_that_is_refused_is_no_outage() {
    let server = test_servers::postgres();
    let tracker = opened(&config(server, "refused")).await.unwrap();
    let topic: String = (0..300)
        .map(|_| uuid::Uuid::new_v4().simple().to_string())
        .collect();
    let long = Entry {
        id: Partition::new(topic.as_str(), 0).at(1),
        ..succeeded(1)
    };
    let error = tracker.record(&[long, succeeded(1)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(
        !error.is_transient() && !error.to_string().contains(&topic[..40]),
        "{error}"
    );
    let mut revised = failed(2, 1);
    revised.revision = u64::MAX;
    tracker.import(&[revised.clone()], &[]).await.unwrap();
    let change = Change {
        id: revised.id.clone(),
        revision: u64::MAX,
        to: None,
    };
    assert_eq!(
        tracker.resolve(&[change]).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert_eq!(tracker.record(&[succeeded(1)], &[]).await.unwrap(), [true]);
}

#[tokio::test]
async fn text_that_postgresql_cannot_hold_comes_back() {
    let server = test_servers::postgres();
    let config = config(server, "texts");
    let namespace = Namespace {
        name: "a\0b".repeat(2_000),
        cluster: Some("c\0".into()),
    };
    let tracker = open(config, &namespace).await.unwrap();
    let mut dead = failed(1, 1);
    dead.id = Partition::new("to\0pic", 0).at(1);
    dead.failure.as_mut().unwrap().message = "a\0B\u{1}".into();
    tracker.record(std::slice::from_ref(&dead), &[]).await.unwrap();
    dead.resolution = Some(Resolution {
        decision: Decision::Discarded,
        about: dead.version,
        actor: "a\0".into(),
        reason: "\0\u{5}".into(),
        at: Timestamp(1),
    });
    let change = Change {
        id: dead.id.clone(),
        revision: 0,
        to: dead.resolution.clone(),
    };
    tracker.resolve(&[change]).await.unwrap();
    dead.revision = 1;
    for (text, found) in [
        ("\0b", true),
        ("\u{1}", true),
        ("\u{2}", false),
        ("\u{3}", false),
        ("a%", false),
    ] {
        let query = Query {
            text: Some(text.into()),
            ..Query::default()
        };
        let expected = if found { vec![dead.clone()] } else { Vec::new() };
        assert_eq!(tracker.list(&query).await.unwrap().entries, expected, "{text:?}");
    }
}

#[tokio::test]
async fn what_the_server_cannot_promise_is_told_by_name() {
    let sound = opened(&config(test_servers::postgres(), "sound")).await.unwrap();
    assert_eq!(sound.risks().await.unwrap(), []);
    let server =
        Server::start_with(Kind::Postgres, &[("fsync", "off"), ("full_page_writes", "off")]).unwrap();
    opened(&config(&server, "orchestrator")).await.unwrap();
    let mut admin = admin(&server).await;
    run(&mut admin, "ALTER TABLE orchestrator.entry SET UNLOGGED").await;
    run(
        &mut admin,
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'",
    )
    .await;
    let risks = opened(&config(&server, "orchestrator"))
        .await
        .unwrap()
        .risks()
        .await
        .unwrap();
    let names: Vec<_> = risks.iter().map(|risk| risk.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "postgres-no-fsync",
            "postgres-no-full-page-writes",
            "postgres-unlogged"
        ]
    );
    let latin = Config {
        url: SecretUrl::new(format!("postgres://postgres@127.0.0.1:{}/latin", server.port())),
        ..config(&server, "orchestrator")
    };
    let error = refused(opened(&latin).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("UTF8"), "{error}");
}

#[tokio::test]
async fn writes_are_durable_whatever_is_set_for_the_role() {
    let server = own();
    let mut admin = admin(&server).await;
    run(&mut admin, "ALTER ROLE postgres SET synchronous_commit = off; ALTER DATABASE postgres SET synchronous_commit = off").await;
    let tracker = opened(&config(&server, "orchestrator")).await.unwrap();
    run(
        &mut admin,
        "CREATE TABLE seen (how text);
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
        CREATE TRIGGER look BEFORE INSERT ON orchestrator.entry FOR EACH ROW EXECUTE FUNCTION look()",
    )
    .await;
    tracker.record(&[succeeded(1)], &[]).await.unwrap();
    assert_eq!(
        number(&mut admin, "SELECT count(*) FROM seen WHERE how = 'on'").await,
        1
    );
    assert_eq!(number(&mut admin, "SELECT count(*) FROM seen").await, 1);
}

#[tokio::test]
async fn a_row_of_older_tables_is_nobodys_and_a_writer_that_names_itself_is_later() {
    let server = test_servers::postgres();
    let mut admin = admin(server).await;
    let first = include_str!("../../migrations/postgres/0001_entries.sql");
    run(
        &mut admin,
        &format!(
            "CREATE SCHEMA older; SET search_path = older;
            CREATE TABLE schema_version (version int4 PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
            {first}
            INSERT INTO schema_version (version) VALUES (1);
            INSERT INTO namespace (name) VALUES ('orders');
            INSERT INTO progress (era, floor, received, committed, failed, succeeded, at, namespace, partition, topic, gaps)
                SELECT 1, 0, 9, 9, 2, 7, 1, id, 0, 'orders', '{{[3,5),[7,8)}}' FROM namespace"
        ),
    )
    .await;
    let tracker = opened(&config(server, "older")).await.unwrap();
    let mut row = tracker.progress().await.unwrap().remove(0);
    assert_eq!(row.writer(), (0, AttemptId::default()));
    assert_eq!(row.gaps, [3..5, 7..8].into_iter().collect());
    (row.term, row.gaps) = (1, std::iter::once(7..8).collect());
    tracker.record(&[], std::slice::from_ref(&row)).await.unwrap();
    assert_eq!(tracker.progress().await.unwrap(), [row]);
}
