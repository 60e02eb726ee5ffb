//! A partition whose committed offset is pending in a transaction of somebody: it waits, and it alone.

use std::time::Duration;

use tokio::time::Instant;
use tracker_api::Partition;

use super::{Lane, stalls::Why};
use crate::{kafka::Session, transform::Transform};

/// Where groups keep their offsets.
const OFFSETS: &str = "__consumer_offsets";
/// The waits between two questions grow with the time that was waited, between these.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Since when a partition waits, and what is to be typed once that is too long.
#[derive(Debug)]
pub(super) struct Pending {
    since: Instant,
    hanging: Option<String>,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Says that `partition` waits for somebody's transaction, and what to type when that outlasts every timeout of ours.
    pub(super) async fn stand_pending(&mut self, partition: &Partition) {
        let begun = Pending {
            since: Instant::now(),
            hanging: None,
        };
        let pending = self.pending.entry(partition.clone()).or_insert(begun);
        let text = if pending.since.elapsed() < self.settings.hanging_after {
            "its committed offset is pending in a transaction that is open: it begins when that one ends, by itself or \
             with its timeout"
                .to_owned()
        } else if let Some(text) = &pending.hanging {
            text.clone()
        } else {
            let count = self.count_of_offsets().await;
            let text = hanging(partition, &self.settings.group, count);
            tracing::error!(%partition, "{text}");
            if let Some(pending) = self.pending.get_mut(partition) {
                pending.hanging = Some(text.clone());
            }
            text
        };
        self.stand(Some(partition), Why::Pending, text);
    }

    async fn count_of_offsets(&mut self) -> Option<usize> {
        let all = self.session.partitions(OFFSETS).await;
        all.ok().map(|all| all.len()).filter(|count| *count > 0)
    }

    /// How long to wait before asking again, when all that wait are pending.
    pub(super) fn pending_wait(&self) -> Option<Duration> {
        let waited = |partition| Some(self.pending.get(partition)?.since.elapsed() / 4);
        let waits: Option<Vec<Duration>> = self.assigned.keys().map(waited).collect();
        let shortest = waits?.into_iter().min()?;
        Some(shortest.clamp(WAITS.0, WAITS.1))
    }
}

fn hanging(partition: &Partition, group: &str, count: Option<usize>) -> String {
    let at = match count {
        Some(count) => format!("--topic {OFFSETS} --partition {}", place(group, count)),
        None => format!("--topic {OFFSETS} --partition N"),
    };
    format!(
        "a hanging transaction: the committed offset of {partition} has been pending for longer than any transaction of \
         ours lasts, and nobody can tell where to begin before it ends. Find it with `kafka-transactions.sh \
         --bootstrap-server … describe-producers {at}` (the oldest CurrentTransactionStartOffset), end it with \
         `kafka-transactions.sh --bootstrap-server … abort {at} --start-offset S`"
    )
}

/// The partition of the offsets' topic that keeps those of a group: Java's hash of its name, as brokers take it.
fn place(group: &str, count: usize) -> usize {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    usize::try_from(hash & i32::MAX).unwrap_or(0) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_groups_offsets_are_where_brokers_keep_them() {
        // Of `(hash & 0x7fffffff) % 50` in Java.
        for (group, expected) in [("", 0), ("a", 47), ("orders", 17), ("polygenelubricants", 0)] {
            assert_eq!(place(group, 50), expected, "{group}");
        }
    }
}
