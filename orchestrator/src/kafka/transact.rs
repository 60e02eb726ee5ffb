//! One attempt, from the group's metadata to the commit, and what becomes of one whose outcome is unknown.

use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, types::RDKafkaErrorCode as Code};
use tracker_api::Partition;

use super::{
    Aborted, Attempt, Committed, Error, ErrorKind, Position, Recycle, Refused, Result, Settled,
    blame::{self, Answer, Blame},
    native::{Acks, GroupMetadata, Producer},
    session::{self, KafkaSession},
    verdict::{self, TxnError, Verdict},
};
use crate::note::{self, Reading};

/// Before this a broker may not know yet that it has partitions to abort.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// Why an open transaction cannot be committed.
enum Stop {
    /// These records cannot be sent.
    Refused(Vec<Refused>),
    /// Some of those that travelled together are refused, or their sum, and nobody can say which.
    Company {
        why: Error,
        of_size: bool,
    },
    Destination(Error),
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
    served.map_err(|error| not_begun(session::read(&session.consumer, error)))?;
    let lost = session
        .consumer
        .lost_of(attempt.advance.iter().map(|a| &a.partition));
    if !lost.is_empty() {
        return Err(Aborted::LostPartitions(lost));
    }
    let refused = session.limits.exceeded(session.consumer.client(), &attempt.sends);
    if !refused.is_empty() {
        return Err(Aborted::Refused(refused));
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
    let sent = Sent {
        alone: session.producer.is_alone(),
        exact: session.limits.is_exact(),
    };
    let producer = session.producer.ready().map_err(not_begun)?;
    let prepared = prepare(producer, attempt, (&offsets, &group), sent, deadline);
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

/// How an attempt's records travel.
#[derive(Clone, Copy)]
struct Sent {
    alone: bool,
    exact: bool,
}

/// Begins, sends, waits for every acknowledgement, sends the offsets.
fn prepare(
    producer: &mut Producer,
    attempt: &Attempt,
    (offsets, group): (&TopicPartitionList, &GroupMetadata),
    how: Sent,
    deadline: Instant,
) -> Result<(Duration, Duration), Stop> {
    producer
        .begin()
        .map_err(|error| Stop::Failed("beginning a transaction", error))?;
    hand_over(producer, attempt, deadline)?;
    let sent = Instant::now();
    let acks = producer.wait(attempt.sends.len(), deadline);
    delivered(producer, attempt, how, acks == Acks::All)?;
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

/// Hands every record to the producer. Those that it refuses by itself are all named, so the others are handed over too;
/// once the transaction can only be aborted it takes none, and the answers to the earlier ones say why.
fn hand_over(producer: &mut Producer, attempt: &Attempt, deadline: Instant) -> Result<(), Stop> {
    let mut refused: Vec<Refused> = Vec::new();
    for (index, send) in attempt.sends.iter().enumerate() {
        while let Err(error) = producer.send(send, index) {
            match (error.code, verdict::what_is_refused(error.code)) {
                (Code::QueueFull, _) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                (Code::QueueFull, _) => return Err(late("the producer's queue stayed full")),
                (code, Some(what)) => {
                    let why = verdict::of_code(&format!("sending to `{}`", send.topic), code, &error.text);
                    let send = index;
                    refused.push(Refused { send, what, why });
                }
                (Code::State, None) if !producer.failed().is_empty() || producer.cause().is_some() => {
                    return Ok(());
                }
                _ => {
                    let cause = producer.fatal().unwrap_or(error);
                    return Err(Stop::Failed("sending", cause));
                }
            }
            break;
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Stop::Refused(refused))
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
fn delivered(producer: &Producer, attempt: &Attempt, how: Sent, complete: bool) -> Result<(), Stop> {
    let failed = producer.failed();
    if failed.is_empty() {
        return Ok(());
    }
    if let Some(error) = producer.fatal() {
        return Err(Stop::Failed("delivering", error));
    }
    let answer = Answer {
        sends: &attempt.sends,
        failed: &failed,
        alone: how.alone,
        complete,
        exact: how.exact,
    };
    Err(match blame::blame(&answer) {
        Some(Blame::Refused(refused)) => Stop::Refused(refused),
        Some(Blame::Company { why, of_size }) => Stop::Company { why, of_size },
        Some(Blame::Destination(why)) => Stop::Destination(why),
        None => given_up(producer, attempt),
    })
}

/// Every record was given up unsent: the transaction's own error says why.
fn given_up(producer: &Producer, attempt: &Attempt) -> Stop {
    let Some(cause) = producer.cause() else {
        return late("the records were given up before they were sent");
    };
    let denied = blame::denied(&attempt.sends, &producer.denied());
    if denied.is_empty() {
        return Stop::Failed("sending", cause);
    }
    Stop::Refused(denied)
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
            _ if error.code == Code::TopicAuthorizationFailed => Aborted::Destination(error.during(what)),
            Verdict::Abort | Verdict::Again | Verdict::Refused => Aborted::Aborted(error.during(what)),
        },
        Stop::Refused(refused) => {
            session.producer.told_apart();
            Aborted::Refused(refused)
        }
        Stop::Company { why, of_size } => company(session, attempt, why, of_size),
        Stop::Destination(why) => Aborted::Destination(why),
        Stop::Late(why) => Aborted::Late(why),
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

/// Some of those that travelled together are refused. What the topics say of sizes may tell which, or that it is their sum;
/// otherwise each travels alone until a commit.
fn company(session: &mut KafkaSession, attempt: &Attempt, why: Error, of_size: bool) -> Aborted {
    if of_size {
        let client = session.consumer.client();
        let (refused, least) = session.limits.after_refusal(client, &attempt.sends);
        if !refused.is_empty() {
            return Aborted::Refused(refused);
        }
        if least.is_some_and(|limit| session.producer.fit(limit)) {
            return Aborted::Aborted(why);
        }
    }
    session.producer.send_alone(true, of_size);
    Aborted::Aborted(why)
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
    let was_alone = session.producer.is_alone();
    session.producer.send_alone(false, false);
    if unanswered {
        replace(session, Recycle::Unanswered);
    } else if times.offsets >= session.slow || times.commit >= session.slow {
        replace(session, Recycle::Slow);
    } else if was_alone || session.producer.is_due() {
        // The next one sends as many together as before.
        session.producer.discard();
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
        let goes_back = advance.start.is_some_and(|start| advance.next < start);
        if advance.next < 0 || goes_back && !note::begins_anew(advance) {
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
    let found: Vec<Position> = session.consumer.positions(&of)?.into_iter().flatten().collect();
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
        // Also where an offset is pending in somebody else's transaction, which may never end: the others do not wait with it.
        Reading::TakenOver => Settled::TakenOver,
    })
}
