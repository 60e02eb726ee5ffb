use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use testkit::{
    check::{Fault, Verdict},
    orders::Mix,
    proxy::{Act, Event, Proxy, Rule, Until, api},
};

use crate::scene::{LONG, Scene, broker};

const PATIENCE: Duration = Duration::from_secs(60);

/// A service behind the proxy, on one lane, with the recycle rule on or off.
fn scene(name: &str, recycles: bool) -> Scene {
    let mut scene = Scene::new(name, 2, Mix::GOOD)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "1")
        .key("batch-records", "200")
        .with_faults(&testkit::faults::Faults::default());
    scene.plan.bootstrap = broker().facts().front.clone();
    if !recycles {
        scene
            .plan
            .variables
            .insert(testkit::faults::NO_RECYCLE.to_owned(), "1".to_owned());
    }
    scene
}

fn proxy() -> Proxy {
    let facts = broker().facts();
    Proxy::start(&facts.front, &facts.behind).unwrap()
}

fn met(commits: bool) -> impl Fn(&Event) -> bool {
    move |event| {
        *event
            == Event::Met {
                api: api::END_TXN,
                commits: Some(commits),
            }
    }
}

fn released(event: &Event) -> bool {
    matches!(
        event,
        Event::Released {
            api: api::END_TXN,
            ..
        }
    )
}

fn code(proxy: &Proxy) -> Option<i16> {
    proxy.events().into_iter().find_map(|event| match event {
        Event::Released { code, .. } => code,
        Event::Met { .. } => None,
    })
}

/// The commit of one transaction arrives while the next one stands between its last record and its offsets; that one
/// never ends, because its service is killed.
fn late_commit(name: &str, recycles: bool) -> (Verdict, Option<i16>) {
    let mut scene = scene(name, recycles);
    let proxy = proxy();
    scene.seed(4_000);
    proxy.on(Rule::next(api::END_TXN, Act::HoldAndCut(Until::NextTransaction))
        .only(true)
        .nth(6));
    let service = scene.plan.start().unwrap();
    assert!(
        proxy.wait_for(PATIENCE, met(true)),
        "no commit was held; {}",
        service.last_words()
    );
    // the library asks again for the one that was cut off, then the next transaction begins
    proxy.on(Rule::next(api::ADD_OFFSETS_TO_TXN, Act::Hold));
    assert!(
        proxy.wait_for(PATIENCE, released),
        "the held commit was not released; {}",
        service.last_words()
    );
    service.kill().unwrap();
    proxy.release();
    finish(&scene, &proxy)
}

/// The abort of one transaction arrives while the next one stands between its last record and its offsets; that one
/// commits.
fn late_abort(name: &str, recycles: bool) -> (Verdict, Option<i16>) {
    let mut scene = scene(name, recycles);
    let proxy = proxy();
    scene.seed(4_000);
    proxy.on(Rule::next(api::END_TXN, Act::HoldAndCut(Until::NextTransaction)).only(false));
    // a rebalance between the group's metadata and the offsets makes the broker refuse them: the lane must abort
    proxy.on(Rule::next(api::TXN_OFFSET_COMMIT, Act::Delay(Duration::from_secs(5))).nth(6));
    let mut service = scene.plan.start().unwrap();
    let delayed = |event: &Event| {
        matches!(
            event,
            Event::Met {
                api: api::TXN_OFFSET_COMMIT,
                ..
            }
        )
    };
    assert!(
        proxy.wait_for(PATIENCE, delayed),
        "no offsets were delayed; {}",
        service.last_words()
    );
    let guest = join(&scene);
    assert!(
        proxy.wait_for(PATIENCE, met(false)),
        "the lane did not abort; {}",
        service.last_words()
    );
    guest.leave();
    assert!(
        proxy.wait_for(PATIENCE, released),
        "the held abort was not released; {}",
        service.last_words()
    );
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let end = service.stop(Duration::from_secs(30)).unwrap();
    // Without the rule the late abort may also break the client's own state, and with it the end of the service: what is
    // judged then is the damage.
    assert!(end.success() || !recycles, "the service ended with {end}");
    judge(&scene, &proxy)
}

/// A member of the group that takes nothing until it leaves.
struct Guest {
    stays: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

fn join(scene: &Scene) -> Guest {
    let (group, source) = (scene.plan.group.clone(), scene.plan.source.clone());
    let stays = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&stays);
    let thread = std::thread::spawn(move || {
        let guest: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker().bootstrap())
            .set("group.id", &group)
            .set("session.timeout.ms", "6000")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        guest.subscribe(&[&source]).unwrap();
        while still.load(Ordering::SeqCst) {
            let _ = guest.poll(Duration::from_millis(50));
        }
        guest.unsubscribe();
    });
    Guest { stays, thread }
}

impl Guest {
    fn leave(self) {
        self.stays.store(false, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

/// Everything is done again by a service that talks to the broker itself.
fn finish(scene: &Scene, proxy: &Proxy) -> (Verdict, Option<i16>) {
    let mut plan = scene.plan.clone();
    plan.bootstrap = broker().bootstrap().to_owned();
    let mut service = plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service.end_well(Duration::from_secs(30)).unwrap();
    judge(scene, proxy)
}

fn judge(scene: &Scene, proxy: &Proxy) -> (Verdict, Option<i16>) {
    let code = code(proxy);
    let verdict = scene.check().run().unwrap();
    println!(
        "{} the late request was answered {code:?}; {verdict}",
        scene.plan.group
    );
    (verdict, code)
}

/// Kafka's INVALID_PRODUCER_EPOCH
const REFUSED: i16 = 47;

#[test]
fn a_late_commit_is_refused_and_loses_and_duplicates_nothing() {
    let (verdict, code) = late_commit("late-commit", true);
    assert!(verdict.is_true(), "{verdict}");
    assert_eq!(code, Some(REFUSED));
}

#[test]
fn without_the_recycle_rule_a_late_commit_duplicates() {
    let (verdict, code) = late_commit("late-commit-off", false);
    assert!(
        !verdict.ids(Fault::Duplicated).is_empty(),
        "the test above proves nothing: {verdict}"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn a_late_abort_is_refused_and_loses_and_duplicates_nothing() {
    let (verdict, code) = late_abort("late-abort", true);
    assert!(verdict.is_true(), "{verdict}");
    assert_eq!(code, Some(REFUSED));
}

#[test]
fn without_the_recycle_rule_a_late_abort_loses() {
    let (verdict, code) = late_abort("late-abort-off", false);
    assert!(
        !verdict.ids(Fault::Lost).is_empty(),
        "the test above proves nothing: {verdict}"
    );
    assert_eq!(code, Some(0));
}
