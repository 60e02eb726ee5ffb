//! The names under which Kafka knows the workers of this process. A name that two workers share lets them fence each other.

use std::{fmt, time::Duration};

use super::{
    ClientKind, KafkaCustomizer, Result, Settings,
    native::{self, Producer},
};

/// How long one producer may take to be initialised. Two thirds of a start-up probe's patience with a broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who in this process has a transactional id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// A lane, by its number from 0.
    Lane(usize),
    /// The worker that sends failures again.
    Replay,
    /// The look at Kafka before a start, and of `doctor`: it must not fence a service that runs.
    Probe,
}

impl fmt::Display for Worker {
    /// A word without `-` and `.`: both separate it from its neighbours in an id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "{lane}"),
            Self::Replay => f.write_str("replay"),
            Self::Probe => f.write_str("probe"),
        }
    }
}

impl Settings {
    /// `{prefix}{group}-{instance}-{worker}.{bytes of group}.{bytes of instance}`: of one live worker only.
    ///
    /// The two lengths say where group and instance begin, so that no two workers of any prefix, group and instance share
    /// an id, whatever characters those hold. They stand at the end, where an ACL for `{prefix}{group}-` does not see them.
    pub fn transactional_id(&self, worker: Worker) -> String {
        let (prefix, group, instance) = (&self.transactional_id_prefix, &self.group_id, &self.instance.id);
        format!(
            "{prefix}{group}-{instance}-{worker}.{}.{}",
            group.len(),
            instance.len()
        )
    }

    /// The transactional id that a lane had before the lengths were part of it: `{prefix}{group}-{instance}-{lane}`. It
    /// belongs to no living worker, but a predecessor may have left a transaction open under it.
    pub(crate) fn former_transactional_id(&self, lane: usize) -> String {
        format!(
            "{}{}-{}-{lane}",
            self.transactional_id_prefix, self.group_id, self.instance.id
        )
    }

    /// `{instance}-{lane}`: the static member id of a lane. Kafka looks for it within the group, and a lane is a number,
    /// so that the last `-` separates the two.
    pub(super) fn member_id(&self, lane: usize) -> String {
        format!("{}-{lane}", self.instance.id)
    }
}

/// Fences whoever has this transactional id and ends its open transaction. Begins none. Blocks for at most ten seconds.
pub(crate) fn initialise(
    settings: &Settings,
    id: &str,
    customizer: Option<&dyn KafkaCustomizer>,
) -> Result<()> {
    let mut client = settings.client(ClientKind::Producer { lane: 0 }, customizer)?;
    client.set("transactional.id", id);
    native::check(&client)?;
    Producer::new(&client)?
        .init(PATIENCE)
        .map_err(|error| error.during(&format!("initialising the transactional id `{id}`")))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::{Settings, Worker};
    use crate::kafka::Instance;

    fn settings(prefix: &str, group: &str, instance: &str) -> Settings {
        let instance = Instance {
            id: instance.to_owned(),
            configured: true,
        };
        Settings {
            transactional_id_prefix: prefix.to_owned(),
            ..Settings::new("localhost:9092", group, "in", instance)
        }
    }

    /// Every name of at most two of the characters that an id itself is made of, and some that look like a piece of one.
    fn names() -> Vec<String> {
        let letters = ["a", "0", "-", "."];
        let mut names = vec![String::new()];
        for one in letters {
            names.push(one.to_owned());
            names.extend(letters.iter().map(|two| format!("{one}{two}")));
        }
        let pieces = ["replay", "-replay", "probe", "a-0.1.1", "0-a.2.2", "ä"];
        names.extend(pieces.map(str::to_owned));
        names
    }

    #[test]
    fn no_two_workers_of_any_services_share_an_id() {
        let workers = [0, 1, 10].map(Worker::Lane);
        let workers = [&workers[..], &[Worker::Replay, Worker::Probe]].concat();
        let (mut ids, mut members, mut former) = (HashMap::new(), HashMap::new(), HashSet::new());
        let names = names();
        for (prefix, group, instance) in triples(&names) {
            let settings = settings(prefix, group, instance);
            for worker in &workers {
                let id = settings.transactional_id(*worker);
                assert!(id.starts_with(&format!("{prefix}{group}-")), "{id}");
                let owner = (prefix, group, instance, *worker);
                let other = ids.insert(id.clone(), owner);
                assert_eq!(other, None, "`{id}` is also that of {owner:?}");
                if let Worker::Lane(lane) = *worker {
                    former.insert(settings.former_transactional_id(lane));
                    let owner = (instance, lane);
                    let other = members.insert((group, settings.member_id(lane)), owner);
                    assert!(other.is_none_or(|other| other == owner), "{other:?}, {owner:?}");
                }
            }
        }
        assert_eq!(ids.len(), names.len().pow(3) * workers.len());
        let mistaken = former.iter().find(|id| ids.contains_key(*id));
        assert_eq!(mistaken, None, "a lane of a release before had it");
    }

    fn triples(names: &[String]) -> impl Iterator<Item = (&str, &str, &str)> {
        let pairs = names.iter().flat_map(|a| names.iter().map(move |b| (a, b)));
        pairs.flat_map(|(a, b)| names.iter().map(move |c| (&**a, &**b, &**c)))
    }

    #[test]
    fn an_id_is_readable_and_says_where_its_parts_begin() {
        let id = |group, instance, worker| settings("tx-", group, instance).transactional_id(worker);
        assert_eq!(id("orders", "eu-0", Worker::Lane(0)), "tx-orders-eu-0-0.6.4");
        assert_eq!(id("orders-eu", "0", Worker::Lane(0)), "tx-orders-eu-0-0.9.1");
        assert_eq!(id("orders", "eu-0", Worker::Replay), "tx-orders-eu-0-replay.6.4");
        assert_eq!(
            settings("tx-", "orders", "eu-0").former_transactional_id(0),
            settings("tx-", "orders-eu", "0").former_transactional_id(0),
            "what was wrong with the former one"
        );
    }
}
