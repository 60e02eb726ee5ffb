use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use mongodb::bson::{Bson, RawBson, RawDocumentBuf, doc, raw::cstr};
use tracker_api::{
    Change, CorruptRow, Entry, Error, ErrorKind, FailureTracker, Group, Outcome, Page, Partition, Progress,
    Purgeable, Query, RecordId, Result, Risk, Timestamp, coalesce, coalesce_whole,
};

use crate::{
    codec::{self, Number},
    link::{Find, Link, NAMESPACES, Statement},
    listing,
    pipelines::How,
    purge,
};

/// One namespace in a database.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    pub(crate) link: Link,
    pub(crate) number: Number,
    pub(crate) name: String,
}

// Rounds of reading what a pipeline could not join and replacing it if nobody was faster. Each round somebody gets on.
const ROUNDS: usize = 64;

fn how(entry: &Entry) -> How {
    if entry.revision > 0 || entry.resolution.is_some() {
        return How::Take;
    }
    let plain = entry.failure.is_none() && entry.first_failed_at.is_none() && entry.captured.is_none();
    match entry.version.outcome {
        Outcome::Failed => How::JoinPassed,
        _ if plain => How::JoinPlain,
        _ => How::Join,
    }
}

/// What was not written of what was to be.
fn refused<T>(written: &[bool], of: impl IntoIterator<Item = T>) -> Vec<T> {
    written
        .iter()
        .zip(of)
        .filter(|(written, _)| !**written)
        .map(|(_, what)| what)
        .collect()
}

type ById = (
    HashMap<RecordId, RawDocumentBuf>,
    HashMap<Partition, RawDocumentBuf>,
);

fn by_id(documents: Vec<RawDocumentBuf>) -> Result<ById> {
    let (mut entries, mut progress) = ById::default();
    for document in documents {
        if codec::is_progress(&document) {
            progress.insert(codec::partition_of(&document)?, document);
        } else {
            entries.insert(codec::record_of(&document)?, document);
        }
    }
    Ok((entries, progress))
}

impl Tracker {
    fn statement(&self, entry: &Entry) -> Statement {
        Statement {
            id: codec::id(self.number, &entry.id),
            how: how(entry),
            new: codec::entry(entry),
            held: None,
        }
    }

    fn progress_statement(&self, progress: &Progress) -> Statement {
        Statement {
            id: codec::progress_id(self.number, &progress.partition),
            how: How::JoinProgress,
            new: codec::progress(progress),
            held: None,
        }
    }

    /// Joins entries, each id once, and progress. Answers which ids do not hold the entry's version afterwards.
    async fn join(&self, doing: &str, entries: &[Entry], progress: &[Progress]) -> Result<HashSet<RecordId>> {
        let mut rows: BTreeMap<&Partition, Progress> = BTreeMap::new();
        for row in progress {
            rows.entry(&row.partition)
                .and_modify(|held| held.join(row))
                .or_insert_with(|| row.clone());
        }
        let statements: Vec<Statement> = entries
            .iter()
            .map(|entry| self.statement(entry))
            .chain(rows.values().map(|row| self.progress_statement(row)))
            .collect();
        if statements.is_empty() {
            return Ok(HashSet::new());
        }
        let written = self.link.write(doing, &statements).await?;
        let (of_entries, of_progress) = written.split_at(entries.len().min(written.len()));
        let entries: Vec<&Entry> = refused(of_entries, entries);
        let rows: Vec<&Progress> = refused(of_progress, rows.values());
        if entries.is_empty() && rows.is_empty() {
            return Ok(HashSet::new());
        }
        self.settle(doing, entries, rows).await
    }

    /// Joins here what the server could not: reads what is held and replaces it, unless another writer came between.
    async fn settle(
        &self,
        doing: &str,
        mut entries: Vec<&Entry>,
        mut progress: Vec<&Progress>,
    ) -> Result<HashSet<RecordId>> {
        let mut fallen = HashSet::new();
        for _ in 0..ROUNDS {
            let ids = entries
                .iter()
                .map(|entry| codec::id(self.number, &entry.id))
                .chain(
                    progress
                        .iter()
                        .map(|row| codec::progress_id(self.number, &row.partition)),
                );
            let (held, held_progress) = by_id(self.documents(doing, ids).await?)?;
            let mut statements = Vec::new();
            let mut of_entries = Vec::new();
            for entry in entries {
                let statement = match held.get(&entry.id) {
                    // Purged since; it is new again.
                    None => self.statement(entry),
                    Some(document) => {
                        let read = codec::read_entry(document);
                        let Some(held) = self.link.aside(document, read)? else {
                            of_entries.push(entry);
                            statements.push(Statement {
                                how: How::SwapEntry,
                                new: codec::entry_instead(entry, document),
                                held: Some(RawBson::Array(codec::guard(document, &codec::ENTRY_GUARD))),
                                ..self.statement(entry)
                            });
                            continue;
                        };
                        let mut kept = held.clone();
                        kept.merge(entry);
                        if kept.version == entry.version {
                            fallen.remove(&entry.id);
                        } else {
                            fallen.insert(entry.id.clone());
                        }
                        if kept == held {
                            continue;
                        }
                        Statement {
                            how: How::SwapEntry,
                            new: codec::entry(&kept),
                            held: Some(RawBson::Array(codec::guard(document, &codec::ENTRY_GUARD))),
                            ..self.statement(entry)
                        }
                    }
                };
                of_entries.push(entry);
                statements.push(statement);
            }
            let mut of_progress = Vec::new();
            for row in progress {
                let statement = match held_progress.get(&row.partition) {
                    None => self.progress_statement(row),
                    Some(document) => {
                        let read = self.link.aside(document, codec::read_progress(document))?;
                        let mut kept = read.unwrap_or_else(|| row.clone());
                        kept.join(row);
                        Statement {
                            how: How::SwapProgress,
                            new: codec::progress(&kept),
                            held: Some(RawBson::Array(codec::guard(document, &codec::PROGRESS_GUARD))),
                            ..self.progress_statement(row)
                        }
                    }
                };
                of_progress.push(row);
                statements.push(statement);
            }
            if statements.is_empty() {
                return Ok(fallen);
            }
            let written = self.link.write(doing, &statements).await?;
            let (first, second) = written.split_at(of_entries.len().min(written.len()));
            entries = refused(first, of_entries);
            progress = refused(second, of_progress);
            if entries.is_empty() && progress.is_empty() {
                return Ok(fallen);
            }
        }
        Err(self.link.busy(doing))
    }

    /// The documents of these ids, as many as there are.
    async fn documents(
        &self,
        doing: &str,
        ids: impl Iterator<Item = RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>> {
        let ids: Vec<Bson> = ids
            .filter_map(|id| mongodb::bson::Document::try_from(&*id).ok())
            .map(Bson::Document)
            .collect();
        let find = Find {
            limit: ids.len(),
            filter: doc! { "_id": { "$in": ids } },
            sort: doc! {},
            index: "_id_",
            fields: doc! {},
        };
        self.link
            .find(doing, find, |document| Ok(document.to_owned()))
            .await
    }

    fn change(&self, change: &Change) -> Result<Statement> {
        let next = change.revision.checked_add(1).ok_or_else(|| {
            Error::new(
                ErrorKind::Refused,
                format!("the entry `{}` cannot be resolved once more", change.id),
            )
        })?;
        let mut new = RawDocumentBuf::new();
        new.append(
            cstr!("r"),
            change
                .to
                .as_ref()
                .map_or(RawBson::Null, |to| codec::resolution(to).into()),
        );
        new.append(cstr!("n"), codec::revision(next));
        Ok(Statement {
            id: codec::id(self.number, &change.id),
            how: How::of(change),
            new,
            held: Some(codec::revision(change.revision)),
        })
    }
}

#[async_trait]
impl FailureTracker for Tracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let fresh = coalesce(entries);
        let fallen = self.join("recording", &fresh, progress).await?;
        let versions: HashMap<&RecordId, _> = fresh.iter().map(|entry| (&entry.id, entry.version)).collect();
        Ok(entries
            .iter()
            .map(|entry| versions.get(&entry.id) == Some(&entry.version) && !fallen.contains(&entry.id))
            .collect())
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        self.join("importing", &coalesce_whole(entries), progress)
            .await
            .map(drop)
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        let statements = changes
            .iter()
            .map(|change| self.change(change))
            .collect::<Result<Vec<_>>>()?;
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        self.link.write("resolving", &statements).await
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        let find = Find {
            filter: doc! { "_id": { "$gte": { "progress": self.number }, "$lt": { "progress": self.number, "t": Bson::MaxKey } } },
            sort: doc! { "_id": 1 },
            index: "_id_",
            fields: doc! {},
            limit: 0,
        };
        self.link
            .find("reading the progress", find, codec::read_progress)
            .await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        let wanted: HashSet<&RecordId> = ids.iter().collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = wanted.into_iter().map(|id| codec::id(self.number, id));
        let mut held: HashMap<RecordId, Entry> = HashMap::new();
        for document in self.documents("reading", wanted).await? {
            let read = self.link.aside(&document, codec::read_entry(&document))?;
            held.extend(read.map(|entry| (entry.id.clone(), entry)));
        }
        Ok(ids.iter().map(|id| held.get(id).cloned()).collect())
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        listing::page(self, query).await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        listing::groups(self, query).await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        purge::purge(self, what, before, limit).await
    }

    async fn ping(&self) -> Result<()> {
        let command = doc! {
            "update": NAMESPACES,
            "updates": [{ "q": { "_id": &self.name }, "u": { "$currentDate": { "pinged": true } } }],
            "writeConcern": self.link.durable(),
        };
        let answer = self.link.command("a ping", command).await?;
        if let Some(problem) = answer
            .get_array("writeErrors")
            .into_iter()
            .flatten()
            .find_map(Bson::as_document)
        {
            return Err(self.link.server_error("a ping", problem));
        }
        if answer.get_i32("n").unwrap_or(0) == 0 {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the namespace `{}` is gone from {}: somebody dropped it; restore it from a backup, or start again to begin \
                     a new one",
                    self.name.escape_debug(),
                    self.link.place
                ),
            ));
        }
        Ok(())
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.link.corrupt.all()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        crate::schema::greet(&self.link, "asking what it promises").await
    }
}
