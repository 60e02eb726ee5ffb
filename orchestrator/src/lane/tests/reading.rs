//! What stands between a log and the lane.

use super::*;

fn partition(number: i32) -> Partition {
    Partition::new("orders", number)
}

/// Three good records in each of two partitions.
fn two_partitions() -> Kafka {
    Kafka::with([(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")])
}

impl Kafka {
    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Work {
    async fn reading(kafka: &Kafka, settings: Settings, time: Duration) -> Self {
        Self::of(kafka.clone(), settings, Tracking::Reliable, time).await
    }

    /// Why each partition does not move.
    fn whys(&self) -> Vec<(Option<i32>, Why)> {
        let stalls = self.seen.stalls();
        stalls
            .iter()
            .map(|s| (s.partition.as_ref().map(|p| p.number), s.why))
            .collect()
    }

    fn text(&self) -> String {
        self.seen
            .stalls()
            .first()
            .map_or_else(String::new, |s| s.text.clone())
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn one_pending_offset_keeps_neither_the_others_nor_the_group_waiting() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.committed.insert(partition(1), (1, String::new()));
            log.committed.insert(partition(0), (0, String::new()));
            log.pending.insert(partition(1));
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(2)).await;
        assert!(kafka.0.lock().unwrap().answers > 0, "the assignment is answered");
        assert_eq!((kafka.committed(0), kafka.committed(1)), (3, 1));
        assert_eq!(work.whys(), [(Some(1), Why::Pending)]);
        assert!(!work.text().contains("hanging"), "{}", work.text());
        pass(40).await;
        assert_eq!(work.whys(), [(Some(1), Why::Pending)]);
        let text = work.text();
        assert!(
            text.contains("a hanging transaction") && text.contains("kafka-transactions.sh"),
            "{text}"
        );
        kafka.change(|log| log.pending.clear());
        pass(6).await;
        assert_eq!(kafka.committed(1), 3);
        assert_eq!(work.whys(), []);
    });
}

#[test]
fn a_partition_that_is_read_up_commits_its_position_past_markers_once() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.markers.insert(partition(0), 7);
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(8)).await;
        assert_eq!((kafka.committed(0), kafka.committed(1)), (10, 3));
        let before = kafka.transactions();
        pass(60).await;
        assert_eq!(kafka.transactions(), before, "nothing is left to be committed");
        let progress = work.tracker.progress().await.unwrap();
        assert_eq!((progress[0].committed, progress[0].received), (10, 10));
        let counts = *work.seen.counts.lock().unwrap();
        assert_eq!((counts.records_in, counts.records_out), (6, 6));
    });
}

#[test]
fn no_position_is_committed_over_a_record_that_blocks() {
    paused(async {
        let kafka = Kafka::with([(0, "a"), (0, "bad")]);
        kafka.change(|log| {
            log.markers.insert(partition(0), 5);
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(60)).await;
        assert_eq!(kafka.committed(0), 1);
        assert_eq!(work.whys(), [(Some(0), Why::Blocked)]);
    });
}

#[test]
fn a_partition_whose_log_begins_behind_it_waits_says_what_to_type_and_goes_on_after_a_reset() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.committed.insert(partition(0), (0, String::new()));
            log.starts.insert(partition(0), 2);
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(20)).await;
        assert_eq!((kafka.committed(0), kafka.committed(1)), (0, 3));
        assert_eq!(work.whys(), [(Some(0), Why::Unreadable)]);
        let text = work.text();
        for part in [
            "orders:0",
            "offset 0",
            "2..3",
            "--group group",
            "--to-offset 2",
            "skip-to-log-start",
        ] {
            assert!(text.contains(part), "`{part}` is missing: {text}");
        }
        kafka.change(|log| {
            log.committed.insert(partition(0), (2, String::new()));
        });
        pass(15).await;
        assert_eq!(kafka.committed(0), 3);
        assert_eq!(work.whys(), []);
        assert_eq!(*work.seen.offsets_lost.lock().unwrap(), 0);
    });
}

#[test]
fn skip_to_log_start_goes_on_where_the_log_begins_and_says_what_is_lost() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.committed.insert(partition(0), (0, String::new()));
            log.starts.insert(partition(0), 2);
        });
        let skips = Settings {
            on_unreadable: OnUnreadable::SkipToLogStart,
            ..settings()
        };
        let work = Work::reading(&kafka, skips, Duration::from_secs(20)).await;
        assert_eq!((kafka.committed(0), kafka.committed(1)), (3, 3));
        assert_eq!(*work.seen.offsets_lost.lock().unwrap(), 2);
        let note = kafka.note(0);
        assert!([0, 1].iter().all(|offset| note.gaps.contains(*offset)), "{note}");
        assert!(!note.gaps.contains(2), "{note}");
        assert_eq!(work.whys(), []);
        assert_eq!(kafka.sent("enriched").len(), 4);
    });
}

#[test]
fn a_log_whose_start_has_passed_only_markers_is_no_loss() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.markers.insert(partition(0), 4);
        });
        let skips = Settings {
            on_unreadable: OnUnreadable::SkipToLogStart,
            ..settings()
        };
        let work = Work::reading(&kafka, skips, Duration::from_secs(1)).await;
        // Before the position is committed.
        assert_eq!(kafka.committed(0), 3);
        kafka.change(|log| {
            log.starts.insert(partition(0), 7);
        });
        pass(20).await;
        assert_eq!(kafka.committed(0), 7);
        assert_eq!(*work.seen.offsets_lost.lock().unwrap(), 0);
        assert!(kafka.note(0).gaps.is_empty());
        assert_eq!(work.whys(), []);
    });
}

#[test]
fn a_log_that_ends_before_the_offset_waits_for_a_person_also_when_it_grows_again() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.committed.insert(partition(0), (5, String::new()));
        });
        let skips = Settings {
            on_unreadable: OnUnreadable::SkipToLogStart,
            ..settings()
        };
        let work = Work::reading(&kafka, skips, Duration::from_secs(10)).await;
        assert_eq!(work.whys(), [(Some(0), Why::Unreadable)]);
        assert!(work.text().contains("0..3"), "{}", work.text());
        kafka.change(|log| {
            log.markers.insert(partition(0), 2);
        });
        pass(30).await;
        assert_eq!(kafka.committed(0), 5);
        assert_eq!(work.whys(), [(Some(0), Why::Unreadable)]);
        kafka.change(|log| {
            log.committed.insert(partition(0), (3, String::new()));
        });
        pass(20).await;
        assert_eq!(kafka.committed(0), 5, "read up from where the person said");
        assert_eq!(work.whys(), []);
    });
}

#[test]
fn records_that_wait_and_do_not_come_are_said() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.too_large.insert(partition(0), 1);
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(20)).await;
        assert_eq!((kafka.committed(0), work.whys()), (1, vec![]));
        pass(20).await;
        assert_eq!(work.whys(), [(Some(0), Why::Unreadable)]);
        assert!(
            work.text().contains("receive.message.max.bytes"),
            "{}",
            work.text()
        );
        kafka.change(|log| log.too_large.clear());
        pass(2).await;
        assert_eq!((kafka.committed(0), work.whys()), (3, vec![]));
    });
}

#[test]
fn a_transaction_that_stays_open_on_the_source_is_a_note() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.markers.insert(partition(0), 4);
            log.stable.insert(partition(0), 3);
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(14 * 60)).await;
        assert_eq!(work.whys(), []);
        pass(2 * 60).await;
        assert_eq!(work.whys(), [(Some(0), Why::OpenTransaction)]);
        assert!(Why::OpenTransaction.is_ready());
        assert!(
            work.text().contains("--partition 0 --start-offset 3"),
            "{}",
            work.text()
        );
        kafka.change(|log| log.stable.clear());
        pass(2).await;
        assert_eq!(work.whys(), []);
    });
}

#[test]
fn a_log_of_which_no_broker_speaks_is_a_reason_of_its_partition() {
    paused(async {
        let kafka = two_partitions();
        kafka.change(|log| {
            log.leaderless.insert(partition(1));
        });
        let work = Work::reading(&kafka, settings(), Duration::from_secs(20)).await;
        assert_eq!(work.whys(), []);
        pass(20).await;
        assert_eq!(work.whys(), [(Some(1), Why::Kafka)]);
        kafka.change(|log| log.leaderless.clear());
        pass(2).await;
        assert_eq!(work.whys(), []);
    });
}
