//! Queries as SQL: the same filters, order and cursor as `Query::matches`, decided by the server.

use std::{fmt::Write, sync::Arc};

use tracker_api::{Order, Outcome, Query, Result, Status};

use crate::{rows::Parameters, statements::entry_columns, text};

const ID: &str = "topic, partition, \"offset\"";
const FAILURES: &str = "status IN (1, 2, 3, 4, 5, 6, 7)";

/// The conditions of a query, and what they are given, from the parameter `$2` on: `$1` is the namespace.
struct Filter<'q> {
    query: &'q Query,
    /// The statuses that match; none if all do.
    statuses: Option<Vec<u8>>,
    sql: String,
    given: usize,
}

/// The number of a status in the column `status`, and the outcome that it is of.
const STATUSES: [(Status, Outcome); 9] = [
    (Status::Received, Outcome::Received),
    (Status::Failing, Outcome::Failing),
    (Status::Blocking, Outcome::Failing),
    (Status::Open, Outcome::Failed),
    (Status::Skipped, Outcome::Failed),
    (Status::Replaying, Outcome::Failed),
    (Status::Replayed, Outcome::Failed),
    (Status::Discarded, Outcome::Failed),
    (Status::Succeeded, Outcome::Succeeded),
];

impl<'q> Filter<'q> {
    fn of(query: &'q Query) -> Self {
        let statuses = (!query.outcomes.is_empty() || !query.statuses.is_empty()).then(|| {
            let wanted = STATUSES.iter().zip(0_u8..).filter(|((status, outcome), _)| {
                (query.outcomes.is_empty() || query.outcomes.contains(outcome))
                    && (query.statuses.is_empty() || query.statuses.contains(status))
            });
            wanted.map(|(_, number)| number).collect()
        });
        let mut filter = Self {
            query,
            statuses,
            sql: "namespace = $1::int4".to_owned(),
            given: 1,
        };
        filter.write();
        filter
    }

    fn next(&mut self, kind: &str) -> String {
        self.given += 1;
        format!("${}::{kind}", self.given)
    }

    fn and(&mut self, condition: &str) {
        let _ = write!(self.sql, " AND {condition}");
    }

    /// In the order of [`Filter::parameters`].
    fn write(&mut self) {
        let query = self.query;
        if query.topic.is_some() {
            let topic = self.next("text");
            self.and(&format!("topic = {topic}"));
        }
        if query.partition.is_some() {
            let (topic, number) = (self.next("text"), self.next("int4"));
            self.and(&format!("topic = {topic} AND partition = {number}"));
        }
        if query.offsets.is_some() {
            let (from, to) = (self.next("int8"), self.next("int8"));
            self.and(&format!("\"offset\" >= {from} AND \"offset\" < {to}"));
        }
        if query.era.is_some() {
            let era = self.next("int8");
            self.and(&format!("era = {era}"));
        }
        if query.class.is_some() {
            let class = self.next("text");
            self.and(&format!("class = {class}"));
        }
        if query.fingerprint.is_some() {
            let print = self.next("int8");
            self.and(&format!("fingerprint = {print} AND fingerprint IS NOT NULL"));
        }
        if query.key.is_some() {
            let key = self.next("bytea");
            let index = "substring(sha256(key) FROM 1 FOR 8)";
            self.and(&format!(
                "key = {key} AND {index} = substring(sha256({key}) FROM 1 FOR 8)"
            ));
        }
        if query.first_failed.is_some() {
            let (from, to) = (self.next("int8"), self.next("int8"));
            self.and(&format!("first_failed_at >= {from} AND first_failed_at < {to}"));
        }
        if query.text.is_some() {
            // In the collation "C" only the letters A to Z have another case.
            let text = self.next("text");
            self.and(&format!(
                "position(lower({text} COLLATE \"C\") IN lower(message COLLATE \"C\")) > 0"
            ));
        }
    }

    fn parameters(&self, namespace: i32) -> Result<Parameters> {
        let (query, mut given) = (self.query, Parameters::default());
        given.add(namespace)?;
        if let Some(topic) = &query.topic {
            given.add(text::stored(topic))?;
        }
        if let Some(partition) = &query.partition {
            given.add(text::stored(&partition.topic))?;
            given.add(partition.number)?;
        }
        if let Some(offsets) = &query.offsets {
            given.add(offsets.start)?;
            given.add(offsets.end)?;
        }
        if let Some(era) = query.era {
            given.add(era.cast_signed())?;
        }
        if let Some(class) = &query.class {
            given.add(text::stored(class))?;
        }
        if let Some(print) = query.fingerprint {
            given.add(print.cast_signed())?;
        }
        if let Some(key) = &query.key {
            given.add(&key[..])?;
        }
        if let Some(within) = &query.first_failed {
            given.add(within.start.0)?;
            given.add(within.end.0)?;
        }
        if let Some(part) = &query.text {
            given.add(text::stored(part))?;
        }
        Ok(given)
    }

    /// The statuses as a condition that a partial index's planner sees through.
    fn status_in(&self) -> Option<String> {
        let statuses = self.statuses.as_ref()?;
        let numbers: Vec<String> = statuses.iter().map(u8::to_string).collect();
        Some(match numbers.is_empty() {
            true => "false".to_owned(),
            false => format!("status IN ({})", numbers.join(", ")),
        })
    }
}

/// The statement of one page: one entry more than it holds, so that its end is known.
pub(crate) fn page(query: &Query) -> Arc<str> {
    let mut filter = Filter::of(query);
    let columns = entry_columns("");
    let newest_first = query.order == Order::NewestFirst;
    if query.after.is_some() {
        if newest_first {
            let at = filter.next("int8");
            let id = [filter.next("text"), filter.next("int4"), filter.next("int8")].join(", ");
            filter.and(&format!("(first_failed_at, {ID}) < ({at}, {id})"));
        } else {
            let id = [filter.next("text"), filter.next("int4"), filter.next("int8")].join(", ");
            filter.and(&format!("({ID}) > ({id})"));
        }
    }
    let limit = filter.next("int8");
    let sql = if newest_first {
        filter.and("first_failed_at IS NOT NULL");
        let order = "ORDER BY first_failed_at DESC, topic DESC, partition DESC, \"offset\" DESC";
        match &filter.statuses {
            // Each status has its own order in the index: they are merged, and each is read only as far as it is needed.
            Some(statuses) if !statuses.is_empty() => {
                let of = |status: &u8| {
                    let matches = &filter.sql;
                    format!(
                        "(SELECT {columns} FROM entry WHERE {matches} AND status = {status} {order} LIMIT {limit})"
                    )
                };
                let all = statuses.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
                format!("SELECT {columns} FROM ({all}) AS entry {order} LIMIT {limit}")
            }
            Some(_) => format!(
                "SELECT {columns} FROM entry WHERE {} AND false LIMIT {limit}",
                filter.sql
            ),
            None => format!(
                "SELECT {columns} FROM entry WHERE {} {order} LIMIT {limit}",
                filter.sql
            ),
        }
    } else {
        if let Some(statuses) = filter.status_in() {
            filter.and(&statuses);
        }
        format!(
            "SELECT {columns} FROM entry WHERE {} ORDER BY {ID} LIMIT {limit}",
            filter.sql
        )
    };
    sql.into()
}

/// What [`page`] is given.
pub(crate) fn page_parameters(query: &Query, limit: usize, namespace: i32) -> Result<Parameters> {
    let mut given = Filter::of(query).parameters(namespace)?;
    if let Some(after) = &query.after {
        if query.order == Order::NewestFirst {
            given.add(after.first_failed_at.map(|at| at.0))?;
        }
        given.add(text::stored(&after.id.partition.topic))?;
        given.add(after.id.partition.number)?;
        given.add(after.id.offset)?;
    }
    given.add(i64::try_from(limit).unwrap_or(i64::MAX))?;
    Ok(given)
}

/// The statement that counts by cause, and looks at one entry of each.
pub(crate) fn groups(query: &Query) -> Arc<str> {
    let mut filter = Filter::of(query);
    filter.and(FAILURES);
    if query.fingerprint.is_none() {
        filter.and("fingerprint IS NOT NULL");
    }
    filter.and("first_failed_at IS NOT NULL");
    if let Some(statuses) = filter.status_in() {
        filter.and(&statuses);
    }
    let matches = filter.sql;
    format!(
        "SELECT cause.fingerprint, sample.class, cause.count, cause.first, cause.last, sample.topic, sample.partition,
            sample.\"offset\", sample.message
        FROM (
            SELECT fingerprint, count(*) AS count, min(first_failed_at) AS first, max(first_failed_at) AS last
            FROM entry WHERE {matches} GROUP BY fingerprint
        ) AS cause CROSS JOIN LATERAL (
            SELECT class, message, {ID} FROM entry WHERE {matches} AND entry.fingerprint = cause.fingerprint
            ORDER BY {ID} LIMIT 1
        ) AS sample
        ORDER BY cause.count DESC, cause.fingerprint < 0, cause.fingerprint"
    )
    .into()
}

/// What [`groups`] is given.
pub(crate) fn groups_parameters(query: &Query, namespace: i32) -> Result<Parameters> {
    Filter::of(query).parameters(namespace)
}
