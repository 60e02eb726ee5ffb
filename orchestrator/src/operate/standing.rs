//! What a running service says of its lanes: what does not move, and how far they are behind.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracker_api::Partition;

use super::shown::{Position, time};
use crate::lane::stalls::Stall;

/// What the lanes of a running service say. Nothing, where none runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What does not move.
    pub stalls: Vec<Stalled>,
    /// The partitions that are read.
    pub read: Vec<Behind>,
}

/// Something that does not move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// The lane.
    pub lane: usize,
    /// `topic:partition`; none: the whole lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Why, as `orch_stalled_partitions` names it.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// What happened, and what to do.
    pub text: String,
}

/// How far a partition is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// The lane that reads it.
    pub lane: usize,
    /// `topic:partition`.
    pub partition: String,
    /// Offsets between the committed and the last stable one; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

impl Standing {
    /// By lane: its stalls, and the lag of what it reads.
    pub(crate) fn of(lanes: impl Iterator<Item = (Vec<Stall>, Vec<(Partition, Option<i64>)>)>) -> Self {
        let mut standing = Self::default();
        for (lane, (stalls, lag)) in lanes.enumerate() {
            standing.stalls.extend(stalls.into_iter().map(|stall| Stalled {
                lane,
                partition: stall.partition.map(|partition| partition.to_string()),
                why: stall.why.label().to_owned(),
                since: time(stall.since),
                text: stall.text,
            }));
            standing
                .read
                .extend(lag.into_iter().map(|(partition, lag)| Behind {
                    lane,
                    partition: partition.to_string(),
                    lag,
                }));
        }
        standing
    }

    /// Gives each position what concerns it, its lane's reasons included. Answers what no position shows.
    pub(super) fn told(self, positions: &mut [Position]) -> Vec<Stalled> {
        let mut shown = vec![false; self.stalls.len()];
        for position in positions {
            let name = format!("{}:{}", position.topic, position.partition);
            let read = self.read.iter().find(|read| read.partition == name);
            position.lag = read.and_then(|read| read.lag);
            for (stall, shown) in self.stalls.iter().zip(&mut shown) {
                let concerns = match &stall.partition {
                    Some(partition) => *partition == name,
                    None => read.is_some_and(|read| read.lane == stall.lane),
                };
                if concerns {
                    position.stalls.push(stall.clone());
                    *shown = true;
                }
            }
        }
        let shown = shown.into_iter();
        self.stalls
            .into_iter()
            .zip(shown)
            .filter(|(_, shown)| !shown)
            .map(|(stall, _)| stall)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::stalls::Why;

    #[test]
    fn each_position_is_given_its_own_reasons_and_those_of_its_lane() {
        let of = |n| Partition::new("orders", n);
        let stall = |partition, why| Stall {
            partition,
            why,
            text: "…".into(),
            since: tracker_api::Timestamp(1_000),
        };
        let one = (
            vec![stall(Some(of(0)), Why::Unreadable), stall(None, Why::Kafka)],
            vec![(of(0), Some(7)), (of(1), None)],
        );
        let two = (vec![stall(Some(of(3)), Why::Pending)], vec![(of(2), Some(0))]);
        let progress = |n| tracker_api::Progress {
            partition: of(n),
            term: 1,
            attempt: tracker_api::AttemptId::default(),
            missed: tracker_api::Gaps::default(),
            era: 1,
            floor: 0,
            received: 0,
            committed: 0,
            gaps: tracker_api::Gaps::default(),
            failed: 0,
            succeeded: 0,
            at: tracker_api::Timestamp(0),
        };
        let mut positions = [0, 1, 2].map(|n| Position::of(&progress(n)));
        let left = Standing::of([one, two].into_iter()).told(&mut positions);
        let whys = |position: &Position| position.stalls.iter().map(|s| s.why.clone()).collect::<Vec<_>>();
        assert_eq!(positions.each_ref().map(|p| p.lag), [Some(7), None, Some(0)]);
        assert_eq!(whys(&positions[0]), ["unreadable", "kafka"]);
        assert_eq!(whys(&positions[1]), ["kafka"]);
        assert!(whys(&positions[2]).is_empty());
        let left: Vec<_> = left
            .iter()
            .map(|s| (s.lane, s.partition.as_deref(), &*s.why))
            .collect();
        assert_eq!(left, [(1, Some("orders:3"), "pending")]);
    }
}
