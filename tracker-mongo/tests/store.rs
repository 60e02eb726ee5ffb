//! The database as a place: how often it is asked, what it refuses to open, what somebody else may have done to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

#[allow(dead_code, reason = "each file uses a part of it")]
mod common;

use common::{admin, bare, config, count, database, entry, failed, holds, namespace, opened, refused, says};
use mongodb::bson::{Document, doc};
use test_servers::{Kind, Server};
use tracker_api::{
    AttemptId, Change, Decision, Entry, ErrorKind, Gaps, Namespace, Order, Outcome, Partition, Progress,
    Query, Resolution, Secret, Timestamp,
};
use tracker_mongo::{Config, open};

const WHOLE: i64 = 2_000;

fn progress(received: i64) -> Progress {
    Progress {
        partition: Partition::new("orders", 0),
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        floor: 0,
        received,
        committed: 0,
        gaps: Gaps::default(),
        missed: Gaps::default(),
        failed: 0,
        succeeded: 0,
        at: Timestamp(0),
    }
}

fn discard(entry: &Entry) -> Change {
    let resolution = Resolution {
        decision: Decision::Discarded,
        about: entry.version,
        actor: "ada".into(),
        reason: "nobody wants it".into(),
        at: Timestamp(1),
    };
    Change {
        id: entry.id.clone(),
        revision: 0,
        to: Some(resolution),
    }
}

#[tokio::test]
async fn a_call_of_two_thousand_is_one_exchange() {
    const ASKED: [&str; 5] = ["update", "find", "getMore", "aggregate", "insert"];
    let server = Server::start(Kind::Mongo).unwrap();
    let client = bare(&server).await;
    let tracker = opened(config(&server.url())).await.unwrap();
    let of = |outcome, attempt| {
        (0..WHOLE)
            .map(|offset| entry(offset, attempt, outcome))
            .collect::<Vec<_>>()
    };
    let failures: Vec<Entry> = (0..WHOLE).map(|offset| failed(offset, 8)).collect();
    let ids: Vec<_> = failures.iter().map(|entry| entry.id.clone()).collect();
    let changes: Vec<Change> = failures.iter().map(discard).collect();
    let elsewhere: Vec<Entry> = failures
        .iter()
        .map(|entry| {
            let mut entry = entry.clone();
            entry.id.partition = Partition::new("moved", 1);
            entry
        })
        .collect();
    let mut before = count(&client, &ASKED).await;
    let mut took = async |what: &str, expected: [i64; 5]| {
        let after = count(&client, &ASKED).await;
        let took: Vec<i64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
        assert_eq!(took, expected, "{what}: {ASKED:?}");
        before = after;
    };

    let stands = tracker
        .record(&of(Outcome::Received, 5), &[progress(1)])
        .await
        .unwrap();
    assert!(stands.iter().all(|stands| *stands));
    took("what is new, with progress", [1, 0, 0, 0, 0]).await;
    let stands = tracker
        .record(&of(Outcome::Failing, 6), &[progress(2)])
        .await
        .unwrap();
    assert!(stands.iter().all(|stands| *stands));
    took("what is greater", [1, 0, 0, 0, 0]).await;
    tracker.record(&failures, &[]).await.unwrap();
    took("failures", [1, 0, 0, 0, 0]).await;
    let stands = tracker.record(&failures, &[]).await.unwrap();
    assert!(stands.iter().all(|stands| *stands));
    took("a repetition", [1, 0, 0, 0, 0]).await;
    let stands = tracker.record(&of(Outcome::Succeeded, 4), &[]).await.unwrap();
    assert!(stands.iter().all(|stands| !*stands));
    took("what loses is looked at once more", [1, 1, 0, 0, 0]).await;

    tracker.import(&elsewhere, &[progress(3)]).await.unwrap();
    took("an import", [1, 0, 0, 0, 0]).await;
    let held = tracker.get(&ids).await.unwrap();
    assert!(
        held.iter()
            .zip(&failures)
            .all(|(held, entry)| held.as_ref() == Some(entry))
    );
    took("get", [0, 1, 0, 0, 0]).await;
    let query = Query {
        limit: 1_000,
        order: Order::NewestFirst,
        ..Query::default()
    };
    assert_eq!(tracker.list(&query).await.unwrap().entries.len(), 1_000);
    took("a page of a thousand", [0, 1, 0, 0, 0]).await;
    assert_eq!(tracker.groups(&query).await.unwrap().len(), 1);
    took("groups", [0, 0, 0, 1, 0]).await;
    let took_all = tracker.resolve(&changes).await.unwrap();
    assert!(took_all.iter().all(|took| *took));
    took("resolve", [1, 0, 0, 0, 0]).await;
    assert_eq!(tracker.progress().await.unwrap(), [progress(3)]);
    took("progress", [0, 1, 0, 0, 0]).await;
}

#[tokio::test]
async fn a_slice_that_is_larger_than_a_command_is_split_and_an_entry_that_is_is_refused() {
    let server = test_servers::mongo();
    let namespace = Namespace {
        name: "large".into(),
        cluster: None,
    };
    let tracker = open(config(&server.url()), &namespace).await.unwrap();
    let sized = |offset, bytes| {
        let mut entry = failed(offset, 8);
        entry.captured.as_mut().unwrap().value = Some(vec![7; bytes].into());
        entry
    };
    let entries: Vec<Entry> = (0..600).map(|offset| sized(offset, 64 << 10)).collect();
    tracker.record(&entries, &[]).await.unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
    let held = tracker.get(&ids).await.unwrap();
    assert!(
        held.iter()
            .zip(&entries)
            .all(|(held, entry)| held.as_ref() == Some(entry))
    );

    let error = refused(tracker.record(&[sized(1_000, 17 << 20)], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    says(&error, &["16 MiB"]);
    tracker.ping().await.unwrap();
}

#[tokio::test]
async fn text_that_looks_like_an_expression_stays_text() {
    let server = test_servers::mongo();
    let namespace = Namespace {
        name: "$ROOT.$v".into(),
        cluster: Some("$c".into()),
    };
    let tracker = open(config(&server.url()), &namespace).await.unwrap();
    for topic in ["$where", "$$ROOT", "$", "a.b$c"] {
        for attempt in [5, 6] {
            let mut entry = failed(1, attempt);
            entry.id.partition = Partition::new(topic, 0);
            let failure = entry.failure.as_mut().unwrap();
            (failure.class, failure.message) = ("$v.e".into(), "$$new.f and { $toInt: \"x\" }".into());
            entry.first_failed_at = Some(Timestamp(5));
            assert_eq!(tracker.record(&[entry.clone()], &[]).await.unwrap(), [true]);
            assert!(holds(&tracker, &entry).await, "{topic}");
            let query = Query {
                topic: Some(topic.into()),
                class: Some("$v.e".into()),
                text: Some("$$NEW.f".into()),
                ..Query::default()
            };
            assert_eq!(tracker.list(&query).await.unwrap().entries, [entry.clone()]);
            assert_eq!(
                tracker.groups(&query).await.unwrap()[0].message,
                "$$new.f and { $toInt: \"x\" }"
            );
            let mut change = discard(&entry);
            change.to.as_mut().unwrap().reason = "$r.why".into();
            if attempt == 6 {
                assert_eq!(tracker.resolve(&[change.clone()]).await.unwrap(), [true]);
                let held = tracker.get(&[entry.id.clone()]).await.unwrap().remove(0).unwrap();
                assert_eq!(held.resolution, change.to);
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_password_and_missing_rights_are_told_with_the_user() {
    let server = Server::start_with(Kind::MongoStandalone, &[("auth", "")]).unwrap();
    let client = bare(&server).await;
    // The first user may be made from this machine without one.
    admin(
        &client,
        doc! { "createUser": "root", "pwd": "hunter2", "roles": ["root"] },
    )
    .await;
    let at = format!("127.0.0.1:{}", server.port());
    let root = mongodb::Client::with_uri_str(format!("mongodb://root:hunter2@{at}/"))
        .await
        .unwrap();
    for (user, role) in [("ada", "readWrite"), ("bob", "read")] {
        let role = doc! { "role": role, "db": common::DATABASE };
        admin(
            &root,
            doc! { "createUser": user, "pwd": "hunter2", "roles": [role] },
        )
        .await;
    }
    let as_user = |user: &str, password: &str| Config {
        username: Some(user.into()),
        password: Secret::new(password),
        ..config(&format!("mongodb://{at}/"))
    };
    for (config, parts) in [
        (as_user("ada", "not hunter2"), ["as user `ada`", "mongo.password"]),
        (
            config(&format!("mongodb://{at}/")),
            ["without a user", "readWrite"],
        ),
        (as_user("bob", "hunter2"), ["as user `bob`", "readWrite"]),
    ] {
        let error = refused(opened(config).await);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        says(&error, &parts);
        says(&error, &[&at]);
    }
    let tracker = opened(as_user("ada", "hunter2")).await.unwrap();
    tracker.record(&[failed(1, 5)], &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1, 5)).await);

    // A right that is taken away is no outage.
    let gone =
        doc! { "revokeRolesFromUser": "ada", "roles": [{ "role": "readWrite", "db": common::DATABASE }] };
    admin(&root, gone).await;
    let error = refused(tracker.record(&[failed(2, 5)], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    says(&error, &["as user `ada`", "readWrite"]);

    let risks = tracker.risks().await.unwrap();
    assert_eq!(risks.len(), 1);
    assert_eq!(risks[0].name, "mongo-standalone");
    assert!(risks[0].what.contains("rs.initiate()"), "{}", risks[0].what);
}

#[tokio::test]
async fn a_replica_set_has_no_risks() {
    let server = test_servers::mongo();
    let namespace = Namespace {
        name: "risks".into(),
        cluster: None,
    };
    let tracker = open(config(&server.url()), &namespace).await.unwrap();
    assert_eq!(tracker.risks().await.unwrap(), []);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let server = Server::start(Kind::Mongo).unwrap();
    let database = database(&server).await;
    drop(opened(config(&server.url())).await.unwrap());
    let namespaces = database.collection::<Document>("tracker_namespaces");
    let newer = doc! { "$set": { "format": 2 } };
    namespaces
        .update_one(doc! { "_id": "orders" }, newer)
        .await
        .unwrap();
    database
        .run_command(doc! { "dropIndexes": "tracker_entries", "index": "status" })
        .await
        .unwrap();
    let before = namespaces.find_one(doc! { "_id": "orders" }).await.unwrap();
    let clustered = Namespace {
        cluster: Some("lkc-1".into()),
        ..namespace()
    };
    let error = refused(open(config(&server.url()), &clustered).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    says(&error, &["format 2", "up to 1", "newer"]);
    assert_eq!(
        namespaces.find_one(doc! { "_id": "orders" }).await.unwrap(),
        before
    );
    let names = database
        .collection::<Document>("tracker_entries")
        .list_index_names()
        .await
        .unwrap();
    assert!(!names.contains(&"status".to_owned()), "nothing was made");

    let damaged = doc! { "$set": { "format": "one" } };
    namespaces
        .update_one(doc! { "_id": "orders" }, damaged)
        .await
        .unwrap();
    let error = refused(opened(config(&server.url())).await);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    says(&error, &["`orders`", "`format`"]);
}

#[tokio::test]
async fn a_schema_that_is_gone_or_changed_is_told_and_made_anew() {
    let server = Server::start(Kind::Mongo).unwrap();
    let database = database(&server).await;
    let tracker = opened(config(&server.url())).await.unwrap();
    tracker.record(&[failed(1, 5)], &[]).await.unwrap();
    database
        .run_command(doc! { "dropIndexes": "tracker_entries", "index": "status" })
        .await
        .unwrap();
    let query = Query {
        order: Order::NewestFirst,
        ..Query::default()
    };
    let error = refused(tracker.list(&query).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    says(&error, &["start again"]);
    let again = opened(config(&server.url())).await.unwrap();
    assert_eq!(again.list(&query).await.unwrap().entries, [failed(1, 5)]);

    // Another one under our name is not used in its place.
    database
        .run_command(doc! { "dropIndexes": "tracker_entries", "index": "status" })
        .await
        .unwrap();
    let other = doc! { "key": { "s": 1 }, "name": "status" };
    database
        .run_command(doc! { "createIndexes": "tracker_entries", "indexes": [other] })
        .await
        .unwrap();
    let error = refused(opened(config(&server.url())).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    says(&error, &["drop it"]);

    database.drop().await.unwrap();
    let error = refused(tracker.ping().await);
    assert_eq!(error.kind(), ErrorKind::Config);
    says(&error, &["`orders`", "somebody dropped it"]);
    let again = opened(config(&server.url())).await.unwrap();
    again.ping().await.unwrap();

    // Ids that a language takes for one would be one.
    database.drop().await.unwrap();
    let collated = doc! { "create": "tracker_entries", "collation": { "locale": "en", "strength": 1 } };
    database.run_command(collated).await.unwrap();
    let error = refused(opened(config(&server.url())).await);
    assert_eq!(error.kind(), ErrorKind::Config);
    says(&error, &["collation"]);
}

#[tokio::test]
async fn what_another_program_wrote_is_left_out_and_named_and_a_write_lands_as_on_nothing() {
    let server = Server::start(Kind::Mongo).unwrap();
    let entries = database(&server).await.collection::<Document>("tracker_entries");
    for (field, value) in [
        ("v.e", doc! { "x": "one" }),
        ("v.o", doc! { "x": 9 }),
        ("v.a", doc! { "x": "payload" }),
        ("at", doc! { "x": 1.5 }),
        ("f", doc! { "x": "payload" }),
        ("f.p", doc! { "x": -1 }),
        ("c.h", doc! { "x": ["payload"] }),
        ("ff", doc! { "x": true }),
        ("n", doc! { "x": -7 }),
    ] {
        let tracker = opened(config(&server.url())).await.unwrap();
        let both = [failed(1, 5), failed(2, 5)];
        tracker.record(&both, &[]).await.unwrap();
        let change = doc! { "$set": { field: value.get("x").unwrap() } };
        entries.update_one(doc! { "_id.o": 1 }, change).await.unwrap();
        let ids = both.clone().map(|entry| entry.id);
        let found = tracker.get(&ids).await.unwrap();
        assert!(found[0].is_none() && found[1].is_some(), "{field}: {found:?}");
        for limit in [0, 1] {
            let query = Query {
                limit,
                ..Query::default()
            };
            let page = tracker.list(&query).await.unwrap();
            assert_eq!((page.entries.len(), page.next), (1, None), "{field}");
        }
        let rows = tracker.corrupt_rows();
        assert_eq!(rows.len(), 1, "{field}: {rows:?}");
        let name = field.rsplit('.').next().unwrap();
        assert!(
            rows[0].row == "orders:0:1" && rows[0].why.contains(&format!("`{name}`")),
            "{field}: {rows:?}"
        );
        assert!(!rows[0].why.contains("payload"), "{field}: {rows:?}");
        tracker.groups(&Query::default()).await.unwrap();
        assert_eq!(tracker.corrupt_rows().len(), 1, "{field}");
        // A later attempt's write stands, whatever it was that could not be read.
        assert_eq!(
            tracker.record(&[failed(1, 6)], &[]).await.unwrap(),
            [true],
            "{field}"
        );
        entries.delete_one(doc! { "_id.o": 1 }).await.unwrap();
    }
    let tracker = opened(config(&server.url())).await.unwrap();
    tracker.record(&[failed(1, 5)], &[progress(1)]).await.unwrap();
    let change = doc! { "$set": { "v.e": "one", "r": "payload" } };
    entries.update_one(doc! { "_id.o": 1 }, change).await.unwrap();
    for era in [doc! { "gaps": "none" }, doc! { "e": "one" }] {
        let change = doc! { "$set": era };
        entries
            .update_one(doc! { "_id.progress": 1 }, change)
            .await
            .unwrap();
        assert_eq!(tracker.progress().await.unwrap(), []);
        let row = progress(2);
        tracker
            .record(&[failed(1, 5)], std::slice::from_ref(&row))
            .await
            .unwrap();
        // What was in the way is written over.
        let later = Progress { term: 2, ..row };
        tracker.record(&[], std::slice::from_ref(&later)).await.unwrap();
        assert_eq!(tracker.progress().await.unwrap(), [later]);
    }
    assert_eq!(
        tracker.get(&[failed(1, 5).id]).await.unwrap(),
        [Some(failed(1, 5))]
    );
    let held = entries.find_one(doc! { "_id.o": 1 }).await.unwrap().unwrap();
    let aside = held.get_document("aside").unwrap();
    assert_eq!(aside.get_str("r").unwrap(), "payload", "what stood there is kept");
    let names: Vec<String> = tracker.corrupt_rows().into_iter().map(|row| row.row).collect();
    assert_eq!(names, ["orders:0:1", "progress of orders:0"]);
}

#[tokio::test]
async fn progress_of_an_older_program_is_nobodys_and_a_writer_that_names_itself_is_later() {
    let server = Server::start(Kind::Mongo).unwrap();
    let entries = database(&server).await.collection::<Document>("tracker_entries");
    let tracker = opened(config(&server.url())).await.unwrap();
    let old = Progress {
        term: 0,
        committed: 9,
        gaps: [3..5, 7..8].into_iter().collect(),
        ..progress(9)
    };
    tracker.record(&[], std::slice::from_ref(&old)).await.unwrap();
    let change = doc! { "$unset": { "term": 1, "attempt": 1, "missed": 1 } };
    entries
        .update_one(doc! { "_id.progress": 1 }, change)
        .await
        .unwrap();
    assert_eq!(tracker.progress().await.unwrap(), std::slice::from_ref(&old));
    // Nobody's rows unite, as they did; whoever names himself knows better.
    let more = Progress {
        gaps: std::iter::once(1..2).collect(),
        ..old.clone()
    };
    tracker.record(&[], &[more]).await.unwrap();
    assert_eq!(tracker.progress().await.unwrap()[0].gaps.iter().count(), 3);
    let closed = Progress {
        term: 1,
        gaps: Gaps::default(),
        ..old
    };
    tracker.record(&[], std::slice::from_ref(&closed)).await.unwrap();
    assert_eq!(tracker.progress().await.unwrap(), [closed]);
}

#[tokio::test]
async fn what_a_validator_refuses_is_no_outage() {
    let server = Server::start(Kind::Mongo).unwrap();
    let database = database(&server).await;
    let tracker = opened(config(&server.url())).await.unwrap();
    let validator = doc! { "collMod": "tracker_entries", "validator": { "f.c": { "$ne": "malformed" } } };
    database.run_command(validator).await.unwrap();
    let error = refused(tracker.record(&[failed(1, 5)], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    says(&error, &["validator"]);
    // The rest of its slice is written all the same, and the caller is told that something was not.
    let done = entry(2, 5, Outcome::Succeeded);
    refused(tracker.record(&[failed(1, 5), done.clone()], &[]).await);
    assert!(holds(&tracker, &done).await);
}
