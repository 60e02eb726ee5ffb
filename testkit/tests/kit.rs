//! The kit itself, on a real broker: its checker must see what is wrong, its proxy must make a late request really late.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends here")]

#[path = "kit/copier.rs"]
mod copier;

use std::{sync::OnceLock, time::Duration};

use copier::{Copier, Fault};
use testkit::{
    Broker,
    check::{Check, Fault as Wrong, Verdict},
    orders::{Mix, Orders},
    process,
    proxy::{Act, Event, Proxy, Rule, Until, api},
    seed,
};

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::start().expect("a broker"))
}

struct Topics {
    name: &'static str,
    source: String,
    target: String,
    dead: String,
}

fn topics(name: &'static str, orders: usize) -> Topics {
    let topics = Topics {
        name,
        source: format!("{name}-source"),
        target: format!("{name}-target"),
        dead: format!("{name}-dead"),
    };
    broker().create_topic(&topics.source, 2, &[]).unwrap();
    broker().create_topic(&topics.target, 2, &[]).unwrap();
    broker().create_topic(&topics.dead, 1, &[]).unwrap();
    let mix = Mix {
        invalid: 20,
        ..Mix::DEMO
    };
    seed::produce(
        broker().bootstrap(),
        &topics.source,
        Orders::new(11, mix).take(orders),
    )
    .unwrap();
    topics
}

impl Topics {
    fn copy(&self, bootstrap: &str, fault: Fault) {
        let copier = Copier {
            bootstrap,
            source: &self.source,
            target: &self.target,
            dead_letters: &self.dead,
            group: self.name,
            batch: 200,
            fault,
        };
        copier.run().unwrap();
    }

    fn judge(&self) -> Verdict {
        Check::new(
            broker().bootstrap(),
            &self.source,
            &[&self.target],
            Some(&self.dead),
            self.name,
        )
        .run()
        .unwrap()
    }
}

fn after(name: &'static str, fault: Fault) -> Verdict {
    let topics = topics(name, 600);
    topics.copy(broker().bootstrap(), fault);
    topics.judge()
}

#[test]
fn an_honest_copy_is_true() {
    let verdict = after("honest", Fault::None);
    assert!(verdict.is_true(), "{verdict}");
    assert_eq!(verdict.produced, 600);
    assert!(verdict.failed > 5, "{verdict}");
}

#[test]
fn a_dropped_order_is_lost() {
    let verdict = after("dropped", Fault::Drops);
    assert_eq!(verdict.ids(Wrong::Lost).len(), 1, "{verdict}");
    assert!(!verdict.is_true());
}

#[test]
fn a_repeated_order_is_a_duplicate() {
    let verdict = after("repeated", Fault::Repeats);
    assert_eq!(verdict.ids(Wrong::Duplicated).len(), 1, "{verdict}");
    assert!(!verdict.is_true());
}

#[test]
fn a_batch_written_backwards_is_out_of_order() {
    let verdict = after("backwards", Fault::Reorders);
    assert!(verdict.ids(Wrong::OutOfOrder).len() > 10, "{verdict}");
    assert!(
        verdict.ids(Wrong::Lost).is_empty() && verdict.ids(Wrong::Duplicated).is_empty(),
        "{verdict}"
    );
}

#[test]
fn outputs_without_their_offsets_are_ahead() {
    let verdict = after("ahead", Fault::KeepsOffsets);
    assert!(!verdict.ids(Wrong::Ahead).is_empty(), "{verdict}");
    assert!(!verdict.unfinished.is_empty(), "{verdict}");
}

#[test]
fn a_good_order_among_the_dead_letters_is_misjudged() {
    let verdict = after("misjudged", Fault::FailsGood);
    assert_eq!(verdict.ids(Wrong::Misjudged).len(), 1, "{verdict}");
}

#[test]
fn a_shortened_dead_letter_is_altered() {
    let verdict = after("shortened", Fault::TruncatesDeadLetters);
    assert_eq!(verdict.ids(Wrong::Altered).len(), verdict.failed, "{verdict}");
}

#[test]
fn a_dedup_key_that_is_off_by_one_is_seen() {
    let verdict = after("mislabelled", Fault::MislabelsByOne);
    assert!(verdict.ids(Wrong::Mislabelled).len() > 100, "{verdict}");
}

/// One test for both: there is one proxied listener.
#[test]
fn a_late_end_of_a_transaction_damages_a_plain_loop_and_the_checker_sees_it() {
    let facts = broker().facts();
    let proxy = Proxy::start(&facts.front, &facts.behind).unwrap();

    let through = topics("through", 600);
    through.copy(&facts.front, Fault::None);
    assert!(through.judge().is_true(), "{}", through.judge());
    assert!(
        proxy.seen(api::END_TXN) >= 3,
        "the transactions did not go through the proxy"
    );

    // The first commit arrives late, when the second transaction was written; that one is aborted and done again.
    let late = topics("late", 600);
    proxy.on(Rule::next(api::END_TXN, Act::HoldAndCut(Until::NextTransaction)).only(true));
    late.copy(&facts.front, Fault::AbortsSecond);
    let accepted = Event::Released {
        api: api::END_TXN,
        code: Some(0),
    };
    assert!(proxy.events().contains(&accepted), "{:?}", proxy.events());
    let verdict = late.judge();
    assert!(verdict.ids(Wrong::Duplicated).len() > 50, "{verdict}");

    // An answer that is lost costs a plain loop nothing: the library asks again.
    let unanswered = topics("unanswered", 600);
    proxy.on(Rule::next(api::END_TXN, Act::DropAnswer));
    unanswered.copy(&facts.front, Fault::None);
    assert!(unanswered.judge().is_true(), "{}", unanswered.judge());
}

#[test]
fn a_broker_is_gone_with_its_folder_when_its_holder_is_killed() {
    // `sh` holds the broker's standard input as a test would, and is killed
    let testkit = process::sibling("testkit").unwrap();
    let mut holder = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("sleep 600 | {} broker", testkit.display()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(holder.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let facts: testkit::broker::Facts = serde_json::from_str(&line).unwrap();
    assert!(process::is_alive(facts.pid) && facts.folder.is_dir());

    let sleeper = children(holder.id())
        .into_iter()
        .find(|(_, name)| name == "sleep")
        .expect("sleep")
        .0;
    process::signal(sleeper, rustix::process::Signal::KILL).unwrap();
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !process::is_alive(facts.pid) && !facts.folder.exists()
    });
    holder.wait().unwrap();
    assert!(gone, "the broker outlived its holder");
}

fn children(of: u32) -> Vec<(u32, String)> {
    let tasks = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    tasks
        .split_whitespace()
        .filter_map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((pid.parse().ok()?, name.trim().to_owned()))
        })
        .collect()
}
