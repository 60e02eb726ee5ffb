use std::{
    collections::HashMap,
    ffi::CString,
    ops::Range,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    client::{Client, ClientContext},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    types::RDKafkaErrorCode as Code,
};
use tracker_api::Partition;

use super::{
    ClientKind, ClientSettings, Error, ErrorKind, KafkaCustomizer, Position, Positions, Result, Settings,
    Topic, consumer, context::Context, native, verdict,
};

/// Long enough for a coordinator to be found, short enough for a lane to go on polling.
const PATIENCE: Duration = Duration::from_secs(3);
/// Long enough for a coordinator that is known.
const SHORT: Duration = Duration::from_secs(1);

/// A lane asks this between two batches, and goes on without an answer.
const BRIEF: Duration = Duration::from_secs(1);

/// Reads what the group has committed, without being a member: for commands and the start-up probe.
pub struct Reader {
    committed: Committed,
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
        let client = settings.client(ClientKind::Reader, customizer)?;
        Ok(Self {
            committed: Committed::of(&client),
            base: consumer::create(&client)?,
        })
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
    async fn positions(&mut self, of: &[Partition]) -> Result<Vec<Option<Position>>> {
        self.committed.ask(&self.base, of)
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

/// Asks for C(p), each partition for itself.
///
/// librdkafka's own question is the one that follows a coordinator which moves, but it repeats itself until its timeout
/// while one offset is pending. Which one it is, the administrator's question answers at once; that one keeps to a
/// coordinator that has moved away, so it is asked second.
pub(super) struct Committed {
    group: Option<CString>,
    /// Whether an offset was pending when last asked.
    pending: bool,
}

impl Committed {
    pub(super) fn of(settings: &ClientSettings) -> Self {
        Self {
            group: settings.get("group.id").and_then(native::name),
            pending: false,
        }
    }

    /// C(p) and its note of each partition, in the order asked; none where an offset is pending.
    pub(super) fn ask<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        of: &[Partition],
    ) -> Result<Vec<Option<Position>>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let read = if self.pending {
            None
        } else {
            Some(together(consumer, of, PATIENCE))
        };
        let read = match read {
            Some(Ok(read)) => read,
            Some(Err(error)) if error.kind != ErrorKind::Retriable => return Err(error),
            asked => match (self.each(consumer, of), asked) {
                (Some(read), _) => read,
                (None, Some(Err(error))) => return Err(error),
                (None, _) => one_by_one(consumer, of)?,
            },
        };
        let positions: Vec<Option<Position>> = of.iter().map(|p| read.get(p).cloned().flatten()).collect();
        self.pending = positions.iter().any(Option::is_none);
        Ok(positions)
    }

    /// The administrator's question; none when it is not answered.
    fn each<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, of: &[Partition]) -> Option<Read> {
        let question = native::Question::committed(consumer.client(), self.group.as_ref()?, of);
        let answered = question.answer(SHORT)?.ok()?;
        let mut read = Read::new();
        for told in answered {
            let position = match told.error {
                None => Some(position(told.partition.clone(), told.offset, told.note)),
                Some(Code::UnstableOffsetCommit) => None,
                Some(_) => return None,
            };
            read.insert(told.partition, position);
        }
        of.iter()
            .all(|partition| read.contains_key(partition))
            .then_some(read)
    }
}

/// What was answered; none where an offset is pending.
type Read = HashMap<Partition, Option<Position>>;

fn position(partition: Partition, offset: i64, note: Option<String>) -> Position {
    let offset = (offset >= 0).then_some(offset);
    Position {
        partition,
        offset,
        note: note.filter(|_| offset.is_some()),
    }
}

/// One question for all of them. `Retriable` also while an offset of one is pending.
fn together<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of: &[Partition],
    patience: Duration,
) -> Result<Read> {
    let what = "reading committed offsets";
    let mut list = TopicPartitionList::with_capacity(of.len());
    for partition in of {
        list.add_partition(&partition.topic, partition.number);
    }
    let list = consumer
        .committed_offsets(list, patience)
        .map_err(|error| verdict::of_kafka(what, &error))?;
    let mut read = HashMap::with_capacity(of.len());
    for (element, note) in list.elements().iter().zip(native::notes(&list)) {
        let partition = Partition::new(element.topic(), element.partition());
        let offset = match (element.error(), element.offset()) {
            (Err(error), _) if error.rdkafka_error_code() == Some(Code::UnstableOffsetCommit) => {
                read.insert(partition, None);
                continue;
            }
            (Err(error), _) => return Err(verdict::of_kafka(&format!("{what} of {partition}"), &error)),
            (Ok(()), Offset::Offset(offset)) => offset,
            (Ok(()), _) => -1,
        };
        read.insert(partition.clone(), Some(position(partition, offset, note)));
    }
    if let Some(missing) = of.iter().find(|partition| !read.contains_key(*partition)) {
        return Err(Error {
            kind: ErrorKind::Retriable,
            message: format!("{what}: the broker did not speak of {missing}"),
        });
    }
    Ok(read)
}

/// Each alone, for as long as one question may take; what is not answered by then counts as pending. None answered:
/// the coordinator is away.
fn one_by_one<C: ConsumerContext>(consumer: &BaseConsumer<C>, of: &[Partition]) -> Result<Read> {
    let begun = Instant::now();
    let mut read = Read::new();
    let mut last = None;
    for partition in of.iter().take_while(|_| begun.elapsed() < PATIENCE) {
        match together(consumer, std::slice::from_ref(partition), SHORT) {
            Ok(one) => read.extend(one),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if read.is_empty() => Err(error),
        _ => Ok(read),
    }
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

/// Whether a broker answers that it knows no such topic.
pub(super) fn is_absent<C: ClientContext>(client: &Client<C>, topic: &str) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    let Ok(metadata) = client.fetch_metadata(Some(topic), PATIENCE) else {
        return false;
    };
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let error = found.and_then(|topic| topic.error());
    error.is_some_and(|error| {
        matches!(
            Code::from(error),
            Code::UnknownTopicOrPartition | Code::UnknownTopic
        )
    })
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
