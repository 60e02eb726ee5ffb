//! What a script's answer is taken apart with: each step answers none for another shape.

use redis::Value;

use crate::rows::Row;

pub(crate) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        Value::Nil => Some(Vec::new()),
        _ => None,
    }
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    optional(value)?
}

pub(crate) fn optional(value: Value) -> Option<Option<Vec<u8>>> {
    match value {
        Value::BulkString(bytes) => Some(Some(bytes)),
        Value::SimpleString(text) => Some(Some(text.into_bytes())),
        Value::Okay => Some(Some(b"OK".to_vec())),
        Value::Nil => Some(None),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

/// Lists of one length each.
pub(crate) fn lists<const N: usize>(value: Value) -> Option<[Vec<Value>; N]> {
    let lists: Vec<Vec<Value>> = list(value)?.into_iter().map(list).collect::<Option<_>>()?;
    lists.try_into().ok()
}

/// A list and what follows it.
pub(crate) fn list_and_rest(value: Value) -> Option<(Vec<Value>, Option<Vec<u8>>)> {
    let [found, rest] = <[Value; 2]>::try_from(list(value)?).ok()?;
    Some((list(found)?, optional(rest)?))
}

/// The marks of a call, one for each thing that was asked.
pub(crate) fn marks(value: Value, expected: usize) -> Option<Vec<bool>> {
    let marks: Vec<bool> = bytes(value)?.into_iter().map(|mark| mark == b'1').collect();
    (marks.len() == expected).then_some(marks)
}

/// Values in groups of `N`.
pub(crate) fn groups<const N: usize>(values: Vec<Value>) -> Option<Vec<[Value; N]>> {
    let mut values = values.into_iter();
    let mut groups = Vec::with_capacity(values.len() / N);
    while values.len() > 0 {
        let group: Vec<Value> = values.by_ref().take(N).collect();
        groups.push(group.try_into().ok()?);
    }
    Some(groups)
}

pub(crate) fn rows(values: Vec<Value>) -> Option<Vec<Row>> {
    let row = |[id, value, captured, resolution]: [Value; 4]| {
        Some(Row {
            id: bytes(id)?,
            value: bytes(value)?,
            captured: optional(captured)?,
            resolution: optional(resolution)?,
        })
    };
    groups(values)?.into_iter().map(row).collect()
}
