use std::sync::Arc;

use async_trait::async_trait;
use tracker_api::{
    Change, CorruptRow, Entry, Error, ErrorKind, FailureTracker, Group, Namespace, Page, Progress, Purgeable,
    Query, RecordId, Result, Risk, Timestamp, coalesce, coalesce_whole,
};

use crate::{
    answer, codec,
    error::{corrupt, too_late},
    link::Link,
    listing,
    promise::{self, Terms},
    rows, script,
};

/// The format of what is stored; a newer one is refused. In format 1 a partition's progress does not say who wrote it; it is
/// read as it is, and the namespace is of this format from then on.
pub(crate) const FORMAT: u32 = 2;
const READ: std::ops::RangeInclusive<u32> = 1..=FORMAT;
/// Bytes of entries that one call sends at most; more of them are more calls.
const AT_ONCE: usize = 256 << 20;
/// Entries that one call of a purge deletes, and unfinished ones that it looks at, at most.
const PURGED_AT_ONCE: usize = 1_000;
const LOOKED_AT: usize = 10_000;

/// One namespace in a server.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    link: Arc<Link>,
    /// How many bytes the server takes in one string.
    largest: usize,
}

impl Tracker {
    pub(crate) async fn open(link: Arc<Link>, namespace: &Namespace) -> Result<Self> {
        let Terms { largest, .. } = promise::terms(&link).await?;
        claim(&link, namespace).await?;
        Ok(Self { link, largest })
    }

    fn damaged(&self, what: &str) -> Error {
        corrupt(what, self.link.shown())
    }

    /// Writes entries that occur once each; answers for each whether it stands.
    async fn write(&self, whole: bool, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let mut stand = Vec::with_capacity(entries.len());
        let mut rows = entries
            .iter()
            .map(|entry| row(entry, whole, self.largest))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .peekable();
        loop {
            // Progress goes with the last part: it says that the entries are there.
            let mut part = Vec::new();
            let mut size = 0;
            while let Some(next) = rows.next_if(|next| part.is_empty() || size + weight(next) <= AT_ONCE) {
                size += weight(&next);
                part.push(next);
            }
            let last = rows.peek().is_none();
            let progress = if last { progress } else { &[] };
            let mut arguments = vec![
                if whole {
                    b"import".to_vec()
                } else {
                    b"record".to_vec()
                },
                progress.len().to_string().into_bytes(),
            ];
            for row in progress {
                arguments.push(codec::partition(&row.partition));
                arguments.push(rows::progress(row));
            }
            let count = part.len();
            arguments.extend(part.into_iter().flatten());
            let doing = if whole { "importing" } else { "recording" };
            let answer = self.link.run(&script::RECORD, doing, &arguments).await?;
            let answered = self.recorded(answer, count);
            stand.extend(answered.ok_or_else(|| self.damaged("a record's answer"))?);
            if last {
                return Ok(stand);
            }
        }
    }

    /// The marks of a record's answer; what it says it has put aside is remembered.
    fn recorded(&self, answer: redis::Value, count: usize) -> Option<Vec<bool>> {
        let redis::Value::Array(parts) = answer else {
            return answer::marks(answer, count);
        };
        let mut parts = parts.into_iter();
        let marks = answer::marks(parts.next()?, count);
        for part in parts {
            match answer::bytes(part)?.split_first()? {
                (b'e', field) => listing::met_corrupt(&self.link, field),
                (_, field) => {
                    let key = self.link.keys().progress();
                    self.link.met_corrupt(script::progress_name(field), key);
                }
            }
        }
        marks
    }

    async fn held(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<Vec<u8>> = ids.iter().map(codec::id).collect();
        let answer = self.link.run(&script::GET, "reading", &keys).await?;
        let lists =
            answer::lists::<3>(answer).filter(|lists| lists.iter().all(|list| list.len() == ids.len()));
        let [values, captured, resolutions] = lists.ok_or_else(|| self.damaged("an answer"))?;
        let mut found = Vec::with_capacity(ids.len());
        for (((id, value), captured), resolution) in
            keys.into_iter().zip(values).zip(captured).zip(resolutions)
        {
            let parts = [value, captured, resolution].map(answer::optional);
            let [Some(value), Some(captured), Some(resolution)] = parts else {
                return Err(self.damaged("an answer"));
            };
            let Some(value) = value else {
                found.push(None);
                continue;
            };
            let row = rows::Row {
                id,
                value,
                captured,
                resolution,
            };
            found.push(listing::read(&self.link, &row));
        }
        Ok(found)
    }
}

/// Makes the namespace where there is none, and refuses one of another format or cluster.
async fn claim(link: &Link, namespace: &Namespace) -> Result<()> {
    let cluster = namespace.cluster.as_deref().unwrap_or_default();
    let arguments = [FORMAT.to_string(), namespace.name.clone(), cluster.to_owned()];
    let answer = link
        .run(&script::OPEN, "opening", &arguments.map(String::into_bytes))
        .await?;
    let damaged = || corrupt(format!("the key `{}`", link.keys().format()), link.shown());
    let held: Option<Vec<_>> =
        answer::list(answer).and_then(|held| held.into_iter().map(answer::optional).collect());
    let [format, name, cluster] = <[_; 3]>::try_from(held.ok_or_else(damaged)?).map_err(|_| damaged())?;
    let Some(format) = format else {
        return Ok(());
    };
    let read = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| damaged());
    let number: u32 = read(format)?.parse().map_err(|_| damaged())?;
    if !READ.contains(&number) {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "the namespace `{}` at {} is of format {number}, this program reads and writes {FORMAT}: use a program that \
                 knows it, or another namespace",
                namespace.name.escape_debug(),
                link.shown()
            ),
        ));
    }
    if name.as_deref() != Some(namespace.name.as_bytes()) {
        return Err(damaged());
    }
    let cluster = cluster.map(read).transpose()?;
    namespace.admit(cluster.as_deref().filter(|cluster| !cluster.is_empty()))
}

/// An entry as the script reads it.
fn row(entry: &Entry, whole: bool, largest: usize) -> Result<Vec<Vec<u8>>> {
    let mut row = vec![
        codec::id(&entry.id),
        entry
            .first_failed_at
            .map_or_else(Vec::new, |at| codec::ordered(at.0).to_vec()),
        rows::rank(entry),
        entry.captured.as_ref().map_or_else(Vec::new, rows::captured),
    ];
    if whole {
        row.push(rows::resolution_row(entry));
    }
    match row.iter().map(Vec::len).max() {
        Some(size) if size > largest => Err(Error::new(
            ErrorKind::Refused,
            format!(
                "the entry {} has a part of {size} bytes, more than the server takes in one string ({largest}, its \
                 `proto-max-bulk-len`)",
                entry.id.to_string().escape_debug()
            ),
        )),
        _ => Ok(row),
    }
}

fn weight(row: &[Vec<u8>]) -> usize {
    row.iter().map(Vec::len).sum()
}

#[async_trait]
impl FailureTracker for Tracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        if entries.is_empty() && progress.is_empty() {
            return Ok(Vec::new());
        }
        let fresh = coalesce(entries);
        let stand = self.write(false, &fresh, progress).await?;
        let stands = |entry: &Entry| {
            let place = fresh.binary_search_by(|fresh| fresh.id.cmp(&entry.id)).ok();
            let found = place.and_then(|place| Some((fresh.get(place)?, *stand.get(place)?)));
            found.is_some_and(|(fresh, stands)| stands && fresh.version == entry.version)
        };
        Ok(entries.iter().map(stands).collect())
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        if entries.is_empty() && progress.is_empty() {
            return Ok(());
        }
        self.write(true, &coalesce_whole(entries), progress).await?;
        Ok(())
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = Vec::with_capacity(changes.len() * 3);
        for change in changes {
            arguments.push(codec::id(&change.id));
            arguments.push(change.revision.to_be_bytes().to_vec());
            arguments.push(rows::resolution(change.to.as_ref()));
        }
        let answer = self.link.run(&script::RESOLVE, "resolving", &arguments).await?;
        answer::marks(answer, changes.len()).ok_or_else(|| self.damaged("a resolution's answer"))
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        let key = self.link.keys().progress();
        let answer = self
            .link
            .send("reading progress", redis::cmd("HGETALL").arg(key))
            .await?;
        let damaged = || self.damaged(&format!("the key `{key}`"));
        let pairs = answer::list(answer)
            .and_then(answer::groups::<2>)
            .ok_or_else(damaged)?;
        let mut rows = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let [Some(partition), Some(row)] = pair.map(answer::bytes) else {
                return Err(damaged());
            };
            match rows::read_progress(&partition, &row) {
                Some(row) => rows.push(row),
                None => self.link.met_corrupt(script::progress_name(&partition), key),
            }
        }
        rows.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(rows)
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.held(ids).await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        listing::page(&self.link, query).await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        listing::groups(&self.link, query).await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        let (kind, look) = match what {
            Purgeable::Succeeded => ("s", PURGED_AT_ONCE),
            Purgeable::Resolved => ("r", PURGED_AT_ONCE),
            Purgeable::Superseded => ("u", LOOKED_AT),
        };
        let mut gone = 0;
        let mut from = Vec::new();
        while gone < limit {
            let arguments = [
                kind.as_bytes().to_vec(),
                codec::ordered(before.0).to_vec(),
                (limit - gone).min(PURGED_AT_ONCE).to_string().into_bytes(),
                look.to_string().into_bytes(),
                from,
            ];
            let answer = self.link.run(&script::PURGE, "purging", &arguments).await?;
            let answer = answer::list(answer).and_then(|parts| <[_; 2]>::try_from(parts).ok());
            let Some([redis::Value::Int(deleted), rest]) = answer else {
                return Err(self.damaged("a purge's answer"));
            };
            gone += usize::try_from(deleted).unwrap_or(0);
            match answer::optional(rest).flatten() {
                Some(rest) => from = rest,
                None => break,
            }
        }
        Ok(gone as u64)
    }

    async fn ping(&self) -> Result<()> {
        // A write, so that it finds a replica, a full memory and a full disk.
        let mut write = redis::cmd("HSET");
        write.arg(self.link.keys().format()).arg("ping").arg("");
        self.link.send("pinging", &write).await?;
        Ok(())
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.link.corrupt().all()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        Ok(promise::terms(&self.link).await?.risks)
    }
}

/// Opens a namespace within the time that a connection may take.
pub(crate) async fn open(link: Arc<Link>, namespace: &Namespace) -> Result<Tracker> {
    let within = link.connect_timeout();
    let opened = tokio::time::timeout(within, Tracker::open(Arc::clone(&link), namespace)).await;
    opened.map_err(|_| too_late("opening", link.shown(), within))?
}
