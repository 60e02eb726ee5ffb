//! The only unsafe code of the workspace: what rdkafka's safe interface does not offer.
//!
//! * a transactional [`Producer`] with interceptors, which say when a late copy of a request may still be under way; with
//!   header names as bytes; whose commit does not wait for the next 100 ms tick;
//! * the group's generation and member, without which the broker fences nobody;
//! * questions whose answers are waited for elsewhere, each partition for itself;
//! * notes and header names as bytes: rdkafka panics when they are not UTF-8;
//! * a topic's id, which tells a topic that was made again from the one before.
//!
//! Rules of this module: no panic may leave a callback (it would abort the process); whatever a callback reaches lives
//! until `rd_kafka_destroy` has returned; every pointer that librdkafka hands over is owned by exactly one value.

mod admin;
mod caller;
mod conf;
mod configs;
mod fields;
mod group;
#[cfg(test)]
pub(super) mod mock;
mod producer;
mod reading;
mod topic;
mod watch;

pub(super) use admin::{End, Question, name};
pub(super) use conf::check;
pub(super) use configs::topic_limits;
pub(super) use group::GroupMetadata;
pub(super) use producer::Producer;
pub(super) use reading::{each_header, notes, waiting};
pub(super) use topic::describe;
pub(super) use watch::Acks;

use std::ffi::{CStr, c_char};

use rdkafka::bindings as sys;

use super::verdict::TxnError;

/// Takes ownership of an error of librdkafka, if there is one.
///
/// # Safety
/// `error` is null or owned by the caller and not used afterwards.
unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), TxnError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, ours until it is destroyed here; the text is copied before that.
    unsafe {
        let taken = TxnError {
            code: sys::rd_kafka_error_code(error).into(),
            text: text(sys::rd_kafka_error_string(error)),
            fatal: sys::rd_kafka_error_is_fatal(error) != 0,
            abortable: sys::rd_kafka_error_txn_requires_abort(error) != 0,
            retriable: sys::rd_kafka_error_is_retriable(error) != 0,
        };
        sys::rd_kafka_error_destroy(error);
        Err(taken)
    }
}

/// A copy of a C string; empty for null.
///
/// # Safety
/// `text` is null or a C string that lives through the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with(".git") {
                    sources(&path, found);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn no_unsafe_code_but_in_this_module() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let here = root.join("orchestrator/src/kafka/native");
        let mut all = Vec::new();
        sources(root, &mut all);
        assert!(
            all.len() > 30,
            "the sources were not found under {}",
            root.display()
        );
        let words = [
            concat!("unsafe", " {"),
            concat!("unsafe", " fn"),
            concat!("unsafe", " impl"),
            concat!("allow(unsafe", "_code"),
        ];
        let mut allowed = 0;
        for path in all {
            let source = fs::read_to_string(&path).unwrap();
            for word in words {
                let found = source.matches(word).count();
                if path == root.join("orchestrator/src/kafka/mod.rs") && word.starts_with("allow") {
                    allowed += found;
                } else if !path.starts_with(&here) {
                    assert_eq!(found, 0, "`{word}` in {}", path.display());
                }
            }
        }
        assert_eq!(allowed, 1, "one allowance, on this module");
    }
}
