//! Where a lane begins, and what it does when what it began on is not there any more.

use super::*;
use crate::resilience::scripted::{Act, Scripted};

const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const TWO: &str = "BBBBBBBBBBBBBBBBBBBBBA";
const SOON: Duration = Duration::from_secs(2);

fn partition(number: i32) -> Partition {
    Partition::new("orders", number)
}

impl Kafka {
    /// Kafka forgets the group's offsets of these partitions.
    fn forget(&self, numbers: impl IntoIterator<Item = i32>) {
        let mut log = self.0.lock().unwrap();
        for number in numbers {
            log.committed.remove(&partition(number));
        }
    }

    /// `kafka-consumer-groups --reset-offsets`.
    fn reset(&self, number: i32, to: i64) {
        let mut log = self.0.lock().unwrap();
        log.committed.insert(partition(number), (to, String::new()));
    }

    /// The topic is deleted, and made again with these records; the group's offsets went with it.
    fn recreate(&self, id: &str, records: impl IntoIterator<Item = (i32, &'static str)>) {
        {
            let mut log = self.0.lock().unwrap();
            log.topic = Some(id.into());
            log.records.values_mut().for_each(Vec::clear);
            log.committed.clear();
        }
        self.add(records);
    }

    fn stands(&self, work: &Work, why: Why) -> String {
        let stalls = work.seen.stalls();
        let of: Vec<_> = stalls.iter().filter(|stall| stall.why == why).collect();
        assert_eq!(of.len(), 1, "{stalls:?}");
        assert!(of[0].partition.is_some(), "it waits alone: {stalls:?}");
        of[0].text.clone()
    }
}

impl Work {
    async fn finding(
        kafka: Kafka,
        settings: Settings,
        tracking: Tracking,
        time: Duration,
        found: Found,
    ) -> Self {
        Self::with(kafka, settings, (tracking, OnStoreFailure::Block), time, found).await
    }
}

/// Three records in each of two partitions, all passed; the lane has ended.
async fn passed(tracking: Tracking) -> (Kafka, Work, Found) {
    let all = [(0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e"), (1, "f")];
    let kafka = Kafka::with(all);
    let found = Found::default();
    let again = Found {
        tracker: found.tracker.clone(),
        begun: found.begun.clone(),
        ..Found::default()
    };
    let work = Work::finding(kafka.clone(), settings(), tracking, SOON, found).await;
    work.stop().await;
    assert_eq!((kafka.committed(0), kafka.committed(1)), (3, 3));
    (kafka, work, again)
}

#[test]
fn a_group_whose_offsets_are_gone_waits_and_goes_on_where_it_is_told() {
    paused(async {
        // With a store that knows; and with none, where the data directory knows.
        for tracking in [Tracking::Reliable, Tracking::None] {
            for initial_offset in [InitialOffset::Earliest, InitialOffset::Latest] {
                let (kafka, _, mut found) = passed(tracking).await;
                if tracking == Tracking::Reliable {
                    found.begun = Begun::forgetful();
                }
                kafka.add([(0, "new")]);
                kafka.forget([0, 1]);
                kafka.reset(1, 3);
                let settings = Settings {
                    initial_offset,
                    ..settings()
                };
                let work = Work::finding(kafka.clone(), settings, tracking, SOON, found).await;
                let text = kafka.stands(&work, Why::Start);
                assert!(
                    text.contains("--topic orders:0 --reset-offsets --to-offset 3"),
                    "{text}"
                );
                assert_eq!(kafka.sent("enriched").len(), 6, "nothing is produced twice");

                kafka.reset(0, 3);
                tokio::time::sleep(Duration::from_secs(30)).await;
                assert_eq!((kafka.sent("enriched").len(), kafka.committed(0)), (7, 4));
                assert_eq!(work.seen.stalls(), []);
                work.stop().await;
            }
        }
    });
}

/// Whether a test sees that the loop is wrong in this way.
fn sees(mutant: Mutant, test: fn()) {
    let wrong = || mutant::with(Some(mutant), test);
    assert!(
        std::panic::catch_unwind(wrong).is_err(),
        "{mutant:?} was not noticed"
    );
}

#[test]
fn the_wrong_variants_of_these_rules_are_noticed() {
    use Mutant::{NoAnswerIsNeverSeen, ToldIgnored, TopicIdIgnored, VacuousFirstStart};
    sees(
        VacuousFirstStart,
        a_group_whose_offsets_are_gone_waits_and_goes_on_where_it_is_told,
    );
    sees(
        NoAnswerIsNeverSeen,
        a_partition_without_offset_waits_alone_until_the_store_answers,
    );
    sees(
        TopicIdIgnored,
        what_was_read_of_a_topic_that_is_gone_is_not_committed_to_the_one_of_its_name,
    );
    sees(
        ToldIgnored,
        a_store_that_comes_back_older_leaves_a_gap_a_word_and_a_number,
    );
}

#[test]
fn a_new_group_begins_where_it_is_configured_to() {
    paused(async {
        for (initial_offset, sent) in [(InitialOffset::Earliest, 2), (InitialOffset::Latest, 0)] {
            let kafka = Kafka::with([(0, "a"), (1, "b")]);
            let settings = Settings {
                initial_offset,
                ..settings()
            };
            Work::of(kafka.clone(), settings, Tracking::Reliable, SOON).await;
            assert_eq!(kafka.sent("enriched").len(), sent);
            assert_eq!((kafka.committed(0), kafka.committed(1)), (1, 1));
        }
    });
}

#[test]
fn a_partition_without_offset_waits_alone_until_the_store_answers() {
    paused(async {
        let (kafka, ..) = passed(Tracking::None).await;
        kafka.add([(0, "new")]);
        kafka.forget([1]);
        let store = Scripted::new(Act::Fail(tracker_api::ErrorKind::Unavailable));
        let found = Found {
            store: Some(store.clone()),
            ..Found::default()
        };
        let work = Work::finding(kafka.clone(), settings(), Tracking::Lightweight, SOON, found).await;
        assert_eq!(
            (kafka.committed(0), kafka.committed(1)),
            (4, -1),
            "the other goes on"
        );
        let text = kafka.stands(&work, Why::Store);
        assert!(
            text.contains("orders:1") && text.contains("does not answer"),
            "{text}"
        );
        // It has never seen the partition, and says so.
        store.then(Act::Answer);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(kafka.committed(1), 3);
        assert_eq!(work.seen.stalls(), []);
    });
}

#[test]
fn what_came_while_a_new_group_waited_for_the_store_is_not_passed_over() {
    paused(async {
        let kafka = Kafka::with([(0, "old")]);
        let store = Scripted::new(Act::Fail(tracker_api::ErrorKind::Unavailable));
        let found = Found {
            store: Some(store.clone()),
            ..Found::default()
        };
        let settings = Settings {
            initial_offset: InitialOffset::Latest,
            ..settings()
        };
        Work::finding(kafka.clone(), settings, Tracking::Lightweight, SOON, found).await;
        kafka.add([(0, "new")]);
        store.then(Act::Answer);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(kafka.sent("enriched"), ["new"]);
    });
}

#[test]
fn a_partition_that_appears_later_is_read_from_its_start_also_with_latest() {
    paused(async {
        let kafka = Kafka::with([(0, "old"), (1, "old")]);
        let settings = Settings {
            initial_offset: InitialOffset::Latest,
            ..settings()
        };
        let work = Work::of(kafka.clone(), settings, Tracking::Reliable, SOON).await;
        assert_eq!(work.kafka.note(0).term, 1);
        kafka.add([(2, "c"), (3, "d"), (3, "e")]);
        tokio::time::sleep(SOON).await;
        assert_eq!(kafka.sent("enriched"), ["c", "d", "e"]);
    });
}

#[test]
fn a_topic_that_is_made_again_while_the_lane_runs_is_read_from_its_start() {
    paused(async {
        let kafka = Kafka::with([(0, "a"), (0, "b"), (0, "c")]);
        kafka.0.lock().unwrap().topic = Some(ONE.into());
        let work = Work::of(kafka.clone(), settings(), Tracking::Reliable, SOON).await;
        let before = kafka.note(0);
        assert_eq!(before.topic.as_deref(), Some(ONE));
        kafka.recreate(TWO, [(0, "d")]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(kafka.sent("enriched"), ["a", "b", "c", "d"]);
        let after = kafka.note(0);
        assert!(after.era > before.era, "{after:?}");
        assert_eq!(
            (after.topic.as_deref(), after.partitions, after.began),
            (Some(TWO), Some(0), 0)
        );
        assert_eq!(work.seen.stalls(), []);
    });
}

#[test]
fn what_was_read_of_a_topic_that_is_gone_is_not_committed_to_the_one_of_its_name() {
    paused(async {
        let kafka = Kafka::with([(0, "a"), (0, "flaky"), (0, "c")]);
        kafka.0.lock().unwrap().topic = Some(ONE.into());
        let work = Work::of(kafka.clone(), settings(), Tracking::Reliable, SOON).await;
        assert_eq!(kafka.committed(0), 1, "two are in memory");
        kafka.recreate(TWO, [(0, "x"), (0, "y"), (0, "z")]);
        // Somebody who slept committed what he held: the note is of the topic that is gone.
        let asleep = Note {
            topic: Some(ONE.into()),
            ..work.kafka.0.lock().unwrap().attempts[0].advance[0]
                .note
                .parse()
                .unwrap()
        };
        let log = || kafka.0.lock().unwrap();
        log().committed.insert(partition(0), (2, asleep.to_string()));
        work.fates.faulty.store(false, Relaxed);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(kafka.sent("enriched"), ["a", "x", "y", "z"]);
        assert_eq!(kafka.committed(0), 3);
    });
}

#[test]
fn a_group_that_stood_still_while_its_topic_was_made_again_begins_at_the_new_logs_start() {
    paused(async {
        let (kafka, _, found) = passed(Tracking::Reliable).await;
        kafka.0.lock().unwrap().topic = Some(ONE.into());
        let work = Work::finding(kafka.clone(), settings(), Tracking::Reliable, SOON, found).await;
        work.stop().await;
        let found = Found {
            tracker: work.tracker.clone(),
            ..Found::default()
        };
        found.begun.saw(Some(ONE), 1, [(0, 3), (1, 3)]);
        kafka.recreate(TWO, [(0, "x"), (1, "y")]);
        let settings = Settings {
            initial_offset: InitialOffset::Latest,
            ..settings()
        };
        Work::finding(kafka.clone(), settings, Tracking::Reliable, SOON, found).await;
        assert_eq!(kafka.sent("enriched")[6..], ["x", "y"]);
    });
}

#[test]
fn an_offset_that_vanishes_while_the_lane_runs_is_noticed_and_asked_for() {
    paused(async {
        let kafka = Kafka::with([(0, "a"), (0, "b"), (1, "c")]);
        let work = Work::of(kafka.clone(), settings(), Tracking::Reliable, SOON).await;
        kafka.forget([0]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let text = kafka.stands(&work, Why::Start);
        assert!(
            text.contains("--topic orders:0 --reset-offsets --to-offset 2"),
            "{text}"
        );
        kafka.add([(0, "new"), (1, "new")]);
        tokio::time::sleep(SOON).await;
        assert_eq!((kafka.committed(0), kafka.committed(1)), (-1, 2));
    });
}

#[test]
fn a_failure_behind_the_last_word_of_a_store_that_came_back_older_is_unknown_and_no_success() {
    paused(async {
        let kafka = Kafka::with([(0, "bad"), (0, "a")]);
        let work = Work::of(kafka.clone(), skipping(), Tracking::Reliable, SOON).await;
        let backup = work.tracker.backup();
        for last in ["b", "bad"] {
            kafka.add([(0, last)]);
            tokio::time::sleep(SOON).await;
        }
        // The store has the last failure, and no attempt has said so yet.
        assert_eq!((kafka.committed(0), kafka.note(0).told), (4, 3));
        work.stop().await;
        work.tracker.restore(backup);
        let found = Found {
            tracker: work.tracker.clone(),
            ..Found::default()
        };
        let work = Work::finding(kafka.clone(), skipping(), Tracking::Reliable, SOON, found).await;
        kafka.add([(0, "c")]);
        tokio::time::sleep(SOON).await;
        let row = work.tracker.progress().await.unwrap().remove(0);
        assert!(row.gaps.contains(3), "{row:?}");
        work.stop().await;
    });
}

#[test]
fn a_store_that_comes_back_older_leaves_a_gap_a_word_and_a_number() {
    paused(async {
        for running in [false, true] {
            let kafka = Kafka::with([(0, "bad"), (0, "a")]);
            let mut work = Work::of(kafka.clone(), skipping(), Tracking::Reliable, SOON).await;
            let backup = work.tracker.backup();
            kafka.add([(0, "bad"), (0, "bad"), (0, "b")]);
            tokio::time::sleep(SOON).await;
            // What was confirmed is committed with the next attempt.
            kafka.add([(0, "c")]);
            tokio::time::sleep(SOON).await;
            assert_eq!(work.entries(Outcome::Failed).await.len(), 3);
            assert_eq!(kafka.note(0).told, 5);
            work.tracker.restore(backup);
            if !running {
                work.stop().await;
                let found = Found {
                    tracker: work.tracker.clone(),
                    ..Found::default()
                };
                work = Work::finding(kafka.clone(), skipping(), Tracking::Reliable, SOON, found).await;
            }
            tokio::time::sleep(Duration::from_secs(120)).await;
            kafka.add([(0, "d")]);
            tokio::time::sleep(SOON).await;
            let gaps: Vec<_> = kafka.note(0).gaps.iter().cloned().collect();
            assert_eq!((gaps.len(), gaps.first()), (1, Some(&(2..6))), "{gaps:?}");
            assert_eq!(work.seen.behind.load(Relaxed), 4);
            let rows = work.tracker.progress().await.unwrap();
            assert_eq!(
                (rows[0].committed, rows[0].gaps.contains(3)),
                (7, true),
                "{rows:?}"
            );
            assert_eq!(kafka.sent("enriched"), ["a", "b", "c", "d"]);
            work.stop().await;
        }
    });
}
