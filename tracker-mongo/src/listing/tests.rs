use std::sync::Arc;

use mongodb::Client;
use tracker_api::{AttemptId, Captured, Failure, Outcome, Partition, Version};
use uuid::Uuid;

use super::*;
use crate::{error::Heard, link::Link, link::Statement, pipelines::How, schema};

const NUMBER: Number = 7;
const ENTRIES_HELD: i64 = 12_000;

/// Half of the records have failed, eight in a partition's nine in one topic, most stand open.
fn held(number: i64) -> Entry {
    let outcome = if number % 2 == 0 {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    };
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId(Uuid::from_u128(1)),
        outcome,
    };
    let topic = if number % 1_001 == 0 { "rare" } else { "orders" };
    let partition = i32::try_from(if number % 997 == 0 { 33 } else { number % 8 }).unwrap();
    // Hundreds fail within one millisecond, as one batch does.
    let mut entry = Entry::new(
        Partition::new(topic, partition).at(number),
        version,
        Timestamp(number / 500),
    );
    if outcome == Outcome::Failed {
        let class = format!("class {}", number % 13);
        let mut failure = Failure::new(&class, &format!("the price of {number} is no number"));
        failure.fingerprint = number.unsigned_abs() % 101;
        if number % 5 == 0 {
            failure.passes = false;
            entry.version.outcome = Outcome::Failing;
        }
        entry.failure = Some(failure);
        entry.first_failed_at = Some(entry.at);
        entry.captured = Some(Captured {
            key: Some(format!("key {}", number % 500).into()),
            ..Captured::default()
        });
    }
    entry
}

async fn filled() -> Link {
    let client = Client::with_uri_str(test_servers::mongo().url()).await.unwrap();
    let database = format!("plans_{}", Uuid::new_v4().simple());
    let place = crate::error::Place {
        hosts: "localhost".into(),
        database,
        user: None,
        heard: Heard::default(),
    };
    let link = Link::new(&client, place, std::time::Duration::from_secs(60));
    schema::index(&link).await.unwrap();
    let statement = |number| {
        let entry = held(number);
        let how = if entry.version.outcome == Outcome::Failed {
            How::JoinPassed
        } else {
            How::Join
        };
        Statement {
            id: codec::id(NUMBER, &entry.id),
            how,
            new: codec::entry(&entry),
            held: None,
        }
    };
    let statements: Vec<Statement> = (0..ENTRIES_HELD).map(statement).collect();
    for slice in statements.chunks(2_000) {
        assert!(
            link.write("filling", slice)
                .await
                .unwrap()
                .iter()
                .all(|written| *written)
        );
    }
    link
}

/// How many keys and documents the server looked at, and the stages of its plan.
async fn looked_at(link: &Link, find: &Find) -> (i64, i64, String) {
    let command = doc! {
        "find": ENTRIES,
        "filter": find.filter.clone(),
        "sort": find.sort.clone(),
        "hint": find.index,
        "limit": i64::try_from(find.limit).unwrap(),
    };
    let explained = doc! { "explain": command, "verbosity": "executionStats" };
    let answer = link.database.run_command(explained).await.unwrap();
    let stats = answer.get_document("executionStats").unwrap();
    let number = |name: &str| {
        stats
            .get(name)
            .and_then(|value| value.as_i32().map(i64::from).or(value.as_i64()))
            .unwrap()
    };
    let plan = answer
        .get_document("queryPlanner")
        .unwrap()
        .get_document("winningPlan")
        .unwrap();
    (
        number("totalKeysExamined"),
        number("totalDocsExamined"),
        plan.to_string(),
    )
}

fn of(order: Order) -> Query {
    Query {
        order,
        limit: 50,
        ..Query::default()
    }
}

#[tokio::test]
async fn a_page_costs_what_it_shows_whatever_is_held() {
    let link = filled().await;
    let newest = || of(Order::NewestFirst);
    let by_id = || of(Order::Id);
    let after = Some(Cursor {
        id: held(6_001).id,
        first_failed_at: Some(held(6_001).at),
    });
    let topic = |name: &str| Some(Arc::<str>::from(name));
    let open = vec![Status::Open];
    let asked = [
        ("newest", newest()),
        (
            "open",
            Query {
                statuses: open.clone(),
                ..newest()
            },
        ),
        (
            "failed",
            Query {
                outcomes: vec![Outcome::Failed],
                ..newest()
            },
        ),
        (
            "class",
            Query {
                class: Some("class 5".into()),
                ..newest()
            },
        ),
        (
            "fingerprint",
            Query {
                fingerprint: Some(7),
                ..newest()
            },
        ),
        (
            "topic",
            Query {
                topic: topic("orders"),
                ..newest()
            },
        ),
        (
            "rare topic",
            Query {
                topic: topic("rare"),
                ..newest()
            },
        ),
        (
            "partition",
            Query {
                partition: Some(Partition::new("orders", 3)),
                ..newest()
            },
        ),
        (
            "rare partition",
            Query {
                partition: Some(Partition::new("orders", 33)),
                ..newest()
            },
        ),
        (
            "absent partition",
            Query {
                partition: Some(Partition::new("orders", 99)),
                ..newest()
            },
        ),
        (
            "times",
            Query {
                first_failed: Some(Timestamp(5)..Timestamp(7)),
                ..newest()
            },
        ),
        (
            "key",
            Query {
                key: Some("key 7".into()),
                ..newest()
            },
        ),
        (
            "no such key",
            Query {
                key: Some("no key".into()),
                ..newest()
            },
        ),
        ("by id", by_id()),
        (
            "partition by id",
            Query {
                partition: Some(Partition::new("orders", 3)),
                ..by_id()
            },
        ),
        (
            "topic by id",
            Query {
                topic: topic("rare"),
                ..by_id()
            },
        ),
        (
            "key by id",
            Query {
                key: Some("key 7".into()),
                ..by_id()
            },
        ),
        (
            "unfinished by id",
            Query {
                partition: Some(Partition::new("orders", 3)),
                offsets: Some(0..i64::MAX),
                outcomes: vec![Outcome::Received, Outcome::Failing],
                era: Some(1),
                ..by_id()
            },
        ),
        (
            "offsets by id",
            Query {
                partition: Some(Partition::new("orders", 3)),
                offsets: Some(5_000..5_100),
                ..by_id()
            },
        ),
    ];
    for (name, query) in asked {
        for after in [None, after.clone()] {
            let what = format!(
                "{name}, {}",
                if after.is_some() {
                    "further on"
                } else {
                    "from the start"
                }
            );
            let query = Query {
                after,
                ..query.clone()
            };
            let find = find(NUMBER, &query).unwrap().unwrap();
            let (keys, documents, plan) = looked_at(&link, &find).await;
            assert!(
                keys <= 150 && documents <= 60,
                "{what}: {keys} keys, {documents} documents, {plan}"
            );
            // Sorting what a key has is little; everything else comes in order.
            assert!(
                name.contains("key") || !plan.contains("\"SORT\""),
                "{what}: {plan}"
            );
        }
    }
    link.database.drop().await.unwrap();
}

#[tokio::test]
async fn groups_are_counted_in_the_index() {
    let link = filled().await;
    let (index, pipeline) = grouped(
        NUMBER,
        &Query {
            statuses: vec![Status::Open],
            ..Query::default()
        },
    )
    .unwrap();
    let command = doc! { "aggregate": ENTRIES, "pipeline": pipeline.clone(), "cursor": {}, "hint": index };
    let explained = doc! { "explain": command, "verbosity": "queryPlanner" };
    let plan = link.database.run_command(explained).await.unwrap().to_string();
    assert!(plan.contains("IXSCAN") && !plan.contains("\"FETCH\""), "{plan}");
    let groups = link
        .aggregate("grouping", pipeline, index, read_group)
        .await
        .unwrap();
    let counted: u64 = groups.iter().flatten().map(|group| group.count).sum();
    let open = (0..ENTRIES_HELD)
        .map(held)
        .filter(|entry| Status::of(entry) == Status::Open)
        .count();
    assert_eq!(usize::try_from(counted).unwrap(), open);
    link.database.drop().await.unwrap();
}
