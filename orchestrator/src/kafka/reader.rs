use std::{collections::HashMap, ops::Range, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    client::{Client, ClientContext},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    types::RDKafkaErrorCode as Code,
};
use tracker_api::Partition;

use super::{
    ClientKind, Error, ErrorKind, KafkaCustomizer, Position, Positions, Result, Settings, Topic, consumer,
    context::Context, native, verdict,
};

/// Long enough for a coordinator to be found, short enough for a lane to go on polling.
const PATIENCE: Duration = Duration::from_secs(3);

/// A lane asks this between two batches, and goes on without an answer.
const BRIEF: Duration = Duration::from_secs(1);

/// Reads what the group has committed, without being a member: for commands and the start-up probe.
pub struct Reader {
    base: BaseConsumer<Context>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// A consumer with the group's id that never subscribes.
    pub fn connect(settings: &Settings, customizer: Option<&dyn KafkaCustomizer>) -> Result<Self> {
        let base = consumer::create(&settings.client(ClientKind::Reader, customizer)?)?;
        Ok(Self { base })
    }

    pub(super) fn client(&self) -> &Client<Context> {
        self.base.client()
    }

    /// The errors of the connection since the last call.
    pub(super) fn errors(&self) -> Vec<(Code, String)> {
        // Each poll serves one of them, or a line of the log.
        for _ in 0..100 {
            drop(self.base.poll(Duration::ZERO));
            if native::waiting(self.client()) == 0 {
                break;
            }
        }
        self.base.context().take_errors()
    }
}

impl Positions for Reader {
    async fn committed(&mut self, of: &[Partition]) -> Result<Vec<Position>> {
        committed(&self.base, of)
    }

    async fn topic(&mut self, name: &str) -> Result<Topic> {
        topic(self.base.client(), name)
    }

    async fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>> {
        partitions(self.base.client(), topic)
    }

    async fn bounds(&mut self, of: &[Partition]) -> Result<Vec<Range<i64>>> {
        bounds(self.base.client(), of)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.base.context().close();
    }
}

/// C(p) and its note of each partition, in the order asked.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of: &[Partition],
) -> Result<Vec<Position>> {
    let what = "reading committed offsets";
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(of.len());
    for partition in of {
        list.add_partition(&partition.topic, partition.number);
    }
    let list = consumer
        .committed_offsets(list, PATIENCE)
        .map_err(|error| verdict::of_kafka(what, &error))?;
    let mut read = HashMap::with_capacity(of.len());
    for (element, note) in list.elements().iter().zip(native::notes(&list)) {
        let partition = Partition::new(element.topic(), element.partition());
        element
            .error()
            .map_err(|error| verdict::of_kafka(&format!("{what} of {partition}"), &error))?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        read.insert(partition, (offset, note.filter(|_| offset.is_some())));
    }
    of.iter()
        .map(|partition| {
            let (offset, note) = read.get(partition).cloned().ok_or_else(|| Error {
                kind: ErrorKind::Retriable,
                message: format!("{what}: the broker did not speak of {partition}"),
            })?;
            Ok(Position {
                partition: partition.clone(),
                offset,
                note,
            })
        })
        .collect()
}

/// Which topic has this name now.
pub(super) fn topic<C: ClientContext>(client: &Client<C>, name: &str) -> Result<Topic> {
    let (numbers, broker) = described(client, name, BRIEF)?;
    let id = match native::describe(client, name, broker, BRIEF) {
        Ok(id) => id,
        // An old broker, or one that lets us read and not describe: no id, which is not a fault.
        Err(Code::UnsupportedFeature | Code::UnsupportedVersion | Code::TopicAuthorizationFailed) => None,
        Err(code) => {
            return Err(verdict::of_code(
                &format!("asking for the id of `{name}`"),
                code,
                "",
            ));
        }
    };
    Ok(Topic {
        id: id.map(written),
        partitions: i32::try_from(numbers.len()).unwrap_or(i32::MAX),
    })
}

/// An id as Kafka's tools write it: base64 for URLs, without padding.
fn written(id: u128) -> std::sync::Arc<str> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sixths = (0..22u32).map(|place| {
        let bits = match 122u32.checked_sub(6 * place) {
            Some(shift) => id >> shift,
            None => id << 4,
        };
        char::from(DIGITS[usize::try_from(bits & 63).unwrap_or(0)])
    });
    sixths.collect::<String>().into()
}

/// All partitions of a topic.
pub(super) fn partitions<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<Vec<Partition>> {
    let (numbers, _) = described(client, topic, PATIENCE)?;
    let topic: std::sync::Arc<str> = topic.into();
    Ok(numbers
        .into_iter()
        .map(|n| Partition::new(topic.clone(), n))
        .collect())
}

/// The numbers of a topic's partitions, and the broker that said so.
fn described<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    patience: Duration,
) -> Result<(Vec<i32>, i32)> {
    let what = format!("asking for the partitions of `{topic}`");
    let metadata = client
        .fetch_metadata(Some(topic), patience)
        .map_err(|error| verdict::of_kafka(&what, &error))?;
    let found = metadata
        .topics()
        .iter()
        .find(|t| t.name() == topic)
        .ok_or_else(|| Error {
            kind: ErrorKind::Retriable,
            message: format!("{what}: the broker did not speak of it"),
        })?;
    if let Some(error) = found.error() {
        return Err(verdict::of_code(&what, error.into(), ""));
    }
    let mut numbers: Vec<_> = found.partitions().iter().map(|p| p.id()).collect();
    numbers.sort_unstable();
    Ok((numbers, metadata.orig_broker_id()))
}

/// The first offset of each log and the one behind its last visible record.
pub(super) fn bounds<C: ClientContext>(client: &Client<C>, of: &[Partition]) -> Result<Vec<Range<i64>>> {
    of.iter()
        .map(|partition| {
            let (low, high) = client
                .fetch_watermarks(&partition.topic, partition.number, PATIENCE)
                .map_err(|error| verdict::of_kafka(&format!("asking for the ends of {partition}"), &error))?;
            Ok(low..high)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn an_id_is_written_as_kafkas_tools_write_it() {
        // What `kafka-topics.sh --describe` prints for these bytes.
        let id = uuid::Uuid::from_bytes([
            0x8a, 0xf3, 0x01, 0x62, 0x5c, 0x7b, 0x4d, 0x9e, 0xa0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
        ]);
        assert_eq!(&*written(id.as_u128()), "ivMBYlx7TZ6gESIzRFVmdw");
        assert_eq!(&*written(u128::MAX), "_____________________w");
    }
}
