//! The lane against a session that never fails, so that each rule can be read by itself. What happens under faults is the
//! simulation's.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tracker_api::{
    Change, Entry, FailureTracker, MemoryTracker, Outcome, Query, RecordId, Resolution, Status, Timestamp,
};

use std::future::Future;

use super::{pool::PoolSettings, stalls::Stall, *};
use crate::{
    clock::SystemClock,
    config::{FailureMode, InitialOffset, OnStoreFailure, StorePayload, Tracking},
    kafka::{Membership, Polled, Position, Positions, Result},
    note::Note,
    recorder,
    telemetry::Counts,
    transform::{Output, SourceRecord, TargetRecord, TransformError},
};

pub(crate) fn settings() -> Settings {
    Settings {
        group: "group".into(),
        source: "orders".into(),
        target: "enriched".into(),
        dead_letter: None,
        dead_letter_headers: crate::config::DeadLetterHeaders::Ours,
        failure_mode: FailureMode::Atomic,
        initial_offset: InitialOffset::Earliest,
        max_attempts: 3,
        backoff: Backoff {
            first: Duration::from_millis(200),
            most: Duration::from_secs(30),
        },
        batch_records: 500,
        batch_bytes: 4 << 20,
        delay: Duration::from_millis(2)..=Duration::from_millis(100),
        max_message_bytes: 1_000_000,
        log_messages: true,
        transform_timeout: Duration::from_secs(30),
        patience: Duration::from_secs(70),
        skip: BTreeSet::new(),
    }
}

/// One Kafka for one member: two partitions, each polled from where it was started.
#[derive(Debug, Default)]
struct Log {
    records: BTreeMap<Partition, Vec<SourceRecord>>,
    committed: BTreeMap<Partition, (i64, String)>,
    attempts: Vec<Attempt>,
    /// The most bytes that were read and not committed.
    most_held: usize,
    /// A target topic that the broker refuses.
    refuses: Option<&'static str>,
}

#[derive(Debug, Clone, Default)]
struct Kafka(Arc<Mutex<Log>>);

impl Kafka {
    fn with(records: impl IntoIterator<Item = (i32, &'static str)>) -> Self {
        let kafka = Self::default();
        for (number, value) in records {
            kafka.append(number, value);
        }
        kafka
    }

    fn append(&self, number: i32, value: &'static str) {
        let partition = Partition::new("orders", number);
        let mut log = self.0.lock().unwrap();
        let of = log.records.entry(partition.clone()).or_default();
        let id = partition.at(of.len() as i64);
        let value = Some(Bytes::from(value));
        of.push(SourceRecord {
            id,
            timestamp: None,
            key: None,
            value,
            headers: vec![],
        });
    }

    fn committed(&self, number: i32) -> i64 {
        self.0
            .lock()
            .unwrap()
            .committed
            .get(&Partition::new("orders", number))
            .map_or(-1, |c| c.0)
    }

    fn note(&self, number: i32) -> Note {
        let log = self.0.lock().unwrap();
        Note::read(Some(&log.committed[&Partition::new("orders", number)].1)).unwrap()
    }

    /// The values of what was sent to a topic, in order.
    fn sent(&self, topic: &str) -> Vec<Bytes> {
        let log = self.0.lock().unwrap();
        let sends = log.attempts.iter().flat_map(|a| &a.sends);
        sends
            .filter(|s| &*s.topic == topic)
            .filter_map(|s| s.value.clone())
            .collect()
    }

    /// Attempts that moved an offset.
    fn transactions(&self) -> usize {
        let log = self.0.lock().unwrap();
        log.attempts
            .iter()
            .filter(|a| {
                a.advance
                    .iter()
                    .any(|d| d.start != Some(d.next) && d.start.is_some())
            })
            .count()
    }
}

struct Member {
    kafka: Kafka,
    at: BTreeMap<Partition, usize>,
    held: BTreeSet<Partition>,
    joined: bool,
    /// A poll stops taking records when it holds so many bytes.
    most_bytes: usize,
}

impl Member {
    fn take(&mut self, max: usize) -> Polled {
        let mut polled = Polled::default();
        let mut log = self.kafka.0.lock().unwrap();
        if !self.joined {
            self.joined = true;
            let all = log.records.keys().cloned().collect();
            polled.membership.push(Membership::Assigned(all));
            return polled;
        }
        let mut bytes = 0;
        for (partition, at) in self.at.iter_mut().filter(|(p, _)| !self.held.contains(p)) {
            let room = max - polled.records.len();
            let new = log.records[partition].iter().skip(*at).take(room);
            let before = polled.records.len();
            for record in new.cloned() {
                // As the configuration has it: half of `batch-bytes`, or the first record that exceeds it.
                if bytes >= self.most_bytes {
                    break;
                }
                bytes += record.size();
                polled.records.push(record);
            }
            *at += polled.records.len() - before;
        }
        let held = |(partition, at): (&Partition, &usize)| {
            let done = log
                .committed
                .get(partition)
                .map_or(0, |c| usize::try_from(c.0).unwrap());
            log.records[partition][done..*at]
                .iter()
                .map(SourceRecord::size)
                .sum::<usize>()
        };
        log.most_held = log.most_held.max(self.at.iter().map(held).sum());
        polled
    }
}

impl Positions for Member {
    async fn committed(&mut self, of: &[Partition]) -> Result<Vec<Position>> {
        let log = self.kafka.0.lock().unwrap();
        let position = |p: &Partition| {
            let held = log.committed.get(p);
            Position {
                partition: p.clone(),
                offset: held.map(|h| h.0),
                note: held.map(|h| h.1.clone()),
            }
        };
        Ok(of.iter().map(position).collect())
    }

    async fn partitions(&mut self, _: &str) -> Result<Vec<Partition>> {
        Ok(self.kafka.0.lock().unwrap().records.keys().cloned().collect())
    }

    async fn bounds(&mut self, of: &[Partition]) -> Result<Vec<std::ops::Range<i64>>> {
        let log = self.kafka.0.lock().unwrap();
        Ok(of.iter().map(|p| 0..log.records[p].len() as i64).collect())
    }
}

impl Session for Member {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled> {
        let polled = self.take(max);
        if polled.records.is_empty() && polled.membership.is_empty() {
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
        Ok(polled)
    }

    async fn start(&mut self, at: &[Position]) -> Result<()> {
        self.rewind(at).await
    }

    async fn rewind(&mut self, at: &[Position]) -> Result<()> {
        self.at.extend(
            at.iter()
                .map(|p| (p.partition.clone(), usize::try_from(p.offset.unwrap()).unwrap())),
        );
        Ok(())
    }

    async fn hold(&mut self, partitions: &[Partition], on: bool) -> Result<()> {
        for partition in partitions {
            if on {
                self.held.insert(partition.clone())
            } else {
                self.held.remove(partition)
            };
        }
        Ok(())
    }

    async fn transact(&mut self, attempt: &Attempt) -> std::result::Result<Committed, Aborted> {
        let mut log = self.kafka.0.lock().unwrap();
        if let Some(send) = attempt.sends.iter().position(|s| Some(&*s.topic) == log.refuses) {
            let why = kafka::Error {
                kind: ErrorKind::Refused,
                message: "no such topic".into(),
            };
            return Err(Aborted::Refused { send, why });
        }
        for advance in &attempt.advance {
            log.committed
                .insert(advance.partition.clone(), (advance.next, advance.note.clone()));
        }
        log.attempts.push(attempt.clone());
        Ok(Committed::by_session(attempt.id))
    }

    async fn settle(&mut self, _: &Attempt) -> Result<Settled> {
        unreachable!("nothing is unknown here")
    }

    async fn close(self, _: Duration) {}
}

/// `bad` never succeeds, `flaky` fails and `hangs` holds its thread while the fault is there, `gone` is filtered; the rest comes out as it went in.
#[derive(Default)]
struct Fates {
    faulty: AtomicBool,
    runs: AtomicUsize,
}

impl Transform for Arc<Fates> {
    async fn transform(&self, record: &SourceRecord) -> std::result::Result<Output, TransformError> {
        self.runs.fetch_add(1, Relaxed);
        let value = record.value.clone().unwrap_or_default();
        match &value[..] {
            b"bad" => Err(TransformError::permanent("malformed", "not an order")),
            b"hangs" => {
                while self.faulty.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Output::Filtered)
            }
            b"flaky" if self.faulty.load(Relaxed) => Err(TransformError::retryable("down", "try again")),
            b"gone" => Ok(Output::Filtered),
            b"elsewhere" => Ok(TargetRecord::new(None, value).to("missing").into()),
            _ => Ok(TargetRecord::new(None, value).into()),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    counts: Mutex<Counts>,
    stalls: Mutex<Vec<Stall>>,
}

impl Seen {
    /// What does not move now.
    pub(super) fn stalls(&self) -> Vec<Stall> {
        self.stalls.lock().unwrap().clone()
    }
}

impl Observer for Seen {
    fn beat(&self) {}
    fn joined(&self, _: usize) {}
    fn stalled(&self, stalls: Vec<Stall>) {
        *self.stalls.lock().unwrap() = stalls;
    }
    fn transformed(&self, _: usize, _: Duration) {}
    fn transform_failed(&self, _: &str) {}
    fn committed(&self, counts: &Counts, _: Duration) {
        let mut sum = self.counts.lock().unwrap();
        sum.records_in += counts.records_in;
        sum.records_out += counts.records_out;
        sum.failed += counts.failed;
        sum.filtered += counts.filtered;
        sum.skipped += counts.skipped;
        sum.dead_letters += counts.dead_letters;
    }
    fn aborted(&self, _: &'static str) {}
    fn settled(&self, _: &'static str) {}
    fn in_flight(&self, _: usize) {}
    fn abandoned(&self, _: usize) {}
    fn blocked(&self, _: &[RecordId]) {}
    fn lost(&self, _: u64) {}
}

/// A lane at work on a [`Kafka`].
struct Work {
    kafka: Kafka,
    fates: Arc<Fates>,
    tracker: MemoryTracker,
    seen: Arc<Seen>,
    stop: CancellationToken,
}

impl Work {
    /// Starts a lane and lets it run for `time`.
    async fn of(kafka: Kafka, settings: Settings, tracking: Tracking, time: Duration) -> Self {
        let tracker = MemoryTracker::default();
        let store = Arc::new(tracker.clone());
        Self::on(
            kafka,
            settings,
            (tracking, OnStoreFailure::Block),
            (tracker, store),
            time,
        )
        .await
    }

    /// The same on `store`, which stands before `tracker`; what has succeeded is not produced again.
    async fn on(
        kafka: Kafka,
        settings: Settings,
        told: (Tracking, OnStoreFailure),
        store: (MemoryTracker, tracker_api::DynTracker),
        time: Duration,
    ) -> Self {
        let users = tokio::runtime::Handle::current();
        Self::beside(kafka, settings, told, store, time, users).await
    }

    /// The same, with its transforms on a runtime of their own.
    async fn beside(
        kafka: Kafka,
        settings: Settings,
        (tracking, on_store_failure): (Tracking, OnStoreFailure),
        (tracker, store): (MemoryTracker, tracker_api::DynTracker),
        time: Duration,
        users: tokio::runtime::Handle,
    ) -> Self {
        let work = Self {
            kafka: kafka.clone(),
            fates: Arc::default(),
            tracker,
            seen: Arc::default(),
            stop: CancellationToken::new(),
        };
        work.fates.faulty.store(true, Relaxed);
        let runtime = tokio::runtime::Handle::current();
        let told = recorder::Settings {
            tracking,
            on_store_failure,
            capture: StorePayload::Bytes,
            capture_on_failure_only: true,
            store_mark: 0,
            skip_succeeded: true,
        };
        let (recorder, feedback) =
            Recorder::new(told, Some(store), None, runtime.clone(), Arc::new(SystemClock));
        let bounds = PoolSettings {
            concurrency: 64,
            timeout: settings.transform_timeout,
            ordering: crate::config::Ordering::Key,
        };
        let lane = Lane::new(Parts {
            session: Member {
                kafka,
                at: BTreeMap::new(),
                held: BTreeSet::new(),
                joined: false,
                most_bytes: settings.batch_bytes / 2,
            },
            pool: Arc::new(Pool::new(Arc::new(work.fates.clone()), users, bounds)),
            journal: Arc::default(),
            recorder,
            feedback,
            settings: Arc::new(settings),
            clock: Arc::new(SystemClock),
            observer: work.seen.clone(),
            stop: work.stop.clone(),
        });
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move { lane.run(Duration::from_secs(5)).await.unwrap() });
        tokio::task::spawn_local(local);
        tokio::time::sleep(time).await;
        work
    }

    async fn entries(&self, outcome: Outcome) -> Vec<Entry> {
        let query = Query {
            outcomes: vec![outcome],
            ..Query::default()
        };
        self.tracker.list(&query).await.unwrap().entries
    }

    async fn decide(&self, entry: &Entry, decision: Decision) {
        let resolution = Resolution {
            decision,
            about: entry.version,
            actor: "test".into(),
            reason: "the fault is known".into(),
            at: Timestamp(1),
        };
        let change = Change {
            id: entry.id.clone(),
            revision: entry.revision,
            to: Some(resolution),
        };
        assert_eq!(self.tracker.resolve(&[change]).await.unwrap(), [true]);
    }
}

fn skipping() -> Settings {
    Settings {
        failure_mode: FailureMode::SkipAndLog,
        dead_letter: Some("dead".into()),
        ..settings()
    }
}

/// Runs a test where a lane's futures, which are not `Send`, may be spawned, under paused time.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn seven_bad_records_of_five_hundred_cost_the_others_nothing() {
    paused(async {
        let values = (0..500).map(|i| (0, if i % 71 == 3 { "bad" } else { "good" }));
        let work = Work::of(
            Kafka::with(values),
            skipping(),
            Tracking::Reliable,
            Duration::from_secs(2),
        )
        .await;
        assert_eq!(work.kafka.committed(0), 500);
        assert_eq!(work.kafka.transactions(), 1, "one transaction");
        assert_eq!(work.fates.runs.load(Relaxed), 500, "none transformed twice");
        assert_eq!(work.kafka.sent("enriched").len(), 493);
        assert_eq!(work.kafka.sent("dead"), vec![Bytes::from("bad"); 7]);
        let failed = work.entries(Outcome::Failed).await;
        assert_eq!(failed.len(), 7);
        assert!(
            failed
                .iter()
                .all(|e| e.captured.as_ref().unwrap().value.as_deref() == Some(b"bad"))
        );
        let counts = *work.seen.counts.lock().unwrap();
        let expected = Counts {
            records_in: 500,
            records_out: 493,
            failed: 7,
            filtered: 0,
            skipped: 0,
            dead_letters: 7,
        };
        assert_eq!(counts, expected);
    });
}

#[test]
fn in_atomic_a_failing_record_stops_its_partition_and_no_other() {
    paused(async {
        let records = [(0, "a"), (0, "flaky"), (0, "b"), (1, "c"), (1, "gone"), (1, "d")];
        let work = Work::of(
            Kafka::with(records),
            settings(),
            Tracking::Reliable,
            Duration::from_secs(1),
        )
        .await;
        assert_eq!((work.kafka.committed(0), work.kafka.committed(1)), (1, 3));
        let [blocking] = &work.entries(Outcome::Failing).await[..] else {
            panic!("one blocking entry")
        };
        assert_eq!(
            (Status::of(blocking), blocking.id.to_string()),
            (Status::Blocking, "orders:0:1".into())
        );
        let failure = blocking.failure.as_ref().unwrap();
        assert!(failure.tries > 1 && failure.next_try.is_some(), "{failure:?}");

        work.fates.faulty.store(false, Relaxed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(work.kafka.committed(0), 3);
        assert_eq!(work.kafka.sent("enriched"), ["a", "c", "d", "flaky", "b"]);
        assert!(work.entries(Outcome::Failing).await.is_empty());
        assert!(work.entries(Outcome::Failed).await.is_empty());
    });
}

#[test]
fn a_partition_says_at_which_record_it_stands_and_since_when_until_that_one_is_through() {
    paused(async {
        let settings = Settings {
            backoff: Backoff {
                first: Duration::from_secs(3_600),
                most: Duration::from_secs(3_600),
            },
            ..settings()
        };
        let records = [(0, "a"), (0, "flaky"), (0, "flaky"), (1, "c")];
        let work = Work::of(
            Kafka::with(records),
            settings,
            Tracking::Reliable,
            Duration::from_secs(2),
        )
        .await;
        let told = || {
            let stalls = work.seen.stalls();
            stalls
                .iter()
                .map(|s| (s.why, s.text.split(' ').next().unwrap().to_owned(), s.since))
                .collect::<Vec<_>>()
        };
        let [(Why::Blocked, first, since)] = &told()[..] else {
            panic!("{:?}", told())
        };
        assert_eq!((first.as_str(), work.kafka.committed(0)), ("orders:0:1", 1));
        // Tried again in vain: the same record, since the same time.
        work.decide(&work.entries(Outcome::Failing).await[0], Decision::Retry)
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let again = told();
        assert_eq!((again[0].1.as_str(), again[0].2), ("orders:0:1", *since));
        // Passed over: the next one fails.
        work.decide(&work.entries(Outcome::Failing).await[0], Decision::Skip)
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(told()[0].1, "orders:0:2", "{:?}", told());
        work.fates.faulty.store(false, Relaxed);
        work.decide(&work.entries(Outcome::Failing).await[0], Decision::Retry)
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(told().is_empty(), "{:?}", told());
    });
}

#[test]
fn a_record_whose_transform_hangs_stands_alone_says_so_and_is_not_started_again() {
    let users = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let handle = users.handle().clone();
    let lane = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&lane, async move {
        let settings = Settings {
            transform_timeout: Duration::from_millis(50),
            ..settings()
        };
        let tracker = MemoryTracker::default();
        let work = Work::beside(
            Kafka::with([(0, "a"), (0, "hangs"), (1, "c"), (1, "d")]),
            settings,
            (Tracking::Reliable, OnStoreFailure::Block),
            (tracker.clone(), Arc::new(tracker)),
            Duration::from_secs(1),
            handle,
        )
        .await;
        assert_eq!((work.kafka.committed(0), work.kafka.committed(1)), (1, 2));
        assert_eq!(work.fates.runs.load(Relaxed), 4, "started once");
        let stalls = work.seen.stalls();
        let [stall] = &stalls[..] else {
            panic!("{stalls:?}")
        };
        assert_eq!(stall.why, Why::Transform);
        assert!(stall.text.contains("orders:0:1 does not return"), "{stall:?}");
        assert!(!stall.why.is_ready());
        work.fates.faulty.store(false, Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(work.kafka.committed(0), 2, "{:?}", work.seen.stalls());
        assert!(work.seen.stalls().is_empty(), "{:?}", work.seen.stalls());
    });
    users.shutdown_background();
}

/// A kilobyte that says nothing.
const LARGE: &str = concat!(
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
);

#[test]
fn a_lane_that_waits_for_its_store_holds_no_more_than_twice_batch_bytes() {
    use crate::resilience::scripted::{Act, Scripted};
    use tracker_api::ErrorKind::Unavailable;
    paused(async {
        let settings = Settings {
            batch_bytes: 2_048,
            ..settings()
        };
        let kafka = Kafka::with((0..400).map(|i| (i % 2, LARGE)));
        let store = Scripted::new(Act::Fail(Unavailable));
        let on = (MemoryTracker::default(), store.clone() as tracker_api::DynTracker);
        let told = (Tracking::Outbox, OnStoreFailure::Block);
        let work = Work::on(kafka, settings, told, on, Duration::from_secs(20)).await;
        assert!(!work.seen.stalls().is_empty(), "it waits");
        let held = work.kafka.0.lock().unwrap().most_held;
        assert!((1_024..=2 * 2_048 + LARGE.len()).contains(&held), "{held}");
        store.then(Act::Answer);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((work.kafka.committed(0), work.kafka.committed(1)), (200, 200));
        let held = work.kafka.0.lock().unwrap().most_held;
        assert!(held <= 2 * 2_048 + LARGE.len(), "{held}");
    });
}

#[test]
fn what_stands_behind_failing_records_is_bounded_over_all_partitions_and_comes_again() {
    paused(async {
        let settings = Settings {
            batch_bytes: 2_048,
            ..settings()
        };
        let mut records: Vec<(i32, &str)> = (0..6).map(|number| (number, "flaky")).collect();
        records.extend((0..600).map(|i| (i % 7, LARGE)));
        let work = Work::of(
            Kafka::with(records),
            settings,
            Tracking::None,
            Duration::from_secs(20),
        )
        .await;
        assert_eq!(work.kafka.committed(0), 0);
        assert_eq!(work.kafka.committed(6), 85, "the others flow");
        let held = work.kafka.0.lock().unwrap().most_held;
        assert!(held <= 2 * 2_048 + LARGE.len(), "{held}");
        work.fates.faulty.store(false, Relaxed);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let committed: i64 = (0..7).map(|number| work.kafka.committed(number)).sum();
        assert_eq!(committed, 606);
        assert_eq!(work.kafka.sent("enriched").len(), 606, "each once");
    });
}

#[test]
fn a_record_larger_than_all_that_a_lane_may_hold_passes_alone() {
    paused(async {
        let settings = Settings {
            batch_bytes: 64,
            ..settings()
        };
        let kafka = Kafka::with([(0, "a"), (0, LARGE), (0, LARGE), (0, "b")]);
        let work = Work::of(kafka, settings, Tracking::Reliable, Duration::from_secs(5)).await;
        assert_eq!(work.kafka.committed(0), 4);
    });
}

#[test]
fn an_operator_retries_a_blocking_record_at_once_or_skips_it() {
    paused(async {
        let settings = Settings {
            backoff: Backoff {
                first: Duration::from_secs(3_600),
                most: Duration::from_secs(3_600),
            },
            ..settings()
        };
        let records = [(0, "flaky"), (0, "bad"), (0, "z")];
        let work = Work::of(
            Kafka::with(records),
            settings,
            Tracking::Reliable,
            Duration::from_secs(2),
        )
        .await;
        assert_eq!(work.kafka.committed(0), 0);
        work.fates.faulty.store(false, Relaxed);
        work.decide(&work.entries(Outcome::Failing).await[0], Decision::Retry)
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(work.kafka.committed(0), 1);

        work.decide(&work.entries(Outcome::Failing).await[0], Decision::Skip)
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(
            (work.kafka.committed(0), work.kafka.sent("enriched")),
            (3, vec!["flaky".into(), "z".into()])
        );
        let [skipped] = &work.entries(Outcome::Failed).await[..] else {
            panic!("one skipped entry")
        };
        assert_eq!((Status::of(skipped), skipped.id.offset), (Status::Skipped, 1));
    });
}

#[test]
fn a_retryable_failure_is_tried_max_attempts_times_and_then_passed() {
    paused(async {
        let work = Work::of(
            Kafka::with([(0, "flaky"), (0, "z")]),
            skipping(),
            Tracking::Reliable,
            Duration::from_secs(9),
        )
        .await;
        assert_eq!(
            (work.kafka.committed(0), work.fates.runs.load(Relaxed)),
            (2, 3 + 1)
        );
        let [failed] = &work.entries(Outcome::Failed).await[..] else {
            panic!("one failure")
        };
        assert_eq!(failed.failure.as_ref().unwrap().tries, 3);
    });
}

#[test]
fn an_output_that_the_broker_refuses_is_a_failure_of_its_record_alone() {
    paused(async {
        let kafka = Kafka::with([(0, "a"), (0, "elsewhere"), (0, "b")]);
        kafka.0.lock().unwrap().refuses = Some("missing");
        let work = Work::of(kafka, skipping(), Tracking::Reliable, Duration::from_secs(2)).await;
        assert_eq!(
            (work.kafka.committed(0), work.kafka.sent("enriched")),
            (3, vec!["a".into(), "b".into()])
        );
        assert_eq!(work.fates.runs.load(Relaxed), 3, "the others come from memory");
        assert_eq!(
            work.entries(Outcome::Failed).await[0]
                .failure
                .as_ref()
                .unwrap()
                .class,
            "output_refused"
        );
    });
}

#[test]
fn outbox_keeps_an_entry_of_every_record_and_its_success() {
    paused(async {
        let records = [(0, "a"), (0, "bad"), (0, "gone")];
        let work = Work::of(
            Kafka::with(records),
            skipping(),
            Tracking::Outbox,
            Duration::from_secs(2),
        )
        .await;
        let offsets = |entries: Vec<Entry>| entries.iter().map(|e| e.id.offset).collect::<Vec<_>>();
        assert_eq!(offsets(work.entries(Outcome::Succeeded).await), [0, 2]);
        assert_eq!(offsets(work.entries(Outcome::Failed).await), [1]);
    });
}

#[test]
fn without_tracking_nothing_is_written_and_the_note_promises_nothing() {
    paused(async {
        let work = Work::of(
            Kafka::with([(0, "a"), (0, "bad")]),
            skipping(),
            Tracking::None,
            Duration::from_secs(2),
        )
        .await;
        assert_eq!((work.kafka.committed(0), work.kafka.sent("dead").len()), (2, 1));
        assert!(
            work.tracker
                .list(&Query::default())
                .await
                .unwrap()
                .entries
                .is_empty()
        );
        assert!(work.tracker.progress().await.unwrap().is_empty());
        assert!(!work.kafka.note(0).passed);
    });
}

#[test]
fn a_record_named_in_the_configuration_is_passed_although_the_mode_is_atomic() {
    paused(async {
        let settings = Settings {
            skip: [Partition::new("orders", 0).at(1)].into(),
            ..settings()
        };
        let work = Work::of(
            Kafka::with([(0, "a"), (0, "bad"), (0, "z")]),
            settings,
            Tracking::None,
            Duration::from_secs(2),
        )
        .await;
        assert_eq!(
            (work.kafka.committed(0), work.kafka.sent("enriched").len()),
            (3, 2)
        );
    });
}

#[test]
fn the_note_names_an_attempt_until_its_failures_are_confirmed() {
    paused(async {
        let work = Work::of(
            Kafka::with([(0, "a"), (0, "bad")]),
            skipping(),
            Tracking::Reliable,
            Duration::from_secs(2),
        )
        .await;
        let note = work.kafka.note(0);
        assert!(
            note.passed && note.unconfirmed.is_empty() && note.gaps.is_empty(),
            "{note:?}"
        );
        assert_eq!(
            work.entries(Outcome::Failed).await[0].version.attempt,
            note.attempt
        );
    });
}

/// A tool sets an offset, without a note of ours.
fn reset(kafka: &Kafka, number: i32, to: i64) {
    let partition = Partition::new("orders", number);
    kafka
        .0
        .lock()
        .unwrap()
        .committed
        .insert(partition, (to, String::new()));
}

/// A lane that kept an outbox, and is stopped.
async fn done(records: &[(i32, &'static str)]) -> Work {
    let kafka = Kafka::with(records.iter().copied());
    let work = Work::of(kafka, skipping(), Tracking::Outbox, Duration::from_secs(2)).await;
    work.stop.cancel();
    tokio::time::sleep(Duration::from_secs(6)).await;
    work
}

#[test]
fn what_has_succeeded_is_not_produced_again_after_a_reset_and_what_failed_is_tried_again() {
    paused(async {
        let before = done(&[(0, "a"), (0, "flaky"), (0, "gone"), (0, "b")]).await;
        assert_eq!(before.kafka.committed(0), 4);
        reset(&before.kafka, 0, 0);
        let kafka = before.kafka.clone();
        kafka.0.lock().unwrap().attempts.clear();
        let store = Arc::new(before.tracker.clone());
        let work = Work::on(
            kafka,
            skipping(),
            (Tracking::Outbox, OnStoreFailure::Block),
            (before.tracker.clone(), store),
            Duration::from_millis(50),
        )
        .await;
        work.fates.faulty.store(false, Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            (work.kafka.committed(0), work.kafka.sent("enriched")),
            (4, vec!["flaky".into()])
        );
        let counts = *work.seen.counts.lock().unwrap();
        assert_eq!((counts.records_in, counts.skipped, counts.filtered), (4, 3, 0));
        let era = work.kafka.note(0).era;
        let succeeded = work.entries(Outcome::Succeeded).await;
        assert_eq!(succeeded.len(), 4);
        assert!(
            succeeded.iter().all(|entry| entry.version.era == era),
            "known in the new era too"
        );
    });
}

#[test]
fn also_under_degrade_a_partition_waits_until_the_store_has_said_what_succeeded_and_no_longer() {
    use crate::resilience::scripted::{Act, Scripted};
    use tracker_api::ErrorKind::Unavailable;
    paused(async {
        let store = Scripted::new(Act::Fail(Unavailable));
        let kafka = Kafka::with([(0, "a")]);
        let on = (MemoryTracker::default(), store.clone() as tracker_api::DynTracker);
        let told = (Tracking::Outbox, OnStoreFailure::Degrade);
        let work = Work::on(kafka, settings(), told, on, Duration::from_secs(20)).await;
        assert_eq!(work.kafka.sent("enriched").len(), 0, "no answer is not a no");
        store.then(Act::Answer);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(work.kafka.committed(0), 1);
        store.then(Act::Fail(Unavailable));
        work.kafka.append(0, "b");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            work.kafka.committed(0),
            2,
            "nothing that lies behind has succeeded"
        );
        assert!(work.kafka.note(0).gaps.contains(1));
    });
}
