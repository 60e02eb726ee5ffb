//! What a consumer reports, in words that say where and what to do.

use rdkafka::{consumer::Consumer as _, error::KafkaError, types::RDKafkaErrorCode as Code};

use super::{Consumer, Error, ErrorKind, Membership, Result, verdict};

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
                // librdkafka does not name the partition: the logs do.
                Code::AutoOffsetReset => {
                    self.look.soon();
                    Error {
                        kind: ErrorKind::Refused,
                        message: format!("a partition of `{}` cannot be read on: {reason}", self.topic),
                    }
                }
                code => verdict::of_code(&format!("reading `{}`", self.topic), code, &reason),
            };
            if !self.errors.contains(&error) && self.errors.len() < 100 {
                self.errors.push(error);
            }
        }
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
