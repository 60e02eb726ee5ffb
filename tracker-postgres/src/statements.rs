//! The statements that write. Each is one call's whole exchange, and commits by itself: no transaction is ever open between two.

use std::sync::{Arc, LazyLock};

use crate::rows::{OUTCOME, RESOLUTION};

/// Joins entries and progress, and answers the ids of those that do not stand. `record`'s entries bring no resolution.
pub(crate) static RECORD: LazyLock<Arc<str>> = LazyLock::new(|| upsert(false).into());
/// Takes entries over whole.
pub(crate) static IMPORT: LazyLock<Arc<str>> = LazyLock::new(|| upsert(true).into());
pub(crate) static RESOLVE: LazyLock<Arc<str>> = LazyLock::new(|| resolve().into());
pub(crate) static GET: LazyLock<Arc<str>> = LazyLock::new(|| get().into());
pub(crate) static PROGRESS: LazyLock<Arc<str>> = LazyLock::new(|| progress().into());
pub(crate) static PING: LazyLock<Arc<str>> = LazyLock::new(|| {
    "UPDATE namespace SET pings = pings + 1 WHERE id = $1 AND name = $2 RETURNING id".into()
});

type Column = (&'static str, &'static str);

fn names(columns: &[Column], prefix: &str) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|(name, _)| format!("{prefix}{name}"))
        .collect();
    names.join(", ")
}

/// Arrays from the parameter `first` on.
fn arrays(columns: &[Column], first: usize) -> String {
    let arrays = columns
        .iter()
        .zip(first..)
        .map(|((_, kind), n)| format!("${n}::{kind}[]"));
    arrays.collect::<Vec<_>>().join(", ")
}

/// A version in the order that decides: numbers without a sign, of which the greater half is stored as negative.
fn version(of: &str) -> String {
    format!("({of}.era < 0, {of}.era, {of}.term < 0, {of}.term, {of}.attempt, {of}.outcome)")
}

/// `Entry::rank` behind the version.
fn rest_of_rank(of: &str) -> String {
    format!(
        "({of}.class IS NOT NULL, {of}.at, coalesce({of}.class, ''), coalesce({of}.message, ''), \
         coalesce({of}.fingerprint < 0, false), coalesce({of}.fingerprint, 0), coalesce({of}.tries, 0), \
         coalesce({of}.passes, false), {of}.next_try IS NOT NULL, coalesce({of}.next_try, 0), \
         coalesce({of}.bytes_refused, false))"
    )
}

/// Captured bytes in the order that decides between two captures of one record; both are there.
fn captured(of: &str) -> String {
    format!(
        "({of}.key IS NOT NULL, coalesce({of}.key, ''), {of}.value IS NOT NULL, coalesce({of}.value, ''), {of}.headers)"
    )
}

fn unsigned(name: &str, of: &str) -> String {
    format!("({of}.{name} < 0, {of}.{name})")
}

/// Sets the columns to the new values where `condition` holds, which is looked at once.
fn taken_if(columns: &[&str], condition: &str) -> String {
    let values = columns
        .iter()
        .map(|name| format!("CASE WHEN taken.it THEN excluded.{name} ELSE held.{name} END"))
        .collect::<Vec<_>>();
    format!(
        "({}) = (SELECT {} FROM (SELECT {condition} OFFSET 0) AS taken (it))",
        columns.join(", "),
        values.join(", ")
    )
}

fn upsert(whole: bool) -> String {
    let columns: Vec<Column> = if whole {
        OUTCOME.into_iter().chain(RESOLUTION).collect()
    } else {
        OUTCOME.to_vec()
    };
    let (held, new) = (version("held"), version("excluded"));
    let (held_era, new_era) = (unsigned("era", "held"), unsigned("era", "excluded"));
    let outcome = taken_if(
        &[
            "era",
            "term",
            "attempt",
            "outcome",
            "at",
            "class",
            "message",
            "fingerprint",
            "tries",
            "passes",
            "next_try",
            "bytes_refused",
        ],
        &format!(
            "{new} > {held} OR ({new} = {held} AND {} > {})",
            rest_of_rank("excluded"),
            rest_of_rank("held")
        ),
    );
    let bytes = taken_if(
        &["key", "value", "headers"],
        &format!(
            "{new_era} > {held_era} OR (excluded.era = held.era AND excluded.headers IS NOT NULL \
             AND (held.headers IS NULL OR {} > {}))",
            captured("excluded"),
            captured("held")
        ),
    );
    let newer = format!(
        "{} > {}",
        unsigned("revision", "excluded"),
        unsigned("revision", "held")
    );
    let (resolution, or_newer) = if whole {
        let names: Vec<&str> = RESOLUTION.iter().map(|(name, _)| *name).collect();
        (format!(", {}", taken_if(&names, &newer)), format!(" OR {newer}"))
    } else {
        (String::new(), String::new())
    };
    let own = names(&columns, "");
    let progress = 2 + columns.len();
    // What is not written again has lost to a greater version, and brings nothing that outlives it: it does not stand, and
    // it is missing in `kept` as one is that was written and has lost.
    format!(
        "WITH new AS MATERIALIZED (
            SELECT * FROM unnest({arrays}) WITH ORDINALITY AS new ({own}, number)
        ), kept AS (
            INSERT INTO entry AS held (namespace, {own})
            SELECT $1::int4, {own} FROM new ORDER BY number
            ON CONFLICT (namespace, topic, partition, \"offset\") DO UPDATE SET
                first_failed_at = CASE
                    WHEN {new_era} > {held_era} THEN excluded.first_failed_at
                    WHEN excluded.era = held.era THEN least(held.first_failed_at, excluded.first_failed_at)
                    ELSE held.first_failed_at END,
                {outcome},
                {bytes}{resolution}
            WHERE {new} >= {held}
                OR (excluded.era = held.era AND (excluded.first_failed_at IS NOT NULL OR excluded.headers IS NOT NULL)){or_newer}
            RETURNING topic, partition, \"offset\", era, term, attempt, outcome
        ), moved AS ({moved})
        SELECT topic, partition, \"offset\", era, term, attempt, outcome FROM new EXCEPT SELECT * FROM kept",
        arrays = arrays(&columns, 2),
        moved = moved(progress),
    )
}

const PROGRESS_COLUMNS: [Column; 13] = [
    ("topic", "text"),
    ("partition", "int4"),
    ("era", "int8"),
    ("term", "int8"),
    ("attempt", "uuid"),
    ("floor", "int8"),
    ("received", "int8"),
    ("committed", "int8"),
    ("failed", "int8"),
    ("succeeded", "int8"),
    ("at", "int8"),
    ("gaps", "text"),
    ("missed", "text"),
];

fn moved(first: usize) -> String {
    let greatest = |name: &str| {
        let (held, new) = (unsigned(name, "held"), unsigned(name, "excluded"));
        format!("CASE WHEN {new} > {held} THEN excluded.{name} ELSE held.{name} END")
    };
    let (held_era, new_era) = (unsigned("era", "held"), unsigned("era", "excluded"));
    let later = |name: &str, same: &str| {
        format!(
            "CASE WHEN writer.later THEN excluded.{name} WHEN writer.same THEN {same} ELSE held.{name} END"
        )
    };
    let united = |name: &str| later(name, &format!("held.{name} + excluded.{name}"));
    let writer = |of: &str| format!("({of}.term < 0, {of}.term, {of}.attempt)");
    format!(
        "INSERT INTO progress AS held (namespace, {own})
        SELECT $1::int4, topic, partition, era, term, attempt, floor, received, committed, failed, succeeded, at,
            gaps::int8multirange, missed::int8multirange
        FROM unnest({arrays}) WITH ORDINALITY AS new ({own}, number) ORDER BY number
        ON CONFLICT (namespace, topic, partition) DO UPDATE SET
            (era, term, attempt, floor, received, committed, failed, succeeded, at, gaps, missed) = (
                SELECT excluded.era, excluded.term, excluded.attempt, excluded.floor, excluded.received, excluded.committed,
                    excluded.failed, excluded.succeeded, excluded.at, excluded.gaps, excluded.missed
                WHERE excluded.era <> held.era
                UNION ALL
                SELECT held.era, {term}, {attempt}, least(held.floor, excluded.floor),
                    greatest(held.received, excluded.received), greatest(held.committed, excluded.committed), {failed},
                    {succeeded}, greatest(held.at, excluded.at), {gaps}, {missed}
                FROM (SELECT {new} > {old}, {new} = {old}) AS writer (later, same)
                WHERE excluded.era = held.era)
        WHERE {new_era} >= {held_era}",
        own = names(&PROGRESS_COLUMNS, ""),
        arrays = arrays(&PROGRESS_COLUMNS, first),
        term = later("term", "held.term"),
        attempt = later("attempt", "held.attempt"),
        failed = greatest("failed"),
        succeeded = greatest("succeeded"),
        gaps = united("gaps"),
        missed = united("missed"),
        new = writer("excluded"),
        old = writer("held"),
    )
}

/// Compare-and-set. The entries are locked first, so what is compared is what is written to. Several changes of one entry
/// (`number` says which entry, `turn` which of its changes) take their turns, as if each came alone.
fn resolve() -> String {
    let mut columns: Vec<Column> = vec![
        ("number", "int8"),
        ("turn", "int8"),
        ("topic", "text"),
        ("partition", "int4"),
        ("\"offset\"", "int8"),
    ];
    columns.extend(RESOLUTION);
    let set: Vec<&str> = RESOLUTION
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "revision")
        .collect();
    format!(
        "WITH RECURSIVE change AS MATERIALIZED (
            SELECT * FROM unnest({arrays}) AS change ({own})
        ), held AS MATERIALIZED (
            SELECT change.number, entry.revision, entry.era, entry.term, entry.attempt, entry.outcome,
                entry.status = 2 AS blocking
            FROM change JOIN entry ON entry.namespace = $1::int4 AND entry.topic = change.topic
                AND entry.partition = change.partition AND entry.\"offset\" = change.\"offset\"
            WHERE change.turn = 1 ORDER BY change.number FOR UPDATE OF entry
        ), walk (number, turn, revision, took) AS (
            SELECT number, 0::int8, revision, false FROM held
            UNION ALL
            SELECT number, turn, CASE WHEN takes THEN ((revision # {least}) + 1) # {least} ELSE revision END, takes
            FROM (
                SELECT walk.number, change.turn, walk.revision, change.revision = walk.revision AND CASE
                    WHEN change.decision IS NULL THEN true
                    WHEN change.decision <= 1 THEN held.blocking AND change.about_era = held.era
                    ELSE held.outcome = 2
                        AND (change.about_era, change.about_term, change.about_attempt, change.about_outcome)
                          = (held.era, held.term, held.attempt, held.outcome) END AS takes
                FROM walk
                JOIN change ON change.number = walk.number AND change.turn = walk.turn + 1
                JOIN held ON held.number = walk.number
            ) AS step
        ), last AS (
            SELECT DISTINCT ON (number) number, turn, revision FROM walk WHERE took ORDER BY number, turn DESC
        ), written AS (
            UPDATE entry SET revision = last.revision, ({set}) = ROW ({values})
            FROM last JOIN change USING (number, turn)
            WHERE entry.namespace = $1::int4 AND entry.topic = change.topic
                AND entry.partition = change.partition AND entry.\"offset\" = change.\"offset\"
        )
        SELECT number, turn FROM walk WHERE took",
        arrays = arrays(&columns, 2),
        own = names(&columns, ""),
        least = "(-9223372036854775808)::int8",
        set = set.join(", "),
        values = set.iter().map(|name| format!("change.{name}")).collect::<Vec<_>>().join(", "),
    )
}

/// What an entry is read from: see `Columns::entry`.
pub(crate) fn entry_columns(prefix: &str) -> String {
    format!("{}, {}", names(&OUTCOME, prefix), names(&RESOLUTION, prefix))
}

fn get() -> String {
    format!(
        "SELECT asked.number, {columns}
        FROM unnest({arrays}) WITH ORDINALITY AS asked (topic, partition, \"offset\", number)
        JOIN entry ON entry.namespace = $1::int4 AND entry.topic = asked.topic
            AND entry.partition = asked.partition AND entry.\"offset\" = asked.\"offset\"",
        columns = entry_columns("entry."),
        arrays = arrays(&OUTCOME[..3], 2),
    )
}

fn progress() -> String {
    let bounds = |of: &str| {
        ["lower", "upper"]
            .map(|bound| format!("ARRAY(SELECT {bound}(gap) FROM unnest({of}) AS gap ORDER BY gap)"))
            .join(", ")
    };
    format!(
        "SELECT topic, partition, era, term, attempt, floor, received, committed, failed, succeeded, at, {}, {}
        FROM progress WHERE namespace = $1::int4 ORDER BY topic, partition",
        bounds("gaps"),
        bounds("missed")
    )
}

/// Deletes what may go, the oldest first, at most `$3` of it written before `$2`. Answers how many were found and how many of
/// them went: one that was written again in between stays.
pub(crate) fn purge(what: tracker_api::Purgeable) -> String {
    use tracker_api::Purgeable::{Resolved, Succeeded, Superseded};
    let id = "topic, partition, \"offset\"";
    let by_age = |status: i32| {
        format!(
            "(SELECT {id}, at, 0::int8 AS era FROM entry WHERE namespace = $1::int4 AND status = {status} AND at < $2::int8
            ORDER BY at, {id} LIMIT $3::int8)"
        )
    };
    // From each partition's own place in the index: what is of its era is not looked at.
    let left = |also: &str| {
        format!(
            "SELECT topic, partition, \"offset\", old.at, progress.era FROM progress CROSS JOIN LATERAL (
                SELECT \"offset\", at FROM entry
                WHERE entry.namespace = $1::int4 AND entry.topic = progress.topic AND entry.partition = progress.partition
                    AND (entry.era < 0, entry.era) < (progress.era < 0, progress.era) AND entry.at < $2::int8 AND {also}
                ORDER BY at, \"offset\" LIMIT $3::int8
            ) AS old WHERE progress.namespace = $1::int4"
        )
    };
    let (found, still) = match what {
        Succeeded => (by_age(8), "entry.status = 8"),
        Resolved => (
            [4, 6, 7].map(by_age).join(" UNION ALL "),
            "entry.status IN (4, 6, 7)",
        ),
        Superseded => (
            format!(
                "{} UNION ALL {}",
                left("status IN (0, 1, 2)"),
                left("status = 3 AND entry.\"offset\" >= progress.floor")
            ),
            "entry.status IN (0, 1, 2, 3) AND (entry.era < 0, entry.era) < (old.era < 0, old.era)",
        ),
    };
    format!(
        "WITH old AS MATERIALIZED (
            SELECT * FROM ({found}) AS found ORDER BY at, {id} LIMIT $3::int8
        ), gone AS (
            DELETE FROM entry USING old
            WHERE entry.namespace = $1::int4 AND entry.topic = old.topic AND entry.partition = old.partition
                AND entry.\"offset\" = old.\"offset\" AND entry.at < $2::int8 AND {still}
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone)"
    )
}
