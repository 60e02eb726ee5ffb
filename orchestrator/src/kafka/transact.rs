//! One attempt, from the group's metadata to the commit, and what becomes of one whose outcome is unknown.

use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, types::RDKafkaErrorCode as Code};
use tracker_api::Partition;

use super::{
    Aborted, Attempt, Committed, Error, ErrorKind, Recycle, Result, Settled,
    native::{Acks, GroupMetadata, Producer},
    reader,
    session::KafkaSession,
    verdict::{self, TxnError, Verdict},
};
use crate::note::{self, Reading};

/// Before this a broker may not know yet that it has partitions to abort.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// Why an open transaction cannot be committed.
enum Stop {
    /// This record cannot be sent.
    Refused(usize, Error),
    /// A broker refused several records together: one of them is too large, or their sum.
    Company(Error),
    Late(Error),
    Failed(&'static str, TxnError),
}

/// How long the parts of a commit took.
#[derive(Clone, Copy)]
struct Times {
    acknowledged: Duration,
    offsets: Duration,
    commit: Duration,
}

pub(super) fn transact(session: &mut KafkaSession, attempt: &Attempt) -> Result<Committed, Aborted> {
    let offsets = offsets(attempt).map_err(Aborted::Aborted)?;
    session.producer.ready().map_err(not_begun)?;
    let served = session.consumer.serve();
    served.map_err(|error| not_begun(session.presence.read(error, Instant::now())))?;
    let lost = session
        .consumer
        .lost_of(attempt.advance.iter().map(|a| &a.partition));
    if !lost.is_empty() {
        return Err(Aborted::LostPartitions(lost));
    }
    // From here to the offsets nothing polls the consumer: a newer generation would vouch for older records.
    let Some(group) = GroupMetadata::of(session.consumer.client()) else {
        return Err(Aborted::NotMember(Error {
            kind: ErrorKind::Retriable,
            message: "this consumer is no member of the group now".into(),
        }));
    };
    let begun = Instant::now();
    let deadline = begun + session.call_limit;
    let producer = session.producer.ready().map_err(not_begun)?;
    let prepared = prepare(producer, attempt, &offsets, &group, deadline);
    let (acknowledged, offsets) = match prepared {
        Ok(times) => times,
        Err(stop) => return Err(give_up(session, attempt, begun, stop)),
    };
    let asked = Instant::now();
    let until = asked + session.call_limit;
    let mut answer = producer.commit(left(until));
    if answer.as_ref().is_err_and(|e| e.verdict() == Verdict::Again) {
        answer = producer.commit(left(until));
    }
    let times = Times {
        acknowledged,
        offsets,
        commit: asked.elapsed(),
    };
    match answer {
        Ok(()) => Ok(committed(session, attempt, times)),
        Err(error) => Err(unknown(session, begun, "committing", &error)),
    }
}

/// Begins, sends, waits for every acknowledgement, sends the offsets.
fn prepare(
    producer: &mut Producer,
    attempt: &Attempt,
    offsets: &TopicPartitionList,
    group: &GroupMetadata,
    deadline: Instant,
) -> Result<(Duration, Duration), Stop> {
    producer
        .begin()
        .map_err(|error| Stop::Failed("beginning a transaction", error))?;
    for (index, send) in attempt.sends.iter().enumerate() {
        while let Err(error) = producer.send(send, index) {
            match error.code {
                Code::QueueFull if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                Code::QueueFull => return Err(late("the producer's queue stayed full")),
                code if verdict::is_of_the_record(code) => {
                    let why = verdict::of_code(&format!("sending to `{}`", send.topic), code, &error.text);
                    return Err(Stop::Refused(index, why));
                }
                _ => {
                    let cause = producer.fatal().unwrap_or(error);
                    return Err(Stop::Failed("sending", cause));
                }
            }
        }
    }
    let sent = Instant::now();
    let acks = producer.wait(attempt.sends.len(), deadline);
    delivered(producer, attempt)?;
    if acks == Acks::Late {
        return Err(late(&format!(
            "{} of {} records were acknowledged in time",
            producer.answered(),
            attempt.sends.len()
        )));
    }
    let acknowledged = sent.elapsed();
    let asked = Instant::now();
    let mut answer = producer.send_offsets(offsets, group, left(deadline));
    while answer.as_ref().is_err_and(|e| e.verdict() == Verdict::Again) && Instant::now() < deadline {
        answer = producer.send_offsets(offsets, group, left(deadline));
    }
    answer.map_err(|error| Stop::Failed("committing offsets", error))?;
    Ok((acknowledged, asked.elapsed()))
}

fn late(what: &str) -> Stop {
    Stop::Late(Error {
        kind: ErrorKind::Retriable,
        message: what.to_owned(),
    })
}

fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(100))
}

/// Fails when a record was not delivered.
fn delivered(producer: &Producer, attempt: &Attempt) -> Result<(), Stop> {
    let failed = producer.failed();
    let Some((index, code)) = failed
        .iter()
        .find(|(_, code)| verdict::is_of_the_record(*code))
        .or_else(|| failed.first())
        .copied()
    else {
        return Ok(());
    };
    if let Some(error) = producer.fatal() {
        return Err(Stop::Failed("delivering", error));
    }
    let topic = attempt.sends.get(index).map_or("?", |send| &*send.topic);
    let why = verdict::of_code(&format!("delivering to `{topic}`"), code, "");
    if !verdict::is_of_the_record(code) {
        return Err(Stop::Late(why));
    }
    let alike = failed.iter().filter(|(_, other)| *other == code).count();
    if alike > 1 && verdict::is_of_the_company(code) {
        return Err(Stop::Company(why));
    }
    Err(Stop::Refused(index, why))
}

/// Nothing was begun.
fn not_begun(error: Error) -> Aborted {
    match error.kind {
        ErrorKind::Fenced => Aborted::Fenced(error),
        _ => Aborted::Aborted(error),
    }
}

/// Ends what was begun and cannot be committed.
fn give_up(session: &mut KafkaSession, attempt: &Attempt, begun: Instant, stop: Stop) -> Aborted {
    let answer = match stop {
        Stop::Failed(what, error) => match error.verdict() {
            Verdict::Fenced
                if session
                    .producer
                    .is_fenced(&error, begun.elapsed(), session.transaction_timeout) =>
            {
                return Aborted::Fenced(session.producer.fenced(&error));
            }
            Verdict::Fenced | Verdict::Replace => return unknown(session, begun, what, &error),
            Verdict::NotMember => Aborted::NotMember(error.during(what)),
            Verdict::Abort | Verdict::Again | Verdict::Refused => Aborted::Aborted(error.during(what)),
        },
        Stop::Refused(send, why) => Aborted::Refused { send, why },
        Stop::Company(why) => {
            session.producer.smaller_batches();
            Aborted::Aborted(Error {
                kind: ErrorKind::Retriable,
                ..why
            })
        }
        Stop::Late(why) => Aborted::Aborted(why),
    };
    session.stats.aborted();
    if let Ok(producer) = session.producer.ready()
        && let Err(error) = abort(producer, attempt)
    {
        tracing::warn!("{}: the next producer ends it", error.during("aborting"));
        session.producer.discard();
    }
    replace(session, Recycle::Abort);
    answer
}

fn abort(producer: &Producer, attempt: &Attempt) -> Result<(), TxnError> {
    if !attempt.sends.is_empty() && producer.answered() == 0 {
        // Nothing was sent at all, or an answer comes soon.
        producer.wait_for_one(Instant::now() + FIRST_ANSWER);
    }
    let timeout = Duration::from_secs(5);
    match producer.abort(timeout) {
        Err(error) if error.verdict() == Verdict::Again => producer.abort(timeout),
        answer => answer,
    }
}

fn replace(session: &mut KafkaSession, why: Recycle) {
    if let Err(error) = session.producer.recycle(why) {
        tracing::warn!("{error}: tried again before the next transaction");
    }
}

/// Nobody knows: the producer goes, and `settle` must be asked.
fn unknown(session: &mut KafkaSession, begun: Instant, what: &str, error: &TxnError) -> Aborted {
    if session
        .producer
        .is_fenced(error, begun.elapsed(), session.transaction_timeout)
    {
        return Aborted::Fenced(session.producer.fenced(error));
    }
    session.stats.was_unknown();
    session.stats.recycled(Recycle::Unknown);
    session.producer.discard();
    Aborted::Unknown(error.during(what))
}

fn committed(session: &mut KafkaSession, attempt: &Attempt, times: Times) -> Committed {
    session.stats.committed();
    tracing::debug!(
        sent = attempt.sends.len(),
        acknowledged_seconds = times.acknowledged.as_secs_f64(),
        offsets_seconds = times.offsets.as_secs_f64(),
        commit_seconds = times.commit.as_secs_f64(),
        "committed"
    );
    session
        .stats
        .took(times.acknowledged, times.offsets, times.commit);
    remember(session, attempt);
    let unanswered = session
        .producer
        .ready()
        .is_ok_and(|producer| producer.has_unanswered());
    if unanswered {
        replace(session, Recycle::Unanswered);
    } else if times.offsets >= session.slow || times.commit >= session.slow {
        replace(session, Recycle::Slow);
    }
    Committed::by_session(attempt.id)
}

fn remember(session: &mut KafkaSession, attempt: &Attempt) {
    for advance in &attempt.advance {
        session.positions.insert(advance.partition.clone(), advance.next);
    }
}

/// The next offsets with their notes. Logical offsets would be passed over in silence, so there are none.
fn offsets(attempt: &Attempt) -> Result<TopicPartitionList> {
    let refused = |message: String| Error {
        kind: ErrorKind::Refused,
        message,
    };
    if attempt.advance.is_empty() {
        return Err(refused(
            "an attempt that advances no partition commits nothing".into(),
        ));
    }
    let mut list = TopicPartitionList::with_capacity(attempt.advance.len());
    for advance in &attempt.advance {
        let partition = &advance.partition;
        if advance.next < 0 || advance.start.is_some_and(|start| advance.next < start) {
            return Err(refused(format!(
                "the offset of {partition} would go back to {}",
                advance.next
            )));
        }
        let mut element = list.add_partition(&partition.topic, partition.number);
        element
            .set_offset(Offset::Offset(advance.next))
            .map_err(|error| verdict::of_kafka("an offset to commit", &error))?;
        element.set_metadata(&advance.note);
    }
    Ok(list)
}

pub(super) fn settle(session: &mut KafkaSession, attempt: &Attempt) -> Result<Settled> {
    // The one that left us in doubt was dropped then: this one ends its transaction.
    session.producer.ready()?;
    let of: Vec<Partition> = attempt.advance.iter().map(|a| a.partition.clone()).collect();
    let found = reader::committed(session.consumer.base(), &of)?;
    Ok(match note::read_outcome(attempt, &found) {
        Reading::Committed => {
            session.stats.committed();
            remember(session, attempt);
            Settled::Committed(Committed::by_session(attempt.id))
        }
        Reading::Aborted => {
            session.stats.aborted();
            Settled::Aborted
        }
        Reading::TakenOver => Settled::TakenOver,
    })
}
