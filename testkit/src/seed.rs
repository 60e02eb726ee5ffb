//! Produces orders into a source topic.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{
    Result,
    orders::{FATE, ID, Order, PLACE},
};

/// Produces these orders, partitioned by key as the Java clients do, and waits until all are acknowledged.
pub fn produce(bootstrap: &str, topic: &str, orders: impl Iterator<Item = Order>) -> Result<u64> {
    let seeder = Seeder::new(bootstrap)?;
    let mut count = 0;
    for order in orders {
        seeder.send(topic, &order)?;
        count += 1;
    }
    seeder.finish()?;
    Ok(count)
}

/// A producer of orders, for loads that go on while something else happens.
pub struct Seeder {
    producer: BaseProducer,
}

impl std::fmt::Debug for Seeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seeder").finish_non_exhaustive()
    }
}

impl Seeder {
    /// An idempotent producer: what it counts as sent is there exactly once.
    pub fn new(bootstrap: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "200000")
            .set("log_level", "3")
            .create()?;
        Ok(Self { producer })
    }

    /// Sends one order.
    pub fn send(&self, topic: &str, order: &Order) -> Result<()> {
        let place = order.place.to_string();
        let fate = order.fate.to_string();
        let headers = [(ID, &order.id), (FATE, &fate), (PLACE, &place)]
            .into_iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        let mut record = BaseRecord::to(topic)
            .key(&order.key)
            .payload(&order.value)
            .headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    self.producer.poll(Duration::from_millis(50));
                    record = unsent;
                }
                Err((error, _)) => return Err(format!("{} could not be produced: {error}", order.id).into()),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until everything is acknowledged.
    pub fn finish(&self) -> Result<()> {
        self.producer.flush(Duration::from_secs(60))?;
        let left = self.producer.in_flight_count();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} orders were not acknowledged within a minute").into())
        }
    }
}
