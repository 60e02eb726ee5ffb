//! A plain transactional consume-and-produce loop on stock librdkafka, honest unless told otherwise: what the kit is tried on
//! before it judges the service.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};
use testkit::{
    Result,
    check::DEDUP_KEY,
    orders::{FATE, Fate},
};

const CALL: Duration = Duration::from_secs(30);

/// How it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The 7th good order is read and not written.
    Drops,
    /// The 7th good order is written twice.
    Repeats,
    /// Of each batch the last is written first.
    Reorders,
    /// From the second batch on, no offsets are committed.
    KeepsOffsets,
    /// The 7th good order goes to the dead letters.
    FailsGood,
    /// Dead letters lose their last byte.
    TruncatesDeadLetters,
    /// The dedup header names the offset behind.
    MislabelsByOne,
    /// The second transaction is aborted after it was written, and done again.
    AbortsSecond,
}

#[derive(Debug)]
pub(crate) struct Copier<'a> {
    pub(crate) bootstrap: &'a str,
    pub(crate) source: &'a str,
    pub(crate) target: &'a str,
    pub(crate) dead_letters: &'a str,
    pub(crate) group: &'a str,
    pub(crate) batch: usize,
    pub(crate) fault: Fault,
}

impl Copier<'_> {
    /// Copies until every partition's end is reached.
    pub(crate) fn run(&self) -> Result<()> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap)
            .set("group.id", self.group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("log_level", "0")
            .create()?;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap)
            .set("transactional.id", format!("{}-copier", self.group))
            .set("partitioner", "murmur2_random")
            .set("transaction.timeout.ms", "15000")
            .set("retry.backoff.ms", "500")
            .set("log_level", "0")
            .create()?;
        producer.init_transactions(CALL)?;
        consumer.subscribe(&[self.source])?;
        let partitions = testkit::reader::partitions(&consumer, self.source)?.len();

        let (mut ended, mut good, mut number) = (0, 0, 0);
        while ended < partitions {
            let mut batch = Vec::new();
            while batch.len() < self.batch && ended < partitions {
                // a poll that served a rebalance returns early, with nothing
                let Some(polled) = (0..CALL.as_secs()).find_map(|_| consumer.poll(Duration::from_secs(1)))
                else {
                    return Err("nothing came".into());
                };
                match polled {
                    Ok(record) => batch.push(record),
                    Err(KafkaError::PartitionEOF(_)) => ended += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            if batch.is_empty() {
                break;
            }
            number += 1;
            if self.fault == Fault::Reorders {
                batch.reverse();
            }
            if self.fault == Fault::AbortsSecond && number == 2 {
                self.transaction(&consumer, &producer, &batch, &mut good.clone(), true, true)?;
            }
            let keeps = self.fault == Fault::KeepsOffsets && number > 1;
            self.transaction(&consumer, &producer, &batch, &mut good, !keeps, false)?;
        }
        Ok(())
    }

    fn transaction(
        &self,
        consumer: &BaseConsumer,
        producer: &BaseProducer,
        batch: &[BorrowedMessage<'_>],
        good: &mut usize,
        with_offsets: bool,
        abort: bool,
    ) -> Result<()> {
        producer.begin_transaction()?;
        let mut next = TopicPartitionList::new();
        for record in batch {
            self.copy(producer, record, good)?;
            let at = Offset::Offset(record.offset() + 1);
            match next.find_partition(self.source, record.partition()) {
                Some(mut element) => {
                    if element.offset().to_raw() < at.to_raw() {
                        element.set_offset(at)?;
                    }
                }
                None => next.add_partition_offset(self.source, record.partition(), at)?,
            }
        }
        producer.flush(CALL)?;
        if with_offsets {
            let member = consumer.group_metadata().ok_or("no member of a group")?;
            producer.send_offsets_to_transaction(&next, &member, CALL)?;
        }
        if abort {
            producer.abort_transaction(CALL)?;
        } else {
            producer.commit_transaction(CALL)?;
        }
        Ok(())
    }

    fn copy(&self, producer: &BaseProducer, record: &BorrowedMessage<'_>, good: &mut usize) -> Result<()> {
        let mut headers = OwnedHeaders::new();
        let mut fails = false;
        for header in record.headers().into_iter().flat_map(Headers::iter) {
            headers = headers.insert(Header {
                key: header.key,
                value: header.value,
            });
            if header.key == FATE {
                fails = std::str::from_utf8(header.value.unwrap_or_default())?
                    .parse::<Fate>()?
                    .fails();
            }
        }
        let mut times = 1;
        if !fails {
            *good += 1;
            match self.fault {
                Fault::Drops if *good == 7 => times = 0,
                Fault::Repeats if *good == 7 => times = 2,
                Fault::FailsGood if *good == 7 => fails = true,
                _ => {}
            }
        }
        let behind = i64::from(self.fault == Fault::MislabelsByOne);
        let from = format!(
            "{}:{}:{}",
            self.source,
            record.partition(),
            record.offset() + behind
        );
        headers = headers.insert(Header {
            key: DEDUP_KEY,
            value: Some(&from),
        });
        let mut value = record.payload().unwrap_or_default();
        if fails && self.fault == Fault::TruncatesDeadLetters {
            value = &value[..value.len() - 1];
        }
        let topic = if fails { self.dead_letters } else { self.target };
        for _ in 0..times {
            let mut copy = BaseRecord::to(topic)
                .key(record.key().unwrap_or_default())
                .payload(value)
                .headers(headers.clone());
            while let Err((error, unsent)) = producer.send(copy) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(20));
                copy = unsent;
            }
        }
        Ok(())
    }
}
