//! How a broken tracker joins and what it makes of bytes.

use std::time::Duration;

use super::broken::{Broken, Flaw};
use crate::{Entry, Model, Page, Partition, Progress, Query, Result, Version, coalesce};

impl Broken {
    pub(super) async fn one_by_one(&self, entries: &[Entry]) {
        for new in coalesce(entries) {
            let held = self.inner.model().entries.get(&new.id).cloned();
            if self.flaw == Flaw::ReadsThenWrites || self.flaw == Flaw::InsertsTwice && held.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let kept = held.map_or_else(|| new.clone(), |held| self.wrong_join(held, &new));
            self.inner.model().entries.insert(new.id.clone(), kept);
        }
    }

    fn wrong_join(&self, held: Entry, new: &Entry) -> Entry {
        let mut joined = held.clone();
        joined.join(new);
        let without_term = |v: &Version| (v.era, v.attempt, v.outcome);
        let as_text = |v: &Version| (v.era, v.term, format!("{:x}", v.attempt.0.as_u128()), v.outcome);
        let new_wins = match self.flaw {
            Flaw::JoinsTheWrongWayRound => new.version <= held.version,
            Flaw::LetsTheLastWriteWin => true,
            Flaw::IgnoresTheTerm => without_term(&new.version) >= without_term(&held.version),
            Flaw::ComparesAttemptsAsText => as_text(&new.version) >= as_text(&held.version),
            _ => new.version >= held.version,
        };
        let winner = if new_wins { new } else { &held };
        (joined.version, joined.at) = (winner.version, winner.at);
        joined.failure.clone_from(&winner.failure);
        match self.flaw {
            Flaw::DropsCapturedBytesOnALaterWrite => joined.captured.clone_from(&winner.captured),
            Flaw::ForgetsTheFirstFailure => joined.first_failed_at = winner.first_failed_at,
            Flaw::KeepsBytesOfAnOlderEra => joined.captured = joined.captured.or(held.captured),
            Flaw::LetsAResolutionOutliveItsFailure => {
                joined
                    .resolution
                    .iter_mut()
                    .for_each(|resolution| resolution.about = winner.version);
            }
            _ => {}
        }
        joined
    }

    /// Rows whose join, which is right, ends in what a wrong one would keep.
    pub(super) fn wrong_gaps(&self, progress: &[Progress]) -> Vec<Progress> {
        let mut rows = progress.to_vec();
        let mut model = self.inner.model();
        for new in &mut rows {
            let held = model.progress.get_mut(&new.partition);
            let Some(held) = held.filter(|held| held.era == new.era) else {
                continue;
            };
            match self.flaw {
                Flaw::UnitesTheGapsOfAllWriters => {
                    held.gaps.unite(&new.gaps);
                    new.gaps.clone_from(&held.gaps);
                }
                Flaw::TakesTheGapsThatCameLast => {
                    held.gaps.clone_from(&new.gaps);
                    held.missed.clone_from(&new.missed);
                }
                Flaw::KeepsTheGapsOfOneRow if held.writer() == new.writer() => {
                    held.gaps.clone_from(&new.gaps);
                }
                _ => {}
            }
        }
        if self.flaw == Flaw::ForgetsWhatItMissed {
            rows.iter_mut()
                .for_each(|row| row.missed = crate::Gaps::default());
        }
        rows
    }

    /// A listing by a filter that is read wrongly: the other filters, then the wrong one.
    pub(super) fn misread(&self, query: &Query, model: &Model) -> Result<Page> {
        let (key, text) = (query.key.clone(), query.text.clone());
        let matches = |entry: &Entry| {
            let held = entry.captured.as_ref().and_then(|captured| captured.key.as_ref());
            let message = entry.failure.as_ref().map(|failure| failure.message.as_str());
            let by_key = key
                .as_ref()
                .is_none_or(|key| held.is_some_and(|held| held.starts_with(key)));
            let by_text = text.as_ref().is_none_or(|text| {
                message.is_some_and(|message| match self.flaw {
                    Flaw::MindsTheCaseOfAText => message.contains(text.as_str()),
                    Flaw::FoldsEveryCase => message.to_lowercase().contains(&text.to_lowercase()),
                    _ => message.to_ascii_lowercase().contains(&text.to_ascii_lowercase()),
                })
            });
            by_key && by_text
        };
        let mut wrong = model.clone();
        wrong.entries.retain(|_, entry| matches(entry));
        wrong.list(&Query {
            key: None,
            text: None,
            ..query.clone()
        })
    }

    pub(super) fn mangled(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        match self.flaw {
            Flaw::ReadsErasAsSigned => entry.version.era = entry.version.era.min(i64::MAX.unsigned_abs()),
            Flaw::DropsTheNextTry => entry
                .failure
                .iter_mut()
                .for_each(|failure| failure.next_try = None),
            Flaw::ReadsTopicsWithoutCase => {
                let partition = &entry.id.partition;
                entry.id =
                    Partition::new(partition.topic.to_lowercase(), partition.number).at(entry.id.offset);
            }
            _ => {}
        }
        let mangle = |bytes: &bytes::Bytes| match self.flaw {
            Flaw::CutsBytesAtNul => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                bytes.slice(..end)
            }
            Flaw::ReadsBytesAsText => String::from_utf8_lossy(bytes).into_owned().into(),
            _ => bytes.clone(),
        };
        if let Some(captured) = &mut entry.captured {
            let values = [&mut captured.key, &mut captured.value].into_iter();
            for value in values.chain(captured.headers.iter_mut().map(|header| &mut header.value)) {
                *value = value.as_ref().map(mangle);
                if self.flaw == Flaw::ReadsEmptyAsNull {
                    value.take_if(|bytes| bytes.is_empty());
                }
            }
            if self.flaw == Flaw::KeepsHeadersAsAMap {
                captured.headers.sort();
                captured.headers.dedup_by(|a, b| a.name == b.name);
            }
        }
        entry
    }
}
