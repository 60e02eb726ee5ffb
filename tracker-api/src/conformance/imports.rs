//! Taking entries over from another tracker: what moving house and a fallback's drain write.

use super::{
    Case, Verdict,
    joins::held,
    make::{blocking, change, claim, failed, id, progress, resolution, succeeded},
};
use crate::{Decision, Entry, Status};

/// A failure, decided about `revision` times, the last time so.
fn resolved(offset: i64, revision: u64, decision: Decision) -> Entry {
    let entry = failed(offset, 1);
    Entry {
        resolution: Some(resolution(decision, &entry)),
        revision,
        ..entry
    }
}

pub(super) async fn import_brings_resolutions_with_their_revision(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let stuck = blocking(4, 1);
    let entries = [
        resolved(1, 3, Decision::Discarded),
        resolved(2, u64::MAX, claim(7)),
        // Opened again: a revision without a resolution.
        Entry {
            revision: 2,
            ..failed(3, 1)
        },
        Entry {
            resolution: Some(resolution(Decision::Skip, &stuck)),
            revision: 1,
            ..stuck
        },
        succeeded(5, 1),
    ];
    let row = progress(1, 0..=6, 9);
    tracker.import(&entries, std::slice::from_ref(&row)).await?;
    let tracker = case.reopen(tracker).await?;
    for entry in &entries {
        same!(
            held(&tracker, &entry.id).await?.as_ref(),
            Some(entry),
            "what was taken over"
        );
    }
    same!(tracker.progress().await?, [row], "progress");
    let seen = tracker.get(&[id(1), id(2)]).await?;
    let seen: Vec<Status> = seen.iter().flatten().map(Status::of).collect();
    same!(seen, [Status::Discarded, Status::Replaying], "what a person sees");
    same!(
        tracker
            .resolve(&[change(&entries[0], 3, Decision::Replayed)])
            .await?,
        [true],
        "the next decision counts on"
    );
    Ok(())
}

pub(super) async fn import_never_goes_back_to_an_older_revision(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let newer = resolved(1, 5, Decision::Discarded);
    tracker.import(std::slice::from_ref(&newer), &[]).await?;
    let (older, same, none) = (
        resolved(1, 4, Decision::Replayed),
        resolved(1, 5, Decision::Replayed),
        failed(1, 1),
    );
    for late in [older, same, none] {
        tracker.import(std::slice::from_ref(&late), &[]).await?;
        same!(
            held(&tracker, &id(1)).await?.as_ref(),
            Some(&newer),
            "after {late:?}"
        );
    }
    let next = Entry {
        resolution: None,
        revision: 6,
        ..newer
    };
    tracker.import(std::slice::from_ref(&next), &[]).await?;
    same!(
        held(&tracker, &id(1)).await?,
        Some(next),
        "a greater revision without a resolution"
    );
    Ok(())
}

pub(super) async fn import_joins_outcomes_as_record_does(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let late = failed(1, 9);
    tracker
        .record(std::slice::from_ref(&late), &[progress(2, 3..=8, 9)])
        .await?;
    // An older outcome with a newer decision: each half by its own rule.
    let old = Entry {
        captured: None,
        ..resolved(1, 1, Decision::Discarded)
    };
    let slice = [failed(2, 1), succeeded(2, 2), old.clone()];
    tracker.import(&slice, &[progress(1, 0..=99, 99)]).await?;
    let expected = Entry {
        resolution: old.resolution,
        revision: 1,
        first_failed_at: old.first_failed_at,
        ..late
    };
    same!(
        held(&tracker, &id(1)).await?,
        Some(expected),
        "an older outcome with a newer decision"
    );
    let mut expected = failed(2, 1);
    expected.join(&succeeded(2, 2));
    same!(
        held(&tracker, &id(2)).await?,
        Some(expected),
        "an id that the slice repeats"
    );
    same!(
        tracker.progress().await?,
        [progress(2, 3..=8, 9)],
        "progress of an older era"
    );
    Ok(())
}

pub(super) async fn an_import_may_be_repeated(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let entries: Vec<Entry> = (0..2_000)
        .map(|n| match n % 3 {
            0 => resolved(n, 2, Decision::Discarded),
            1 => failed(n, 1),
            _ => succeeded(n, 1),
        })
        .collect();
    for _ in 0..2 {
        tracker.import(&entries, &[]).await?;
        let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
        let found: Vec<Entry> = tracker.get(&ids).await?.into_iter().flatten().collect();
        holds!(
            found == entries,
            "two thousand entries come back as they were taken over"
        );
    }
    tracker.import(&[], &[]).await?;
    Ok(())
}
