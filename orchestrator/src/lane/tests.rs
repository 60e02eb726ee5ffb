//! The lane against a session that never fails, so that each rule can be read by itself. What happens under faults is the
//! simulation's.

mod reading;

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tracker_api::{
    Change, Decision, Entry, FailureTracker, MemoryTracker, Outcome, Query, RecordId, Resolution, Status,
    Timestamp,
};

use std::future::Future;

use super::{pool::PoolSettings, stalls::Stall, *};
use crate::{
    begun::Begun,
    clock::SystemClock,
    config::{FailureMode, InitialOffset, OnStoreFailure, OnUnreadable, StorePayload, Tracking},
    kafka::{Membership, Polled, Position, Positions, Refused, Result, Topic, What},
    mutant::{self, Mutant},
    note::Note,
    recorder,
    telemetry::Counts,
    transform::{Output, SourceRecord, TargetRecord, TransformError},
};

mod keys;
mod start;

pub(crate) fn settings() -> Settings {
    Settings {
        group: "group".into(),
        bootstrap: "b:9092".into(),
        source: "orders".into(),
        target: "enriched".into(),
        declared: BTreeSet::new(),
        dead_letter: None,
        dead_letter_headers: crate::config::DeadLetterHeaders::Ours,
        failure_mode: FailureMode::Atomic,
        initial_offset: InitialOffset::Earliest,
        on_unreadable: OnUnreadable::Wait,
        hanging_after: Duration::from_secs(30),
        max_attempts: 3,
        backoff: Backoff {
            first: Duration::from_millis(200),
            most: Duration::from_secs(30),
        },
        batch_records: 500,
        batch_bytes: 4 << 20,
        transaction_timeout: Duration::from_secs(15),
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
    /// The id of `orders`.
    topic: Option<Arc<str>>,
    /// A target topic that the broker refuses.
    refuses: Option<&'static str>,
    /// A value that the broker refuses in the target topic.
    rejects: Option<&'static str>,
    /// The dead-letter topic takes letters of this form at most: 0 none, 1 without value and key, 2 all.
    letters: Option<u8>,
    /// How many outputs are acknowledged in time.
    slow: Option<usize>,
    /// Attempts that came to nothing.
    aborts: usize,
    /// Partitions with a pending offset.
    pending: BTreeSet<Partition>,
    /// Offsets behind the last record at which markers stand.
    markers: BTreeMap<Partition, i64>,
    /// The first offset of a log, if it is not 0.
    starts: BTreeMap<Partition, i64>,
    /// Records that a client cannot take from here on.
    too_large: BTreeMap<Partition, i64>,
    /// The last stable offset, if somebody's transaction is open.
    stable: BTreeMap<Partition, i64>,
    /// Partitions of whose logs no broker speaks.
    leaderless: BTreeSet<Partition>,
    /// How often the group got an answer to an assignment.
    answers: usize,
}

impl Log {
    fn bounds(&self, partition: &Partition) -> std::ops::Range<i64> {
        let start = self.starts.get(partition).copied().unwrap_or(0);
        let markers = self.markers.get(partition).copied().unwrap_or(0);
        start..self.records[partition].len() as i64 + markers
    }
}

#[derive(Debug, Clone, Default)]
struct Kafka(Arc<Mutex<Log>>);

impl Kafka {
    fn with(records: impl IntoIterator<Item = (i32, &'static str)>) -> Self {
        let kafka = Self::default();
        kafka.add(records);
        kafka
    }

    fn add(&self, records: impl IntoIterator<Item = (i32, &'static str)>) {
        for (number, value) in records {
            self.append(number, value);
        }
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
    /// What it was given.
    joined: BTreeSet<Partition>,
    /// A poll stops taking records when it holds so many bytes.
    most_bytes: usize,
}

impl Member {
    fn take(&mut self, max: usize) -> Polled {
        let mut polled = Polled::default();
        let mut log = self.kafka.0.lock().unwrap();
        let ours: BTreeSet<_> = log.records.keys().cloned().collect();
        if self.joined != ours {
            let new = ours.difference(&self.joined).cloned().collect();
            polled.membership.push(Membership::Assigned(new));
            self.joined = ours;
            return polled;
        }
        let mut bytes = 0;
        for (partition, at) in self.at.iter_mut().filter(|(p, _)| !self.held.contains(p)) {
            let bounds = log.bounds(partition);
            let most = log.too_large.get(partition).copied().unwrap_or(i64::MAX);
            if (*at as i64) < bounds.start || *at as i64 > bounds.end {
                continue;
            }
            let room = max - polled.records.len();
            let new = log.records[partition].iter().skip(*at).take(room);
            let before = polled.records.len();
            for record in new.filter(|r| r.id.offset < most).cloned() {
                // As the configuration has it: half of `batch-bytes`, or the first record that exceeds it.
                if bytes >= self.most_bytes {
                    break;
                }
                bytes += record.size();
                polled.records.push(record);
            }
            *at += polled.records.len() - before;
            if *at >= log.records[partition].len() {
                *at = usize::try_from(bounds.end).unwrap();
            }
        }
        let held = |(partition, at): (&Partition, &usize)| {
            let done = log.committed.get(partition).map_or(0, |c| c.0);
            let read = log.records[partition].iter().take(*at);
            read.filter(|record| record.id.offset >= done)
                .map(SourceRecord::size)
                .sum::<usize>()
        };
        log.most_held = log.most_held.max(self.at.iter().map(held).sum());
        polled
    }
}

impl Positions for Member {
    async fn positions(&mut self, of: &[Partition]) -> Result<Vec<Option<Position>>> {
        let log = self.kafka.0.lock().unwrap();
        let position = |p: &Partition| {
            let held = log.committed.get(p);
            let position = Position {
                partition: p.clone(),
                offset: held.map(|h| h.0),
                note: held.map(|h| h.1.clone()),
            };
            (!log.pending.contains(p)).then_some(position)
        };
        Ok(of.iter().map(position).collect())
    }

    async fn topic(&mut self, _: &str) -> Result<Topic> {
        let log = self.kafka.0.lock().unwrap();
        Ok(Topic {
            id: log.topic.clone(),
            partitions: i32::try_from(log.records.len()).unwrap(),
        })
    }

    async fn partitions(&mut self, _: &str) -> Result<Vec<Partition>> {
        Ok(self.kafka.0.lock().unwrap().records.keys().cloned().collect())
    }

    async fn bounds(&mut self, of: &[Partition]) -> Result<Vec<std::ops::Range<i64>>> {
        let log = self.kafka.0.lock().unwrap();
        Ok(of.iter().map(|p| log.bounds(p)).collect())
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
        self.kafka.0.lock().unwrap().answers += 1;
        self.rewind(at).await
    }

    fn reached(&mut self) -> Vec<(Partition, i64)> {
        self.at.iter().map(|(p, at)| (p.clone(), *at as i64)).collect()
    }

    fn logs(&mut self) -> Vec<(Partition, kafka::Log)> {
        let log = self.kafka.0.lock().unwrap();
        let of = |p: &Partition| {
            let std::ops::Range { start, end } = log.bounds(p);
            let stable = log.stable.get(p).copied().unwrap_or(end);
            let age = Duration::ZERO;
            (
                p.clone(),
                kafka::Log {
                    start,
                    stable,
                    end,
                    age,
                },
            )
        };
        let led = self.at.keys().filter(|p| !log.leaderless.contains(p));
        led.map(of).collect()
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
        let why = |message: &str| kafka::Error {
            kind: ErrorKind::Refused,
            message: message.into(),
        };
        let refused: Vec<Refused> = attempt
            .sends
            .iter()
            .enumerate()
            .filter_map(|(send, s)| {
                let (what, why) = if Some(&*s.topic) == log.refuses {
                    (What::Topic, why("no such topic"))
                } else {
                    let is_too_large = match &*s.topic {
                        "enriched" => log
                            .rejects
                            .is_some_and(|value| s.value.as_deref() == Some(value.as_bytes())),
                        "dead" => log
                            .letters
                            .is_some_and(|most| most < 1 + u8::from(s.value.is_some())),
                        _ => false,
                    };
                    is_too_large.then(|| (What::Record, why("too large")))?
                };
                Some(Refused { send, what, why })
            })
            .collect();
        if !refused.is_empty() {
            log.aborts += 1;
            return Err(Aborted::Refused(refused));
        }
        if log.slow.is_some_and(|most| attempt.sends.len() > most) {
            log.aborts += 1;
            return Err(Aborted::Late(why("some were not acknowledged")));
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
            b"twice" => {
                let output = || TargetRecord::new(None, value.clone());
                Ok(Output::Records(vec![output(), output()]))
            }
            b"elsewhere" => Ok(TargetRecord::new(None, value).to("missing").into()),
            _ => Ok(TargetRecord::new(None, value).into()),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    counts: Mutex<Counts>,
    stalls: Mutex<Vec<Stall>>,
    behind: AtomicUsize,
    offsets_lost: Mutex<u64>,
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
        sum.letters_omitted += counts.letters_omitted;
    }
    fn aborted(&self, _: &'static str) {}
    fn settled(&self, _: &'static str) {}
    fn store_behind(&self, offsets: u64) {
        self.behind.fetch_add(usize::try_from(offsets).unwrap(), Relaxed);
    }
    fn in_flight(&self, _: usize) {}
    fn abandoned(&self, _: usize) {}
    fn blocked(&self, _: &[RecordId]) {}
    fn lost(&self, _: u64) {}
    fn offsets_lost(&self, _: &Partition, offsets: u64) {
        *self.offsets_lost.lock().unwrap() += offsets;
    }
}

/// A lane at work on a [`Kafka`].
struct Work {
    kafka: Kafka,
    fates: Arc<Fates>,
    tracker: MemoryTracker,
    seen: Arc<Seen>,
    stop: CancellationToken,
}

/// What a lane finds when it starts.
struct Found {
    tracker: MemoryTracker,
    /// In place of the tracker.
    store: Option<tracker_api::DynTracker>,
    begun: Arc<Begun>,
    /// Where transforms run; none: with the lane.
    users: Option<tokio::runtime::Handle>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            tracker: MemoryTracker::default(),
            store: None,
            begun: Begun::forgetful(),
            users: None,
        }
    }
}

impl Work {
    /// Starts a lane and lets it run for `time`.
    async fn of(kafka: Kafka, settings: Settings, tracking: Tracking, time: Duration) -> Self {
        let block = (tracking, OnStoreFailure::Block);
        Self::with(kafka, settings, block, time, Found::default()).await
    }

    /// The same on `store`, which stands before `tracker`; what has succeeded is not produced again.
    async fn on(
        kafka: Kafka,
        settings: Settings,
        tracking: (Tracking, OnStoreFailure),
        (tracker, store): (MemoryTracker, tracker_api::DynTracker),
        time: Duration,
    ) -> Self {
        let found = Found {
            tracker,
            store: Some(store),
            ..Found::default()
        };
        Self::with(kafka, settings, tracking, time, found).await
    }

    async fn with(
        kafka: Kafka,
        settings: Settings,
        (tracking, on_store_failure): (Tracking, OnStoreFailure),
        time: Duration,
        found: Found,
    ) -> Self {
        let work = Self {
            kafka: kafka.clone(),
            fates: Arc::default(),
            tracker: found.tracker,
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
        let tracker = Arc::new(work.tracker.clone()) as tracker_api::DynTracker;
        let store = Some(found.store.unwrap_or(tracker));
        let (recorder, feedback) = Recorder::new(told, store, None, runtime.clone(), Arc::new(SystemClock));
        let users = found.users.unwrap_or_else(tokio::runtime::Handle::current);
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
                joined: BTreeSet::new(),
                most_bytes: settings.batch_bytes / 2,
            },
            pool: Arc::new(Pool::new(Arc::new(work.fates.clone()), users, bounds)),
            journal: Arc::default(),
            recorder,
            feedback,
            settings: Arc::new(settings),
            clock: Arc::new(SystemClock),
            observer: work.seen.clone(),
            begun: found.begun,
            stop: work.stop.clone(),
        });
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move { lane.run(Duration::from_secs(5)).await.unwrap() });
        tokio::task::spawn_local(local);
        tokio::time::sleep(time).await;
        work
    }

    /// Stops the lane, and lets it end.
    async fn stop(&self) {
        self.stop.cancel();
        tokio::time::sleep(Duration::from_secs(10)).await;
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
            letters_omitted: 0,
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
        let found = Found {
            users: Some(handle),
            ..Found::default()
        };
        let work = Work::with(
            Kafka::with([(0, "a"), (0, "hangs"), (1, "c"), (1, "d")]),
            settings,
            (Tracking::Reliable, OnStoreFailure::Block),
            Duration::from_secs(1),
            found,
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

/// 128 bytes that say nothing.
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
        let kafka = Kafka::with([(0, LARGE), (1, LARGE)]);
        let store = Scripted::new(Act::Answer);
        let on = (MemoryTracker::default(), store.clone() as tracker_api::DynTracker);
        let told = (Tracking::Outbox, OnStoreFailure::Block);
        let work = Work::on(kafka, settings, told, on, Duration::from_secs(2)).await;
        store.then(Act::Fail(Unavailable));
        for i in 0..398 {
            work.kafka.append(i % 2, LARGE);
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!work.seen.stalls().is_empty(), "it waits");
        assert_eq!(work.kafka.committed(0), 1);
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

/// One value that the broker refuses, in the first of two partitions.
fn one_refused() -> Kafka {
    let kafka = Kafka::with([(0, "a"), (0, "large"), (0, "b"), (1, "c"), (1, "d")]);
    kafka.0.lock().unwrap().rejects = Some("large");
    kafka
}

#[test]
fn in_atomic_an_output_that_is_refused_blocks_its_partition_and_no_other() {
    paused(async {
        let kafka = one_refused();
        let time = Duration::from_secs(10);
        let work = Work::of(kafka.clone(), settings(), Tracking::Reliable, time).await;
        assert_eq!(
            (kafka.committed(0), kafka.committed(1)),
            (1, 2),
            "the others go on"
        );
        let [blocking] = &work.entries(Outcome::Failing).await[..] else {
            panic!("one blocking entry")
        };
        let failure = blocking.failure.as_ref().unwrap();
        assert_eq!(
            (Status::of(blocking), blocking.id.to_string(), &*failure.class),
            (Status::Blocking, "orders:0:1".into(), "output_refused")
        );
        assert!(failure.tries > 1 && failure.next_try.is_some(), "{failure:?}");
        let aborts = kafka.0.lock().unwrap().aborts;
        assert!(
            aborts <= 7,
            "{aborts} aborts in ten seconds: it waits longer before each try"
        );
        let [stall] = &work.seen.stalls()[..] else {
            panic!("one reason")
        };
        assert_eq!(
            (stall.why, stall.partition.as_ref()),
            (Why::Blocked, Some(&Partition::new("orders", 0)))
        );

        kafka.0.lock().unwrap().rejects = None;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(kafka.committed(0), 3, "it goes on by itself once it is taken");
        assert!(work.entries(Outcome::Failing).await.is_empty());
    });
}

#[test]
fn an_operator_skips_a_record_whose_output_is_refused() {
    paused(async {
        let kafka = one_refused();
        let time = Duration::from_secs(2);
        let work = Work::of(kafka.clone(), settings(), Tracking::Reliable, time).await;
        work.decide(&work.entries(Outcome::Failing).await[0], Decision::Skip)
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((kafka.committed(0), kafka.sent("enriched").len()), (3, 4));
        let [skipped] = &work.entries(Outcome::Failed).await[..] else {
            panic!("one skipped entry")
        };
        assert_eq!((Status::of(skipped), skipped.id.offset), (Status::Skipped, 1));
    });
}

#[test]
fn a_record_that_was_refused_is_tried_again_alone() {
    paused(async {
        let kafka = one_refused();
        let work = Work::of(
            kafka.clone(),
            settings(),
            Tracking::Reliable,
            Duration::from_secs(2),
        )
        .await;
        kafka.0.lock().unwrap().rejects = None;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let log = kafka.0.lock().unwrap();
        let with = log
            .attempts
            .iter()
            .find(|a| a.sends.iter().any(|s| s.value.as_deref() == Some(b"large")));
        assert_eq!(with.map(|attempt| attempt.sends.len()), Some(1));
        assert_eq!(work.fates.runs.load(Relaxed), 5 + log.aborts);
    });
}

#[test]
fn every_second_of_three_hundred_refused_costs_one_abort() {
    paused(async {
        let values = (0..300).map(|i| (0, if i % 2 == 0 { "large" } else { "good" }));
        let kafka = Kafka::with(values);
        kafka.0.lock().unwrap().rejects = Some("large");
        let time = Duration::from_secs(2);
        let work = Work::of(kafka.clone(), skipping(), Tracking::Reliable, time).await;
        assert_eq!((kafka.committed(0), kafka.sent("enriched").len()), (300, 150));
        assert_eq!(
            (kafka.sent("dead").len(), kafka.0.lock().unwrap().aborts),
            (150, 1)
        );
        assert_eq!(work.fates.runs.load(Relaxed), 300, "none transformed twice");
    });
}

#[test]
fn a_target_that_takes_nothing_is_waited_for_and_condemns_nobody() {
    paused(async {
        for settings in [settings(), skipping()] {
            let kafka = Kafka::with([(0, "a"), (1, "b")]);
            kafka.0.lock().unwrap().refuses = Some("enriched");
            let time = Duration::from_secs(60);
            let work = Work::of(kafka.clone(), settings, Tracking::Reliable, time).await;
            assert_eq!((kafka.committed(0), kafka.committed(1)), (0, 0));
            let [stall] = &work.seen.stalls()[..] else {
                panic!("one reason")
            };
            assert_eq!((stall.why, &stall.partition), (Why::Destination, &None));
            assert!(stall.text.contains("no such topic"), "{}", stall.text);
            let aborts = kafka.0.lock().unwrap().aborts;
            assert!(
                (5..40).contains(&aborts),
                "{aborts}: it waits longer before each try"
            );

            kafka.0.lock().unwrap().refuses = None;
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!((kafka.committed(0), kafka.committed(1)), (1, 1));
            assert!(work.seen.stalls().is_empty());
            assert!(work.entries(Outcome::Failed).await.is_empty());
            assert_eq!(work.fates.runs.load(Relaxed), 2);
        }
    });
}

#[test]
fn a_declared_topic_that_is_missing_is_the_destinations_fault() {
    paused(async {
        let settings = Settings {
            declared: ["missing".into()].into(),
            ..skipping()
        };
        let kafka = Kafka::with([(0, "a"), (0, "elsewhere")]);
        kafka.0.lock().unwrap().refuses = Some("missing");
        let time = Duration::from_secs(5);
        let work = Work::of(kafka.clone(), settings, Tracking::Reliable, time).await;
        assert!(work.entries(Outcome::Failed).await.is_empty());
        assert_eq!(work.seen.stalls()[0].why, Why::Destination);
    });
}

#[test]
fn what_is_not_acknowledged_in_time_is_sent_in_smaller_attempts() {
    paused(async {
        let kafka = Kafka::with((0..400).map(|i| (i % 2, "a")));
        kafka.0.lock().unwrap().slow = Some(30);
        let time = Duration::from_secs(30);
        let work = Work::of(kafka.clone(), settings(), Tracking::Reliable, time).await;
        assert_eq!((kafka.committed(0), kafka.committed(1)), (200, 200));
        assert!(
            kafka.0.lock().unwrap().aborts > 3,
            "400, 200, 100 and 50 are too many"
        );
        assert_eq!(work.fates.runs.load(Relaxed), 400, "none transformed twice");
        assert!(work.seen.stalls().is_empty());
    });
}

#[test]
fn an_attempt_counts_its_outputs_and_takes_of_each_partition_in_turn() {
    paused(async {
        let settings = Settings {
            batch_records: 8,
            ..settings()
        };
        let kafka = Kafka::with((0..8).map(|i| (i % 2, "twice")));
        let time = Duration::from_secs(5);
        Work::of(kafka.clone(), settings, Tracking::Reliable, time).await;
        let log = kafka.0.lock().unwrap();
        let attempts = log.attempts.iter().filter(|a| !a.sends.is_empty());
        let sizes: Vec<_> = attempts.map(|a| (a.sends.len(), a.advance.len())).collect();
        assert_eq!(sizes, [(8, 2), (8, 2)], "outputs and partitions of each attempt");
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
        tokio::time::sleep(Duration::from_secs(8)).await;
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

/// A partition with a record that fails and good ones behind it, and one of good ones.
async fn with_letters(
    most: Option<u8>,
    refuses: Option<&'static str>,
    settings: Settings,
    tracking: Tracking,
) -> Work {
    let kafka = Kafka::with([(0, "a"), (0, "bad"), (0, "b"), (1, "c"), (1, "d")]);
    kafka.0.lock().unwrap().letters = most;
    kafka.0.lock().unwrap().refuses = refuses;
    Work::of(kafka, settings, tracking, Duration::from_secs(20)).await
}

/// How many dead letters were committed.
fn letters(work: &Work) -> usize {
    let log = work.kafka.0.lock().unwrap();
    let sends = log.attempts.iter().flat_map(|a| &a.sends);
    sends.filter(|s| &*s.topic == "dead").count()
}

#[test]
fn a_dead_letter_that_is_refused_is_sent_shorter_and_then_left_to_the_stores_entry() {
    paused(async {
        for (most, expected, omitted) in [(1, 1, 0), (0, 0, 1)] {
            let work = with_letters(Some(most), None, skipping(), Tracking::Reliable).await;
            assert_eq!((work.kafka.committed(0), work.kafka.committed(1)), (3, 2));
            assert_eq!(letters(&work), expected);
            assert_eq!(work.entries(Outcome::Failed).await.len(), 1);
            assert!(work.kafka.note(0).gaps.is_empty(), "the store can tell");
            let counts = *work.seen.counts.lock().unwrap();
            assert_eq!(
                (counts.failed, counts.dead_letters, counts.letters_omitted),
                (1, expected as u64, omitted)
            );
            assert!(work.seen.stalls().is_empty());
        }
    });
}

#[test]
fn without_a_store_a_refused_dead_letter_stops_its_partition_alone_and_says_how_to_go_on() {
    paused(async {
        let work = with_letters(Some(0), None, skipping(), Tracking::None).await;
        assert_eq!((work.kafka.committed(0), work.kafka.committed(1)), (1, 2));
        let [stall] = &work.seen.stalls()[..] else {
            panic!("one reason: {:?}", work.seen.stalls());
        };
        assert_eq!(
            (stall.why, &stall.partition),
            (Why::DeadLetter, &Some(Partition::new("orders", 0)))
        );
        assert!(stall.text.contains("skip: [orders:0:1]"), "{}", stall.text);
        let aborts = work.kafka.0.lock().unwrap().aborts;
        assert!(aborts < 30, "{aborts} in 20 s");

        // The topic takes them again: it goes on by itself.
        work.kafka.0.lock().unwrap().letters = None;
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!((work.kafka.committed(0), letters(&work)), (3, 1));
        assert!(work.seen.stalls().is_empty());

        let named = Settings {
            skip: [Partition::new("orders", 0).at(1)].into(),
            ..skipping()
        };
        let work = with_letters(Some(0), None, named, Tracking::None).await;
        assert_eq!(work.kafka.committed(0), 3, "named to be skipped");
    });
}

#[test]
fn a_dead_letter_topic_that_is_gone_holds_only_those_that_need_it_until_it_is_back() {
    paused(async {
        let work = with_letters(None, Some("dead"), skipping(), Tracking::Reliable).await;
        assert_eq!((work.kafka.committed(0), work.kafka.committed(1)), (1, 2));
        assert_eq!(work.seen.stalls()[0].why, Why::DeadLetter);
        let aborts = work.kafka.0.lock().unwrap().aborts;
        assert!(aborts < 10, "{aborts} in 20 s");
        work.kafka.0.lock().unwrap().refuses = None;
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!((work.kafka.committed(0), letters(&work)), (3, 1));
        assert!(work.seen.stalls().is_empty());
    });
}

#[test]
fn a_gap_that_closes_leaves_the_row_also_when_nothing_more_is_committed() {
    paused(async {
        let records = [(0, "a"), (0, "bad"), (0, "z")];
        // What `lightweight` passes is a gap until the store has it, which is after the commit.
        let work = Work::of(
            Kafka::with(records),
            skipping(),
            Tracking::Lightweight,
            Duration::from_secs(2),
        )
        .await;
        assert_eq!(work.entries(Outcome::Failed).await.len(), 1);
        assert!(
            work.kafka.note(0).gaps.contains(1),
            "the last commit could not know better"
        );
        let row = work.tracker.progress().await.unwrap().remove(0);
        assert_eq!((row.committed, row.gaps.is_empty()), (3, true), "{row:?}");
    });
}

/// Another store was told of offset 1. Only this store's row can say so: the note speaks of what the owners' stores lack.
#[test]
fn what_a_recovery_finds_missed_stays_in_the_row_from_term_to_term_and_in_no_note() {
    paused(async {
        let (kafka, tracker) = (
            Kafka::with([(0, "a"), (0, "b"), (0, "c")]),
            MemoryTracker::default(),
        );
        let partition = Partition::new("orders", 0);
        let note = Note {
            attempt: tracker_api::AttemptId(uuid::Uuid::from_u128(9)),
            passed: false,
            era: 1,
            term: 3,
            unconfirmed: vec![],
            gaps: tracker_api::Gaps::default(),
            began: 0,
            store: 7,
            since: 1,
            partitions: None,
            topic: None,
            told: 0,
        };
        let ours = tracker_api::Progress {
            partition: partition.clone(),
            era: 1,
            term: 2,
            attempt: tracker_api::AttemptId::default(),
            floor: 0,
            received: 1,
            committed: 1,
            gaps: tracker_api::Gaps::default(),
            missed: tracker_api::Gaps::default(),
            failed: 0,
            succeeded: 1,
            at: Timestamp(0),
        };
        tracker.record(&[], &[ours]).await.unwrap();
        kafka
            .0
            .lock()
            .unwrap()
            .committed
            .insert(partition.clone(), (2, note.to_string()));
        for term in 4..=5 {
            let time = Duration::from_secs(2);
            let store = Arc::new(tracker.clone());
            let work = Work::on(
                kafka.clone(),
                skipping(),
                (Tracking::Reliable, OnStoreFailure::Block),
                (tracker.clone(), store),
                time,
            )
            .await;
            let row = tracker.progress().await.unwrap().remove(0);
            let missed: tracker_api::Gaps = std::iter::once(1..2).collect();
            assert_eq!((row.term, row.committed), (term, 3), "{row:?}");
            assert_eq!((&row.gaps, &row.missed), (&missed, &missed), "{row:?}");
            assert!(kafka.note(0).gaps.is_empty());
            work.stop.cancel();
            tokio::time::sleep(time).await;
        }
    });
}
