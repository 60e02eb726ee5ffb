//! What a consumer reports, in words that say where and what to do.

use std::time::{Duration, Instant};

use rdkafka::{consumer::Consumer as _, error::KafkaError, types::RDKafkaErrorCode as Code};

use super::{Consumer, Error, ErrorKind, Membership, Polled, Result, verdict};

/// librdkafka tells an error that is the same as the last one each 30 s, while it connects again and again.
const SAID_AGAIN: Duration = Duration::from_secs(45);

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
                Code::InconsistentGroupProtocol => Error {
                    kind: ErrorKind::Refused,
                    message: format!(
                        "another member of group `{}` uses another `partition.assignment.strategy` or `group.protocol` \
                         than we (`{}`): stop it, or set both alike in `kafka.consumer` ({reason})",
                        self.group, self.strategy
                    ),
                },
                code => {
                    let mut error = verdict::of_code(&format!("reading `{}`", self.topic), code, &reason);
                    if let Some(look_at) = verdict::refusal(code) {
                        error.message += &format!(". {look_at}");
                    }
                    error
                }
            };
            if code == Code::InconsistentGroupProtocol || verdict::refusal(code).is_some() {
                self.refused = Some((Instant::now(), error.message.clone()));
            }
            if !self.errors.contains(&error) && self.errors.len() < 100 {
                self.errors.push(error);
            }
        }
    }

    /// Why the broker or the group refuses us, until it took us back: records or an assignment came, or it was silent for
    /// longer than librdkafka keeps quiet about what it has said already.
    pub(in crate::kafka) fn refusal(&mut self, polled: &Polled) -> Option<String> {
        let over = !polled.records.is_empty() || !polled.membership.is_empty();
        self.refused
            .take_if(|(since, _)| over || since.elapsed() > SAID_AGAIN);
        self.refused.as_ref().map(|(_, why)| why.clone())
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
