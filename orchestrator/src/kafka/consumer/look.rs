//! How far the started partitions were read, and what the brokers say of their logs.
//!
//! Asked now and then on a queue of its own, so that a lane never waits for it: also of a partition that is paused or
//! cannot be read on, of which no fetch tells anything.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::client::{Client, ClientContext};
use tracker_api::Partition;

use crate::kafka::{
    Log,
    native::{End, Question},
};

/// How often the brokers are asked.
const EVERY: Duration = Duration::from_secs(2);
/// Answers are looked for no more often: a lane polls hundreds of times in a second.
const GLANCE: Duration = Duration::from_millis(50);
/// When an answer has become so old, nothing is known. Above what a leader's election takes.
const STALE: Duration = Duration::from_secs(15);
/// How long one question is open, at most.
const TIMEOUT: Duration = Duration::from_secs(5);

const ENDS: [End; 3] = [End::Start, End::Stable, End::Last];

/// When an end was asked for, and where it was.
type Told = Option<(Instant, i64)>;

#[derive(Default)]
pub(in crate::kafka) struct Look {
    open: Vec<(usize, Instant, Question)>,
    asked: Option<Instant>,
    glanced: Option<Instant>,
    known: BTreeMap<Partition, [Told; 3]>,
}

impl Look {
    /// Whether a turn may find anything.
    pub(super) fn is_due(&self) -> bool {
        self.glanced.is_none_or(|glanced| glanced.elapsed() >= GLANCE)
    }

    /// Takes up what was answered, and asks anew when it is time. Waits for nothing.
    pub(super) fn turn<C: ClientContext>(&mut self, client: &Client<C>, started: &[Partition]) {
        self.glanced = Some(Instant::now());
        self.known.retain(|partition, _| started.contains(partition));
        let known = &mut self.known;
        self.open.retain(|(end, asked, question)| {
            let Some(answer) = question.answer(Duration::ZERO) else {
                return asked.elapsed() < 2 * TIMEOUT;
            };
            for told in answer.unwrap_or_default() {
                if told.error.is_none() && told.offset >= 0 && started.contains(&told.partition) {
                    known.entry(told.partition).or_default()[*end] = Some((*asked, told.offset));
                }
            }
            false
        });
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() >= EVERY);
        if is_due && self.open.is_empty() && !started.is_empty() {
            let now = Instant::now();
            self.asked = Some(now);
            let ask = |(index, end)| (index, now, Question::ends(client, started, end, TIMEOUT));
            self.open = ENDS.into_iter().enumerate().map(ask).collect();
        }
    }

    /// The next turn asks.
    pub(super) fn soon(&mut self) {
        (self.asked, self.glanced) = (None, None);
    }

    /// The logs of which all is known.
    pub(super) fn logs(&self) -> impl Iterator<Item = (&Partition, Log)> {
        self.known.iter().filter_map(|(partition, told)| {
            let [Some(start), Some(stable), Some(end)] = told else {
                return None;
            };
            let age = [start, stable, end].map(|(asked, _)| asked.elapsed());
            let age = age.into_iter().max()?;
            let log = Log {
                start: start.1,
                stable: stable.1,
                end: end.1,
                age,
            };
            (age < STALE).then_some((partition, log))
        })
    }

    /// Forgets what was said of a log that is read from elsewhere now.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.known.remove(partition);
    }
}
