use mongodb::bson::{RawBsonRef, RawDocument};
use tracker_api::{Error, ErrorKind, Result};

/// A document that is read field by field; what is not as we write it is damage, and its error says where.
pub(crate) struct Row<'a> {
    document: &'a RawDocument,
    name: &'a str,
}

impl<'a> Row<'a> {
    pub(crate) fn new(document: &'a RawDocument, name: &'a str) -> Self {
        Self { document, name }
    }

    /// That a field is not what it should be. Never with what it is: that may be a payload.
    pub(crate) fn damaged(&self, field: &str, expected: &str) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "{} is damaged: its field `{field}` is not {expected}; another program wrote it: restore the document from a \
                 backup or delete it",
                self.name
            ),
        )
    }

    fn get(&self, field: &str) -> Option<RawBsonRef<'a>> {
        match self.document.get(field) {
            Ok(Some(RawBsonRef::Null)) | Ok(None) | Err(_) => None,
            Ok(Some(value)) => Some(value),
        }
    }

    fn read<T>(
        &self,
        field: &str,
        expected: &str,
        as_it_is: impl FnOnce(RawBsonRef<'a>) -> Option<T>,
    ) -> Result<T> {
        self.get(field)
            .and_then(as_it_is)
            .ok_or_else(|| self.damaged(field, expected))
    }

    pub(crate) fn maybe<T>(&self, field: &str, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.get(field).map(|_| read()).transpose()
    }

    pub(crate) fn text(&self, field: &str) -> Result<&'a str> {
        self.read(field, "text", RawBsonRef::as_str)
    }

    pub(crate) fn maybe_text(&self, field: &str) -> Result<Option<&'a str>> {
        self.maybe(field, || self.text(field))
    }

    pub(crate) fn flag(&self, field: &str) -> Result<bool> {
        self.read(field, "true or false", RawBsonRef::as_bool)
    }

    pub(crate) fn bytes(&self, field: &str) -> Result<&'a [u8]> {
        self.read(field, "bytes", |value| {
            value.as_binary().map(|binary| binary.bytes)
        })
    }

    pub(crate) fn maybe_bytes(&self, field: &str) -> Result<Option<&'a [u8]>> {
        self.maybe(field, || self.bytes(field))
    }

    // A person's shell may have narrowed a number; as long as it is whole, it is the same one.
    pub(crate) fn whole(&self, field: &str) -> Result<i64> {
        self.read(field, "a whole number", |value| match value {
            RawBsonRef::Int32(value) => Some(value.into()),
            RawBsonRef::Int64(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn small(&self, field: &str) -> Result<i32> {
        i32::try_from(self.whole(field)?).map_err(|_| self.damaged(field, "a number of 32 bits"))
    }

    pub(crate) fn maybe_whole(&self, field: &str) -> Result<Option<i64>> {
        self.maybe(field, || self.whole(field))
    }

    pub(crate) fn unsigned(&self, field: &str) -> Result<u64> {
        self.read(field, "a number from 0", |value| match value {
            RawBsonRef::Int32(value) => u64::try_from(value).ok(),
            RawBsonRef::Int64(value) => u64::try_from(value).ok(),
            RawBsonRef::Decimal128(value) => value.to_string().parse().ok(),
            _ => None,
        })
    }

    pub(crate) fn maybe_unsigned(&self, field: &str) -> Result<Option<u64>> {
        self.maybe(field, || self.unsigned(field))
    }

    /// The same document, called otherwise.
    pub(crate) fn named<'b>(&self, name: &'b str) -> Row<'b>
    where
        'a: 'b,
    {
        Row::new(self.document, name)
    }

    fn below(&self, document: &'a RawDocument) -> Row<'a> {
        Row::new(document, self.name)
    }

    pub(crate) fn row(&self, field: &str) -> Result<Row<'a>> {
        let document = self.read(field, "a document", RawBsonRef::as_document)?;
        Ok(self.below(document))
    }

    pub(crate) fn maybe_row(&self, field: &str) -> Result<Option<Row<'a>>> {
        self.maybe(field, || self.row(field))
    }

    /// Those of a list that older documents do not have: none.
    pub(crate) fn maybe_rows(&self, field: &str) -> Result<Vec<Row<'a>>> {
        Ok(self.maybe(field, || self.rows(field))?.unwrap_or_default())
    }

    pub(crate) fn rows(&self, field: &str) -> Result<Vec<Row<'a>>> {
        let list = self.read(field, "a list", RawBsonRef::as_array)?;
        let documents = list.into_iter().map(|item| match item {
            Ok(RawBsonRef::Document(document)) => Ok(self.below(document)),
            _ => Err(self.damaged(field, "a list of documents")),
        });
        documents.collect()
    }
}
