use orchestrator::testing::{Trial, record};
use serde_json::{Value, json};

use super::*;

const PRIORITY: &str = "orders.priority";

fn outcome(value: impl AsRef<[u8]>) -> Result<Output, TransformError> {
    let trial = Trial::new(Enrich::new(Some(PRIORITY)));
    trial
        .run_blocking([record(value).key("c-7").header("traceparent", "00-1-2-00")])
        .remove(0)
}

fn order(change: impl FnOnce(&mut Value)) -> String {
    let mut order = json!({
        "order_id": "order-000123", "customer": "c-7", "country": "DE", "currency": "EUR",
        "lines": [{"sku": "LAMP-LED", "quantity": 10}],
    });
    change(&mut order);
    order.to_string()
}

fn priced(order: &str) -> Value {
    let output = outcome(order).unwrap();
    let value: Value = serde_json::from_slice(output.records()[0].value.as_ref().unwrap()).unwrap();
    value["priced"].clone()
}

fn class(order: impl AsRef<[u8]>) -> String {
    outcome(order).unwrap_err().class.into_owned()
}

type Case = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static [(&'static str, u32)],
    [&'static str; 4],
);

#[test]
fn orders_cost_what_a_person_computes_by_hand() {
    let table: &[Case] = &[
        // country, currency, code, lines; discount on the order, net, tax, total
        (
            "DE",
            "EUR",
            None,
            &[("LAMP-LED", 1)],
            ["0.00", "39.95", "7.59", "47.54"],
        ),
        // 399.50 less 5 %: 19.975, to even 19.98
        (
            "DE",
            "EUR",
            None,
            &[("LAMP-LED", 10)],
            ["0.00", "379.52", "72.11", "451.63"],
        ),
        // 725.00 less 15 %, 1225.00 less 10 %
        (
            "AT",
            "EUR",
            None,
            &[("CABLE-USBC", 100), ("MOUSE-BT", 50)],
            ["0.00", "1718.75", "343.75", "2062.50"],
        ),
        (
            "FR",
            "EUR",
            Some("WELCOME10"),
            &[("DESK-OAK", 2)],
            ["97.80", "880.20", "176.04", "1056.24"],
        ),
        (
            "NL",
            "EUR",
            Some("STAFF25"),
            &[("PAPER-A4", 9)],
            ["10.78", "32.33", "6.79", "39.12"],
        ),
        // 489 x 163.21 = 79 809.69 yen, which have no minor unit; 10 % of 79 810
        (
            "JP",
            "JPY",
            None,
            &[("DESK-OAK", 1)],
            ["0", "79810", "7981", "87791"],
        ),
        // 24.50 x 0.33215 = 8.137675 dinars, which have three
        (
            "KW",
            "KWD",
            None,
            &[("MOUSE-BT", 3)],
            ["0.000", "24.414", "0.000", "24.414"],
        ),
        // 7.25 x 0.9412 = 6.8237; 8.1 % of 6.82 = 0.55242
        (
            "CH",
            "CHF",
            None,
            &[("CABLE-USBC", 1)],
            ["0.00", "6.82", "0.55", "7.37"],
        ),
        (
            "US",
            "USD",
            None,
            &[("MONITOR-27", 1)],
            ["0.00", "357.43", "0.00", "357.43"],
        ),
        (
            "GB",
            "GBP",
            None,
            &[("KEYBOARD-DE", 1)],
            ["0.00", "67.49", "13.50", "80.99"],
        ),
        // 4.79 x 11.2875 = 54.067125; 25 % of 54.07 = 13.5175
        (
            "SE",
            "SEK",
            None,
            &[("PAPER-A4", 1)],
            ["0.00", "54.07", "13.52", "67.59"],
        ),
        (
            "IT",
            "EUR",
            None,
            &[("CHAIR-ERGO", 10_000)],
            ["0.00", "2209150.00", "486013.00", "2695163.00"],
        ),
    ];
    for (country, currency, code, lines, expected) in table {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let order = order(|order| {
            order["country"] = json!(country);
            order["currency"] = json!(currency);
            order["discount_code"] = json!(code);
            order["lines"] = json!(lines);
        });
        let priced = priced(&order);
        let actual =
            ["discount", "net", "tax", "total"].map(|field| priced[field].as_str().unwrap().to_owned());
        assert_eq!(actual, *expected, "{order}");
    }
}

#[test]
fn discounts_round_half_to_even_and_tax_rounds_half_up() {
    // 10 % of 7.25 is 0.725: to even 0.72.
    let one_cable = order(|order| {
        order["lines"] = json!([{"sku": "CABLE-USBC", "quantity": 1}]);
        order["discount_code"] = json!("WELCOME10");
    });
    assert_eq!(priced(&one_cable)["discount"], "0.72");
    // 19 % of 73.50 is 13.965: up to 13.97, where half to even would say 13.96.
    let mice = order(|order| order["lines"] = json!([{"sku": "MOUSE-BT", "quantity": 3}]));
    assert_eq!(priced(&mice)["tax"], "13.97");
    // 25 % of 24.50 is 6.125: to even 6.12 as a discount.
    let staff = order(|order| {
        order["lines"] = json!([{"sku": "MOUSE-BT", "quantity": 1}]);
        order["discount_code"] = json!("STAFF25");
    });
    assert_eq!(priced(&staff)["discount"], "6.12");
}

#[test]
fn the_example_in_the_readme_is_what_comes_out() {
    let readme = include_str!("../../README.md");
    let example = readme
        .split("```json\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let mut expected: Value = serde_json::from_str(example).unwrap();
    let expected_priced = expected.as_object_mut().unwrap().remove("priced").unwrap();
    assert_eq!(priced(&expected.to_string()), expected_priced);
}

#[test]
fn what_the_producer_sent_leaves_byte_for_byte_with_one_field_more() {
    let sent = "\n{ \"weight\":1.50000000000000000001, \"order_id\":\"a\\u00e4\",\"customer\":\"c\",\"country\":\"US\",\
                \"currency\":\"USD\", \"lines\" :[{\"sku\":\"MOUSE-BT\",\"quantity\":1,\"note\":null}], \"x\":{} } \n";
    let output = outcome(sent).unwrap();
    let [enriched] = output.records() else {
        panic!("{output:?}")
    };
    let value = std::str::from_utf8(enriched.value.as_ref().unwrap()).unwrap();
    let kept = sent.trim_end().strip_suffix('}').unwrap();
    assert!(value.starts_with(kept), "{value}");
    assert!(
        value[kept.len()..].starts_with(",\"priced\":{\"lines\":[{\"sku\":\"MOUSE-BT\""),
        "{value}"
    );
    serde_json::from_str::<Value>(value).unwrap();
    assert_eq!(enriched.key.as_deref(), Some(&b"c-7"[..]));
    assert_eq!(
        enriched.headers,
        record("").header("traceparent", "00-1-2-00").build().headers
    );
    assert_eq!(enriched.topic, None);
}

#[test]
fn orders_with_priority_go_to_a_topic_of_their_own_if_there_is_one() {
    let urgent = order(|order| order["priority"] = json!(true));
    let topic = |enrich: Enrich| {
        let output = Trial::new(enrich)
            .run_blocking([record(&urgent)])
            .remove(0)
            .unwrap();
        output.records()[0].topic.as_deref().map(str::to_owned)
    };
    assert_eq!(topic(Enrich::new(Some(PRIORITY))).as_deref(), Some(PRIORITY));
    assert_eq!(topic(Enrich::new(None)), None);
}

#[test]
fn a_tombstone_passes_with_its_key_and_is_filtered_without() {
    let trial = Trial::new(Enrich::new(None));
    let outcomes = trial.run_blocking([record("").tombstone().key("c-7"), record("").tombstone()]);
    assert_eq!(outcomes[0], Ok(TargetRecord::tombstone("c-7").into()));
    assert_eq!(outcomes[1], Ok(Output::Filtered));
}

#[test]
fn what_is_not_an_order_is_malformed() {
    let table: &[&[u8]] = &[
        b"",
        b"{",
        b"{}",
        b"null",
        b"\"order\"",
        b"\xff\xfe",
        b"[\"order-1\",\"c\",\"DE\",\"EUR\",false,null,[],null]",
        b"{\"order_id\":\"a\",\"order_id\":\"b\",\"customer\":\"c\",\"country\":\"DE\",\"currency\":\"EUR\",\"lines\":[]}",
    ];
    for bytes in table {
        assert_eq!(class(bytes), "malformed", "{}", bytes.escape_ascii());
    }
    for (field, value) in [
        ("order_id", json!(7)),
        ("lines", json!({})),
        ("lines", json!([{"sku": "MOUSE-BT", "quantity": -1}])),
        ("lines", json!([{"sku": "MOUSE-BT", "quantity": 1.5}])),
        ("priority", json!("yes")),
    ] {
        assert_eq!(class(order(|order| order[field] = value)), "malformed", "{field}");
    }
    assert_eq!(class(order(|_| {}) + "{}"), "malformed");
}

#[test]
fn an_order_that_cannot_be_is_invalid() {
    let line = |quantity: u32| json!([{"sku": "MOUSE-BT", "quantity": quantity}]);
    for (field, value) in [
        ("order_id", json!("")),
        ("order_id", json!("x".repeat(65))),
        ("customer", json!("")),
        ("lines", json!([])),
        (
            "lines",
            json!(vec![json!({"sku": "MOUSE-BT", "quantity": 1}); 501]),
        ),
        ("lines", line(0)),
        ("lines", line(10_001)),
        ("priced", json!(null)),
        ("priced", json!({})),
    ] {
        assert_eq!(class(order(|order| order[field] = value)), "invalid", "{field}");
    }
    let why = outcome(order(|order| order["lines"] = line(0))).unwrap_err();
    assert_eq!(
        why.to_string(),
        "invalid: quantity 0 of MOUSE-BT: 1 to 10000 are allowed"
    );
}

#[test]
fn what_is_not_in_our_tables_is_named_and_only_a_missing_rate_is_worth_a_retry() {
    for (field, value, class, retryable) in [
        ("country", "XX", "unknown_country", false),
        ("currency", "XXX", "unsupported_currency", false),
        ("currency", "NOK", "rate_unavailable", true),
        ("discount_code", "FREE", "unknown_discount", false),
    ] {
        let why = outcome(order(|order| order[field] = json!(value))).unwrap_err();
        assert_eq!((why.class.as_ref(), why.retryable), (class, retryable));
        assert!(why.message.contains(value), "{why}");
    }
    let oslo = order(|order| {
        order["country"] = json!("NO");
        order["currency"] = json!("NOK");
    });
    assert_eq!(
        class(oslo),
        "rate_unavailable",
        "a Norwegian order lacks nothing but the rate"
    );
    let why = outcome(order(|order| order["lines"][0]["sku"] = json!("BOAT\n"))).unwrap_err();
    assert_eq!(
        why,
        TransformError::permanent("unknown_sku", "`BOAT\\n` is not in our tables")
    );
}
