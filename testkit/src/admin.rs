//! The few administrator's calls that tests and the demo need.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::{Offset, TopicPartitionList},
};

use crate::Result;

const PATIENCE: Duration = Duration::from_secs(30);

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "0");
    config
}

fn wait<T>(what: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(what))
}

/// Whether a broker answers there.
pub fn answers(bootstrap: &str) -> bool {
    client(bootstrap)
        .create::<BaseConsumer>()
        .and_then(|consumer| consumer.fetch_metadata(None, Duration::from_secs(2)))
        .is_ok_and(|metadata| !metadata.brokers().is_empty())
}

/// Creates a topic and waits until its partitions have a leader. One that exists already is an error.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let answers = std::thread::scope(|scope| {
        scope
            .spawn(|| wait(admin.create_topics(&[topic], &options)))
            .join()
            .map_err(|_| "creating a topic panicked")
    })???;
    for answer in answers {
        answer.map_err(|(topic, code)| format!("topic {topic} could not be created: {code}"))?;
    }
    let seen: BaseConsumer = client(bootstrap).create()?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let metadata = seen.fetch_metadata(Some(name), PATIENCE)?;
        let led = metadata
            .topics()
            .iter()
            .flat_map(|t| t.partitions())
            .filter(|p| p.leader() >= 0)
            .count();
        if i32::try_from(led)? == partitions {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("topic {name} has no leader yet after {} s", PATIENCE.as_secs()).into())
}

/// Creates a topic unless it is there.
pub fn ensure_topic(bootstrap: &str, name: &str, partitions: i32) -> Result<()> {
    let seen: BaseConsumer = client(bootstrap).create()?;
    let metadata = seen.fetch_metadata(None, PATIENCE)?;
    if metadata.topics().iter().any(|topic| topic.name() == name) {
        return Ok(());
    }
    create_topic(bootstrap, name, partitions, &[])
}

/// Raises a topic's number of partitions.
pub fn add_partitions(bootstrap: &str, name: &str, partitions: usize) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let more = NewPartitions::new(name, partitions);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let answers = wait(admin.create_partitions(&[more], &options))??;
    for answer in answers {
        answer.map_err(|(topic, code)| format!("{topic} could not get more partitions: {code}"))?;
    }
    Ok(())
}

/// Waits until a group has no members: a static one stays for its session's time.
pub fn wait_until_empty(bootstrap: &str, group: &str, patience: Duration) -> Result<()> {
    let seen: BaseConsumer = client(bootstrap).create()?;
    let begun = Instant::now();
    while begun.elapsed() < patience {
        let list = seen.fetch_group_list(Some(group), PATIENCE)?;
        if list.groups().iter().all(|g| g.members().is_empty()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(format!("group {group} still has members after {} s", patience.as_secs()).into())
}

/// Deletes a group once it has no members.
pub fn delete_group(bootstrap: &str, group: &str, patience: Duration) -> Result<()> {
    wait_until_empty(bootstrap, group, patience)?;
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for answer in wait(admin.delete_groups(&[group], &options))?? {
        answer.map_err(|(group, code)| format!("group {group} could not be deleted: {code}"))?;
    }
    Ok(())
}

/// Deletes what a partition of a topic holds, read or not.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, partition, Offset::End)?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let answers = wait(admin.delete_records(&all, &options))??;
    for element in answers.elements() {
        element
            .error()
            .map_err(|error| format!("{topic}:{partition} could not be emptied: {error}"))?;
    }
    Ok(())
}

/// Sets a group's offsets in `partitions` partitions of a topic to `offset`, as `kafka-consumer-groups --reset-offsets` does:
/// with no metadata. Waits until the last member is gone, as the broker refuses it before.
pub fn reset_offsets(bootstrap: &str, group: &str, topic: &str, partitions: i32, offset: i64) -> Result<()> {
    let tool: BaseConsumer = client(bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()?;
    let mut offsets = TopicPartitionList::new();
    for partition in 0..partitions {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    let begun = Instant::now();
    loop {
        match tool.commit(&offsets, CommitMode::Sync) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(format!("the offsets of {group} could not be reset: {error}").into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// Whether an error only says that the topic is not there.
pub fn is_unknown_topic(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}

/// Deletes topics, as well as it can.
pub fn delete_topics(bootstrap: &str, names: &[&str]) {
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let admin = client(bootstrap).create::<AdminClient<DefaultClientContext>>();
    if let Ok(admin) = admin
        && let Err(error) = wait(admin.delete_topics(names, &options)).and_then(|answer| Ok(answer?))
    {
        eprintln!("testkit: {} could not be deleted: {error}", names.join(", "));
    }
}
