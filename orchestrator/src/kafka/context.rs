//! What rdkafka calls back while a consumer is polled. It only notes: the consumer answers afterwards.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};
use tracker_api::Partition;

use super::{Error, logs, plain::plain, presence::Coordinator, verdict};

/// A change of the assignment that was not answered yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
    Lost(Vec<Partition>),
}

/// Notes of one consumer.
#[derive(Debug, Default)]
pub(super) struct Context {
    noted: Mutex<VecDeque<Noted>>,
    errors: Mutex<Vec<(Code, String)>>,
    coordinator: Mutex<Coordinator>,
    /// Nobody will answer any more: the callback does.
    closing: AtomicBool,
}

impl Context {
    pub(super) fn has_noted(&self) -> bool {
        !self
            .noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    pub(super) fn next_noted(&self) -> Option<Noted> {
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// The errors since the last call, each once.
    pub(super) fn take_errors(&self) -> Vec<(Code, String)> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the client's statistics tell of its group's coordinator.
    pub(super) fn coordinator(&self) -> Coordinator {
        *self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.closing.store(true, SeqCst);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        logs::line(level as i32, facility, &plain(line));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let reason = plain(reason);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < 100 && !errors.iter().any(|(c, r)| *c == code && *r == reason) {
            errors.push((code, reason.into_owned()));
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let mut coordinator = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
        coordinator.tell(statistics, Instant::now());
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let noted = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Noted::Assigned(partitions(list)),
            _ if consumer.assignment_lost() => Noted::Lost(partitions(list)),
            _ => Noted::Revoked(partitions(list)),
        };
        if self.closing.load(SeqCst) {
            let answered = match noted {
                Noted::Assigned(_) => decline(consumer),
                _ => answer(consumer, &noted),
            };
            if let Err(error) = answered {
                logs::line(4, "CLOSE", &error.message);
            }
            return;
        }
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(noted);
    }
}

/// Gives back what was revoked or lost. librdkafka refuses the whole list when one of it was never started.
pub(super) fn answer(consumer: &BaseConsumer<Context>, noted: &Noted) -> Result<(), Error> {
    let error = |error: KafkaError| verdict::of_kafka("giving partitions back to the group", &error);
    let gone = match noted {
        Noted::Assigned(_) => return Ok(()),
        Noted::Revoked(gone) | Noted::Lost(gone) => gone,
    };
    if !matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
        return consumer.unassign().map_err(error);
    }
    let started = partitions(&consumer.assignment().map_err(error)?);
    let mut list = TopicPartitionList::with_capacity(gone.len());
    for partition in gone.iter().filter(|p| started.contains(p)) {
        list.add_partition(&partition.topic, partition.number);
    }
    consumer.incremental_unassign(&list).map_err(error)
}

/// Answers an assignment by starting nothing.
pub(super) fn decline(consumer: &BaseConsumer<Context>) -> Result<(), Error> {
    let nothing = TopicPartitionList::new();
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(&nothing),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&nothing),
    }
    .map_err(|error| verdict::of_kafka("declining partitions", &error))
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .map(|e| Partition::new(e.topic(), e.partition()))
        .collect()
}
