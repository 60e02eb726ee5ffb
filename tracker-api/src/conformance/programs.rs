//! Random programs of every operation, and *reopen*, against the model: what no single law thought of.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{
    Breach, Case, Verdict,
    make::{captured, claim, resolution, version},
};
use crate::{
    AttemptId, Change, Decision, DynTracker, Entry, Failure, Model, Order, Outcome, Partition, Progress,
    Purgeable, Query, RecordId, Status, Timestamp,
};

/// Programs in each run of the suite; the environment's `PROPTEST_CASES` asks for another number.
const PROGRAMS: u32 = 24;

#[derive(Clone, Debug)]
enum Step {
    Record(Vec<Entry>, Vec<Progress>),
    Import(Vec<(Entry, u64, Option<Decision>)>),
    Resolve(Vec<Wish>),
    List(Box<Query>),
    Purge(Purgeable, Timestamp, usize),
    Reopen,
}

/// A change, to be made from what is held when its turn comes, or from something near it.
#[derive(Clone, Debug)]
struct Wish {
    id: RecordId,
    revision_off_by: u64,
    about: Option<Entry>,
    decision: Option<Decision>,
}

// Some are frequent, so that writes and resolutions meet.
fn ids() -> impl Strategy<Value = RecordId> {
    (
        select(vec!["a", "a", "b"]),
        select(vec![2, 2, 10]),
        select(vec![9_i64, 9, 9, 0, 10]),
    )
        .prop_map(|(topic, number, offset)| Partition::new(topic, number).at(offset))
}

/// What one version says is one fact: text and times follow from it, as they do in the pipeline. Bytes and the first
/// failure may be missing.
fn entries() -> impl Strategy<Value = Entry> {
    let outcomes = vec![
        Outcome::Received,
        Outcome::Failing,
        Outcome::Failed,
        Outcome::Succeeded,
    ];
    let versions = (1..=2_u64, 1..=2_u64, 1..=3_u8, select(outcomes));
    (ids(), versions, any::<bool>(), option::of(0..4_i64)).prop_map(
        |(id, (era, term, attempt, outcome), bytes, first)| {
            let number = era * 100 + term * 10 + u64::from(attempt);
            let at = Timestamp(i64::try_from(number).unwrap_or(0));
            let mut entry = Entry::new(id, version(era, term, u128::from(attempt), outcome), at);
            if matches!(outcome, Outcome::Failing | Outcome::Failed) {
                let class = if attempt == 1 { "malformed" } else { "invalid" };
                let mut failure = Failure::new(class, &format!("try {number} of {}", entry.id));
                failure.tries = u32::from(attempt);
                failure.passes = outcome == Outcome::Failed || attempt == 2;
                entry.failure = Some(failure);
            }
            entry.first_failed_at = first.map(|n| Timestamp(n * 50));
            entry.captured = bytes.then(|| captured(format!("{} in era {era}", entry.id).as_bytes()));
            entry
        },
    )
}

fn progress() -> impl Strategy<Value = Progress> {
    let writers = (1..=2_u64, 0..3_u128);
    (ids(), 1..=2_u64, writers, 0..12_i64, 0..5_i64, 0..9_u64).prop_map(
        |(id, era, writer, floor, gap, count)| {
            let mut row = Progress {
                partition: id.partition,
                ..super::make::progress(era, floor..=floor + 3, floor + 5)
            };
            (row.term, row.attempt) = (writer.0, AttemptId(uuid::Uuid::from_u128(writer.1)));
            row.gaps.add(gap..gap + 2);
            row.missed.add(gap..gap + 1);
            (row.failed, row.succeeded, row.at) = (count, 9 - count, Timestamp(floor));
            row
        },
    )
}

fn decisions() -> impl Strategy<Value = Decision> {
    prop_oneof![
        Just(Decision::Retry),
        Just(Decision::Skip),
        (1..3_u128).prop_map(claim),
        Just(Decision::Replayed),
        Just(Decision::Discarded),
    ]
}

fn wishes() -> impl Strategy<Value = Wish> {
    (
        ids(),
        prop_oneof![4 => Just(0_u64), 1 => Just(1)],
        option::weighted(0.2, entries()),
        option::weighted(0.9, decisions()),
    )
        .prop_map(|(id, revision_off_by, about, decision)| Wish {
            id,
            revision_off_by,
            about,
            decision,
        })
}

fn queries() -> impl Strategy<Value = Query> {
    let outcomes = vec![
        Outcome::Received,
        Outcome::Failing,
        Outcome::Failed,
        Outcome::Succeeded,
    ];
    (
        option::weighted(0.3, ids()),
        option::weighted(0.3, (0..11_i64, 0..12_i64)),
        vec(select(outcomes), 0..3),
        option::weighted(0.2, 1..=2_u64),
        option::weighted(0.2, select(vec!["malformed", "invalid"])),
        asked_by_people(),
        any::<bool>(),
        1..4_usize,
    )
        .prop_map(
            |(id, offsets, outcomes, era, class, people, newest_first, limit)| Query {
                partition: id.map(|id| id.partition),
                offsets: offsets.map(|(from, to)| from..to),
                outcomes,
                era,
                class: class.map(str::to_owned),
                order: if newest_first {
                    Order::NewestFirst
                } else {
                    Order::Id
                },
                limit,
                ..people
            },
        )
}

fn asked_by_people() -> impl Strategy<Value = Query> {
    let statuses = vec![
        Status::Open,
        Status::Blocking,
        Status::Failing,
        Status::Skipped,
        Status::Replaying,
        Status::Replayed,
        Status::Discarded,
        Status::Received,
        Status::Succeeded,
    ];
    (
        option::weighted(0.2, select(vec!["a", "b"])),
        vec(select(statuses), 0..5),
        option::weighted(0.2, (ids(), 1..=2_u64)),
        option::weighted(0.2, (0..200_i64, 0..250_i64)),
        option::weighted(0.2, select(vec!["try 1", "TRY 2", "of a", "_", "%"])),
    )
        .prop_map(|(topic, statuses, key, first_failed, text)| Query {
            topic: topic.map(Into::into),
            statuses,
            key: key.map(|(id, era)| format!("{id} in era {era}").into()),
            first_failed: first_failed.map(|(from, to)| Timestamp(from)..Timestamp(to)),
            text: text.map(str::to_owned),
            ..Query::default()
        })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(entries(), 0..6), vec(progress(), 0..2)).prop_map(|(entries, progress)| Step::Record(entries, progress)),
        5 => vec(wishes(), 1..5).prop_map(Step::Resolve),
        4 => queries().prop_map(|query| Step::List(Box::new(query))),
        2 => (select(Purgeable::ALL.to_vec()), 100..250_i64, 0..4_usize)
            .prop_map(|(what, before, limit)| Step::Purge(what, Timestamp(before), limit)),
        2 => vec((entries(), 0..4_u64, option::of(decisions())), 0..4).prop_map(Step::Import),
        1 => Just(Step::Reopen),
    ]
}

fn asked(wish: &Wish, model: &Model) -> Change {
    let held = model.get(std::slice::from_ref(&wish.id)).pop().flatten();
    let unknown = || Entry::new(wish.id.clone(), version(1, 1, 1, Outcome::Failed), Timestamp(0));
    let held = held.unwrap_or_else(unknown);
    let about = wish.about.as_ref().unwrap_or(&held);
    Change {
        id: wish.id.clone(),
        revision: held.revision + wish.revision_off_by,
        to: wish.decision.clone().map(|decision| resolution(decision, about)),
    }
}

/// Reads a listing to its end, both sides, page by page.
async fn compare(tracker: &DynTracker, model: &Model, query: &Query) -> Verdict {
    let mut query = query.clone();
    loop {
        let expected = model.list(&query)?;
        same!(tracker.list(&query).await?, expected, "{query:?}");
        query.after = expected.next;
        if query.after.is_none() {
            break;
        }
    }
    same!(
        tracker.groups(&query).await?,
        model.groups(&query),
        "groups of {query:?}"
    );
    Ok(())
}

async fn run(case: &Case, program: &[Step]) -> Verdict {
    let mut model = Model::default();
    let mut tracker = case.open().await?;
    for step in program.iter().chain([&Step::Reopen]) {
        match step {
            Step::Record(entries, progress) => {
                let expected = model.record(entries, progress);
                same!(
                    tracker.record(entries, progress).await?,
                    expected,
                    "which entries stand"
                );
            }
            Step::Import(taken) => {
                let taken: Vec<Entry> = taken
                    .iter()
                    .map(|(entry, revision, decision)| Entry {
                        resolution: decision.clone().map(|decision| resolution(decision, entry)),
                        revision: *revision,
                        ..entry.clone()
                    })
                    .collect();
                model.import(&taken, &[]);
                tracker.import(&taken, &[]).await?;
            }
            Step::Resolve(wishes) => {
                let changes: Vec<Change> = wishes.iter().map(|wish| asked(wish, &model)).collect();
                let expected = model.resolve(&changes);
                same!(tracker.resolve(&changes).await?, expected, "which changes take");
            }
            Step::List(query) => compare(&tracker, &model, query).await?,
            Step::Purge(what, before, limit) => {
                let expected = model.purge(*what, *before, *limit);
                same!(
                    tracker.purge(*what, *before, *limit).await?,
                    expected,
                    "how many went"
                );
            }
            Step::Reopen => tracker = case.reopen(tracker).await?,
        }
        let everything = model.list(&super::make::query(1_000))?;
        same!(
            tracker.list(&super::make::query(1_000)).await?,
            everything,
            "all that is held"
        );
    }
    for order in [Order::Id, Order::NewestFirst] {
        let query = Query {
            order,
            ..super::make::query(2)
        };
        compare(&tracker, &model, &query).await?;
    }
    same!(tracker.progress().await?, model.progress(), "progress");
    Ok(())
}

pub(super) async fn every_program_ends_as_in_the_model(case: Case) -> Verdict {
    let mut config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = PROGRAMS;
    }
    // The runner is synchronous; a law may block, as each has a runtime of its own.
    let found = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&vec(steps(), 1..25), |program| {
            tokio::runtime::Handle::current()
                .block_on(run(&case.beside(), &program))
                .map_err(|breach| TestCaseError::fail(breach.to_string()))
        })
    });
    found.map_err(|failure| Breach::new(failure.to_string()))
}
