//! Trackers that are wrong on purpose: the suite is only as good as the faults that it catches.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

pub use super::flaws::Flaw;
use super::{Harness, Memory};
use crate::{
    Change, CorruptRow, DynTracker, Entry, Error, ErrorKind, FailureTracker, Group, MemoryTracker, Namespace,
    Order, Outcome, Page, Progress, Purgeable, Query, Result, Risk, Status, Timestamp,
};

/// A memory tracker with a flaw, and its harness.
#[derive(Clone, Debug)]
pub struct Broken {
    pub(super) flaw: Flaw,
    memory: Arc<Memory>,
    pub(super) inner: MemoryTracker,
}

impl Broken {
    /// A store whose trackers have this flaw.
    pub fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            memory: Arc::default(),
            inner: MemoryTracker::default(),
        }
    }
}

#[async_trait]
impl Harness for Broken {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        let mut asked = namespace.clone();
        match self.flaw {
            Flaw::SharesNamespaces => asked.name = String::new(),
            Flaw::AdmitsAnyCluster => asked.cluster = None,
            _ => {}
        }
        let tracker = Self {
            inner: self.memory.tracker(&asked)?,
            ..self.clone()
        };
        Ok(Arc::new(tracker))
    }

    async fn reopen(&self, tracker: DynTracker, namespace: &Namespace) -> Result<DynTracker> {
        drop(tracker);
        let held = self.memory.tracker(namespace)?;
        match self.flaw {
            Flaw::ForgetsOnReopen => *held.model() = crate::Model::default(),
            Flaw::ForgetsProgressOnReopen => held.model().progress.clear(),
            Flaw::ForgetsResolutionsOnReopen => {
                for entry in held.model().entries.values_mut() {
                    (entry.resolution, entry.revision) = (None, 0);
                }
            }
            _ => {}
        }
        self.open(namespace).await
    }
}

#[async_trait]
impl FailureTracker for Broken {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let mut slice: Vec<Entry> = entries.iter().map(|entry| self.mangled(entry)).collect();
        match self.flaw {
            Flaw::LosesTheLastOfASlice => slice.truncate(slice.len().saturating_sub(1)),
            Flaw::CutsASliceAtAThousand => slice.truncate(1_000),
            Flaw::KeepsTheFirstOfARepeatedId => {
                slice.sort_by(|a, b| a.id.cmp(&b.id));
                slice.dedup_by(|a, b| a.id == b.id);
            }
            Flaw::RefusesLargeEntries => {
                let size = |e: &Entry| {
                    e.captured
                        .iter()
                        .flat_map(|c| &c.value)
                        .map(bytes::Bytes::len)
                        .sum::<usize>()
                };
                if slice.iter().any(|entry| size(entry) > 32 * 1024) {
                    return Err(Error::new(ErrorKind::Refused, "an entry is too large"));
                }
            }
            Flaw::RefusesAnEmptyCall if slice.is_empty() && progress.is_empty() => {
                return Err(Error::new(ErrorKind::Refused, "an empty list of values"));
            }
            Flaw::OverwritesProgress => {
                let mut model = self.inner.model();
                progress
                    .iter()
                    .for_each(|row| drop(model.progress.remove(&row.partition)));
            }
            Flaw::JoinsProgressAcrossEras => {
                let mut model = self.inner.model();
                for row in progress {
                    if let Some(held) = model.progress.get_mut(&row.partition) {
                        held.era = held.era.max(row.era);
                        let era = held.era;
                        held.join(&Progress { era, ..row.clone() });
                    }
                }
            }
            _ => {}
        }
        let progress = &self.wrong_gaps(progress)[..];
        let stood = match self.flaw {
            Flaw::JoinsTheWrongWayRound
            | Flaw::LetsTheLastWriteWin
            | Flaw::IgnoresTheTerm
            | Flaw::ComparesAttemptsAsText
            | Flaw::DropsCapturedBytesOnALaterWrite
            | Flaw::ForgetsTheFirstFailure
            | Flaw::KeepsBytesOfAnOlderEra
            | Flaw::LetsAResolutionOutliveItsFailure
            | Flaw::ReadsThenWrites
            | Flaw::InsertsTwice => {
                self.one_by_one(&slice).await;
                self.inner.record(&[], progress).await?;
                let model = self.inner.model();
                let stands = |e: &Entry| {
                    model
                        .entries
                        .get(&e.id)
                        .is_some_and(|held| held.version == e.version)
                };
                entries.iter().map(stands).collect()
            }
            _ => {
                let mut stands = self.inner.record(&slice, progress).await?;
                stands.resize(entries.len(), true);
                stands
            }
        };
        if self.flaw == Flaw::RecordsResolutions {
            let mut model = self.inner.model();
            for entry in entries.iter().filter(|entry| entry.resolution.is_some()) {
                if let Some(held) = model.entries.get_mut(&entry.id) {
                    held.resolution.clone_from(&entry.resolution);
                }
            }
        }
        Ok(if self.flaw == Flaw::SaysThatAllStand {
            vec![true; entries.len()]
        } else {
            stood
        })
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        let mut entries = entries.to_vec();
        for entry in &mut entries {
            let held = self.inner.model().entries.get(&entry.id).cloned();
            match self.flaw {
                Flaw::ImportsWithoutResolutions => (entry.resolution, entry.revision) = (None, 0),
                Flaw::ImportsWithoutRevisions => entry.revision = entry.revision.min(1),
                Flaw::CountsImports => entry.revision += held.map_or(0, |held| held.revision),
                Flaw::ImportsOlderResolutions => {
                    if let Some(held) = self.inner.model().entries.get_mut(&entry.id) {
                        held.revision = entry.revision.saturating_sub(1);
                    }
                }
                Flaw::ImportsOverOutcomes => drop(self.inner.model().entries.remove(&entry.id)),
                _ => {}
            }
        }
        self.inner.import(&entries, progress).await
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        let mut changes = changes.to_vec();
        if matches!(
            self.flaw,
            Flaw::LetsTwoClaimsInOneCallWin | Flaw::LetsTwoRacingClaimsWin
        ) {
            let before = self.inner.model().clone();
            if self.flaw == Flaw::LetsTwoRacingClaimsWin {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut took = Vec::new();
            for change in &changes {
                let takes = before.clone().resolve(std::slice::from_ref(change)) == [true];
                let mut model = self.inner.model();
                if let Some(held) = model.entries.get_mut(&change.id).filter(|_| takes) {
                    held.resolution.clone_from(&change.to);
                    held.revision += 1;
                }
                took.push(takes);
            }
            return Ok(took);
        }
        let (mut stale, mut anyway) = (Vec::new(), Vec::new());
        for change in &mut changes {
            let model = self.inner.model();
            let Some(held) = model.entries.get(&change.id) else {
                continue;
            };
            match (self.flaw, &mut change.to) {
                (Flaw::SkipsWhatDoesNotBlock, Some(to)) if to.decision.is_for_blocking() => {
                    anyway.push(change.clone())
                }
                (Flaw::IgnoresTheRevision, _) => change.revision = held.revision,
                (Flaw::ClaimsAnotherFailure, Some(to)) => to.about = held.version,
                (Flaw::ForgetsADecisionAtEachRetry, Some(to)) if to.about != held.version => {
                    stale.push(change.id.clone());
                }
                _ => {}
            }
        }
        changes
            .iter_mut()
            .filter(|change| stale.contains(&change.id))
            .for_each(|change| change.revision = u64::MAX);
        let mut took = self.inner.resolve(&changes).await?;
        for (took, change) in took.iter_mut().zip(&changes) {
            let unknown = !self.inner.model().entries.contains_key(&change.id);
            *took |= anyway.contains(change) || unknown && self.flaw == Flaw::ResolvesWhatIsUnknown;
        }
        Ok(took)
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        let mut rows = self.inner.progress().await?;
        if self.flaw == Flaw::OrdersPartitionsAsText {
            rows.sort_by_key(|row| row.partition.to_string());
        }
        Ok(rows)
    }

    async fn get(&self, ids: &[crate::RecordId]) -> Result<Vec<Option<Entry>>> {
        let mut ids = ids.to_vec();
        if self.flaw == Flaw::GetsInItsOwnOrder {
            ids.sort();
        }
        self.inner.get(&ids).await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        let mut query = query.clone();
        let model = self.inner.model().clone();
        let after = query.after.clone();
        let mut all = Query {
            limit: 1_000,
            ..query.clone()
        };
        match self.flaw {
            Flaw::IgnoresTheClass => query.class = None,
            Flaw::IgnoresTheTopic => query.topic = None,
            Flaw::IgnoresTheStatus => query.statuses.clear(),
            Flaw::IncludesTheEndOfATime => query.first_failed.iter_mut().for_each(|within| {
                within.end = Timestamp(within.end.0.saturating_add(1));
            }),
            Flaw::ReadsATextAsAPattern => query.text = query.text.filter(|text| !text.contains(['%', '_'])),
            Flaw::ReadsAKeyAsAPrefix | Flaw::MindsTheCaseOfAText | Flaw::FoldsEveryCase => {
                return self.misread(&query, &model);
            }
            Flaw::SkipsAnEntryBetweenPages if query.order == Order::NewestFirst => {
                query
                    .after
                    .iter_mut()
                    .for_each(|after| after.id = crate::Partition::new("", -1).at(0));
            }
            _ => {}
        }
        let foreign = after
            .as_ref()
            .is_some_and(|after| after.first_failed_at.is_none());
        if self.flaw == Flaw::TakesAnyCursor && foreign && query.order == Order::NewestFirst {
            return Ok(Page::default());
        }
        let mut page = model.list(&query)?;
        match self.flaw {
            Flaw::RepeatsAnEntryBetweenPages => {
                let last = after.and_then(|after| model.entries.get(&after.id).cloned());
                page.entries.splice(..0, last);
                page.entries.truncate(query.page_size());
            }
            Flaw::CountsPages if query.order == Order::Id => {
                // What a cursor cannot say, the entries before it can: as many are left out as pages would have held.
                let read = after.map_or(0, |after| {
                    after
                        .first_failed_at
                        .map_or(0, |n| usize::try_from(n.0).unwrap_or(0))
                });
                all.after = None;
                let entries = model.list(&all)?.entries;
                page.entries = entries.into_iter().skip(read).take(query.page_size()).collect();
                let count = i64::try_from(read + page.entries.len()).ok().map(Timestamp);
                page.next = page.next.and(page.entries.last()).map(|last| crate::Cursor {
                    id: last.id.clone(),
                    first_failed_at: count,
                });
            }
            Flaw::ListsAsManyAsAsked if query.limit > 1_000 => {
                all.after.clone_from(&page.next);
                page.entries.extend(model.list(&all)?.entries);
            }
            Flaw::OrdersIdsAsText if query.order == Order::Id => {
                page.entries.sort_by_key(|entry| entry.id.to_string());
            }
            Flaw::ListsByTheLastWrite if query.order == Order::NewestFirst => {
                page.entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
            }
            Flaw::AlwaysSaysThatThereIsMore if page.entries.len() == query.page_size() => {
                page.next = page.entries.last().map(|last| crate::Cursor {
                    id: last.id.clone(),
                    first_failed_at: last.first_failed_at.filter(|_| query.order == Order::NewestFirst),
                });
            }
            _ => {}
        }
        Ok(page)
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        let mut groups = self.inner.groups(query).await?;
        if self.flaw == Flaw::GroupsWhatHasSucceeded {
            let model = self.inner.model();
            let settled = |e: &&Entry| e.version.outcome == Outcome::Succeeded && e.first_failed_at.is_some();
            let more = model.entries.values().filter(settled).count() as u64;
            groups.iter_mut().take(1).for_each(|group| group.count += more);
        }
        Ok(groups)
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        let mut what = what;
        let also = |entry: &Entry| match self.flaw {
            Flaw::PurgesWhatIsInFlight => {
                matches!(
                    Status::of(entry),
                    Status::Received | Status::Failing | Status::Blocking
                )
            }
            Flaw::PurgesWhatIsBeingReplayed => Status::of(entry) == Status::Replaying,
            Flaw::PurgesOpenFailures => Status::of(entry) == Status::Open,
            _ => false,
        };
        let mut gone = 0;
        self.inner.model().entries.retain(|_, entry| {
            let stays = entry.at >= before || !also(entry);
            gone += u64::from(!stays);
            stays
        });
        let before = Timestamp(
            before
                .0
                .saturating_add(i64::from(self.flaw == Flaw::PurgesWhatIsOfThatTime)),
        );
        if self.flaw == Flaw::PurgesAnyKind {
            what = Purgeable::Succeeded;
            gone += self.inner.purge(Purgeable::Resolved, before, limit).await?;
            gone += self.inner.purge(Purgeable::Superseded, before, limit).await?;
        }
        if self.flaw == Flaw::KeepsWhatAnOlderEraLeft {
            let known = std::mem::take(&mut self.inner.model().progress);
            let purged = self.inner.purge(what, before, limit).await;
            self.inner.model().progress = known;
            return purged;
        }
        let limit = if self.flaw == Flaw::PurgesWithoutLimit {
            usize::MAX
        } else {
            limit
        };
        Ok(gone + self.inner.purge(what, before, limit).await?)
    }

    async fn ping(&self) -> Result<()> {
        if self.flaw == Flaw::PingsWithAnEntry {
            let id = crate::Partition::new("ping", 0).at(0);
            let version = super::make::version(0, 0, 0, Outcome::Received);
            self.inner
                .record(&[Entry::new(id, version, Timestamp(0))], &[])
                .await?;
        }
        self.inner.ping().await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.inner.corrupt_rows()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        self.inner.risks().await
    }
}
