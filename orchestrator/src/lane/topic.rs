//! Whether what is read is still what was begun on: the topic of this name, and the positions that we committed.

use std::time::Duration;

use tokio::time::Instant;
use tracker_api::Partition;

use super::{Error, Lane};
use crate::{
    kafka::{self, ErrorKind, Session, Topic},
    transform::Transform,
};

/// No attempt begins on an older look at the topic, so that a process that slept does not commit to a new topic what it read
/// from the one before. One question to a broker each two seconds of work, none while idle.
const FRESH: Duration = Duration::from_secs(2);

impl<S: Session, T: Transform> Lane<S, T> {
    /// Learns which topic has our source's name. If it was made again, what we hold is of another log: all our partitions
    /// begin anew. `Err`: nobody has said yet which one it is.
    pub(super) async fn look_at_topic(&mut self) -> Result<(), kafka::Error> {
        self.looked = Instant::now();
        self.suspicious = false;
        let now = match self.session.topic(&self.settings.source).await {
            Ok(topic) => topic,
            Err(error) => {
                tracing::debug!(%error, "the topic's id is not known now");
                return if self.topic == Topic::default() {
                    Err(error)
                } else {
                    Ok(())
                };
            }
        };
        let again = now.is_another(self.topic.id.as_deref());
        let id = now.id.or_else(|| self.topic.id.take());
        self.topic = Topic { id, ..now };
        if again {
            let id = self.topic.id.as_deref().unwrap_or_default();
            tracing::warn!(topic = %self.settings.source, id, "the topic was deleted and made again: its partitions begin anew");
            let all: Vec<Partition> = self.owned.keys().cloned().collect();
            all.iter().for_each(|partition| self.restart(partition));
        }
        Ok(())
    }

    /// Looks at the topic unless that was done just now. False: one of `partitions` is not ours any more, or begins anew.
    pub(super) async fn is_fresh<'a>(&mut self, partitions: impl Iterator<Item = &'a Partition>) -> bool {
        if self.looked.elapsed() >= FRESH {
            let _ = self.look_at_topic().await;
        }
        let mut partitions = partitions;
        partitions.all(|partition| self.owned.contains_key(partition))
    }

    /// Reads back what stands committed. Where it is not what we committed (offsets were deleted, a coordinator lost them),
    /// the partition begins anew. Remembers the group's positions in the data directory.
    pub(super) async fn look_back(&mut self) -> Result<(), Error> {
        let ours: Vec<Partition> = self.owned.keys().cloned().collect();
        let positions = match self.session.committed(&ours).await {
            Ok(positions) => positions,
            Err(error) if matches!(error.kind, ErrorKind::Fatal | ErrorKind::Fenced) => {
                return Err(error.into());
            }
            // Away, or pending: the next look will tell.
            Err(_) => return Ok(()),
        };
        for position in positions {
            let partition = &position.partition;
            let stands = self.owned.get(partition).is_none_or(|owned| {
                position.offset == Some(owned.committed) && position.note.as_ref() == Some(&owned.note)
            });
            if !stands {
                tracing::warn!(%partition, offset = ?position.offset, "what stands committed is not what was committed here: the partition begins anew");
                self.restart(partition);
            }
        }
        let foreign: Vec<Partition> = (0..self.topic.partitions)
            .map(|number| Partition::new(self.settings.source.clone(), number))
            .filter(|partition| !self.owned.contains_key(partition))
            .collect();
        let foreign = self.session.committed(&foreign).await.unwrap_or_default();
        let foreign = foreign
            .into_iter()
            .filter_map(|p| Some((p.partition.number, p.offset?)));
        self.remember(foreign);
        Ok(())
    }

    /// Keeps in the data directory what we have committed, and what others have.
    pub(super) fn remember(&self, foreign: impl Iterator<Item = (i32, i64)>) {
        // What was begun on says which topic that is: one that was only looked at has nothing committed by us.
        let Some(owned) = self.owned.values().next() else {
            return;
        };
        let ours = self.owned.iter().map(|(p, o)| (p.number, o.committed));
        self.begun
            .saw(owned.topic.as_deref(), owned.era, foreign.chain(ours));
        self.begun.save();
    }
}
