use super::*;

const SOURCE: &str = "orders";

fn order(partition: i32, offset: i64, id: &str, fate: Fate, key: &str) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    Record {
        partition,
        offset,
        key: Some(key.as_bytes().to_vec()),
        value: Some(format!("{{\"order_id\":\"{id}\"}}").into_bytes()),
        headers: vec![
            header(ID, id),
            header(FATE, &fate.to_string()),
            header(PLACE, &offset.to_string()),
        ],
    }
}

fn output(offset: i64, of: &Record) -> Record {
    let from = format!("{SOURCE}:{}:{}", of.partition, of.offset);
    let mut headers = of.headers.clone();
    headers.push((DEDUP_KEY.to_owned(), Some(from.into_bytes())));
    Record {
        partition: 0,
        offset,
        headers,
        ..of.clone()
    }
}

struct Scene {
    source: Vec<Record>,
    target: Vec<Record>,
    dead: Vec<Record>,
    committed: BTreeMap<i32, i64>,
}

/// Four orders in two partitions, the third of which fails; all as it should be.
fn scene() -> Scene {
    let source = vec![
        order(0, 0, "order-0", Fate::Good, "a"),
        order(0, 1, "order-1", Fate::Good, "a"),
        order(0, 2, "order-2", Fate::Invalid, "b"),
        order(1, 0, "order-3", Fate::Slow, "c"),
    ];
    let target = vec![
        output(0, &source[0]),
        output(1, &source[3]),
        output(5, &source[1]),
    ];
    let dead = vec![output(0, &source[2])];
    Scene {
        source,
        target,
        dead,
        committed: BTreeMap::from([(0, 3), (1, 1)]),
    }
}

impl Scene {
    fn judge(&self) -> Verdict {
        self.judge_as(Expected::Failed).unwrap()
    }

    fn judge_as(&self, poison: Expected) -> Result<Verdict> {
        let topic = |name: &str, records: &[Record]| Topic {
            name: name.to_owned(),
            records: records.to_vec(),
            ends: BTreeMap::from([(0, 3), (1, 1)]),
        };
        let check = Check {
            poison,
            ..Check::new("", SOURCE, &["enriched"], Some("dead"), "group")
        };
        let target = [topic("enriched", &self.target)];
        check.judge(
            &topic(SOURCE, &self.source),
            &target,
            Some(&topic("dead", &self.dead)),
            &self.committed,
        )
    }
}

#[track_caller]
fn only(verdict: &Verdict, fault: Fault, ids: &[&str]) {
    assert!(!verdict.is_true(), "{verdict}");
    for other in Fault::ALL {
        let expected = if other == fault { ids } else { &[] };
        assert_eq!(verdict.ids(other), expected, "{other:?} in {verdict}");
    }
}

#[test]
fn what_is_as_it_should_be_is_true() {
    let verdict = scene().judge();
    assert!(verdict.is_true(), "{verdict}");
    assert_eq!(
        verdict.to_string(),
        "produced 4 = enriched 3 + failed 1; lost 0; duplicated 0; out of order 0"
    );
}

#[test]
fn an_order_without_output_is_lost() {
    let mut scene = scene();
    scene.target.remove(1);
    only(&scene.judge(), Fault::Lost, &["order-3"]);
    assert!(scene.judge().to_string().contains("1 lost: order-3"));
}

#[test]
fn a_failing_order_without_dead_letter_is_lost() {
    let mut scene = scene();
    scene.dead.clear();
    only(&scene.judge(), Fault::Lost, &["order-2"]);
}

#[test]
fn an_output_that_is_there_twice_is_a_duplicate_and_no_disorder() {
    let mut scene = scene();
    scene.target.push(output(9, &scene.source[0]));
    only(&scene.judge(), Fault::Duplicated, &["order-0"]);
}

#[test]
fn a_dead_letter_that_is_there_twice_is_a_duplicate() {
    let mut scene = scene();
    scene.dead.push(output(7, &scene.source[2]));
    only(&scene.judge(), Fault::Duplicated, &["order-2"]);
}

#[test]
fn an_order_that_was_enriched_and_failed_is_a_duplicate() {
    let mut scene = scene();
    scene.dead.push(output(7, &scene.source[0]));
    only(&scene.judge(), Fault::Duplicated, &["order-0"]);
}

#[test]
fn two_orders_of_a_key_the_wrong_way_round_are_seen() {
    let mut scene = scene();
    scene.target.clear();
    for (offset, of) in [(0, 1), (1, 0), (2, 3)] {
        scene.target.push(output(offset, &scene.source[of]));
    }
    only(&scene.judge(), Fault::OutOfOrder, &["order-0"]);
}

#[test]
fn an_output_ahead_of_the_offset_is_seen() {
    let mut scene = scene();
    scene.committed.insert(1, 0);
    let verdict = scene.judge();
    only(&verdict, Fault::Ahead, &["order-3"]);
    assert_eq!(verdict.unfinished, ["orders:1 at 0 of 1"]);
}

#[test]
fn an_offset_that_passed_over_an_order_does_not_hide_its_loss() {
    let mut scene = scene();
    scene.target.remove(2);
    only(&scene.judge(), Fault::Lost, &["order-1"]);
}

#[test]
fn a_good_order_that_failed_is_misjudged_and_so_is_a_bad_one_that_was_enriched() {
    let mut scene = scene();
    scene.target.remove(0);
    scene.dead.push(output(3, &scene.source[0]));
    only(&scene.judge(), Fault::Misjudged, &["order-0"]);

    let mut scene = self::scene();
    scene.dead.clear();
    scene.target.push(output(8, &scene.source[2]));
    only(&scene.judge(), Fault::Misjudged, &["order-2"]);
}

#[test]
fn an_output_under_the_dedup_key_of_another_is_seen() {
    let mut scene = scene();
    scene.target[1].value = scene.source[0].value.clone();
    let verdict = scene.judge();
    assert_eq!(
        verdict.ids(Fault::Mislabelled),
        ["order-3 (its output is order-0)"]
    );
    assert!(!verdict.is_true());
}

#[test]
fn an_output_without_dedup_key_comes_from_nowhere() {
    let mut scene = scene();
    scene.target[1].headers.retain(|(name, _)| name != DEDUP_KEY);
    let verdict = scene.judge();
    assert_eq!(
        verdict.ids(Fault::Foreign),
        ["enriched:0:1 (orchestrator-dedup-key says nothing)"]
    );
    assert_eq!(verdict.ids(Fault::Lost), ["order-3"]);
}

#[test]
fn a_dead_letter_that_differs_in_one_byte_is_altered() {
    let mut scene = scene();
    scene.dead[0].value.as_mut().unwrap()[0] ^= 1;
    only(&scene.judge(), Fault::Altered, &["order-2"]);
    let mut scene = self::scene();
    scene.dead[0].headers.remove(0);
    only(&scene.judge(), Fault::Altered, &["order-2"]);
}

#[test]
fn of_several_outputs_each_must_be_there_once() {
    let mut scene = scene();
    let part = |offset, of: &Record, text: &str| {
        let mut record = output(offset, of);
        record
            .headers
            .push((OUTPUT.to_owned(), Some(text.as_bytes().to_vec())));
        record
    };
    scene.target.remove(0);
    scene.target.insert(0, part(0, &scene.source[0], "1/2"));
    only(&scene.judge(), Fault::Torn, &["order-0"]);
    scene.target.insert(1, part(0, &scene.source[0], "2/2"));
    assert!(scene.judge().is_true());
    scene.target.insert(1, part(0, &scene.source[0], "2/2"));
    only(&scene.judge(), Fault::Duplicated, &["order-0"]);
}

#[test]
fn poison_is_judged_by_what_was_agreed() {
    let mut scene = scene();
    scene.source[0] = order(0, 0, "order-0", Fate::Poison, "a");
    let enriched = output(0, &scene.source[0]);
    scene.target[0] = enriched;
    assert!(scene.judge_as(Expected::Enriched).unwrap().is_true());
    assert!(scene.judge_as(Expected::Either).unwrap().is_true());
    only(
        &scene.judge_as(Expected::Failed).unwrap(),
        Fault::Misjudged,
        &["order-0"],
    );
    only(
        &scene.judge_as(Expected::Nothing).unwrap(),
        Fault::Misjudged,
        &["order-0"],
    );
}

#[test]
fn a_source_that_repeats_an_id_allows_no_verdict() {
    let mut scene = scene();
    scene.source[1] = order(0, 1, "order-0", Fate::Good, "a");
    assert!(
        scene
            .judge_as(Expected::Failed)
            .unwrap_err()
            .to_string()
            .contains("order-0 was produced twice")
    );
}

#[test]
fn an_empty_source_is_no_proof_of_anything() {
    let nothing = Scene {
        source: vec![],
        target: vec![],
        dead: vec![],
        committed: BTreeMap::new(),
    };
    let verdict = nothing.judge();
    assert_eq!((verdict.is_true(), verdict.exit_code()), (false, 2));
    assert!(verdict.to_string().starts_with("could not conclude"), "{verdict}");
    assert_eq!(scene().judge().exit_code(), 0);
    let mut foreign = scene();
    foreign.source.clear();
    assert_ne!(foreign.judge().exit_code(), 0);
}
