//! How far the partitions were read, and what stands between a log and the lane.
//!
//! Looked at each second, from what the session knows without asking anybody. A partition that is read up commits its
//! position, so that what is nothing to be read (markers, aborted records) is no lag. One that cannot be read on says
//! why, and waits or goes on as the configuration says: it alone.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use tokio::time::Instant;
use tracker_api::{Partition, Timestamp};

use super::{
    Error, Lane,
    commit::{Onward, Plan},
    pace::Load,
    partition::Owned,
    stalls::Why,
};
use crate::{
    config::OnUnreadable,
    kafka::{ErrorKind, Log, Position, Session},
    mutant::{self, Mutant},
    recorder::Held,
    transform::Transform,
};

/// Positions are committed no more often: each is a transaction.
const TIDY: Duration = Duration::from_secs(5);
/// A position that stood for so long is one of a partition that is read up: nothing lies in the client's queue.
const STILL: Duration = Duration::from_secs(1);
/// Records wait, and none came for so long: longer than a fetch and its repetition take.
const SILENT: Duration = Duration::from_secs(30);
/// How long others may hold a transaction open on the source before it is said: the most that brokers allow by default.
const OPEN: Duration = Duration::from_secs(15 * 60);
/// How often C(p) of a partition that cannot be read on is read again: somebody may have reset it.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// What was seen of one partition.
#[derive(Debug)]
pub(super) struct Sight {
    /// What is to be read next, and since when; also since when the lane is ready to take it.
    next: i64,
    still: Instant,
    /// The last stable offset while more lies behind it, and since when.
    stable: Option<(i64, Instant)>,
    /// When brokers last said where the log begins and ends, or might first have done so.
    known: Instant,
    unreadable: Option<Unreadable>,
}

/// Why a partition cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unreadable {
    /// The log begins behind it.
    Deleted,
    /// The log ends before it.
    BehindEnd,
    /// Records wait, and none comes.
    Silent,
}

impl Sight {
    pub(super) fn new(next: i64) -> Self {
        Self {
            next,
            still: Instant::now(),
            stable: None,
            known: Instant::now(),
            unreadable: None,
        }
    }

    /// Takes up how far the partition was read. Whether it has moved.
    fn see(&mut self, next: i64, takes: bool) -> bool {
        let moved = next != self.next;
        if moved || !takes {
            self.still = Instant::now();
        }
        self.next = next;
        moved
    }

    /// Why nothing comes, if that is so.
    fn judge(&self, log: &Log) -> Option<Unreadable> {
        let still = self.still.elapsed();
        // What brokers said before the position came to stand says nothing about it.
        if still < STILL || still < log.age {
            return None;
        }
        if self.next < log.start {
            Some(Unreadable::Deleted)
        } else if self.next > log.end || self.unreadable == Some(Unreadable::BehindEnd) {
            // A log that was cut and has grown again holds other records there: that is for a person to see.
            Some(Unreadable::BehindEnd)
        } else if self.next < log.stable && still >= SILENT {
            Some(Unreadable::Silent)
        } else {
            None
        }
    }

    /// Since when somebody's transaction hides what lies at the last stable offset.
    fn open_since(&mut self, log: &Log) -> Option<Instant> {
        if log.end <= log.stable {
            self.stable = None;
            return None;
        }
        let (stable, since) = *self.stable.get_or_insert((log.stable, Instant::now()));
        if stable == log.stable {
            return Some(since);
        }
        self.stable = Some((log.stable, Instant::now()));
        None
    }
}

impl Owned {
    /// Whether what the session hands out next is taken, and nothing that it handed out is still to be done.
    fn is_read_up(&self) -> bool {
        self.work.is_empty() && !self.held && self.blocked.is_none()
    }
}

impl<S: Session, T: Transform> Lane<S, T> {
    pub(super) async fn look_at_logs(&mut self) -> Result<(), Error> {
        let at = self.clock.now();
        let reached: BTreeMap<Partition, i64> = self.session.reached().into_iter().collect();
        let logs: BTreeMap<Partition, Log> = self.session.logs().into_iter().collect();
        let (mut positions, mut passed, mut back) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (partition, owned) in &mut self.owned {
            let next = reached.get(partition).copied().unwrap_or(0).max(owned.received);
            let takes = owned.is_read_up();
            let before = owned.sight.unreadable;
            let moved = owned.sight.see(next, takes);
            if moved {
                owned.sight.unreadable = None;
            }
            let over_work = mutant::active(Mutant::PositionOverWork);
            if next > owned.committed && (takes && owned.sight.still.elapsed() >= STILL || over_work) {
                positions.insert(partition.clone(), Onward { to: next, lost: None });
            }
            if let Some(log) = logs.get(partition) {
                owned.sight.known = Instant::now();
                self.stalls.end(Some(partition), Why::Kafka);
                if takes {
                    owned.sight.unreadable = owned.sight.judge(log);
                }
                match owned.sight.unreadable {
                    Some(Unreadable::Deleted)
                        if self.settings.on_unreadable == OnUnreadable::SkipToLogStart =>
                    {
                        passed.push((partition.clone(), next..log.start));
                    }
                    Some(why) => {
                        let text = unreadable(
                            why,
                            partition,
                            next,
                            log,
                            &self.settings.group,
                            self.fault.as_ref(),
                        );
                        if before != Some(why) {
                            tracing::error!(%partition, "{text}");
                        }
                        self.stalls.stand(Some(partition), Why::Unreadable, text, at);
                    }
                    None => {}
                }
                match owned
                    .sight
                    .open_since(log)
                    .filter(|since| since.elapsed() >= OPEN)
                {
                    Some(since) => {
                        let text = open(partition, log);
                        let open = i64::try_from(since.elapsed().as_millis()).unwrap_or(0);
                        let since = Timestamp(at.0.saturating_sub(open));
                        self.stalls
                            .stand(Some(partition), Why::OpenTransaction, text, since);
                    }
                    None => self.stalls.end(Some(partition), Why::OpenTransaction),
                }
            } else if owned.sight.known.elapsed() >= SILENT {
                let text = format!(
                    "no broker has said for more than {} s where the log of {partition} begins and ends: its leader is away, \
                     or Kafka is",
                    SILENT.as_secs()
                );
                self.stalls.stand(Some(partition), Why::Kafka, text, at);
            }
            if before.is_some() && owned.sight.unreadable.is_none() {
                self.stalls.end(Some(partition), Why::Unreadable);
                // The client has given it up.
                if before == Some(Unreadable::Deleted) && !moved {
                    back.push(Position {
                        offset: Some(next),
                        ..owned.position(partition)
                    });
                }
            }
        }
        if !back.is_empty() {
            self.session.rewind(&back).await?;
        }
        self.read_again(at).await?;
        if self.batch_after > Instant::now() {
            return Ok(());
        }
        if !passed.is_empty() {
            self.skip_to_start(passed).await?;
        }
        if !positions.is_empty() && self.tidied.elapsed() >= TIDY {
            self.tidied = Instant::now();
            positions.retain(|partition, _| self.owned.contains_key(partition));
            self.move_on(positions).await?;
        }
        Ok(())
    }

    /// Commits positions without a record.
    async fn move_on(&mut self, onward: BTreeMap<Partition, Onward>) -> Result<(), Error> {
        if onward.is_empty() {
            return Ok(());
        }
        let id = self.ids.next(&*self.clock);
        self.commit(Plan {
            id,
            counts: onward.keys().map(|partition| (partition.clone(), 0)).collect(),
            onward,
            passing: Vec::new(),
            load: Load::default(),
            held: Held::Store,
        })
        .await
    }

    /// Goes on where the logs begin. What lies before is lost, and the note says so.
    async fn skip_to_start(&mut self, passed: Vec<(Partition, Range<i64>)>) -> Result<(), Error> {
        let onward = passed.iter().map(|(partition, lost)| {
            let (to, lost) = (lost.end, Some(lost.clone()));
            (partition.clone(), Onward { to, lost })
        });
        self.move_on(onward.collect()).await?;
        let mut starts = Vec::new();
        for (partition, lost) in passed {
            let Some(owned) = self.owned.get(&partition).filter(|o| o.committed == lost.end) else {
                continue;
            };
            let offsets = u64::try_from(lost.end - lost.start).unwrap_or(0);
            tracing::warn!(
                %partition, from = lost.start, to = lost.end, offsets,
                "offsets were deleted before they were read, and are lost: going on at the log's start, as on-unreadable says"
            );
            self.observer.offsets_lost(&partition, offsets);
            starts.push(owned.position(&partition));
        }
        if !starts.is_empty() {
            self.session.rewind(&starts).await?;
        }
        Ok(())
    }

    /// Reads C(p) of what cannot be read on: where a person has moved it, the partition begins anew.
    async fn read_again(&mut self, at: Timestamp) -> Result<(), Error> {
        if self.read_again.elapsed() < READ_AGAIN {
            return Ok(());
        }
        self.read_again = Instant::now();
        let stuck = self
            .owned
            .iter()
            .filter(|(_, owned)| owned.sight.unreadable.is_some());
        let stuck: Vec<Partition> = stuck.map(|(partition, _)| partition.clone()).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        let positions = match self.session.positions(&stuck).await {
            Ok(positions) => positions,
            Err(error) if error.kind == ErrorKind::Retriable => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for position in positions.into_iter().flatten() {
            let ours = self
                .owned
                .get(&position.partition)
                .map(|owned| owned.position(&position.partition));
            if ours.is_some_and(|ours| ours != position) {
                let (partition, offset) = (&position.partition, position.offset);
                tracing::info!(%partition, ?offset, "the group's offset was moved: the partition begins there");
                let text = "its offset was moved: it begins anew".to_owned();
                self.stalls.stand(Some(partition), Why::Unreadable, text, at);
                self.restart(partition);
                self.terms_after = Instant::now();
            }
        }
        Ok(())
    }
}

fn unreadable(
    why: Unreadable,
    partition: &Partition,
    next: i64,
    log: &Log,
    group: &str,
    fault: Option<&(Instant, String)>,
) -> String {
    let Log {
        start, stable, end, ..
    } = log;
    let reset = |to: i64| {
        format!(
            "`kafka-consumer-groups.sh --bootstrap-server … --group {group} --topic {}:{} --reset-offsets --to-offset {to} \
             --execute` while the service is stopped",
            partition.topic, partition.number
        )
    };
    match why {
        Unreadable::Deleted => format!(
            "{partition} cannot be read on at offset {next}: its log holds {start}..{end}, what lies before was deleted \
             unread. Go on where it begins with {}, or with `on-unreadable: skip-to-log-start`",
            reset(*start)
        ),
        Unreadable::BehindEnd => format!(
            "{partition} cannot be read on at offset {next}: its log holds {start}..{end}. It was cut, as an election of a \
             replica that was behind does, or the topic was made anew: what was written since lies below, unread. Say where to \
             go on with {}",
            reset((*end).min(next))
        ),
        Unreadable::Silent => {
            let said = fault
                .filter(|(at, _)| at.elapsed() < 2 * SILENT)
                .map(|(_, text)| format!("; the client says: {text}"))
                .unwrap_or_default();
            format!(
                "{partition} cannot be read on at offset {next}: its log holds {start}..{stable}, and for more than {} s no \
                 record came{said}. If a response is larger than the client takes, raise `receive.message.max.bytes` of the \
                 consumer above the topic's `max.message.bytes`",
                SILENT.as_secs()
            )
        }
    }
}

fn open(partition: &Partition, log: &Log) -> String {
    let Log { stable, end, .. } = log;
    let (topic, number) = (&partition.topic, partition.number);
    format!(
        "a transaction of whoever writes to {partition} has been open for {} minutes: what lies at {stable}..{end} cannot be \
         read before it ends. `kafka-transactions.sh --bootstrap-server … abort --topic {topic} --partition {number} \
         --start-offset {stable}` ends one that hangs",
        OPEN.as_secs() / 60
    )
}
