//! One namespace's way to the server: what is sent, how long it may take, and how the answer is read.

use std::{sync::Arc, time::Duration};

use mongodb::{
    Client, Collection, Cursor, Database,
    bson::{Bson, Document, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, doc, raw::cstr, rawdoc},
    options::{CollectionOptions, Hint, ReadConcern, ReadPreference, SelectionCriteria},
};
use tracker_api::{CorruptRows, Error, ErrorKind, Result};

use crate::{
    codec,
    error::{self, Place},
    pipelines::{How, REFUSED},
};

pub(crate) const ENTRIES: &str = "tracker_entries";
pub(crate) const NAMESPACES: &str = "tracker_namespaces";

// A command is one document of 16 MiB; what is left is for everything else in it.
const COMMAND: usize = 15 << 20;
const DUPLICATE: i32 = 11000;
// Each time another writer's upsert has won between the server's look and its write, which it tries again by itself first.
const TRIES: usize = 10;

fn weight(value: &RawBson) -> usize {
    value.as_array().map_or(16, |list| list.as_bytes().len())
}

/// One document's write.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) id: RawDocumentBuf,
    pub(crate) how: How,
    pub(crate) new: RawDocumentBuf,
    /// What must be held for it to be written, where the pipeline asks.
    pub(crate) held: Option<RawBson>,
}

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct Find {
    pub(crate) filter: Document,
    pub(crate) sort: Document,
    pub(crate) index: &'static str,
    pub(crate) fields: Document,
    /// At most so many; 0 for all.
    pub(crate) limit: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) database: Database,
    entries: Collection<RawDocumentBuf>,
    pub(crate) place: Place,
    timeout: Duration,
    /// The namespace's documents that could not be read.
    pub(crate) corrupt: Arc<CorruptRows>,
}

impl Link {
    pub(crate) fn new(client: &Client, place: Place, timeout: Duration) -> Self {
        let database = client.database(&place.database);
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        Self {
            entries: database.collection_with_options(ENTRIES, options),
            database,
            place,
            timeout,
            corrupt: Arc::default(),
        }
    }

    /// A document that was read; none where it is damaged, which is remembered.
    pub(crate) fn aside<T>(&self, document: &RawDocument, read: Result<T>) -> Result<Option<T>> {
        self.corrupt.aside(|| codec::name(document, "_id"), read)
    }

    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    pub(crate) fn millis(&self) -> i64 {
        i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX)
    }

    /// Waits for an answer, at most as long as a call may take.
    pub(crate) async fn answer<T>(
        &self,
        doing: &str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>, IntoFuture: Send>,
    ) -> Result<T> {
        match tokio::time::timeout(self.timeout, call.into_future()).await {
            Ok(answer) => answer.map_err(|problem| error::of_driver(&problem, doing, &self.place)),
            Err(_) => Err(error::no_answer(doing, &self.place, self.timeout.as_millis())),
        }
    }

    /// Runs a command that only asks, or whose document is small.
    pub(crate) async fn command(&self, doing: &str, mut command: Document) -> Result<Document> {
        command.insert("maxTimeMS", self.millis());
        let answer = self.answer(doing, self.database.run_command(command)).await?;
        self.confirmed(doing, &answer)?;
        Ok(answer)
    }

    // The server answers `ok` also when a majority did not confirm.
    fn confirmed(&self, doing: &str, answer: &Document) -> Result<()> {
        match answer.get_document("writeConcernError") {
            Ok(problem) => Err(self.server_error(doing, problem)),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn server_error(&self, doing: &str, problem: &Document) -> Error {
        error::of_code(
            problem.get_i32("code").unwrap_or(0),
            problem.get_str("codeName").unwrap_or_default(),
            doing,
            &self.place,
        )
    }

    /// What makes a write durable before it is answered.
    pub(crate) fn durable(&self) -> Document {
        doc! { "w": "majority", "j": true, "wtimeout": self.millis() }
    }

    /// Writes these documents in one command, or as many as its size asks for, in their order. Answers for each whether it was
    /// written: `false` where its pipeline refused.
    pub(crate) async fn write(&self, doing: &str, statements: &[Statement]) -> Result<Vec<bool>> {
        let size = |statement: &Statement| {
            statement.new.as_bytes().len() + statement.held.as_ref().map_or(0, weight)
        };
        if let Some(large) = statements.iter().find(|statement| size(statement) > COMMAND) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "{doing} failed: one entry is of {} bytes, MongoDB takes no more than 16 MiB",
                    size(large)
                ),
            ));
        }
        let mut written = vec![true; statements.len()];
        let mut waiting: Vec<usize> = (0..statements.len()).collect();
        for _ in 0..TRIES {
            let mut again = Vec::new();
            let mut rest = waiting.as_slice();
            while !rest.is_empty() {
                let (command, taken) = self.update(statements, rest);
                let (now, later) = rest.split_at(taken);
                rest = later;
                let answer = self.answer(doing, self.database.run_raw_command(command)).await?;
                for problem in answer
                    .get_array("writeErrors")
                    .into_iter()
                    .flatten()
                    .filter_map(Bson::as_document)
                {
                    let at = problem
                        .get_i32("index")
                        .ok()
                        .and_then(|index| usize::try_from(index).ok());
                    let statement = at.and_then(|at| now.get(at)).copied();
                    match (problem.get_i32("code"), statement) {
                        (Ok(REFUSED), Some(statement)) => written[statement] = false,
                        (Ok(DUPLICATE), Some(statement)) => again.push(statement),
                        _ => return Err(self.server_error(doing, problem)),
                    }
                }
                self.confirmed(doing, &answer)?;
            }
            if again.is_empty() {
                return Ok(written);
            }
            waiting = again;
        }
        Err(self.busy(doing))
    }

    pub(crate) fn busy(&self, doing: &str) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "{doing} failed in {}: other writers changed the same entries {TRIES} times meanwhile; try again",
                self.place
            ),
        )
    }

    /// The command for the first of the waiting statements, and for how many.
    fn update(&self, statements: &[Statement], waiting: &[usize]) -> (RawDocumentBuf, usize) {
        let mut updates = RawArrayBuf::new();
        let mut size = 0;
        let mut taken = 0;
        for statement in waiting.iter().filter_map(|at| statements.get(*at)) {
            let mut constants = rawdoc! {};
            constants.append(cstr!("new"), &*statement.new);
            if let Some(held) = &statement.held {
                constants.append(cstr!("held"), held.clone());
            }
            let mut query = RawDocumentBuf::new();
            query.append(cstr!("_id"), &*statement.id);
            // Equality on the id alone, so that the server itself tries again where two upserts race.
            let mut update = RawDocumentBuf::new();
            update.append(cstr!("q"), query);
            update.append(cstr!("u"), &**statement.how.pipeline());
            update.append(cstr!("c"), constants);
            update.append(cstr!("upsert"), true);
            size += update.as_bytes().len() + 16;
            if taken > 0 && size > COMMAND {
                break;
            }
            updates.push(update);
            taken += 1;
        }
        let mut command = rawdoc! { "update": ENTRIES };
        command.append(cstr!("updates"), updates);
        command.append(cstr!("ordered"), false);
        command.append(cstr!("maxTimeMS"), self.millis());
        command.append(
            cstr!("writeConcern"),
            rawdoc! { "w": "majority", "j": true, "wtimeout": self.millis() },
        );
        (command, taken)
    }

    /// Reads as one exchange what fits into an answer of 16 MiB; what is more, in as many as it takes. Leaves out what cannot
    /// be read.
    pub(crate) async fn find<T>(
        &self,
        doing: &str,
        find: Find,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<Vec<T>> {
        Ok(self.find_counted(doing, find, read).await?.0)
    }

    /// The same, and how many documents there were.
    pub(crate) async fn find_counted<T>(
        &self,
        doing: &str,
        find: Find,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<(Vec<T>, usize)> {
        let cursor = self.cursor(doing, find).await?;
        let aside = |document: &RawDocument| self.aside(document, read(document));
        let found = self.drain(doing, cursor, aside).await?;
        let count = found.len();
        Ok((found.into_iter().flatten().collect(), count))
    }

    /// The first ones, in the order of the sort, that are wanted. What is not is passed over here.
    pub(crate) async fn find_first<T>(
        &self,
        doing: &str,
        find: Find,
        read: impl Fn(&RawDocument) -> Result<T>,
        limit: usize,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>> {
        let mut cursor = self.cursor(doing, find).await?;
        let mut found = Vec::new();
        while found.len() < limit && self.answer(doing, cursor.advance()).await? {
            let document = cursor.current();
            found.extend(self.aside(document, read(document))?.filter(&wanted));
        }
        Ok(found)
    }

    async fn cursor(&self, doing: &str, find: Find) -> Result<Cursor<RawDocumentBuf>> {
        let mut action = self
            .entries
            .find(find.filter)
            .sort(find.sort)
            .projection(find.fields)
            .hint(Hint::Name(find.index.to_owned()))
            .max_time(self.timeout)
            // Without one the first answer brings 101 documents.
            .batch_size(5_000);
        if find.limit > 0 {
            action = action.limit(i64::try_from(find.limit).unwrap_or(i64::MAX));
        }
        self.answer(doing, action).await
    }

    pub(crate) async fn aggregate<T>(
        &self,
        doing: &str,
        pipeline: Vec<Document>,
        index: &str,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<Vec<T>> {
        let action = self
            .entries
            .aggregate(pipeline)
            .hint(Hint::Name(index.to_owned()))
            .max_time(self.timeout)
            .allow_disk_use(true)
            .batch_size(100_000)
            .with_type::<RawDocumentBuf>();
        let cursor = self.answer(doing, action).await?;
        self.drain(doing, cursor, read).await
    }

    async fn drain<T>(
        &self,
        doing: &str,
        mut cursor: Cursor<RawDocumentBuf>,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        while self.answer(doing, cursor.advance()).await? {
            rows.push(read(cursor.current())?);
        }
        Ok(rows)
    }
}
