//! What a consumer reports, in words that say where and what to do.

use std::collections::BTreeMap;

use rdkafka::{consumer::Consumer as _, error::KafkaError, types::RDKafkaErrorCode as Code};

use super::{Consumer, Error, ErrorKind, Membership, Result, reader, verdict};

impl Consumer {
    pub(super) fn note_error(&mut self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(Code::PollExceeded) {
            let all = self.owned.keys().cloned().collect();
            self.give_up(all, Membership::Lost);
        }
        self.collect_errors();
    }

    pub(super) fn collect_errors(&mut self) {
        for (code, reason) in self.base.context().take_errors() {
            let error = match code {
                Code::AutoOffsetReset => Error {
                    kind: ErrorKind::Refused,
                    message: format!(
                        "{} ({reason}). Records were deleted before they were read, or the topic was made anew: reset the \
                         group's offset to where reading is to go on",
                        self.outside()
                    ),
                },
                code => verdict::of_code(&format!("reading `{}`", self.topic), code, &reason),
            };
            if !self.errors.contains(&error) && self.errors.len() < 100 {
                self.errors.push(error);
            }
        }
    }

    /// Names the partitions that cannot be read on: librdkafka does not.
    fn outside(&self) -> String {
        let next: BTreeMap<i32, i64> = self
            .base
            .position()
            .iter()
            .flat_map(|list| {
                list.elements()
                    .into_iter()
                    .map(|e| (e.partition(), e.offset()))
                    .collect::<Vec<_>>()
            })
            .filter_map(|(number, offset)| Some((number, offset.to_raw().filter(|o| *o >= 0)?)))
            .collect();
        let mut outside = Vec::new();
        for (partition, owned) in self.owned.iter().filter(|(_, owned)| owned.started) {
            let offset = next.get(&partition.number).copied().unwrap_or(owned.from);
            let bounds = reader::bounds(self.client(), std::slice::from_ref(partition));
            if let Ok([log]) = bounds.as_deref()
                && (offset < log.start || offset > log.end)
            {
                outside.push(format!("{partition} at offset {offset}, its log holds {log:?}"));
            }
        }
        if outside.is_empty() {
            outside.push(format!("a partition of `{}`", self.topic));
        }
        format!(
            "the offset to read next is not in the log of {}",
            outside.join("; ")
        )
    }

    pub(super) fn check_fatal(&self) -> Result<()> {
        match self.client().fatal_error() {
            None => Ok(()),
            Some((Code::FencedInstanceId, reason)) => Err(Error {
                kind: ErrorKind::Fenced,
                message: format!(
                    "another process has our static member id: give each a different `instance` ({reason})"
                ),
            }),
            Some((code, reason)) => Err(Error {
                kind: ErrorKind::Fatal,
                message: format!("the consumer of `{}` has failed: {reason} ({code:?})", self.topic),
            }),
        }
    }
}
