use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::codec;

/// The keys of a namespace: one hash tag, so that they are on one slot, and a fixed number of them, so that every script
/// can declare all.
#[derive(Clone, Debug)]
pub(crate) struct Keys([String; 7]);

impl Keys {
    /// What each of them is.
    pub(crate) const TYPES: [&'static str; 7] = ["hash", "hash", "hash", "hash", "hash", "zset", "hash"];

    /// The name goes in as its hash, so that any text is safe in a key.
    pub(crate) fn of(name: &str) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        let tag: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            "format",
            "entries",
            "captured",
            "resolutions",
            "progress",
            "index",
            "aside",
        ];
        Self(parts.map(|part| format!("tracker:{{{tag}}}:{part}")))
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn format(&self) -> &str {
        let [format, ..] = &self.0;
        format
    }

    pub(crate) fn entries(&self) -> &str {
        let [_, entries, ..] = &self.0;
        entries
    }

    pub(crate) fn progress(&self) -> &str {
        let [_, _, _, _, progress, ..] = &self.0;
        progress
    }
}

/// For a person, the entry that a field of the key `entries` stands for.
pub(crate) fn entry_name(field: &[u8]) -> String {
    codec::read_id(field).map_or_else(|| field.escape_ascii().to_string(), |id| id.to_string())
}

/// The same of the key `progress`.
pub(crate) fn progress_name(field: &[u8]) -> String {
    let mut reader = codec::Reader::new(field);
    let partition = codec::read_partition(&mut reader).and_then(|read| reader.end(read));
    partition.map_or_else(
        || format!("progress of {}", field.escape_ascii()),
        |partition| format!("progress of {partition}"),
    )
}

/// A script, by its hash or by its text.
pub(crate) struct Script {
    code: String,
    inner: redis::Script,
    repeatable: bool,
}

impl Script {
    fn new(flags: &str, parts: &[&str]) -> Self {
        let code = format!("#!lua{flags}\n{}", parts.join("\n"));
        Self {
            inner: redis::Script::new(&code),
            code,
            repeatable: true,
        }
    }

    // Done twice, it answers something else than done once.
    fn only_once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    // A server whose memory is used up, whose disk is full or that is a replica refuses it before its first line.
    fn writing(parts: &[&str]) -> Self {
        Self::new("", parts)
    }

    // Also where the memory is used up: a purge is what helps then, and a service must be able to start for it.
    fn freeing(parts: &[&str]) -> Self {
        Self::new(" flags=allow-oom", parts)
    }

    fn reading(parts: &[&str]) -> Self {
        Self::new(" flags=no-writes", parts)
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// Whether it may be run again when its answer was lost. A claim may not: again, it would say that it did not take.
    pub(crate) fn may_be_repeated(&self) -> bool {
        self.repeatable
    }

    pub(crate) fn hash(&self) -> &str {
        self.inner.get_hash()
    }
}

const ROWS: &str = include_str!("scripts/rows.lua");
const SCAN: &str = include_str!("scripts/scan.lua");

pub(crate) static OPEN: LazyLock<Script> =
    LazyLock::new(|| Script::freeing(&[include_str!("scripts/open.lua")]));
pub(crate) static RECORD: LazyLock<Script> =
    LazyLock::new(|| Script::writing(&[ROWS, include_str!("scripts/record.lua")]));
pub(crate) static RESOLVE: LazyLock<Script> =
    LazyLock::new(|| Script::writing(&[ROWS, include_str!("scripts/resolve.lua")]).only_once());
pub(crate) static PURGE: LazyLock<Script> =
    LazyLock::new(|| Script::freeing(&[ROWS, include_str!("scripts/purge.lua")]).only_once());
pub(crate) static GET: LazyLock<Script> =
    LazyLock::new(|| Script::reading(&[ROWS, include_str!("scripts/get.lua")]));
pub(crate) static LIST: LazyLock<Script> =
    LazyLock::new(|| Script::reading(&[ROWS, SCAN, include_str!("scripts/list.lua")]));
pub(crate) static COUNT: LazyLock<Script> =
    LazyLock::new(|| Script::reading(&[ROWS, SCAN, include_str!("scripts/count.lua")]));
pub(crate) static GROUPS: LazyLock<Script> =
    LazyLock::new(|| Script::reading(&[ROWS, include_str!("scripts/groups.lua")]));

#[cfg(test)]
mod tests;
