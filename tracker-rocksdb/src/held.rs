//! What stands in the database, readable or not.

use rocksdb::WriteBatch;
use tracker_api::{Entry, Partition, Progress, RecordId, Result, Timestamp};

use crate::{
    backend::Tracker,
    codec, listing,
    store::{Family, Reader},
};

/// What stands at an entry's key.
pub(crate) enum Held {
    Nothing,
    Whole(Box<Entry>),
    /// The value, which cannot be read.
    Corrupt(Vec<u8>),
}

impl Held {
    pub(crate) fn whole(self) -> Option<Entry> {
        match self {
            Self::Whole(entry) => Some(*entry),
            Self::Nothing | Self::Corrupt(_) => None,
        }
    }
}

/// What a row whose key cannot be read is called.
pub(crate) fn key_name(key: &[u8]) -> String {
    format!("the key `{}`", key.escape_ascii())
}

impl Tracker {
    /// What stands at these ids, in their order.
    pub(crate) fn held(&self, reader: &Reader<'_>, ids: &[RecordId]) -> Result<Vec<Held>> {
        let family = reader.family(Family::Entries)?;
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| codec::record_key(self.number, id)).collect();
        let values = reader.db.multi_get_cf(keys.iter().map(|key| (family, key)));
        let mut found = Vec::with_capacity(ids.len());
        for ((id, key), value) in ids.iter().zip(&keys).zip(values) {
            let Some(value) = reader.ok(value)? else {
                found.push(Held::Nothing);
                continue;
            };
            let entry = self
                .corrupt
                .aside(|| id.to_string(), codec::decode_entry(key, &value))?;
            found.push(entry.map_or(Held::Corrupt(value), |entry| Held::Whole(Box::new(entry))));
        }
        Ok(found)
    }

    pub(crate) fn entry(&self, reader: &Reader<'_>, id: &RecordId) -> Result<Option<Entry>> {
        let held = self.held(reader, std::slice::from_ref(id))?.pop();
        Ok(held.and_then(Held::whole))
    }

    /// Keeps the bytes that stand at an entry's key and cannot be read, under a key of the default family, and takes out of
    /// the indexes what they say of it: without a value to read, they have to be looked through.
    pub(crate) fn set_aside(
        &self,
        reader: &Reader<'_>,
        batch: &mut WriteBatch,
        id: &RecordId,
        value: &[u8],
    ) -> Result<()> {
        let key = codec::record_key(self.number, id);
        batch.put([b"aside/", &key[..]].concat(), value);
        let prefix = codec::namespace_prefix(self.number);
        type Read = fn(&[u8]) -> Result<(Timestamp, RecordId)>;
        let indexes: [(Family, Read); 2] = [
            (Family::Newest, codec::timed_record_of),
            (Family::Age, codec::aged_record_of),
        ];
        for (family, read) in indexes {
            let to = codec::behind(&prefix);
            for item in listing::range(reader, family, &prefix, to.as_deref(), false)? {
                let (key, _) = item?;
                if read(&key).is_ok_and(|(_, indexed)| indexed == *id) {
                    batch.delete_cf(reader.family(family)?, &key);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn progress_of(&self, reader: &Reader<'_>, partition: &Partition) -> Result<Option<Progress>> {
        let key = codec::partition_key(self.number, partition);
        let value = reader.ok(reader.db.get_cf(reader.family(Family::Progress)?, &key))?;
        let Some(value) = value else { return Ok(None) };
        let name = || format!("the progress of {partition}");
        self.corrupt.aside(name, codec::decode_progress(&key, &value))
    }
}
