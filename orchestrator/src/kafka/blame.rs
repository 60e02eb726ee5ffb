//! Which records of an attempt a broker's answers refuse, and of which they only seem to.
//!
//! A broker answers a request, and a request carries many records. Most codes say nothing of a single one: `MSG_SIZE_TOO_LARGE`
//! is answered for all records that travelled with the one that is too large. When exactly one record of a request is named,
//! librdkafka (2.12.1) gives its code to all the others too. So a record is named here only where it is certain, and where it
//! is not, the next attempt sends each record in a request of its own.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::types::RDKafkaErrorCode as Code;

use super::{Error, ErrorKind, Refused, Send, What, limits, verdict};
use crate::mutant::{self, Mutant};

/// A record that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Its place in the attempt.
    pub(crate) index: usize,
    /// The partition of its topic that it was sent to; negative if it never got one.
    pub(crate) partition: i32,
    pub(crate) code: Code,
}

/// What became of an attempt's records.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) sends: &'a [Send],
    /// In order.
    pub(crate) failed: &'a [Failed],
    /// Whether each record travelled in a request of its own.
    pub(crate) alone: bool,
    /// Whether every record was answered.
    pub(crate) complete: bool,
    /// Whether nothing is compressed, so that what is larger than a record that is too large is too large as well.
    pub(crate) exact: bool,
}

/// What the answers mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It is certain of each of these.
    Refused(Vec<Refused>),
    /// Some of those that travelled together are refused, and nobody can say which; or it is their sum that is too large.
    Company { why: Error, of_size: bool },
    /// Something else than a record.
    Destination(Error),
}

/// None if nothing failed but what was given up because of a fault that librdkafka tells elsewhere.
pub(crate) fn blame(answer: &Answer<'_>) -> Option<Blame> {
    let mut named: BTreeMap<usize, Refused> = BTreeMap::new();
    let (mut company, mut world) = (None, None);
    let speak = |failed: &Failed| {
        let topic = answer.sends.get(failed.index).map_or("?", |send| &*send.topic);
        verdict::of_code(&format!("delivering to `{topic}`"), failed.code, "")
    };
    for failed in answer.failed {
        if verdict::is_purge(failed.code) || failed.code == Code::InvalidDifferentRecord {
            continue;
        }
        let Some(what) = verdict::what_is_refused(failed.code) else {
            world.get_or_insert_with(|| speak(failed));
            continue;
        };
        let first = mutant::active(Mutant::BlameTheFirst) && named.is_empty();
        if first || answer.is_certain(failed, what) {
            let why = speak(failed);
            let send = failed.index;
            named.insert(send, Refused { send, what, why });
        } else {
            company.get_or_insert_with(|| (speak(failed), verdict::is_of_size(failed.code)));
        }
    }
    if !named.is_empty() {
        answer.extend(&mut named);
        return Some(Blame::Refused(named.into_values().collect()));
    }
    let retriable = |why: Error| Error {
        kind: ErrorKind::Retriable,
        ..why
    };
    company
        .map(|(why, of_size)| Blame::Company {
            why: retriable(why),
            of_size,
        })
        .or_else(|| world.map(Blame::Destination))
}

impl Answer<'_> {
    /// Whether the answer can be about no other record.
    fn is_certain(&self, failed: &Failed, what: What) -> bool {
        match what {
            What::Topic | What::Partition => return true,
            What::Record | What::Timestamp if self.alone => return true,
            What::Record | What::Timestamp => {}
        }
        let topic = |failed: &Failed| self.sends.get(failed.index).map(|send| &send.topic);
        let company = || {
            self.failed.iter().filter(|other| {
                other.index != failed.index
                    && other.partition == failed.partition
                    && topic(other) == topic(failed)
            })
        };
        let mut innocent = company().filter(|other| other.code == Code::InvalidDifferentRecord);
        if failed.code == Code::InvalidRecord && innocent.clone().next().is_some() {
            // The broker named several, and then librdkafka gives this code for each reason. One whose timestamp is our clock's
            // is named for its own sake only if another with our clock's was not.
            let is_ours = |failed: &Failed| {
                self.sends
                    .get(failed.index)
                    .is_some_and(|send| send.timestamp.is_none())
            };
            return !is_ours(failed) || innocent.any(is_ours);
        }
        // Of a request that fails every record fails: one that fails alone was alone.
        self.complete && company().all(|other| verdict::is_purge(other.code))
    }

    /// Names those of which an answer about another says enough: of the same topic, or larger than what is too large.
    fn extend(&self, named: &mut BTreeMap<usize, Refused>) {
        let mut topics: BTreeMap<&str, Error> = BTreeMap::new();
        let mut sizes: BTreeMap<&str, (usize, Error)> = BTreeMap::new();
        let codes: BTreeMap<usize, Code> = self.failed.iter().map(|f| (f.index, f.code)).collect();
        for refused in named.values() {
            let Some(send) = self.sends.get(refused.send) else {
                continue;
            };
            if refused.what == What::Topic {
                topics.entry(&send.topic).or_insert_with(|| refused.why.clone());
            }
            let of_size = codes
                .get(&refused.send)
                .is_some_and(|code| verdict::is_of_size(*code));
            if self.exact && of_size {
                let size = limits::batch_bytes(send);
                let least = sizes
                    .entry(&send.topic)
                    .or_insert_with(|| (size, refused.why.clone()));
                least.0 = size.min(least.0);
            }
        }
        if topics.is_empty() && sizes.is_empty() {
            return;
        }
        for (index, send) in self.sends.iter().enumerate() {
            let of_topic = topics.get(&*send.topic).map(|why| (What::Topic, why));
            let of_size = || {
                let (least, why) = sizes.get(&*send.topic)?;
                (limits::batch_bytes(send) >= *least).then_some((What::Record, why))
            };
            if let Some((what, why)) = of_topic.or_else(of_size) {
                named.entry(index).or_insert_with(|| Refused {
                    send: index,
                    what,
                    why: why.clone(),
                });
            }
        }
    }
}

/// The records for topics that we may not write to, as librdkafka's log names them: its error does not say which topic.
pub(super) fn denied(sends: &[Send], topics: &BTreeSet<String>) -> Vec<Refused> {
    let code = Code::TopicAuthorizationFailed;
    let of = |(send, record): (usize, &Send)| {
        topics.contains(&*record.topic).then(|| Refused {
            send,
            what: What::Topic,
            why: verdict::of_code(&format!("delivering to `{}`", record.topic), code, ""),
        })
    };
    sends.iter().enumerate().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn send(size: usize) -> Send {
        Send {
            topic: "out".into(),
            partition: None,
            key: None,
            value: Some(Bytes::from(vec![b'x'; size])),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    fn failed(codes: &[(usize, Code)]) -> Vec<Failed> {
        let of = |(index, code): &(usize, Code)| Failed {
            index: *index,
            partition: 0,
            code: *code,
        };
        codes.iter().map(of).collect()
    }

    /// The places that are named; none if nobody is.
    fn named(sends: &[Send], codes: &[(usize, Code)], change: impl Fn(&mut Answer<'_>)) -> Vec<usize> {
        let failed = failed(codes);
        let mut answer = Answer {
            sends,
            failed: &failed,
            alone: false,
            complete: true,
            exact: false,
        };
        change(&mut answer);
        match blame(&answer) {
            Some(Blame::Refused(refused)) => refused.iter().map(|r| r.send).collect(),
            _ => Vec::new(),
        }
    }

    const TOO_LARGE: Code = Code::MessageSizeTooLarge;

    #[test]
    fn an_answer_about_a_request_names_none_of_its_records() {
        let sends = [send(9), send(9), send(9)];
        let both = [(0, TOO_LARGE), (2, TOO_LARGE)];
        assert!(named(&sends, &both, |_| ()).is_empty());
        assert_eq!(named(&sends, &both, |answer| answer.alone = true), [0, 2]);
        let one = [(1, TOO_LARGE), (2, Code::PurgeQueue)];
        assert_eq!(named(&sends, &one, |_| ()), [1], "it was alone in its request");
        assert!(
            named(&sends, &one, |answer| answer.complete = false).is_empty(),
            "others of its request may still be told"
        );
        let alike = [(0, Code::InvalidRecord), (1, Code::InvalidRecord)];
        assert!(
            named(&sends, &alike, |_| ()).is_empty(),
            "one is named, and librdkafka gave its code to the other"
        );
    }

    #[test]
    fn all_that_one_answer_names_are_named() {
        let sends = [send(1), send(1), send(1), send(1)];
        let answer = [
            (0, Code::InvalidRecord),
            (1, Code::InvalidDifferentRecord),
            (2, Code::InvalidRecord),
            (3, Code::PurgeQueue),
        ];
        assert_eq!(named(&sends, &answer, |_| ()), [0, 2]);
    }

    #[test]
    fn a_clock_of_ours_that_is_wrong_is_not_taken_for_a_bad_record() {
        let dated = Send {
            timestamp: Some(1),
            ..send(1)
        };
        // Two with our clock's time are named, the one with its own is not: it may be the clock.
        let sends = [send(1), send(1), dated];
        let answer = [
            (0, Code::InvalidRecord),
            (1, Code::InvalidRecord),
            (2, Code::InvalidDifferentRecord),
        ];
        assert!(named(&sends, &answer, |_| ()).is_empty());
    }

    #[test]
    fn what_is_larger_than_what_is_too_large_is_named_with_it() {
        let sends = [send(9), send(50), send(40), send(60)];
        let answer = [(1, TOO_LARGE), (2, Code::PurgeQueue), (3, Code::PurgeQueue)];
        let alone = |answer: &mut Answer<'_>| answer.alone = true;
        assert_eq!(named(&sends, &answer, alone), [1], "it may be compressed");
        let exact = |answer: &mut Answer<'_>| (answer.alone, answer.exact) = (true, true);
        assert_eq!(named(&sends, &answer, exact), [1, 3]);
    }

    #[test]
    fn an_answer_about_a_topic_is_one_about_all_that_go_there() {
        let mut sends = [send(1), send(1), send(1)];
        sends[2].topic = "other".into();
        let answer = [(0, Code::UnknownTopic), (1, Code::PurgeQueue)];
        assert_eq!(named(&sends, &answer, |_| ()), [0, 1]);
    }

    #[test]
    fn what_says_nothing_of_a_record_blames_the_destination_by_name() {
        let sends = [send(1), send(1)];
        let failed = failed(&[(0, Code::PurgeQueue), (1, Code::NotEnoughReplicas)]);
        let mut answer = Answer {
            sends: &sends,
            failed: &failed,
            alone: true,
            complete: true,
            exact: true,
        };
        let Some(Blame::Destination(why)) = blame(&answer) else {
            panic!("no record is at fault")
        };
        assert!(why.message.contains("`out`"), "{why}");
        answer.failed = &failed[..1];
        assert_eq!(blame(&answer), None);
    }
}
