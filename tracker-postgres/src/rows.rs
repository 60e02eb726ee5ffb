//! Entries as columns of a statement, and rows as entries.

use std::fmt::Display;

use bytes::{BufMut, Bytes, BytesMut};
use sqlx::{
    Arguments, Decode, Encode, Postgres, Row, Type,
    error::UnexpectedNullError,
    postgres::{PgArguments, PgRow},
};
use tracker_api::{
    AttemptId, Captured, Claim, Decision, Entry, Error, ErrorKind, Failure, Header, Outcome, Partition,
    RecordId, Resolution, Result, Timestamp, Version,
};
use uuid::Uuid;

use crate::{error::corrupt, text};

/// The columns of the outcome half, and their types.
pub(crate) const OUTCOME: [(&str, &str); 19] = [
    ("topic", "text"),
    ("partition", "int4"),
    ("\"offset\"", "int8"),
    ("era", "int8"),
    ("term", "int8"),
    ("attempt", "uuid"),
    ("outcome", "int2"),
    ("at", "int8"),
    ("first_failed_at", "int8"),
    ("class", "text"),
    ("message", "text"),
    ("fingerprint", "int8"),
    ("tries", "int8"),
    ("passes", "bool"),
    ("next_try", "int8"),
    ("bytes_refused", "bool"),
    ("key", "bytea"),
    ("value", "bytea"),
    ("headers", "bytea"),
];

/// The columns of the resolution half, and their types.
pub(crate) const RESOLUTION: [(&str, &str); 12] = [
    ("revision", "int8"),
    ("decision", "int2"),
    ("replay", "uuid"),
    ("transactional_id", "text"),
    ("lease_until", "int8"),
    ("about_era", "int8"),
    ("about_term", "int8"),
    ("about_attempt", "uuid"),
    ("about_outcome", "int2"),
    ("actor", "text"),
    ("reason", "text"),
    ("decided_at", "int8"),
];

/// What a statement is given, in order.
#[derive(Default)]
pub(crate) struct Parameters(PgArguments);

impl From<Parameters> for PgArguments {
    fn from(parameters: Parameters) -> Self {
        parameters.0
    }
}

impl Parameters {
    pub(crate) fn add<'q, T>(&mut self, value: T) -> Result<()>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.0
            .add(value)
            .map_err(|_| Error::new(ErrorKind::Refused, "a value is too long for PostgreSQL"))
    }

    /// One column of an array.
    pub(crate) fn each<'q, 'i, I, T>(&mut self, items: &'i [I], of: impl Fn(&'i I) -> T) -> Result<()>
    where
        Vec<T>: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.add(items.iter().map(of).collect::<Vec<T>>())
    }

    pub(crate) fn ids<'i, I>(&mut self, items: &'i [I], of: impl Fn(&'i I) -> &'i RecordId) -> Result<()> {
        self.each(items, |item| text::stored(&of(item).partition.topic))?;
        self.each(items, |item| of(item).partition.number)?;
        self.each(items, |item| of(item).offset)
    }

    pub(crate) fn outcomes(&mut self, entries: &[Entry]) -> Result<()> {
        fn failure(entry: &Entry) -> Option<&Failure> {
            entry.failure.as_ref()
        }
        fn captured(entry: &Entry) -> Option<&Captured> {
            entry.captured.as_ref()
        }
        self.ids(entries, |entry| &entry.id)?;
        self.each(entries, |entry| entry.version.era.cast_signed())?;
        self.each(entries, |entry| entry.version.term.cast_signed())?;
        self.each(entries, |entry| entry.version.attempt.0)?;
        self.each(entries, |entry| entry.version.outcome as i16)?;
        self.each(entries, |entry| entry.at.0)?;
        self.each(entries, |entry| entry.first_failed_at.map(|at| at.0))?;
        self.each(entries, |entry| failure(entry).map(|f| text::stored(&f.class)))?;
        self.each(entries, |entry| failure(entry).map(|f| text::stored(&f.message)))?;
        self.each(entries, |entry| {
            failure(entry).map(|f| f.fingerprint.cast_signed())
        })?;
        self.each(entries, |entry| failure(entry).map(|f| i64::from(f.tries)))?;
        self.each(entries, |entry| failure(entry).map(|f| f.passes))?;
        self.each(entries, |entry| {
            failure(entry).and_then(|f| f.next_try).map(|at| at.0)
        })?;
        self.each(entries, |entry| failure(entry).map(|f| f.bytes_refused))?;
        self.each(entries, |entry| captured(entry).and_then(|c| c.key.as_deref()))?;
        self.each(entries, |entry| captured(entry).and_then(|c| c.value.as_deref()))?;
        self.each(entries, |entry| captured(entry).map(|c| headers(&c.headers)))
    }

    /// The resolutions of some items, each with the revision beside it.
    pub(crate) fn resolutions<'i, I>(
        &mut self,
        items: &'i [I],
        of: impl Fn(&'i I) -> (u64, Option<&'i Resolution>),
    ) -> Result<()> {
        let about = |item| of(item).1.map(|r| r.about);
        let claim = |item| match of(item).1.map(|r| &r.decision) {
            Some(Decision::Replaying(claim)) => Some(claim),
            _ => None,
        };
        self.each(items, |item| of(item).0.cast_signed())?;
        self.each(items, |item| of(item).1.map(|r| number_of(&r.decision)))?;
        self.each(items, |item| claim(item).map(|c| c.replay))?;
        self.each(items, |item| {
            claim(item).map(|c| text::stored(&c.transactional_id))
        })?;
        self.each(items, |item| claim(item).map(|c| c.lease_until.0))?;
        self.each(items, |item| about(item).map(|v| v.era.cast_signed()))?;
        self.each(items, |item| about(item).map(|v| v.term.cast_signed()))?;
        self.each(items, |item| about(item).map(|v| v.attempt.0))?;
        self.each(items, |item| about(item).map(|v| v.outcome as i16))?;
        self.each(items, |item| of(item).1.map(|r| text::stored(&r.actor)))?;
        self.each(items, |item| of(item).1.map(|r| text::stored(&r.reason)))?;
        self.each(items, |item| of(item).1.map(|r| r.at.0))
    }
}

fn number_of(decision: &Decision) -> i16 {
    match decision {
        Decision::Retry => 0,
        Decision::Skip => 1,
        Decision::Replaying(_) => 2,
        Decision::Replayed => 3,
        Decision::Discarded => 4,
    }
}

/// Headers so that two lists compare byte by byte as they do as lists: what decides between two captures of one record.
fn headers(headers: &[Header]) -> Vec<u8> {
    let mut stored = BytesMut::new();
    for header in headers {
        put(&mut stored, &header.name);
        stored.put_u8(u8::from(header.value.is_some()));
        if let Some(value) = &header.value {
            put(&mut stored, value);
        }
    }
    stored.into()
}

/// Bytes with an end that sorts below whatever may follow: a NUL is two bytes, 0 and 255; the end is two zeros.
fn put(stored: &mut BytesMut, bytes: &[u8]) {
    for byte in bytes {
        stored.put_u8(*byte);
        if *byte == 0 {
            stored.put_u8(0xff);
        }
    }
    stored.put_slice(&[0, 0]);
}

fn headers_of(stored: &[u8]) -> Option<Vec<Header>> {
    let mut rest = stored.iter().copied();
    let mut headers = Vec::new();
    while rest.len() > 0 {
        let name = take(&mut rest)?;
        let value = match rest.next()? {
            0 => None,
            1 => Some(take(&mut rest)?),
            _ => return None,
        };
        headers.push(Header { name, value });
    }
    Some(headers)
}

fn take(rest: &mut impl Iterator<Item = u8>) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    loop {
        match rest.next()? {
            0 => match rest.next()? {
                0 => return Some(bytes.freeze()),
                0xff => bytes.put_u8(0),
                _ => return None,
            },
            byte => bytes.put_u8(byte),
        }
    }
}

/// A row, read column by column.
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
    /// What the row is, for an error.
    what: String,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r PgRow, what: impl Into<String>) -> Self {
        Self {
            row,
            next: 0,
            what: what.into(),
        }
    }

    /// What the row is, as far as it was read.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn wrong(&self, why: impl Display) -> Error {
        let name = self.next.checked_sub(1).and_then(|i| self.row.columns().get(i));
        let name = name.map_or("?", sqlx::Column::name);
        corrupt(&self.what, &format!("its column `{name}` {why}"))
    }

    /// A column that is not of the type that the migrations made: every row's, so it is none that could be put aside.
    fn table_is_wrong(&self, error: &sqlx::Error) -> Error {
        let name = self.next.checked_sub(1).and_then(|i| self.row.columns().get(i));
        let name = name.map_or("?", sqlx::Column::name);
        let message = format!(
            "PostgreSQL: the column `{name}` of {} is not of the type that this program's tables have ({error}): somebody \
             altered the table; alter it back, or restore it from a backup",
            self.what
        );
        Error::new(ErrorKind::Config, message)
    }

    pub(crate) fn get<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T> {
        self.next += 1;
        let value = self.row.try_get::<T, usize>(self.next - 1);
        value.map_err(|error| match error {
            // This row's, and only this one's.
            sqlx::Error::ColumnDecode { source, .. } if source.is::<UnexpectedNullError>() => {
                self.wrong("is empty")
            }
            _ => self.table_is_wrong(&error),
        })
    }

    pub(crate) fn text(&mut self) -> Result<Option<String>> {
        let stored = self.get::<Option<&str>>()?;
        let read = stored
            .map(|stored| text::read(stored).ok_or_else(|| self.wrong("holds text that nobody stored so")));
        read.transpose()
    }

    /// A value of a column that is only empty where a whole half is.
    pub(crate) fn there<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.wrong("or one that belongs to it is empty"))
    }

    pub(crate) fn id(&mut self) -> Result<RecordId> {
        let topic = self.text()?;
        let topic = self.there(topic)?;
        Ok(Partition::new(topic, self.get()?).at(self.get()?))
    }

    fn outcome(&mut self) -> Result<Option<Outcome>> {
        Ok(match self.get::<Option<i16>>()? {
            None => None,
            Some(0) => Some(Outcome::Received),
            Some(1) => Some(Outcome::Failing),
            Some(2) => Some(Outcome::Failed),
            Some(3) => Some(Outcome::Succeeded),
            Some(other) => return Err(self.wrong(format_args!("holds {other}"))),
        })
    }

    fn version(&mut self) -> Result<Option<Version>> {
        let (era, term) = (self.get::<Option<i64>>()?, self.get::<Option<i64>>()?);
        let (attempt, outcome) = (self.get::<Option<Uuid>>()?, self.outcome()?);
        let (Some(era), Some(term), Some(attempt), Some(outcome)) = (era, term, attempt, outcome) else {
            return Ok(None);
        };
        Ok(Some(Version {
            era: era.cast_unsigned(),
            term: term.cast_unsigned(),
            attempt: AttemptId(attempt),
            outcome,
        }))
    }

    /// The columns of [`OUTCOME`] and [`RESOLUTION`].
    pub(crate) fn entry(&mut self) -> Result<Entry> {
        let id = self.id()?;
        self.what = id.to_string();
        let version = self.version()?;
        let mut entry = Entry::new(id, self.there(version)?, Timestamp(self.get()?));
        entry.first_failed_at = self.get::<Option<i64>>()?.map(Timestamp);
        entry.failure = self.failure()?;
        let (key, value) = (self.get::<Option<Vec<u8>>>()?, self.get::<Option<Vec<u8>>>()?);
        if let Some(stored) = self.get::<Option<&[u8]>>()? {
            let headers = headers_of(stored).ok_or_else(|| self.wrong("holds no headers"))?;
            entry.captured = Some(Captured {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers,
            });
        }
        entry.revision = self.get::<i64>()?.cast_unsigned();
        entry.resolution = self.resolution()?;
        Ok(entry)
    }

    fn failure(&mut self) -> Result<Option<Failure>> {
        let class = self.text()?;
        let message = self.text()?;
        let fingerprint = self.get::<Option<i64>>()?;
        let tries = self.get::<Option<i64>>()?;
        let passes = self.get::<Option<bool>>()?;
        let next_try = self.get::<Option<i64>>()?.map(Timestamp);
        let bytes_refused = self.get::<Option<bool>>()?;
        let Some(class) = class else { return Ok(None) };
        let tries =
            u32::try_from(self.there(tries)?).map_err(|_| self.wrong("is not of a number of tries"))?;
        Ok(Some(Failure {
            class,
            message: self.there(message)?,
            fingerprint: self.there(fingerprint)?.cast_unsigned(),
            tries,
            passes: self.there(passes)?,
            next_try,
            bytes_refused: self.there(bytes_refused)?,
        }))
    }

    fn resolution(&mut self) -> Result<Option<Resolution>> {
        let decision = self.get::<Option<i16>>()?;
        let replay = self.get::<Option<Uuid>>()?;
        let transactional_id = self.text()?;
        let lease_until = self.get::<Option<i64>>()?;
        let about = self.version()?;
        let actor = self.text()?;
        let reason = self.text()?;
        let at = self.get::<Option<i64>>()?;
        let Some(decision) = decision else { return Ok(None) };
        let decision = match decision {
            0 => Decision::Retry,
            1 => Decision::Skip,
            2 => Decision::Replaying(Claim {
                replay: self.there(replay)?,
                transactional_id: self.there(transactional_id)?,
                lease_until: Timestamp(self.there(lease_until)?),
            }),
            3 => Decision::Replayed,
            4 => Decision::Discarded,
            other => return Err(self.wrong(format_args!("and its decision {other} do not belong together"))),
        };
        Ok(Some(Resolution {
            decision,
            about: self.there(about)?,
            actor: self.there(actor)?,
            reason: self.there(reason)?,
            at: Timestamp(self.there(at)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, option, prelude::Strategy, proptest};
    use tracker_api::Header;

    use super::{headers, headers_of};

    fn lists() -> impl Strategy<Value = Vec<Header>> {
        let bytes = || vec(proptest::sample::select(vec![0_u8, 1, 2, 254, 255]), 0..4).prop_map(Bytes::from);
        vec(
            (bytes(), option::of(bytes())).prop_map(|(name, value)| Header { name, value }),
            0..4,
        )
    }

    proptest! {
        #[test]
        fn headers_come_back_and_keep_their_order(a in lists(), b in lists()) {
            assert_eq!(headers_of(&headers(&a)).as_ref(), Some(&a));
            assert_eq!(headers(&a).cmp(&headers(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn what_nobody_stored_is_not_read() {
        for foreign in [&b"a"[..], b"\0", b"\0\0", b"a\0\0\x02", b"a\0\x01", b"a\0\0\x01b"] {
            assert_eq!(headers_of(foreign), None, "{foreign:?}");
        }
    }
}
