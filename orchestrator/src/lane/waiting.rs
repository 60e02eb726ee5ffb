//! A partition that cannot begin yet waits alone, and says why.

use std::time::Duration;

use tokio::time::Instant;
use tracker_api::Partition;

use super::{Lane, stalls::Why};
use crate::{kafka::Session, transform::Transform};

/// How long one partition that cannot begin waits at first: two rounds of those that can.
const FIRST_WAIT: Duration = Duration::from_millis(400);
/// How long one partition that cannot begin waits, at most: the others do not wait for it.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// A partition that cannot begin yet.
#[derive(Debug)]
pub(super) struct Waiting {
    /// When it is tried again, and how long it then waits.
    pub(super) until: Instant,
    wait: Duration,
    /// The end of its log when it began to wait: what came since is not passed over by `initial-offset: latest`.
    pub(super) end: Option<i64>,
    text: String,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// The partition waits alone, longer from time to time, and says why.
    pub(super) fn let_wait(&mut self, partition: &Partition, why: Why, text: String, end: Option<i64>) {
        let waiting = self.waiting.entry(partition.clone()).or_insert(Waiting {
            until: Instant::now(),
            wait: FIRST_WAIT,
            end: None,
            text: String::new(),
        });
        waiting.until = Instant::now() + waiting.wait;
        waiting.wait = (waiting.wait * 2).min(MOST_WAIT);
        waiting.end = waiting.end.or(end);
        if waiting.text != text {
            tracing::error!("{text}");
            waiting.text.clone_from(&text);
        }
        let others = [Why::Kafka, Why::Store, Why::Start]
            .into_iter()
            .filter(|other| *other != why);
        others.for_each(|other| self.stalls.end(Some(partition), other));
        self.stand(Some(partition), why, text);
    }
}
