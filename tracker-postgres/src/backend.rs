use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use tracker_api::{
    Change, CorruptRow, CorruptRows, Cursor, Entry, Error, ErrorKind, FailureTracker, Group, Order, Page,
    Progress, Purgeable, Query, RecordId, Result, Risk, Timestamp, coalesce, coalesce_whole,
};

use crate::{
    answers,
    connections::{Again, Connections, Statement},
    listing,
    rows::{Columns, Parameters},
    session, statements,
};

/// The bytes of one call that the server takes for sure: it closes a connection that sends a gigabyte at once.
const MOST_BYTES: usize = 256 << 20;

/// One namespace in a database.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub(crate) connections: Connections,
    pub(crate) namespace: i32,
    /// The namespace's name, as it is stored.
    pub(crate) name: Vec<u8>,
    pub(crate) schema: String,
    pub(crate) corrupt: CorruptRows,
}

impl Tracker {
    async fn ask(
        &self,
        doing: &str,
        sql: Arc<str>,
        again: Again,
        parameters: &(dyn Fn() -> Result<Parameters> + Sync),
    ) -> Result<Vec<PgRow>> {
        let statement = Statement {
            doing,
            sql,
            parameters,
            again,
        };
        self.connections.fetch(&statement).await
    }

    /// Writes entries that are coalesced, and progress; answers the ids of those that do not stand.
    async fn write(
        &self,
        entries: &[Entry],
        progress: &[Progress],
        whole: bool,
    ) -> Result<BTreeSet<RecordId>> {
        let bytes = entries.iter().map(weight).sum::<usize>();
        if bytes > MOST_BYTES && entries.len() > 1 {
            let message = format!(
                "{bytes} bytes at once are more than PostgreSQL takes: write fewer entries at a time"
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let rows = answers::joined(progress);
        let parameters = || {
            let mut given = Parameters::default();
            given.add(self.namespace)?;
            given.outcomes(entries)?;
            if whole {
                given.resolutions(entries, |entry| (entry.revision, entry.resolution.as_ref()))?;
            }
            answers::progress_parameters(&mut given, &rows)?;
            Ok(given)
        };
        let sql = if whole {
            &statements::IMPORT
        } else {
            &statements::RECORD
        };
        let lost = self
            .ask("writing entries", Arc::clone(sql), Again::Same, &parameters)
            .await?;
        let ids = lost.iter().map(|row| Columns::of(row, "an entry").id());
        ids.collect()
    }
}

/// About how many bytes an entry is.
fn weight(entry: &Entry) -> usize {
    let captured = entry.captured.as_ref().map_or(0, |captured| {
        let headers = captured.headers.iter();
        let headers = headers.map(|h| 2 * (h.name.len() + h.value.as_ref().map_or(0, |v| v.len())) + 8);
        captured.key.as_ref().map_or(0, |key| key.len())
            + captured.value.as_ref().map_or(0, |value| value.len())
            + headers.sum::<usize>()
    });
    let texts = entry
        .failure
        .as_ref()
        .map_or(0, |f| f.class.len() + f.message.len());
    let words = entry
        .resolution
        .as_ref()
        .map_or(0, |r| r.actor.len() + r.reason.len());
    200 + entry.id.partition.topic.len() + captured + texts + words
}

#[async_trait]
impl FailureTracker for Tracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        if entries.is_empty() && progress.is_empty() {
            return Ok(Vec::new());
        }
        let fresh = coalesce(entries);
        let lost = self.write(&fresh, progress, false).await?;
        if fresh.len() == entries.len() && lost.is_empty() {
            return Ok(vec![true; entries.len()]);
        }
        // What is held is at least the slice's greatest version of the record.
        let kept = fresh.iter().filter(|entry| !lost.contains(&entry.id));
        let kept: BTreeMap<_, _> = kept.map(|entry| (&entry.id, entry.version)).collect();
        let stands = entries
            .iter()
            .map(|entry| kept.get(&entry.id) == Some(&entry.version));
        Ok(stands.collect())
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        if entries.is_empty() && progress.is_empty() {
            return Ok(());
        }
        self.write(&coalesce_whole(entries), progress, true).await?;
        Ok(())
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let ids: BTreeSet<&RecordId> = changes.iter().map(|change| &change.id).collect();
        let numbers: BTreeMap<&RecordId, i64> = ids.into_iter().zip(0..).collect();
        let mut turns = BTreeMap::new();
        let mut asked = Vec::with_capacity(changes.len());
        for change in changes {
            let number = numbers.get(&change.id).copied().unwrap_or_default();
            let turn = turns.entry(number).and_modify(|turn| *turn += 1).or_insert(1_i64);
            asked.push((number, *turn, change));
        }
        let parameters = || {
            let mut given = Parameters::default();
            given.add(self.namespace)?;
            given.each(&asked, |(number, _, _)| *number)?;
            given.each(&asked, |(_, turn, _)| *turn)?;
            given.ids(&asked, |(_, _, change)| &change.id)?;
            given.resolutions(&asked, |(_, _, change)| (change.revision, change.to.as_ref()))?;
            Ok(given)
        };
        let rows = self
            .ask(
                "resolving entries",
                Arc::clone(&statements::RESOLVE),
                Again::Never,
                &parameters,
            )
            .await?;
        let mut took = BTreeSet::new();
        for row in &rows {
            let mut columns = Columns::of(row, "an answer");
            took.insert((columns.get::<i64>()?, columns.get::<i64>()?));
        }
        Ok(asked
            .iter()
            .map(|(number, turn, _)| took.contains(&(*number, *turn)))
            .collect())
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        let parameters = || {
            let mut given = Parameters::default();
            given.add(self.namespace)?;
            Ok(given)
        };
        let rows = self
            .ask(
                "reading progress",
                Arc::clone(&statements::PROGRESS),
                Again::Same,
                &parameters,
            )
            .await?;
        let rows = rows.iter().map(|row| {
            self.corrupt
                .aside(|| answers::progress_name(row), answers::progress_of(row))
        });
        rows.filter_map(Result::transpose).collect()
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        let mut found = vec![None; ids.len()];
        if ids.is_empty() {
            return Ok(found);
        }
        let parameters = || {
            let mut given = Parameters::default();
            given.add(self.namespace)?;
            given.ids(ids, |id| id)?;
            Ok(given)
        };
        let rows = self
            .ask(
                "reading entries",
                Arc::clone(&statements::GET),
                Again::Same,
                &parameters,
            )
            .await?;
        for row in &rows {
            let mut columns = Columns::of(row, "an entry");
            let number = usize::try_from(columns.get::<i64>()? - 1).unwrap_or(usize::MAX);
            let entry = columns.entry();
            if let Some(place) = found.get_mut(number) {
                *place = self.corrupt.aside(|| columns.what().to_owned(), entry)?;
            }
        }
        Ok(found)
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        let newest_first = query.order == Order::NewestFirst;
        if newest_first
            && query
                .after
                .as_ref()
                .is_some_and(|after| after.first_failed_at.is_none())
        {
            return Err(Error::new(
                ErrorKind::Refused,
                "the cursor is of a listing by id, the query is newest first: start without a cursor",
            ));
        }
        let (size, mut limit) = (query.page_size(), query.page_size() + 1);
        let mut entries: Vec<Entry>;
        loop {
            let parameters = || listing::page_parameters(query, limit, self.namespace);
            let rows = self
                .ask("listing entries", listing::page(query), Again::Same, &parameters)
                .await?;
            let read = rows.iter().map(|row| {
                let mut columns = Columns::of(row, "an entry");
                let entry = columns.entry();
                self.corrupt.aside(|| columns.what().to_owned(), entry)
            });
            entries = read.filter_map(Result::transpose).collect::<Result<_>>()?;
            // In place of what was left out, as many more: otherwise the page would seem to be the last one.
            let left_out = rows.len() - entries.len();
            if entries.len() > size || rows.len() < limit || left_out == 0 {
                break;
            }
            limit = size + 1 + left_out;
        }
        let more = entries.len() > size;
        entries.truncate(size);
        let last = entries.last().filter(|_| more);
        let next = last.map(|entry| Cursor {
            id: entry.id.clone(),
            first_failed_at: entry.first_failed_at.filter(|_| newest_first),
        });
        Ok(Page { entries, next })
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        let query = query.unordered();
        let parameters = || listing::groups_parameters(&query, self.namespace);
        let rows = self
            .ask(
                "counting causes",
                listing::groups(&query),
                Again::Same,
                &parameters,
            )
            .await?;
        let groups = rows.iter().map(|row| {
            let name = || "a group of failures".to_owned();
            self.corrupt.aside(name, answers::group_of(row, &self.corrupt))
        });
        groups.filter_map(Result::transpose).collect()
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql: Arc<str> = statements::purge(what).into();
        let mut gone = 0;
        while gone < limit {
            let left = limit - gone;
            let parameters = || {
                let mut given = Parameters::default();
                given.add(self.namespace)?;
                given.add(before.0)?;
                given.add(left)?;
                Ok(given)
            };
            // To send it again after a lost answer deletes others: it would go over the limit.
            let rows = self
                .ask("purging entries", Arc::clone(&sql), Again::Never, &parameters)
                .await?;
            let Some(row) = rows.first() else { break };
            let mut columns = Columns::of(row, "an answer");
            let (found, went) = (columns.get::<i64>()?, columns.get::<i64>()?);
            gone += went;
            // One that was found and did not go was written to in between: another takes its place.
            if found < left || found == went {
                break;
            }
        }
        Ok(gone.cast_unsigned())
    }

    async fn ping(&self) -> Result<()> {
        let parameters = || {
            let mut given = Parameters::default();
            given.add(self.namespace)?;
            given.add(&self.name[..])?;
            Ok(given)
        };
        let rows = self
            .ask("a ping", Arc::clone(&statements::PING), Again::Same, &parameters)
            .await?;
        if rows.is_empty() {
            let message = format!(
                "the namespace is gone from PostgreSQL at {}: somebody deleted it, or the database is another one than at the start; restart the service",
                self.connections.place
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.corrupt.all()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        let parameters = || {
            let mut given = Parameters::default();
            given.add(&self.schema[..])?;
            Ok(given)
        };
        let rows = self
            .ask(
                "asking what it promises",
                session::PROMISES.into(),
                Again::Same,
                &parameters,
            )
            .await?;
        rows.first().map_or(Ok(Vec::new()), session::risks)
    }
}
