//! Filters and groups: a question means the same on every store.

use std::ops::Range;

use bytes::Bytes;

use super::{
    Case, Verdict,
    make::{captured, change, claim, entry, failed, id, newest_first, of_era, query, succeeded},
};
use crate::{
    Change, Cursor, Decision, Entry, Failure, Model, Order, Outcome, Partition, Query, RecordId, Status,
    Timestamp,
};

/// Entries of every kind: three partitions, two eras, four outcomes, three classes.
fn medley() -> Vec<Entry> {
    let outcomes = [
        Outcome::Received,
        Outcome::Failing,
        Outcome::Failed,
        Outcome::Succeeded,
    ];
    let classes = ["malformed", "invalid", "unknown sku"];
    (0..72_u32)
        .map(|n| {
            let pick = |of: usize, step: u32| usize::try_from(n / step).unwrap_or(0) % of;
            let outcome = outcomes[pick(4, 1)];
            let topic = ["orders", "orders.b", "Orders"][pick(3, 4)];
            let partition = Partition::new(topic, i32::try_from(n % 2).unwrap_or(0));
            let made = of_era(entry(0, 1 + n % 5, outcome), 1 + u64::from(n % 3 == 0));
            let failure = made
                .failure
                .as_ref()
                .map(|_| Failure::new(classes[pick(3, 2)], &format!("order {n} is bad")));
            Entry {
                id: partition.at(i64::from(n) * 3),
                first_failed_at: failure.is_some().then(|| Timestamp(i64::from(n * 7 % 50))),
                captured: (n % 5 != 0).then(|| captured(["", "a", "a\0", "b"][pick(4, 3)].as_bytes())),
                failure,
                ..made
            }
        })
        .collect()
}

/// A decision about every third entry of the medley that can take one.
fn decisions(entries: &[Entry]) -> Vec<Change> {
    let failed = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.failure.is_some());
    let third = failed.filter(|(n, _)| n % 3 != 0);
    third
        .map(|(n, entry)| match (entry.is_blocking(), n % 4) {
            (true, 0 | 1) => change(entry, 0, Decision::Retry),
            (true, _) => change(entry, 0, Decision::Skip),
            (false, 0) => change(entry, 0, claim(1)),
            (false, 1) => change(entry, 0, Decision::Replayed),
            (false, _) => change(entry, 0, Decision::Discarded),
        })
        .collect()
}

fn queries() -> Vec<Query> {
    let print = Failure::new("invalid", "order 1 is bad").fingerprint;
    let mut filters = vec![Query::default()];
    for topic in ["orders", "orders.b", "Orders", "order", ""] {
        let partition = Some(Partition::new(topic, 1));
        filters.push(Query {
            partition: partition.clone(),
            ..Query::default()
        });
        filters.push(Query {
            partition,
            offsets: Some(9..60),
            outcomes: vec![Outcome::Failed],
            ..Query::default()
        });
    }
    for range in [
        0..0,
        0..1,
        30..90,
        Range { start: 90, end: 30 },
        33..34,
        i64::MIN..i64::MAX,
        213..214,
    ] {
        filters.push(Query {
            offsets: Some(range),
            ..Query::default()
        });
    }
    for outcomes in [
        vec![Outcome::Received],
        vec![Outcome::Failing, Outcome::Failed],
        vec![Outcome::Succeeded; 2],
    ] {
        filters.push(Query {
            outcomes: outcomes.clone(),
            ..Query::default()
        });
        filters.push(Query {
            outcomes,
            era: Some(2),
            ..Query::default()
        });
    }
    for class in ["malformed", "invalid", "unknown sku", "INVALID", "inv", ""] {
        filters.push(Query {
            class: Some(class.into()),
            ..Query::default()
        });
    }
    for (era, fingerprint) in [
        (Some(1), None),
        (Some(9), None),
        (None, Some(print)),
        (Some(2), Some(print)),
        (None, Some(0)),
    ] {
        filters.push(Query {
            era,
            fingerprint,
            ..Query::default()
        });
    }
    for topic in ["orders", "Orders", "orders.", ""] {
        filters.push(Query {
            topic: Some(topic.into()),
            ..Query::default()
        });
    }
    filters.extend(more());
    filters
}

/// What a person asks: statuses, keys, times, text, and some of them together.
fn more() -> Vec<Query> {
    let mut filters = Vec::new();
    for statuses in [
        vec![Status::Open],
        vec![Status::Blocking, Status::Failing],
        vec![Status::Replaying, Status::Replayed, Status::Discarded],
        vec![Status::Skipped],
        vec![Status::Received, Status::Succeeded, Status::Succeeded],
    ] {
        filters.push(Query {
            statuses: statuses.clone(),
            ..Query::default()
        });
        filters.push(Query {
            statuses,
            topic: Some("orders".into()),
            partition: Some(Partition::new("orders", 1)),
            first_failed: Some(Timestamp(7)..Timestamp(42)),
            ..Query::default()
        });
    }
    for key in ["", "a", "a\0", "A", "c"] {
        filters.push(Query {
            key: Some(Bytes::from_static(key.as_bytes())),
            ..Query::default()
        });
    }
    for (from, to) in [(0, 50), (7, 7), (7, 8), (i64::MIN, 20), (21, i64::MAX), (30, 10)] {
        filters.push(Query {
            first_failed: Some(Timestamp(from)..Timestamp(to)),
            ..Query::default()
        });
    }
    for text in [
        "order 1", "ORDER 1", "is bad", "order  1", "", "%", "order 1_", ".",
    ] {
        filters.push(Query {
            text: Some(text.into()),
            class: text.is_empty().then(|| "invalid".into()),
            ..Query::default()
        });
    }
    filters.push(Query {
        topic: Some("orders".into()),
        partition: Some(Partition::new("Orders", 1)),
        ..Query::default()
    });
    filters
}

pub(super) async fn every_filter_means_what_the_query_says(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut model = Model::default();
    let entries = medley();
    tracker.record(&entries, &[]).await?;
    model.record(&entries, &[]);
    let decisions = decisions(&entries);
    let took = model.resolve(&decisions);
    holds!(
        took.iter().all(|took| *took),
        "the law itself is wrong: each decision takes"
    );
    same!(tracker.resolve(&decisions).await?, took, "which decisions take");
    for filter in queries() {
        for (order, limit) in [
            (Order::Id, 0),
            (Order::Id, 5),
            (Order::NewestFirst, 0),
            (Order::NewestFirst, 5),
        ] {
            let mut query = Query {
                order,
                limit,
                ..filter.clone()
            };
            for page in 0..20 {
                let (found, expected) = (tracker.list(&query).await?, model.list(&query)?);
                let ids = |page: &crate::Page| {
                    page.entries
                        .iter()
                        .map(|e| e.id.clone())
                        .collect::<Vec<RecordId>>()
                };
                same!(ids(&found), ids(&expected), "page {page} of {query:?}");
                same!(found, expected, "page {page} of {query:?}");
                query.after = expected.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        same!(
            tracker.groups(&filter).await?,
            model.groups(&filter),
            "groups of {filter:?}"
        );
    }
    Ok(())
}

pub(super) async fn a_text_is_searched_as_it_is_written(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let messages = [
        r#"price 100% of $1.50 (net) at C:\dir\[a-z]* 'it''s' "quoted""#,
        "STRASSE straße ÄÖÜ äöü İstanbul ſ K",
        "^start$ {json: $where} a|b _under_ back\\slash",
        "plain",
        "",
    ];
    let entries: Vec<Entry> = messages
        .iter()
        .zip(0..)
        .map(|(message, n)| Entry {
            failure: Some(Failure::new("invalid", message)),
            ..failed(n, 1)
        })
        .collect();
    tracker.record(&entries, &[]).await?;
    let mut model = Model::default();
    model.record(&entries, &[]);
    for text in [
        "100%",
        "%",
        "_",
        "$1.50",
        "$",
        "(net)",
        ".",
        ".*",
        "[a-z]*",
        "[a-z]",
        "\\",
        r"\dir",
        "'",
        "''",
        "\"",
        "^",
        "|",
        "{",
        "$where",
        "strasse",
        "STRASSE",
        "straße",
        "STRAßE",
        "äöü",
        "ÄÖÜ",
        "ÄÖü",
        "istanbul",
        "İSTANBUL",
        "ſ",
        "S k",
        "PLAIN",
        "k",
        "plainer",
        "",
    ] {
        for order in [Order::Id, Order::NewestFirst] {
            let query = Query {
                text: Some(text.into()),
                order,
                ..Query::default()
            };
            let (found, expected) = (tracker.list(&query).await?, model.list(&query)?);
            same!(
                super::make::offsets(&found.entries),
                super::make::offsets(&expected.entries),
                "messages with {text:?}"
            );
            same!(
                tracker.groups(&query).await?,
                model.groups(&query),
                "groups with {text:?}"
            );
        }
    }
    Ok(())
}

pub(super) async fn groups_count_failures_by_cause(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let of = |offset, class: &str, message: &str, first: i64| Entry {
        failure: Some(Failure::new(class, message)),
        first_failed_at: Some(Timestamp(first)),
        ..failed(offset, 1)
    };
    let entries = [
        of(30, "invalid", "order 30 has no lines", 500),
        of(10, "invalid", "order 10 has no lines", 900),
        of(20, "invalid", "order 20 has no lines", 100),
        of(40, "malformed", "not JSON", 50),
        succeeded(50, 1),
        entry(60, 1, Outcome::Received),
    ];
    tracker.record(&entries, &[]).await?;
    let groups = tracker.groups(&query(0)).await?;
    same!(groups.len(), 2, "causes in {groups:?}");
    let most = &groups[0];
    same!(
        (most.class.as_str(), most.count),
        ("invalid", 3),
        "the most frequent first"
    );
    same!(
        (most.first, most.last),
        (Timestamp(100), Timestamp(900)),
        "by first failure"
    );
    same!(
        (&most.sample, most.message.as_str()),
        (&id(10), "order 10 has no lines"),
        "the least id and its message"
    );
    same!(
        (groups[1].class.as_str(), groups[1].count),
        ("malformed", 1),
        "the other"
    );
    // One is settled: it counts no more.
    tracker.record(&[succeeded(10, 2)], &[]).await?;
    same!(
        tracker.groups(&query(0)).await?.first().map(|g| g.count),
        Some(2),
        "after a success"
    );
    Ok(())
}

pub(super) async fn groups_look_at_filters_only(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let entries: Vec<Entry> = (0..5).map(|n| failed(n, 1)).collect();
    tracker.record(&entries, &[]).await?;
    let plain = tracker.groups(&query(0)).await?;
    same!(plain.iter().map(|g| g.count).sum::<u64>(), 5, "failures counted");
    let page = Query {
        after: Some(Cursor {
            id: id(3),
            first_failed_at: None,
        }),
        ..newest_first(1)
    };
    same!(
        tracker.groups(&page).await?,
        plain,
        "order, cursor and limit are not looked at"
    );
    Ok(())
}
