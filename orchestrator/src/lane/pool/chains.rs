use std::{collections::HashMap, hash::Hash, ops::Range};

use tracker_api::Partition;

use super::{Ordering, RecordRef};

/// Which records run one after another. A *place* is an index into the input, a *position* one into the order of running,
/// which goes chain by chain.
#[derive(Debug)]
pub(super) struct Chains {
    places: Vec<usize>,
    ends: Vec<usize>,
}

impl Chains {
    pub(super) fn of(records: &[RecordRef], ordering: Ordering) -> Self {
        match ordering {
            Ordering::None => Self {
                places: (0..records.len()).collect(),
                ends: (1..=records.len()).collect(),
            },
            Ordering::Partition => Self::by(records, |record| Some(&record.id.partition)),
            Ordering::Key => Self::by(records, |record| {
                let key: &[u8] = record.key.as_deref()?;
                Some((&record.id.partition, key)) as Option<(&Partition, &[u8])>
            }),
        }
    }

    /// Groups by `name`, each group in input order, the groups in the order of their first records; a record without a
    /// name is a group of its own.
    fn by<'a, N: Eq + Hash>(records: &'a [RecordRef], name: impl Fn(&'a RecordRef) -> Option<N>) -> Self {
        let mut numbers = HashMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut chain_of = Vec::with_capacity(records.len());
        for record in records {
            let fresh = sizes.len();
            let chain = name(record).map_or(fresh, |name| *numbers.entry(name).or_insert(fresh));
            if chain == fresh {
                sizes.push(0);
            }
            sizes[chain] += 1;
            chain_of.push(chain);
        }
        let mut end = 0;
        let mut next: Vec<usize> = Vec::with_capacity(sizes.len());
        let ends = sizes
            .iter()
            .map(|size| {
                next.push(end);
                end += size;
                end
            })
            .collect();
        let mut places = vec![0; records.len()];
        for (place, chain) in chain_of.into_iter().enumerate() {
            places[next[chain]] = place;
            next[chain] += 1;
        }
        Self { places, ends }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The positions of chain `number`.
    pub(super) fn chain(&self, number: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(start..end)
    }

    /// The place in the input of what runs at `position`.
    pub(super) fn place(&self, position: usize) -> usize {
        self.places[position]
    }
}
