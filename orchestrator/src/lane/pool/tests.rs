use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Instant as WallClock,
};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tracker_api::Partition;

use super::*;
use crate::transform::TargetRecord;

/// What a record asks for in its value: `ok`, `sleep:<ms>`, `block:<ms>` (never yields), `fail`, `panic`, `panic-later`,
/// `panic-on-drop`.
#[derive(Default)]
struct Obedient {
    log: Mutex<Vec<(usize, &'static str)>>,
    running: AtomicUsize,
    most: AtomicUsize,
    blocked_once: AtomicBool,
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl Transform for Obedient {
    fn transform(
        &self,
        record: &SourceRecord,
    ) -> impl Future<Output = Result<Output, TransformError>> + Send {
        let wish = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        assert!(wish != "panic", "at the call");
        async move {
            let index = usize::try_from(record.id.offset).unwrap();
            self.log.lock().unwrap().push((index, "begin"));
            let running = self.running.fetch_add(1, SeqCst) + 1;
            self.most.fetch_max(running, SeqCst);
            let (verb, ms) = wish.split_once(':').unwrap_or((&wish, "0"));
            let wait = Duration::from_millis(ms.parse().unwrap());
            match verb {
                "sleep" => tokio::time::sleep(wait).await,
                "block" => thread::sleep(wait),
                "block-once" if !self.blocked_once.swap(true, SeqCst) => thread::sleep(wait),
                "panic-later" => {
                    tokio::task::yield_now().await;
                    panic!("after {} yield", 1);
                }
                "panic-on-drop" => {
                    let _held = PanicsOnDrop;
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                _ => {}
            }
            self.running.fetch_sub(1, SeqCst);
            self.log.lock().unwrap().push((index, "end"));
            if verb == "fail" {
                return Err(TransformError::permanent("wish", "as it wished"));
            }
            Ok(TargetRecord::new(record.key.clone(), wish).into())
        }
    }
}

fn source(offset: usize, partition: i32, key: Option<&str>, wish: &str) -> SourceRecord {
    SourceRecord {
        id: Partition::new("orders", partition).at(i64::try_from(offset).unwrap()),
        timestamp: None,
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(wish.as_bytes())),
        headers: Vec::new(),
    }
}

fn refs(records: Vec<SourceRecord>) -> Vec<RecordRef> {
    let buffer = Arc::new(records);
    (0..buffer.len())
        .map(|index| RecordRef::new(Arc::clone(&buffer), index))
        .collect()
}

/// Records without keys, each with its wish.
fn wishes<'a>(wishes: impl IntoIterator<Item = &'a str>) -> Vec<RecordRef> {
    refs(
        wishes
            .into_iter()
            .enumerate()
            .map(|(i, wish)| source(i, 0, None, wish))
            .collect(),
    )
}

fn settings(concurrency: usize, timeout_ms: u64, ordering: Ordering) -> PoolSettings {
    PoolSettings {
        concurrency,
        timeout: Duration::from_millis(timeout_ms),
        ordering,
    }
}

fn workers(number: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(number)
        .enable_all()
        .build()
        .unwrap()
}

/// A lane's thread: a current-thread runtime of its own, beside the one for user code.
fn lane<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn go_on() -> Arc<Stop> {
    Arc::new(|_, _| false)
}

fn short(verdicts: &[Verdict]) -> Vec<&str> {
    verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Done(_) => "done",
            Verdict::Failed(why) => why.class.as_ref(),
            Verdict::NotRun => "not run",
        })
        .collect()
}

fn overlap(number: usize) -> Duration {
    let runtime = workers(1);
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        runtime.handle().clone(),
        settings(number, 30_000, Ordering::None),
    );
    lane(async {
        // The first batch starts threads and timers; what is measured is the second.
        pool.run(wishes(["ok"]), go_on()).await;
        let began = WallClock::now();
        let verdicts = pool.run(wishes(vec!["sleep:10"; number]), go_on()).await;
        assert_eq!(short(&verdicts), vec!["done"; number]);
        began.elapsed()
    })
}

#[test]
fn sixty_four_transforms_of_10_ms_overlap_on_one_worker() {
    let took = overlap(64);
    assert!(took < Duration::from_millis(60), "{took:?}");
}

#[test]
fn six_hundred_and_forty_transforms_of_10_ms_overlap_on_one_worker() {
    let took = overlap(640);
    assert!(took < Duration::from_millis(90), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn under_paused_time_ten_rounds_of_64_take_exactly_ten_times_one() {
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        Handle::current(),
        settings(64, 30_000, Ordering::None),
    );
    let began = Instant::now();
    let verdicts = pool.run(wishes(vec!["sleep:10"; 640]), go_on()).await;
    assert_eq!(short(&verdicts), vec!["done"; 640]);
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(
        began.elapsed() <= Duration::from_millis(110),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(transform.most.load(SeqCst), 64);
}

#[test]
fn verdicts_are_in_input_order_and_belong_to_their_records() {
    let runtime = workers(2);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        transform,
        runtime.handle().clone(),
        settings(16, 30_000, Ordering::None),
    );
    let asked: Vec<String> = (0..100).map(|i| format!("sleep:{}", (i * 7) % 13)).collect();
    let verdicts = lane(pool.run(wishes(asked.iter().map(String::as_str)), go_on()));
    let expected: Vec<Verdict> = asked
        .iter()
        .map(|wish| Verdict::Done(TargetRecord::new(None, wish.clone()).into()))
        .collect();
    assert_eq!(verdicts, expected);
}

/// Runs 200 records over 3 partitions and 5 keys and checks that within each of `name`'s groups they ran one after another, in order.
fn runs_in_order<N: Eq + std::hash::Hash>(ordering: Ordering, name: impl Fn(&SourceRecord) -> N) -> usize {
    let runtime = workers(2);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        runtime.handle().clone(),
        settings(64, 30_000, ordering),
    );
    let records: Vec<SourceRecord> = (0..200)
        .map(|i| {
            let wish = if i % 3 == 0 { "ok" } else { "sleep:1" };
            source(
                i,
                i32::try_from(i * 7 / 5 % 3).unwrap(),
                Some(["a", "b", "c", "d", "e"][i * 13 % 5]),
                wish,
            )
        })
        .collect();
    let verdicts = lane(pool.run(refs(records.clone()), go_on()));
    assert_eq!(short(&verdicts), vec!["done"; 200]);
    let mut of_group: HashMap<N, Vec<(usize, &str)>> = HashMap::new();
    for (index, what) in transform.log.lock().unwrap().iter() {
        of_group
            .entry(name(&records[*index]))
            .or_default()
            .push((*index, what));
    }
    for log in of_group.values() {
        let mut expected: Vec<usize> = log.iter().map(|(index, _)| *index).collect();
        expected.sort_unstable();
        expected.dedup();
        let expected: Vec<_> = expected
            .into_iter()
            .flat_map(|i| [(i, "begin"), (i, "end")])
            .collect();
        assert_eq!(*log, expected);
    }
    transform.most.load(SeqCst)
}

#[test]
fn with_key_order_two_of_one_key_never_run_at_once_and_run_in_order() {
    let most = runs_in_order(Ordering::Key, |record| {
        (record.id.partition.number, record.key.clone())
    });
    assert!(
        most > 3,
        "different keys run side by side, but at most {most} did"
    );
}

#[test]
fn with_partition_order_two_of_one_partition_never_run_at_once() {
    let most = runs_in_order(Ordering::Partition, |record| record.id.partition.number);
    assert!((2..=3).contains(&most), "at most {most} ran side by side");
}

#[tokio::test(start_paused = true)]
async fn with_key_order_records_without_a_key_wait_for_nobody() {
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        Handle::current(),
        settings(64, 30_000, Ordering::Key),
    );
    let began = Instant::now();
    pool.run(wishes(["sleep:50"; 20]), go_on()).await;
    assert!(
        began.elapsed() < Duration::from_millis(60),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_stops_keeps_only_what_is_behind_it_in_its_chain_from_running() {
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        Handle::current(),
        settings(8, 30_000, Ordering::Partition),
    );
    let records = refs(vec![
        source(0, 0, None, "ok"),
        source(1, 1, None, "fail"),
        source(2, 0, None, "fail"),
        source(3, 0, None, "ok"),
        source(4, 1, None, "ok"),
        source(5, 0, None, "panic"),
    ]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let stop = move |index: usize, why: &TransformError| {
        heard.lock().unwrap().push((index, why.class.to_string()));
        index == 2
    };
    let verdicts = pool.run(records, Arc::new(stop)).await;
    assert_eq!(
        short(&verdicts),
        ["done", "wish", "wish", "not run", "done", "not run"]
    );
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(
        asked,
        [(1, "wish".to_owned()), (2, "wish".to_owned())],
        "each failure is asked about once"
    );
}

#[test]
fn a_panic_is_a_failure_with_its_message_wherever_it_happens() {
    let runtime = workers(2);
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        runtime.handle().clone(),
        settings(8, 1_000, Ordering::None),
    );
    let verdicts = lane(pool.run(
        wishes(["ok", "panic", "ok", "panic-later", "panic-on-drop", "ok"]),
        go_on(),
    ));
    let panic = |message| Verdict::Failed(TransformError::permanent("panic", message));
    assert_eq!(
        short(&verdicts),
        ["done", "panic", "done", "panic", "panic", "done"]
    );
    assert_eq!(verdicts[1], panic("at the call"));
    assert_eq!(verdicts[3], panic("after 1 yield"));
    assert_eq!(
        verdicts[4],
        panic("dropped"),
        "its time was over, and then its future panicked"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_precise_counts_from_the_records_own_start_and_may_be_retried() {
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        Handle::current(),
        settings(2, 1_000, Ordering::None),
    );
    let began = Instant::now();
    // Two at a time: 0.9 s, then one that is in time although it starts late, beside one that is not.
    let verdicts = pool
        .run(
            wishes(["sleep:900", "sleep:900", "sleep:950", "sleep:60000"]),
            go_on(),
        )
        .await;
    assert_eq!(short(&verdicts), ["done", "done", "done", "timeout"]);
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(1_900)..Duration::from_millis(1_910)).contains(&took),
        "{took:?}"
    );
    let Verdict::Failed(why) = &verdicts[3] else {
        panic!("{verdicts:?}")
    };
    assert!(why.retryable);
    assert_eq!(why.message, "no result within 1s");
}

#[test]
fn a_timeout_is_precise_on_the_wall_clock() {
    let runtime = workers(1);
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        runtime.handle().clone(),
        settings(8, 500, Ordering::None),
    );
    let began = WallClock::now();
    let verdicts = lane(pool.run(wishes(["sleep:60000", "ok", "sleep:20"]), go_on()));
    let took = began.elapsed();
    assert_eq!(short(&verdicts), ["timeout", "done", "done"]);
    assert!(
        (Duration::from_millis(500)..Duration::from_millis(600)).contains(&took),
        "{took:?}"
    );
    assert_eq!(pool.abandoned(), 0);
}

#[test]
fn one_that_never_yields_fails_alone_and_holds_up_neither_its_neighbours_nor_the_lane() {
    let runtime = workers(1);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        runtime.handle().clone(),
        settings(4, 200, Ordering::None),
    );
    let mut asked = vec!["sleep:100"; 12];
    asked[2] = "block:1500";
    let began = WallClock::now();
    let (verdicts, ticks) = lane(async {
        let mut ticks = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let run = pool.run(wishes(asked), go_on());
        tokio::pin!(run);
        loop {
            tokio::select! {
                verdicts = &mut run => return (verdicts, ticks),
                _ = tick.tick() => ticks += 1,
            }
        }
    });
    let took = began.elapsed();
    let mut expected = vec!["done"; 12];
    expected[2] = "timeout";
    assert_eq!(short(&verdicts), expected);
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    assert!(ticks > 20, "the lane's thread was held: {ticks} ticks");
    assert_eq!(pool.abandoned(), 1);
    let begun_twice = |index| {
        let log = transform.log.lock().unwrap();
        log.iter().filter(|entry| **entry == (index, "begin")).count()
    };
    assert_eq!(begun_twice(2), 1, "the culprit is known and not run again");
    assert_eq!(begun_twice(11), 1, "what had not begun is run once");

    // The pool is whole: the next batch is as quick as ever, and the thread is taken back when it returns.
    let began = WallClock::now();
    let verdicts = lane(pool.run(wishes(["sleep:10"; 2]), go_on()));
    assert_eq!(short(&verdicts), ["done"; 2]);
    assert!(
        began.elapsed() < Duration::from_millis(150),
        "{:?}",
        began.elapsed()
    );
    thread::sleep(Duration::from_millis(1_700).saturating_sub(took));
    assert_eq!(pool.abandoned(), 0);
    let late = transform
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|entry| entry.0 == 2)
        .count();
    assert_eq!(late, 2, "it came back, and its result was thrown away");
}

#[test]
fn one_that_hangs_takes_one_thread_however_often_it_is_tried() {
    let runtime = workers(1);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        runtime.handle().clone(),
        settings(4, 50, Ordering::None),
    );
    let begun = || {
        let log = transform.log.lock().unwrap();
        log.iter().filter(|entry| **entry == (0, "begin")).count()
    };
    let id = source(0, 0, None, "").id;
    for _ in 0..5 {
        let verdicts = lane(pool.run(wishes(["block-once:1000", "ok"]), go_on()));
        assert_eq!(short(&verdicts), ["timeout", "done"]);
        assert_eq!((begun(), pool.abandoned(), pool.hangs(&id)), (1, 1, true));
    }
    while pool.abandoned() > 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let verdicts = lane(pool.run(wishes(["block-once:1000", "ok"]), go_on()));
    assert_eq!(short(&verdicts), ["done"; 2]);
    assert_eq!(
        (begun(), pool.hangs(&id)),
        (2, false),
        "it is started again once it has returned"
    );
}

#[test]
fn a_chain_goes_on_behind_one_that_hung_in_order_and_without_a_gap() {
    let runtime = workers(2);
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        runtime.handle().clone(),
        settings(4, 100, Ordering::Partition),
    );
    let chain = |stop: Arc<Stop>| {
        let records = refs(
            ["ok", "block:800", "ok", "block:800", "ok"]
                .iter()
                .enumerate()
                .map(|(i, wish)| source(i, 0, Some("k"), wish))
                .collect(),
        );
        lane(pool.run(records, stop))
    };
    assert_eq!(
        short(&chain(go_on())),
        ["done", "timeout", "done", "timeout", "done"]
    );
    let stopped = chain(Arc::new(|_, _| true));
    assert_eq!(
        short(&stopped),
        ["done", "timeout", "not run", "not run", "not run"]
    );
}

#[test]
fn an_innocent_one_that_waits_beside_a_hanging_one_is_run_again_and_succeeds() {
    let runtime = workers(1);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        runtime.handle().clone(),
        settings(2, 200, Ordering::None),
    );
    // The first yields and would be done in time, were it not for the second, which holds their thread.
    let verdicts = lane(pool.run(wishes(["sleep:50", "block:1000"]), go_on()));
    assert_eq!(short(&verdicts), ["done", "timeout"]);
    let begun = transform
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|entry| **entry == (0, "begin"))
        .count();
    assert_eq!(begun, 2);
}

#[test]
fn one_that_blocks_but_is_not_late_itself_gets_another_try_alone() {
    let runtime = workers(1);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        runtime.handle().clone(),
        settings(2, 300, Ordering::Partition),
    );
    // The last begins at 200 ms and blocks beyond the moment when its neighbour is overdue, at 300, but not beyond its own, at 500.
    let records = refs(vec![
        source(0, 0, None, "sleep:60000"),
        source(1, 1, None, "sleep:200"),
        source(2, 1, None, "block-once:280"),
    ]);
    let verdicts = lane(pool.run(records, go_on()));
    assert_eq!(short(&verdicts), ["timeout", "done", "done"]);
    let begun = transform
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|entry| **entry == (2, "begin"))
        .count();
    assert_eq!(begun, 2);
}

#[test]
fn a_dropped_run_stops_its_records() {
    let runtime = workers(2);
    let transform = Arc::new(Obedient::default());
    let pool = Pool::new(
        Arc::clone(&transform),
        runtime.handle().clone(),
        settings(2, 30_000, Ordering::None),
    );
    lane(async {
        let run = pool.run(wishes(["sleep:50"; 40]), go_on());
        tokio::time::timeout(Duration::from_millis(70), run)
            .await
            .unwrap_err();
    });
    thread::sleep(Duration::from_millis(200));
    let begun = transform
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|entry| entry.1 == "begin")
        .count();
    assert!((2..10).contains(&begun), "{begun} of 40 were begun");
}

#[test]
fn a_runtime_that_is_gone_leaves_the_records_not_run() {
    let runtime = workers(1);
    let handle = runtime.handle().clone();
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        handle,
        settings(2, 30_000, Ordering::None),
    );
    runtime.shutdown_background();
    let verdicts = lane(pool.run(wishes(["ok"; 3]), go_on()));
    assert_eq!(short(&verdicts), ["not run"; 3]);
}

#[test]
fn an_empty_batch_has_no_verdicts() {
    let runtime = workers(1);
    let pool = Pool::new(
        Arc::new(Obedient::default()),
        runtime.handle().clone(),
        settings(2, 30_000, Ordering::Key),
    );
    assert!(lane(pool.run(Vec::new(), go_on())).is_empty());
}
