//! The group coordinator: members, generations, cooperative assignment, static members.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{Rng, rngs::SmallRng, seq::SliceRandom};
use tokio::time::Instant;
use tracker_api::Partition;

use crate::kafka::Membership;

/// What a consumer hands to the transactional offset commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) member: String,
    pub(super) generation: i32,
}

impl Metadata {
    /// What a client hands over that is in no group.
    pub(super) fn none() -> Self {
        Self {
            member: String::new(),
            generation: -1,
        }
    }
}

/// Why the coordinator refused a member's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    IllegalGeneration,
    UnknownMember,
    FencedInstance,
}

/// One member, as the coordinator and its client's background thread see it.
#[derive(Debug)]
struct Member {
    instance: Option<String>,
    process: usize,
    /// What it may read: given to it, and not yet given back.
    owned: BTreeSet<Partition>,
    /// Asked back; its client has not served the callback yet.
    leaving: BTreeSet<Partition>,
    /// Callbacks that its client has not served yet.
    told: VecDeque<Membership>,
    /// The generation that its client knows.
    generation: i32,
    /// When it last sent a heartbeat.
    seen: Instant,
}

/// The group.
#[derive(Debug)]
pub(super) struct Group {
    generation: i32,
    members: BTreeMap<String, Member>,
    partitions: Vec<Partition>,
    joined: u32,
    /// A round is due.
    pub(super) unbalanced: bool,
    /// Rounds so far.
    pub(super) rounds: u32,
}

impl Group {
    pub(super) fn new(partitions: Vec<Partition>) -> Self {
        Self {
            generation: 0,
            members: BTreeMap::new(),
            partitions,
            joined: 0,
            unbalanced: false,
            rounds: 0,
        }
    }

    /// A client joins. A static one replaces its predecessor: it takes over the assignment, and the generation stays.
    pub(super) fn join(&mut self, process: usize, instance: Option<&str>) -> String {
        self.joined += 1;
        let id = format!("member-{}", self.joined);
        let predecessor = instance.and_then(|instance| {
            let of_instance = |m: &&Member| m.instance.as_deref() == Some(instance);
            let found = self.members.iter().find(|(_, m)| of_instance(m));
            found.map(|(id, _)| id.clone())
        });
        let mut member = Member {
            instance: instance.map(str::to_owned),
            process,
            owned: BTreeSet::new(),
            leaving: BTreeSet::new(),
            told: VecDeque::new(),
            generation: -1,
            seen: Instant::now(),
        };
        if let Some(old) = predecessor.and_then(|old| self.members.remove(&old)) {
            // What the predecessor was asked to give back, it cannot serve any more.
            member.owned = old.owned.difference(&old.leaving).cloned().collect();
            self.unbalanced |= !old.leaving.is_empty();
            member.generation = self.generation;
            member
                .told
                .push_back(Membership::Assigned(member.owned.iter().cloned().collect()));
        } else {
            self.unbalanced = true;
        }
        self.members.insert(id.clone(), member);
        id
    }

    /// The topic has one more partition.
    pub(super) fn add(&mut self, partition: Partition) {
        self.partitions.push(partition);
        self.unbalanced = true;
    }

    /// A dynamic member leaves, or the coordinator gives a member up.
    pub(super) fn remove(&mut self, member: &str) {
        self.unbalanced |= self.members.remove(member).is_some();
    }

    /// Whether the member is known; a fenced one is told so.
    pub(super) fn known(&self, member: &str, instance: Option<&str>) -> Result<(), Refusal> {
        if self.members.contains_key(member) {
            return Ok(());
        }
        let replaced = instance.is_some() && self.members.values().any(|m| m.instance.as_deref() == instance);
        Err(if replaced {
            Refusal::FencedInstance
        } else {
            Refusal::UnknownMember
        })
    }

    /// What a transactional offset commit is checked for. As in Kafka, *not* whose the partitions are.
    pub(super) fn check(&self, metadata: &Metadata) -> Result<(), Refusal> {
        if *metadata == Metadata::none() {
            // For clients from before there was any.
            return Ok(());
        }
        let Some(_) = self.members.get(&metadata.member) else {
            return Err(Refusal::UnknownMember);
        };
        if metadata.generation == self.generation {
            Ok(())
        } else {
            Err(Refusal::IllegalGeneration)
        }
    }

    /// What the client hands out at this moment.
    pub(super) fn metadata(&self, member: &str) -> Option<Metadata> {
        self.members.get(member).map(|m| Metadata {
            member: member.to_owned(),
            generation: m.generation,
        })
    }

    /// The client serves its callbacks, and gives back what it was asked for.
    pub(super) fn serve(&mut self, member: &str) -> Vec<Membership> {
        let generation = self.generation;
        let Some(m) = self.members.get_mut(member) else {
            return Vec::new();
        };
        // Heard by the client's own thread before the callback runs.
        if !m.told.is_empty() {
            m.generation = generation;
        }
        let told: Vec<_> = m.told.drain(..).collect();
        if !m.leaving.is_empty() {
            m.owned = m.owned.difference(&m.leaving).cloned().collect();
            m.leaving.clear();
            self.unbalanced = true;
        }
        told
    }

    /// A heartbeat of every member whose process lives; the others are given up after `timeout`. Answers how many were.
    pub(super) fn heartbeats(
        &mut self,
        lives: impl Fn(usize) -> bool,
        timeout: std::time::Duration,
        rng: &mut SmallRng,
    ) -> usize {
        let now = Instant::now();
        let mut gone = Vec::new();
        for (id, member) in &mut self.members {
            if lives(member.process) {
                member.seen = now;
                // The background thread rejoins at its own pace.
                if rng.random_bool(0.7) {
                    member.generation = self.generation;
                }
            } else if now.duration_since(member.seen) > timeout {
                gone.push(id.clone());
            }
        }
        for id in &gone {
            self.remove(id);
        }
        gone.len()
    }

    /// The members of a process.
    pub(super) fn members_of(&self, process: usize) -> Vec<String> {
        let of = self.members.iter().filter(|(_, m)| m.process == process);
        of.map(|(id, _)| id.clone()).collect()
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// One round of a cooperative rebalance: what is too much is asked back, what is free is given out, everybody else
    /// hears an empty assignment. What is given back is given out in a later round.
    pub(super) fn rebalance(&mut self, rng: &mut SmallRng) {
        self.unbalanced = false;
        self.rounds += 1;
        self.generation += 1;
        let count = self.members.len();
        if count == 0 {
            return;
        }
        let owned: BTreeSet<_> = self
            .members
            .values()
            .flat_map(|m| m.owned.iter().cloned())
            .collect();
        let mut free: Vec<_> = self
            .partitions
            .iter()
            .filter(|p| !owned.contains(*p))
            .cloned()
            .collect();
        free.shuffle(rng);
        let (least, extra) = (self.partitions.len() / count, self.partitions.len() % count);
        let mut order: Vec<String> = self.members.keys().cloned().collect();
        order.sort_by_key(|id| std::cmp::Reverse(self.members[id].owned.len()));
        for (place, id) in order.iter().enumerate() {
            let quota = least + usize::from(place < extra);
            let generation = self.generation;
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            let staying: Vec<_> = member.owned.difference(&member.leaving).cloned().collect();
            if staying.len() > quota {
                let mut too_many = staying;
                too_many.shuffle(rng);
                too_many.truncate(too_many.len() - quota);
                member.leaving.extend(too_many.iter().cloned());
                member.told.push_back(Membership::Revoked(too_many));
            } else {
                let given: Vec<_> = free.split_off(free.len() - free.len().min(quota - staying.len()));
                member.owned.extend(given.iter().cloned());
                member.told.push_back(Membership::Assigned(given));
            }
            if rng.random_bool(0.5) {
                member.generation = generation;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, seq::IndexedRandom};

    use super::*;

    fn partitions(n: i32) -> Vec<Partition> {
        (0..n).map(|i| Partition::new("source", i)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_never_given_out_before_it_was_given_back() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut group = Group::new(partitions(4));
            let mut members: Vec<String> = Vec::new();
            let mut held: BTreeMap<String, BTreeSet<Partition>> = BTreeMap::new();
            for _ in 0..60 {
                match rng.random_range(0..5) {
                    0 if members.len() < 4 => members.push(group.join(members.len(), None)),
                    1 if members.len() > 1 => {
                        let gone = members.remove(rng.random_range(0..members.len()));
                        group.remove(&gone);
                        held.remove(&gone);
                    }
                    2 if group.unbalanced => group.rebalance(&mut rng),
                    _ => {
                        let Some(id) = members.choose(&mut rng).cloned() else {
                            continue;
                        };
                        for news in group.serve(&id) {
                            let mine = held.entry(id.clone()).or_default();
                            match news {
                                Membership::Assigned(p) => mine.extend(p),
                                Membership::Revoked(p) | Membership::Lost(p) => {
                                    mine.retain(|q| !p.contains(q))
                                }
                            }
                        }
                    }
                }
                let all: Vec<_> = held.values().flatten().collect();
                let distinct: BTreeSet<_> = all.iter().collect();
                assert_eq!(all.len(), distinct.len(), "seed {seed}: {held:?}");
            }
        }
    }
}
