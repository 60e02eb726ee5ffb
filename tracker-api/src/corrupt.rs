use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result};

/// A row of a store that cannot be read: a disk damaged it, or another program wrote it. It is put aside: reads leave it
/// out, and a write to it lands as on nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorruptRow {
    /// Which one: `topic:partition:offset` for an entry, `progress of topic:partition`, or the store's own key where not
    /// even that can be read.
    pub row: String,
    /// What is wrong with it, for a person. Never a payload.
    pub why: String,
}

/// The rows that a backend's handle has met and could not read since it was opened: what its
/// [`corrupt_rows`](crate::FailureTracker::corrupt_rows) answers. At most 1 000 are remembered.
#[derive(Debug, Default)]
pub struct CorruptRows(Mutex<BTreeMap<String, String>>);

impl CorruptRows {
    const MOST: usize = 1_000;

    /// The row, or none where it is corrupt: then it is remembered by the name that `row` makes. Other errors stay errors.
    ///
    /// # Errors
    ///
    /// Those of `read` that are not `Corrupt`.
    pub fn aside<T>(&self, row: impl FnOnce() -> String, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.met(row(), error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Remembers a row that cannot be read.
    pub fn met(&self, row: String, why: String) {
        let mut rows = self.rows();
        if rows.len() < Self::MOST || rows.contains_key(&row) {
            rows.insert(row, why);
        }
    }

    /// What is remembered, in the order of the rows' names.
    pub fn all(&self) -> Vec<CorruptRow> {
        let rows = self.rows();
        let all = rows.iter().map(|(row, why)| CorruptRow {
            row: row.clone(),
            why: why.clone(),
        });
        all.collect()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_corrupt_row_is_put_aside_by_name_and_an_outage_is_not() {
        let rows = CorruptRows::default();
        assert_eq!(rows.aside(|| "a".into(), Ok(1)).unwrap(), Some(1));
        let corrupt = Err::<u8, _>(Error::new(ErrorKind::Corrupt, "its checksum is another's"));
        assert_eq!(rows.aside(|| "orders:0:7".into(), corrupt).unwrap(), None);
        let away = Err::<u8, _>(Error::new(ErrorKind::Unavailable, "no answer"));
        assert!(rows.aside(|| "b".into(), away).is_err());
        let why = "its checksum is another's".to_owned();
        assert_eq!(
            rows.all(),
            [CorruptRow {
                row: "orders:0:7".into(),
                why
            }]
        );
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let rows = CorruptRows::default();
        (0..2_000).for_each(|n| rows.met(format!("orders:0:{n}"), String::new()));
        assert_eq!(rows.all().len(), CorruptRows::MOST);
    }
}
