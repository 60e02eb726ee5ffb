use tracker_api::{AttemptId, Decision, Failure, Order, Outcome, Resolution};

use super::*;
use crate::Config;

struct Open {
    tracker: Tracker,
    _dir: tempfile::TempDir,
}

fn open() -> Open {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        path: Some(dir.path().join("tracker")),
        ..Config::default()
    };
    let namespace = Namespace {
        name: "orders".into(),
        cluster: None,
    };
    let tracker = Tracker::new(Store::at(&config).unwrap(), &namespace).unwrap();
    Open { tracker, _dir: dir }
}

fn failed(offset: i64) -> Entry {
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        outcome: Outcome::Failed,
    };
    let mut entry = Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(offset));
    entry.failure = Some(Failure::new("malformed", "not JSON"));
    entry
}

fn discard(entry: &Entry) -> Change {
    Change {
        id: entry.id.clone(),
        revision: 0,
        to: Some(Resolution {
            decision: Decision::Discarded,
            about: entry.version,
            actor: "ada".into(),
            reason: "old".into(),
            at: Timestamp(0),
        }),
    }
}

/// By RocksDB's own count of the log's syncs.
#[tokio::test]
async fn each_call_that_writes_syncs_the_log_once_whatever_its_size() {
    let Open { tracker, _dir } = open();
    let row = Progress {
        partition: Partition::new("orders", 0),
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        floor: 0,
        received: 1,
        committed: 1,
        gaps: tracker_api::Gaps::default(),
        missed: tracker_api::Gaps::default(),
        failed: 0,
        succeeded: 0,
        at: Timestamp(0),
    };
    for size in [1, 2, 1_000, 2_000] {
        let slice: Vec<Entry> = (0..size).map(|n| failed(size * 10_000 + n)).collect();
        let before = tracker.store.syncs();
        tracker.record(&slice, std::slice::from_ref(&row)).await.unwrap();
        assert_eq!(tracker.store.syncs(), before + 1, "a slice of {size}");
        let changes: Vec<Change> = slice.iter().map(discard).collect();
        tracker.resolve(&changes).await.unwrap();
        assert_eq!(tracker.store.syncs(), before + 2, "{size} changes");
    }
    let before = tracker.store.syncs();
    tracker.ping().await.unwrap();
    assert_eq!(tracker.store.syncs(), before + 1, "a ping writes, durably");
    tracker.get(&[failed(10_000).id]).await.unwrap();
    tracker.list(&Query::default()).await.unwrap();
    tracker.progress().await.unwrap();
    assert_eq!(tracker.store.syncs(), before + 1, "reading does not");
    assert_eq!(
        tracker
            .purge(Purgeable::Resolved, Timestamp(i64::MAX), 900)
            .await
            .unwrap(),
        900
    );
    assert_eq!(tracker.store.syncs(), before + 2, "a purge");
}

fn newest() -> Query {
    Query {
        order: Order::NewestFirst,
        ..Query::default()
    }
}

#[tokio::test]
async fn a_damaged_entry_is_left_out_of_every_answer_and_named_and_a_write_lands_as_on_nothing() {
    let (entry, whole) = (failed(7), failed(8));
    type Damage = fn(&Reader<'_>, Vec<u8>) -> Result<()>;
    let damages: [(&str, Damage); 3] = [
        ("random", |reader, key| {
            reader.ok(reader
                .db
                .put_cf(reader.family(Family::Entries)?, key, b"\x01garbage"))
        }),
        ("empty", |reader, key| {
            reader.ok(reader.db.put_cf(reader.family(Family::Entries)?, key, b""))
        }),
        ("one bit", |reader, key| {
            let mut value = reader
                .ok(reader.db.get_cf(reader.family(Family::Entries)?, &key))?
                .unwrap_or_default();
            value[9] ^= 4;
            reader.ok(reader.db.put_cf(reader.family(Family::Entries)?, key, value))
        }),
    ];
    for (name, damage) in damages {
        let Open { tracker, _dir } = open();
        let both = [entry.clone(), whole.clone()];
        tracker.record(&both, &[]).await.unwrap();
        tracker
            .resolve(&[discard(&entry), discard(&whole)])
            .await
            .unwrap();
        let key = codec::record_key(tracker.number, &entry.id);
        tracker.store.read(|reader| damage(reader, key.clone())).unwrap();

        let ids = both.clone().map(|entry| entry.id);
        let found = tracker.get(&ids).await.unwrap();
        assert!(found[0].is_none() && found[1].is_some(), "{name}: {found:?}");
        assert_eq!(
            tracker.resolve(&[discard(&entry)]).await.unwrap(),
            [false],
            "{name}"
        );
        for query in [Query::default(), newest()] {
            let listed = tracker.list(&query).await.unwrap().entries;
            assert_eq!(listed.len(), 1, "{name}: {query:?}");
        }
        assert_eq!(
            tracker.groups(&Query::default()).await.unwrap().len(),
            1,
            "{name}"
        );
        let rows = tracker.corrupt_rows();
        assert_eq!(rows.len(), 1, "{name}: {rows:?}");
        assert_eq!(rows[0].row, "orders:0:7");
        let gone = tracker.purge(Purgeable::Resolved, Timestamp(i64::MAX), 10).await;
        assert_eq!(gone.unwrap(), 1, "{name}: the whole one");

        let later = failed(7);
        assert_eq!(
            tracker.record(std::slice::from_ref(&later), &[]).await.unwrap(),
            [true],
            "{name}"
        );
        let expected = Entry {
            first_failed_at: Some(later.at),
            ..later
        };
        for query in [Query::default(), newest()] {
            assert_eq!(
                tracker.list(&query).await.unwrap().entries,
                std::slice::from_ref(&expected),
                "{name}"
            );
        }
        let kept = tracker
            .store
            .read(|reader| reader.ok(reader.db.get([b"aside/", &key[..]].concat())));
        assert!(kept.unwrap().is_some(), "{name}: what stood there is kept");
    }
}

#[tokio::test]
async fn damaged_progress_and_damaged_keys_are_left_out_and_named() {
    let Open { tracker, _dir } = open();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    let prefix = codec::namespace_prefix(tracker.number);
    let put = |family, key: &[u8]| {
        let key = [&prefix[..], key].concat();
        tracker
            .store
            .read(|reader| reader.ok(reader.db.put_cf(reader.family(family)?, key, b"x")))
            .unwrap();
    };
    put(Family::Progress, b"a\0\0abcd");
    put(Family::Newest, b"no record");
    put(Family::Entries, b"\0\x05");
    put(Family::Age, b"\x02");
    assert_eq!(tracker.progress().await.unwrap(), []);
    for query in [Query::default(), newest()] {
        assert_eq!(tracker.list(&query).await.unwrap().entries.len(), 1);
    }
    assert_eq!(tracker.groups(&Query::default()).await.unwrap()[0].count, 1);
    let gone = tracker.purge(Purgeable::Superseded, Timestamp(0), 10).await;
    assert_eq!(gone.unwrap(), 0);
    let rows = tracker.corrupt_rows();
    assert_eq!(rows.len(), 4, "{rows:?}");
}

#[tokio::test]
async fn the_indexes_hold_what_the_entries_say_and_nothing_else() {
    let Open { tracker, _dir } = open();
    for round in 0..5_i64 {
        let mut entry = failed(1);
        entry.at = Timestamp(100 * round);
        entry.first_failed_at = Some(Timestamp(50 - round));
        entry.version.term = round.unsigned_abs();
        tracker.record(&[entry, failed(2)], &[]).await.unwrap();
    }
    let rows = |family| {
        let count = tracker.store.read(|reader| {
            Ok(listing::range(
                reader,
                family,
                &codec::namespace_prefix(tracker.number),
                None,
                false,
            )?
            .count())
        });
        count.unwrap()
    };
    assert_eq!(
        (rows(Family::Entries), rows(Family::Newest), rows(Family::Age)),
        (2, 2, 2)
    );
    for offset in [1, 2] {
        let held = tracker
            .get(&[failed(offset).id])
            .await
            .unwrap()
            .pop()
            .flatten()
            .unwrap();
        tracker.resolve(&[discard(&held)]).await.unwrap();
    }
    assert_eq!(
        tracker
            .purge(Purgeable::Resolved, Timestamp(i64::MAX), 10)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        (rows(Family::Entries), rows(Family::Newest), rows(Family::Age)),
        (0, 0, 0)
    );
}

/// By RocksDB's own count of the rows that were read by key.
#[tokio::test]
async fn newest_first_and_groups_read_the_entries_that_they_answer_with_and_no_others() {
    let Open { tracker, _dir } = open();
    let mut entries: Vec<Entry> = (0..1_000).map(failed).collect();
    for entry in &mut entries {
        entry.first_failed_at = Some(entry.at);
        if entry.id.offset % 100 == 0 {
            entry.failure = Some(Failure::new("timeout", "no answer"));
        }
    }
    tracker.record(&entries, &[]).await.unwrap();
    tracker.resolve(&[discard(&entries[500])]).await.unwrap();
    let newest = Query {
        order: Order::NewestFirst,
        limit: 5,
        ..Query::default()
    };
    let of_class = Query {
        class: Some("timeout".into()),
        ..newest.clone()
    };
    let discarded = Query {
        statuses: vec![tracker_api::Status::Discarded],
        ..newest.clone()
    };
    let early = Query {
        first_failed: Some(Timestamp(3)..Timestamp(6)),
        ..newest.clone()
    };
    let read = |before| tracker.store.reads() - before;
    // One more than a page is read, to know whether there is a next.
    for (query, found, most) in [
        (&newest, 5, 6),
        (&of_class, 5, 6),
        (&discarded, 1, 1),
        (&early, 3, 3),
    ] {
        let before = tracker.store.reads();
        let page = tracker.list(query).await.unwrap();
        assert_eq!((page.entries.len(), read(before)), (found, most), "{query:?}");
    }
    for (query, expected, most) in [
        (Query::default(), vec![990, 10], 2),
        (early, vec![3], 1),
        (discarded, vec![1], 1),
        (of_class, vec![10], 10),
    ] {
        let before = tracker.store.reads();
        let groups = tracker.groups(&query).await.unwrap();
        let counts: Vec<u64> = groups.iter().map(|group| group.count).collect();
        assert_eq!((counts, read(before)), (expected, most), "{query:?}");
    }
}

#[tokio::test]
async fn an_index_row_of_an_earlier_version_is_no_hindrance() {
    let Open { tracker, _dir } = open();
    let mut entries: Vec<Entry> = (0..3).map(failed).collect();
    for entry in &mut entries {
        entry.first_failed_at = Some(entry.at);
    }
    tracker.record(&entries, &[]).await.unwrap();
    for entry in &entries[..2] {
        let key = codec::time_key(tracker.number, entry.at, &entry.id);
        let bare = |reader: &Reader<'_>| reader.ok(reader.db.put_cf(reader.family(Family::Newest)?, key, []));
        tracker.store.read(bare).unwrap();
    }
    let newest = Query {
        order: Order::NewestFirst,
        class: Some("malformed".into()),
        ..Query::default()
    };
    entries.reverse();
    assert_eq!(tracker.list(&newest).await.unwrap().entries, entries);
    let groups = tracker.groups(&newest).await.unwrap();
    assert_eq!((groups.len(), groups[0].count), (1, 3));
}

#[tokio::test]
async fn a_cursor_of_another_order_is_refused_also_where_nothing_can_match() {
    let Open { tracker, _dir } = open();
    let query = Query {
        order: Order::NewestFirst,
        first_failed: Some(Timestamp(6)..Timestamp(6)),
        after: Some(tracker_api::Cursor {
            id: failed(1).id,
            first_failed_at: None,
        }),
        ..Query::default()
    };
    let error = tracker.list(&query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}
