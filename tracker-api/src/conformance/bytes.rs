//! What goes in comes out, also after a reopen.

use bytes::Bytes;

use super::{
    Case, Verdict,
    joins::held,
    make::{blocking, captured, change, claim, entry, failed, id, progress, succeeded, version},
};
use crate::{Captured, Decision, Entry, Failure, Header, Outcome, Partition, RecordId, Timestamp};

/// Writes an entry with these bytes and reads it back, at once and after a reopen.
async fn comes_back(case: &Case, bytes: Captured) -> Verdict {
    let tracker = case.open().await?;
    let mut written = failed(1, 1);
    written.captured = Some(bytes);
    tracker.record(std::slice::from_ref(&written), &[]).await?;
    same!(
        held(&tracker, &written.id).await?,
        Some(written.clone()),
        "read at once"
    );
    let listed = tracker.list(&super::make::query(10)).await?.entries;
    same!(listed, [written.clone()], "listed");
    let tracker = case.reopen(tracker).await?;
    same!(
        held(&tracker, &written.id).await?,
        Some(written),
        "read after a reopen"
    );
    Ok(())
}

pub(super) async fn bytes_with_nul_come_back_unchanged(case: Case) -> Verdict {
    for bytes in [&b"\0"[..], b"a\0b", b"\0\0\0", b"end\0"] {
        comes_back(&case.beside(), captured(bytes)).await?;
    }
    Ok(())
}

pub(super) async fn bytes_that_are_not_utf8_come_back_unchanged(case: Case) -> Verdict {
    let every: Vec<u8> = (1..=255).collect();
    for bytes in [&[0xff][..], &[0xc3, 0x28], &[0xed, 0xa0, 0x80], &every] {
        comes_back(&case.beside(), captured(bytes)).await?;
    }
    Ok(())
}

pub(super) async fn empty_is_not_null(case: Case) -> Verdict {
    for value in [None, Some(Bytes::new())] {
        let bytes = Captured {
            key: value.clone(),
            value: value.clone(),
            headers: vec![Header {
                name: Bytes::new(),
                value: value.clone(),
            }],
        };
        comes_back(&case.beside(), bytes).await?;
    }
    comes_back(&case, Captured::default()).await
}

pub(super) async fn headers_keep_their_order_and_repeated_names(case: Case) -> Verdict {
    let header = |name: &'static str, value: &'static str| Header {
        name: Bytes::from_static(name.as_bytes()),
        value: Some(Bytes::from_static(value.as_bytes())),
    };
    let headers = vec![
        header("b", "1"),
        header("a", "2"),
        header("b", "1"),
        header("A", "3"),
        header("b", "0"),
    ];
    let bytes = Captured {
        headers,
        ..Captured::default()
    };
    comes_back(&case, bytes).await
}

pub(super) async fn every_field_comes_back(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut written = entry(7, 3, Outcome::Failed);
    let mut failure = Failure::new(
        "invalid\u{1F4A5}",
        "line 1\nline 2\t\"quoted\" 'and' \\ \u{FFFD} \u{202E}right to left",
    );
    failure.tries = 12;
    failure.passes = true;
    failure.next_try = Some(Timestamp(123_456));
    failure.bytes_refused = true;
    written.failure = Some(failure.clone());
    written.first_failed_at = Some(Timestamp(77));
    failure.next_try = None;
    failure.bytes_refused = false;
    let other = Entry {
        id: id(8),
        failure: Some(failure),
        ..written.clone()
    };
    tracker.record(&[written.clone(), other.clone()], &[]).await?;
    let found = tracker.get(&[written.id.clone(), other.id.clone()]).await?;
    same!(found, [Some(written), Some(other)], "every field of an entry");
    Ok(())
}

pub(super) async fn numbers_come_back_unchanged_to_their_bounds(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut written = Vec::new();
    for (offset, era, ms) in [
        (0, 0, 0),
        (1, 1 << 63, -1),
        (i64::MAX, u64::MAX, i64::MAX),
        (i64::MAX - 1, 1, i64::MIN),
    ] {
        let mut entry = failed(1, 1);
        entry.id = Partition::new("orders", i32::MAX).at(offset);
        entry.version = version(era, era, u128::from(era) << 64, Outcome::Failed);
        (entry.at, entry.first_failed_at) = (Timestamp(ms), Some(Timestamp(ms)));
        if let Some(failure) = &mut entry.failure {
            (failure.fingerprint, failure.tries, failure.next_try) = (era, u32::MAX, Some(Timestamp(ms)));
        }
        written.push(entry);
    }
    let mut row = progress(u64::MAX, 0..=i64::MAX, i64::MAX);
    (row.term, row.attempt) = (u64::MAX, crate::AttemptId(uuid::Uuid::max()));
    row.gaps.add(0..i64::MAX);
    (row.failed, row.succeeded, row.at) = (u64::MAX, u64::MAX, Timestamp(i64::MAX));
    tracker.record(&written, std::slice::from_ref(&row)).await?;
    let ids: Vec<RecordId> = written.iter().map(|e| e.id.clone()).collect();
    same!(
        tracker.get(&ids).await?,
        written.into_iter().map(Some).collect::<Vec<_>>(),
        "numbers at their bounds"
    );
    same!(tracker.progress().await?, [row], "progress at its bounds");
    Ok(())
}

pub(super) async fn an_entry_of_64_kib_is_accepted(case: Case) -> Verdict {
    let big = Bytes::from(vec![0xfe; 60 * 1024]);
    let bytes = Captured {
        key: Some(Bytes::from(vec![0; 1024])),
        value: Some(big),
        headers: vec![Header {
            name: Bytes::from(vec![b'n'; 1024]),
            value: Some(Bytes::from(vec![b'v'; 1024])),
        }],
    };
    comes_back(&case, bytes).await
}

pub(super) async fn topics_with_odd_names_are_kept_apart(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let long = "t".repeat(249);
    let topics = [
        "a",
        "A",
        "a ",
        "a.b",
        "a_b",
        "a-b",
        "a:1",
        "a\u{1}",
        "a\u{1}\u{2}",
        "\u{e9}",
        "e\u{301}",
        "\u{10FFFF}",
        "",
        "%",
        "a%",
        "*",
        "{a}",
        "'",
        &long,
    ];
    let written: Vec<Entry> = topics
        .iter()
        .flat_map(|topic| [0, 1].map(|number| Partition::new(*topic, number).at(1)))
        .map(|id| Entry { id, ..failed(1, 1) })
        .collect();
    tracker.record(&written, &[]).await?;
    let mut listed = tracker.list(&super::make::query(1_000)).await?.entries;
    let mut expected = written.clone();
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    same!(listed, expected, "all, in the order of their ids");
    for entry in written {
        let query = crate::Query {
            partition: Some(entry.id.partition.clone()),
            ..crate::Query::default()
        };
        listed = tracker.list(&query).await?.entries;
        same!(listed, [entry], "one partition's");
    }
    Ok(())
}

pub(super) async fn get_answers_in_the_order_it_was_asked(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let (one, two) = (failed(1, 1), succeeded(2, 1));
    tracker.record(&[one.clone(), two.clone()], &[]).await?;
    let found = tracker.get(&[id(2), id(99), id(1), id(2)]).await?;
    same!(
        found,
        [Some(two.clone()), None, Some(one), Some(two)],
        "found, unknown, found, repeated"
    );
    Ok(())
}

pub(super) async fn what_was_recorded_survives_a_reopen(case: Case) -> Verdict {
    let mut tracker = case.open().await?;
    for round in 1..=3 {
        tracker
            .record(&[failed(round, 1), succeeded(100 + round, 1)], &[])
            .await?;
        tracker = case.reopen(tracker).await?;
        for earlier in 1..=round {
            same!(
                held(&tracker, &id(earlier)).await?,
                Some(failed(earlier, 1)),
                "reopen {round}"
            );
            same!(
                held(&tracker, &id(100 + earlier)).await?,
                Some(succeeded(100 + earlier, 1)),
                "reopen {round}"
            );
        }
    }
    Ok(())
}

pub(super) async fn what_was_resolved_survives_a_reopen(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let (dead, stuck) = (failed(1, 1), blocking(2, 1));
    tracker.record(&[dead.clone(), stuck.clone()], &[]).await?;
    let taken = tracker
        .resolve(&[change(&dead, 0, claim(4)), change(&stuck, 0, Decision::Retry)])
        .await?;
    same!(taken, [true, true], "both take");
    let ids = [dead.id, stuck.id];
    let before = tracker.get(&ids).await?;
    let tracker = case.reopen(tracker).await?;
    same!(
        tracker.get(&ids).await?,
        before,
        "resolutions and revisions after a reopen"
    );
    Ok(())
}

pub(super) async fn progress_survives_a_reopen(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut row = progress(3, 10..=20, 30);
    row.gaps.add(12..14);
    row.missed.add(13..14);
    (row.term, row.attempt) = (7, crate::AttemptId(uuid::Uuid::from_u128(5 << 80)));
    tracker.record(&[], std::slice::from_ref(&row)).await?;
    let tracker = case.reopen(tracker).await?;
    same!(tracker.progress().await?, [row], "after a reopen");
    Ok(())
}
