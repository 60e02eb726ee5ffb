//! The verdict by ids: what a `read_committed` reader finds in the topics, against what the source says should become of
//! each order. Shares nothing with the service but the names of three headers.

mod verdict;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

pub use verdict::{Fault, Verdict, grouped};

use crate::{
    Result,
    orders::{FATE, Fate, ID, PLACE},
    reader::{self, Record, Topic},
};

/// Header: where an output's input stands, `topic:partition:offset`.
pub const DEDUP_KEY: &str = "orchestrator-dedup-key";
/// Header: `i/n` when a record has more than one output.
pub const OUTPUT: &str = "orchestrator-output";

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct Check {
    /// A broker.
    pub bootstrap: String,
    /// The topic that the orders were produced to.
    pub source: String,
    /// All topics that enriched orders may be in.
    pub targets: Vec<String>,
    /// The dead-letter topic, if one is set.
    pub dead_letters: Option<String>,
    /// The service's group: its offsets say what it claims to have done.
    pub group: String,
    /// What is to become of poison orders.
    pub poison: Expected,
    /// What is to become of orders that the service fails by itself. Without a dead-letter topic: `Nothing`.
    pub failing: Expected,
    /// How long an open transaction may last.
    pub patience: Duration,
}

/// What is to be found for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Its outputs, once.
    Enriched,
    /// Its dead letter, once.
    Failed,
    /// Either of them.
    Either,
    /// Neither.
    Nothing,
}

impl Check {
    /// With the names that the demo and the tests use.
    pub fn new(
        bootstrap: &str,
        source: &str,
        targets: &[&str],
        dead_letters: Option<&str>,
        group: &str,
    ) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            source: source.to_owned(),
            targets: targets.iter().map(|&t| t.to_owned()).collect(),
            dead_letters: dead_letters.map(str::to_owned),
            group: group.to_owned(),
            poison: Expected::Failed,
            failing: if dead_letters.is_some() {
                Expected::Failed
            } else {
                Expected::Nothing
            },
            patience: Duration::from_secs(40),
        }
    }

    /// Reads everything and judges it. An error means that no verdict could be reached.
    pub fn run(&self) -> Result<Verdict> {
        let read = |topic: &str| reader::read(&self.bootstrap, topic, self.patience);
        let source = read(&self.source)?;
        // the offsets before the outputs: what is committed by then must be there
        let committed = reader::committed(&self.bootstrap, &self.group, &self.source, self.patience)?;
        let targets = self.targets.iter().map(|t| read(t)).collect::<Result<Vec<_>>>()?;
        let dead_letters = self.dead_letters.as_deref().map(read).transpose()?;
        self.judge(&source, &targets, dead_letters.as_ref(), &committed)
    }

    /// The judgement alone, over what was read.
    pub fn judge(
        &self,
        source: &Topic,
        targets: &[Topic],
        dead_letters: Option<&Topic>,
        committed: &BTreeMap<i32, i64>,
    ) -> Result<Verdict> {
        let orders = Orders::of(source)?;
        let mut verdict = Verdict::of(orders.all.len());
        let mut found: HashMap<usize, Found> = HashMap::new();
        for topic in targets {
            for record in &topic.records {
                let Some(number) = orders.behind(&mut verdict, source, topic, record) else {
                    continue;
                };
                orders.check_output(&mut verdict, number, record);
                found.entry(number).or_default().outputs.push(place(record));
            }
            orders.check_order(&mut verdict, source, topic);
        }
        if let Some(topic) = dead_letters {
            for record in &topic.records {
                let Some(number) = orders.behind(&mut verdict, source, topic, record) else {
                    continue;
                };
                orders.check_dead_letter(&mut verdict, number, record);
                found.entry(number).or_default().dead_letters += 1;
            }
        }
        for (number, order) in orders.all.iter().enumerate() {
            let nothing = Found::default();
            self.weigh(
                &mut verdict,
                order,
                found.get(&number).unwrap_or(&nothing),
                committed,
            );
        }
        for (partition, end) in &source.ends {
            if !source.records.iter().any(|r| r.partition == *partition) {
                continue;
            }
            let stands = committed.get(partition).copied().unwrap_or(0);
            if stands < *end && orders.last(*partition).is_some_and(|last| stands <= last) {
                verdict
                    .unfinished
                    .push(format!("{}:{partition} at {stands} of {end}", source.name));
            }
        }
        verdict.sort();
        Ok(verdict)
    }

    fn weigh(&self, verdict: &mut Verdict, order: &Known<'_>, found: &Found, committed: &BTreeMap<i32, i64>) {
        let record = order.record;
        let id = || order.id.to_owned();
        let parts: HashSet<_> = found.outputs.iter().copied().collect();
        let total = found.outputs.first().map_or(0, |(_, of)| *of);
        let whole = total > 0 && parts.len() == total && found.outputs.iter().all(|(_, of)| *of == total);
        let enriched = !found.outputs.is_empty();
        let failed = found.dead_letters > 0;

        if committed
            .get(&record.partition)
            .is_none_or(|stands| record.offset >= *stands)
            && (enriched || failed)
        {
            verdict.push(Fault::Ahead, id());
        }
        if parts.len() < found.outputs.len() || found.dead_letters > 1 || (enriched && failed) {
            verdict.push(Fault::Duplicated, id());
        } else if enriched && !whole {
            verdict.push(Fault::Torn, id());
        }
        let expected = match order.fate {
            Fate::Good | Fate::Slow => Expected::Enriched,
            Fate::Poison => self.poison,
            Fate::Malformed | Fate::Invalid | Fate::UnknownSku => self.failing,
        };
        if enriched {
            verdict.enriched += 1;
        } else if failed {
            verdict.failed += 1;
        }
        match (expected, enriched, failed) {
            (Expected::Nothing, false, false) => verdict.nothing += 1,
            (_, false, false) => verdict.push(Fault::Lost, id()),
            (_, true, true)
            | (Expected::Enriched, true, _)
            | (Expected::Failed, false, true)
            | (Expected::Either, _, _) => {}
            _ => verdict.push(Fault::Misjudged, id()),
        }
    }
}

#[derive(Default)]
struct Found {
    /// Per output, its place and how many there are.
    outputs: Vec<(usize, usize)>,
    dead_letters: usize,
}

/// `i/n`, or 1 of 1.
fn place(record: &Record) -> (usize, usize) {
    record
        .header(OUTPUT)
        .and_then(|text| text.split_once('/'))
        .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)))
        .unwrap_or((1, 1))
}

struct Known<'a> {
    id: &'a str,
    fate: Fate,
    record: &'a Record,
}

struct Orders<'a> {
    all: Vec<Known<'a>>,
    at: HashMap<(i32, i64), usize>,
}

impl<'a> Orders<'a> {
    fn of(source: &'a Topic) -> Result<Self> {
        let mut all = Vec::with_capacity(source.records.len());
        let mut at = HashMap::with_capacity(source.records.len());
        let mut ids = HashSet::with_capacity(source.records.len());
        let mut places: HashMap<(i32, &[u8]), u64> = HashMap::new();
        for record in &source.records {
            let here = || format!("{}:{}:{}", source.name, record.partition, record.offset);
            let id = record
                .header(ID)
                .ok_or_else(|| format!("{} has no {ID}: no order of ours", here()))?;
            let fate = record
                .header(FATE)
                .ok_or_else(|| format!("{} has no {FATE}", here()))?
                .parse()?;
            if !ids.insert(id) {
                return Err(format!("{id} was produced twice: nothing can be said of duplicates").into());
            }
            let key = record.key.as_deref().unwrap_or_default();
            if let Some(place) = record.header(PLACE).and_then(|p| p.parse::<u64>().ok())
                && places
                    .insert((record.partition, key), place)
                    .is_some_and(|before| before >= place)
            {
                return Err(format!(
                    "{} stands before an earlier order of its key: nothing can be said of order",
                    here()
                )
                .into());
            }
            at.insert((record.partition, record.offset), all.len());
            all.push(Known { id, fate, record });
        }
        Ok(Self { all, at })
    }

    fn last(&self, partition: i32) -> Option<i64> {
        self.all
            .iter()
            .filter(|o| o.record.partition == partition)
            .map(|o| o.record.offset)
            .max()
    }

    /// The number of the order that a record comes from, by its dedup header.
    fn number(&self, source: &Topic, record: &Record) -> Option<usize> {
        let (topic, place) = record.header(DEDUP_KEY)?.split_once(':')?;
        let (partition, offset) = place.split_once(':')?;
        (topic == source.name).then_some(())?;
        self.at
            .get(&(partition.parse().ok()?, offset.parse().ok()?))
            .copied()
    }

    fn behind(&self, verdict: &mut Verdict, source: &Topic, topic: &Topic, record: &Record) -> Option<usize> {
        let number = self.number(source, record);
        if number.is_none() {
            let says = record.header(DEDUP_KEY).unwrap_or("nothing");
            let place = format!(
                "{}:{}:{} ({DEDUP_KEY} says {says})",
                topic.name, record.partition, record.offset
            );
            verdict.push(Fault::Foreign, place);
        }
        number
    }

    fn check_output(&self, verdict: &mut Verdict, number: usize, record: &Record) {
        let order = &self.all[number];
        let says = record
            .value
            .as_deref()
            .and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok())
            .and_then(|body| Some(body.get("order_id")?.as_str()?.to_owned()));
        if says.as_deref() != Some(order.id) || record.key != order.record.key {
            let says = says.unwrap_or_else(|| "no order".to_owned());
            verdict.push(Fault::Mislabelled, format!("{} (its output is {says})", order.id));
        }
    }

    fn check_dead_letter(&self, verdict: &mut Verdict, number: usize, record: &Record) {
        let order = &self.all[number];
        let has = |header: &(String, Option<Vec<u8>>)| record.headers.contains(header);
        if record.key != order.record.key
            || record.value != order.record.value
            || !order.record.headers.iter().all(has)
        {
            verdict.push(Fault::Altered, order.id.to_owned());
        }
    }

    /// Per source partition and key, the outputs of one target partition must follow their inputs. A repeated one is a
    /// duplicate, not disorder.
    fn check_order(&self, verdict: &mut Verdict, source: &Topic, topic: &Topic) {
        let mut newest = HashMap::new();
        let mut seen = HashSet::new();
        for record in &topic.records {
            let Some(number) = self.number(source, record) else {
                continue;
            };
            let input = self.all[number].record;
            let (output, _) = place(record);
            if !seen.insert((number, output)) {
                continue;
            }
            let newest = newest
                .entry((record.partition, input.partition, input.key.as_deref()))
                .or_insert((-1, 0));
            if (input.offset, output) < *newest {
                verdict.push(Fault::OutOfOrder, self.all[number].id.to_owned());
            } else {
                *newest = (input.offset, output);
            }
        }
    }
}

#[cfg(test)]
mod tests;
