//! What the server does with a document that a write meets: the law of *join*, where it can be said in one expression.
//!
//! A statement's values reach its pipeline as constants (`$$new`), never as a part of it: text that begins with `$` stays text.
//! Where the pipeline cannot say what is to be kept, it fails for this one document, and [`REFUSED`] in the answer says so;
//! nothing is changed then.

use std::sync::LazyLock;

use mongodb::bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, bson, doc};
use tracker_api::{Change, Decision};

use crate::codec::{self, ENTRY_GUARD, OPEN, PROGRESS_GUARD, status_number};

/// The code of an error that a pipeline raises on purpose: ConversionFailure.
pub(crate) const REFUSED: i32 = 241;

fn refuse() -> Bson {
    bson!({ "$toInt": "refused" })
}

fn pipeline(stage: Document) -> RawArrayBuf {
    // What is built here are documents of ours, which always convert.
    let raw = RawDocumentBuf::try_from(&doc! { "$replaceWith": stage });
    raw.into_iter().collect()
}

fn merged(with: impl IntoIterator<Item = Bson>) -> Bson {
    let documents = [bson!("$$ROOT"), bson!("$$new")].into_iter().chain(with);
    bson!({ "$mergeObjects": documents.collect::<Vec<_>>() })
}

/// Joins an entry without resolution. Refused: what loses, and what the server cannot join: another account of one version,
/// other captured bytes, and a failure over a document with a resolution, whose status depends on it.
fn join(passed: bool) -> RawArrayBuf {
    let undecided = if passed {
        bson!({ "$lte": ["$r", null] })
    } else {
        bson!(true)
    };
    let bytes_agree = bson!({ "$or": [{ "$lte": ["$c", null] }, { "$in": ["$$new.c", [null, "$c"]] }] });
    let both = bson!({ "ff": { "$min": ["$ff", "$$new.ff"] }, "c": { "$ifNull": ["$c", "$$new.c"] } });
    let known = bson!({ "$and": [
        { "$eq": [["$$new.v", "$$new.at", "$$new.f"], ["$v", "$at", "$f"]] },
        { "$eq": ["$ff", { "$min": ["$ff", "$$new.ff"] }] },
        { "$in": ["$$new.c", [null, "$c"]] },
    ] });
    pipeline(doc! { "$switch": {
        "branches": [
            // Of a later era, or the first that is known of the record.
            { "case": { "$and": [{ "$gt": ["$$new.v.e", "$v.e"] }, undecided.clone()] }, "then": merged([]) },
            { "case": { "$and": [{ "$gt": ["$$new.v", "$v"] }, undecided, bytes_agree] }, "then": merged([both]) },
            { "case": known, "then": "$$ROOT" },
        ],
        "default": refuse(),
    } })
}

/// Joins an entry that has just been received, or is done: neither failure, nor bytes, nor a first failure.
fn join_plain() -> RawArrayBuf {
    pipeline(doc! { "$switch": {
        "branches": [
            { "case": { "$gt": ["$$new.v.e", "$v.e"] }, "then": merged([]) },
            { "case": { "$gt": ["$$new.v", "$v"] }, "then": merged([bson!({ "ff": "$ff", "c": "$c" })]) },
            { "case": { "$eq": [["$$new.v", "$$new.at", "$$new.f"], ["$v", "$at", "$f"]] }, "then": "$$ROOT" },
        ],
        "default": refuse(),
    } })
}

/// Takes over an entry with its resolution, where nothing is held or just that.
fn take() -> RawArrayBuf {
    let fields = |from: &str| {
        ENTRY_GUARD
            .iter()
            .chain(&["r"])
            .map(|field| bson!(format!("{from}{field}")))
            .collect::<Vec<_>>()
    };
    pipeline(doc! { "$switch": {
        "branches": [
            { "case": { "$lte": ["$v", null] }, "then": merged([]) },
            { "case": { "$eq": [fields("$$new."), fields("$")] }, "then": "$$ROOT" },
        ],
        "default": refuse(),
    } })
}

/// Replaces what is still as it was read.
fn swap(fields: &[&str]) -> RawArrayBuf {
    let held: Vec<Bson> = fields
        .iter()
        .map(|field| bson!({ "$ifNull": [format!("${field}"), null] }))
        .collect();
    pipeline(doc! { "$cond": [{ "$eq": [held, "$$held"] }, merged([]), refuse()] })
}

/// Joins a partition's progress. Refused: another row of the writer whose gaps are held, with gaps that
/// the held one lacks; and over a document whose era is no number, which is put aside.
fn join_progress() -> RawArrayBuf {
    // A document from before rows named their writer is the least one's.
    let held = |field: &str, least: Bson| bson!({ "$ifNull": [format!("${field}"), least] });
    let nobody = || Bson::Binary(codec::uuid(uuid::Uuid::nil()));
    let (term, attempt) = (held("term", bson!(0_i64)), held("attempt", nobody()));
    let (gaps, missed) = (bson!("$gaps"), held("missed", bson!([])));
    let writer = bson!([term.clone(), attempt.clone()]);
    let new_writer = bson!(["$$new.term", "$$new.attempt"]);
    let greatest = |field: &str| bson!({ "$max": [format!("${field}"), format!("$$new.{field}")] });
    let positions = bson!({
        "floor": { "$min": ["$floor", "$$new.floor"] },
        "received": greatest("received"),
        "committed": greatest("committed"),
        "failed": greatest("failed"),
        "succeeded": greatest("succeeded"),
        "at": greatest("at"),
    });
    let gaps_agree = bson!({ "$and": [
        { "$eq": [new_writer.clone(), writer.clone()] },
        { "$in": ["$$new.gaps", [[], gaps.clone()]] },
        { "$in": ["$$new.missed", [[], missed.clone()]] },
    ] });
    let earlier = bson!({ "$lt": [new_writer.clone(), writer.clone()] });
    let of_held = bson!({ "term": term, "attempt": attempt, "gaps": gaps, "missed": missed });
    pipeline(doc! { "$switch": {
        "branches": [
            { "case": { "$and": [{ "$gt": ["$e", null] }, { "$not": { "$isNumber": "$e" } }] }, "then": refuse() },
            { "case": { "$gt": ["$$new.e", "$e"] }, "then": merged([]) },
            { "case": { "$lt": ["$$new.e", "$e"] }, "then": "$$ROOT" },
            { "case": { "$gt": [new_writer, writer] }, "then": merged([positions.clone()]) },
            { "case": { "$or": [earlier, gaps_agree] }, "then": merged([positions, of_held]) },
        ],
        "default": refuse(),
    } })
}

// The rule of `Change::takes`, and what becomes of the status: a decision on a blocking record leaves it blocking.
fn resolve(applies: &Bson, status: &Bson) -> RawArrayBuf {
    let case = bson!({ "$and": [
        { "$gt": ["$v", null] },
        { "$eq": [{ "$ifNull": ["$n", 0] }, "$$held"] },
        applies.clone(),
    ] });
    pipeline(doc! { "$cond": [case, merged([bson!({ "s": status.clone() })]), refuse()] })
}

/// How a statement writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Join,
    JoinPassed,
    JoinPlain,
    Take,
    SwapEntry,
    JoinProgress,
    SwapProgress,
    /// What a decision on a blocking record does.
    ResolveBlocking,
    Replaying,
    Replayed,
    Discarded,
    Reopen,
}

impl How {
    const ALL: [Self; 12] = [
        Self::Join,
        Self::JoinPassed,
        Self::JoinPlain,
        Self::Take,
        Self::SwapEntry,
        Self::JoinProgress,
        Self::SwapProgress,
        Self::ResolveBlocking,
        Self::Replaying,
        Self::Replayed,
        Self::Discarded,
        Self::Reopen,
    ];

    /// How a change of a resolution is written.
    pub(crate) fn of(change: &Change) -> Self {
        match change.to.as_ref().map(|resolution| &resolution.decision) {
            None => Self::Reopen,
            Some(Decision::Retry | Decision::Skip) => Self::ResolveBlocking,
            Some(Decision::Replaying(_)) => Self::Replaying,
            Some(Decision::Replayed) => Self::Replayed,
            Some(Decision::Discarded) => Self::Discarded,
        }
    }

    fn build(self) -> RawArrayBuf {
        use tracker_api::Status;
        let failed = bson!({ "$and": [{ "$eq": ["$v.o", 2] }, { "$eq": ["$v", "$$new.r.a"] }] });
        let decided = |status| resolve(&failed, &bson!(status_number(status)));
        match self {
            Self::Join => join(false),
            Self::JoinPassed => join(true),
            Self::JoinPlain => join_plain(),
            Self::Take => take(),
            Self::SwapEntry => swap(&ENTRY_GUARD),
            Self::JoinProgress => join_progress(),
            Self::SwapProgress => swap(&PROGRESS_GUARD),
            Self::ResolveBlocking => {
                let blocking = bson!({ "$and": [
                    { "$eq": ["$v.o", 1] },
                    { "$ne": ["$f.s", true] },
                    { "$eq": ["$v.e", "$$new.r.a.e"] },
                ] });
                resolve(&blocking, &bson!("$s"))
            }
            Self::Replaying => decided(Status::Replaying),
            Self::Replayed => decided(Status::Replayed),
            Self::Discarded => decided(Status::Discarded),
            Self::Reopen => resolve(
                &bson!(true),
                &bson!({ "$cond": [{ "$eq": ["$v.o", 2] }, OPEN, "$s"] }),
            ),
        }
    }

    /// Its pipeline.
    pub(crate) fn pipeline(self) -> &'static RawArrayBuf {
        static PIPELINES: LazyLock<Vec<(How, RawArrayBuf)>> =
            LazyLock::new(|| How::ALL.iter().map(|how| (*how, how.build())).collect());
        static NONE: LazyLock<RawArrayBuf> = LazyLock::new(RawArrayBuf::new);
        PIPELINES
            .iter()
            .find(|(how, _)| *how == self)
            .map_or(&NONE, |(_, pipeline)| pipeline)
    }
}
