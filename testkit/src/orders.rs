//! A seeded, deterministic stream of orders. Each carries its id, its *fate* and its place among its key's orders in
//! headers, so that a checker needs nothing but the topics.

use std::{collections::HashMap, fmt, str::FromStr};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

/// Header: the order's id, `order-000123`.
pub const ID: &str = "order-id";
/// Header: what is to become of it, see [`Fate`].
pub const FATE: &str = "order-fate";
/// Header: its place among the orders of its key, from 0.
pub const PLACE: &str = "order-place";

/// What is to become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Enriched.
    Good,
    /// Enriched too, but it has a thousand lines to price.
    Slow,
    /// A good order that `testkit serve` refuses while that fault is on.
    Poison,
    /// Not JSON: fails.
    Malformed,
    /// JSON, but no valid order: fails.
    Invalid,
    /// A valid order of something that is not sold: fails.
    UnknownSku,
}

impl Fate {
    const WORDS: [(Self, &str); 6] = [
        (Self::Good, "good"),
        (Self::Slow, "slow"),
        (Self::Poison, "poison"),
        (Self::Malformed, "malformed"),
        (Self::Invalid, "invalid"),
        (Self::UnknownSku, "unknown-sku"),
    ];

    /// Whether the example service itself fails it.
    pub fn fails(self) -> bool {
        matches!(self, Self::Malformed | Self::Invalid | Self::UnknownSku)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS
            .iter()
            .find(|(fate, _)| fate == self)
            .map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

impl FromStr for Fate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::WORDS
            .iter()
            .find(|(_, word)| *word == text)
            .map(|(fate, _)| *fate)
            .ok_or_else(|| format!("`{text}` is no fate of an order"))
    }
}

/// One order to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// `order-000123`: unique in a stream.
    pub id: String,
    /// The customer: the record's key.
    pub key: String,
    /// Its place among the orders of its key.
    pub place: u64,
    /// What is to become of it.
    pub fate: Fate,
    /// The record's value.
    pub value: Vec<u8>,
}

/// How many of a thousand orders have each fate; the rest is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Of a thousand.
    pub slow: u32,
    /// Of a thousand.
    pub poison: u32,
    /// Of a thousand.
    pub malformed: u32,
    /// Of a thousand.
    pub invalid: u32,
    /// Of a thousand.
    pub unknown_sku: u32,
}

impl Mix {
    /// Mostly good, something of everything that the service itself can meet.
    pub const DEMO: Self = Self {
        slow: 1,
        poison: 0,
        malformed: 2,
        invalid: 3,
        unknown_sku: 2,
    };
    /// Nothing but good orders.
    pub const GOOD: Self = Self {
        slow: 0,
        poison: 0,
        malformed: 0,
        invalid: 0,
        unknown_sku: 0,
    };

    fn draw(&self, random: &mut StdRng) -> Fate {
        let mut left = random.random_range(0..1_000);
        for (share, fate) in [
            (self.slow, Fate::Slow),
            (self.poison, Fate::Poison),
            (self.malformed, Fate::Malformed),
            (self.invalid, Fate::Invalid),
            (self.unknown_sku, Fate::UnknownSku),
        ] {
            if left < share {
                return fate;
            }
            left -= share;
        }
        Fate::Good
    }
}

/// An endless stream of orders, the same for the same seed.
#[derive(Debug)]
pub struct Orders {
    random: StdRng,
    mix: Mix,
    next: u64,
    places: HashMap<u64, u64>,
}

/// Customers; a few of them order most.
const CUSTOMERS: f64 = 2_000.0;

impl Orders {
    /// The stream of this seed.
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            mix,
            next: 0,
            places: HashMap::new(),
        }
    }

    /// The same stream with its ids counted from `first`: for a second load into the same topic.
    #[must_use]
    pub fn from(mut self, first: u64) -> Self {
        self.next = first;
        self
    }

    fn customer(&mut self) -> u64 {
        // the density of rank r falls as 1/r: Zipf's law with exponent 1
        let rank = CUSTOMERS.powf(self.random.random::<f64>());
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to 2000"
        )]
        let rank = rank as u64;
        rank
    }
}

impl Iterator for Orders {
    type Item = Order;

    fn next(&mut self) -> Option<Order> {
        let number = self.next;
        self.next += 1;
        let customer = self.customer();
        let fate = self.mix.draw(&mut self.random);
        let place = self.places.entry(customer).or_default();
        let order = Order {
            id: format!("order-{number:06}"),
            key: format!("customer-{customer:04}"),
            place: *place,
            fate,
            value: Vec::new(),
        };
        *place += 1;
        let value = value(&order, &mut self.random);
        Some(Order { value, ..order })
    }
}

const SKUS: [&str; 8] = [
    "DESK-OAK",
    "CHAIR-ERGO",
    "LAMP-LED",
    "MONITOR-27",
    "KEYBOARD-DE",
    "MOUSE-BT",
    "CABLE-USBC",
    "PAPER-A4",
];
const PLACES: [(&str, &str); 8] = [
    ("DE", "EUR"),
    ("AT", "EUR"),
    ("FR", "EUR"),
    ("CH", "CHF"),
    ("GB", "GBP"),
    ("JP", "JPY"),
    ("US", "USD"),
    ("SE", "SEK"),
];

/// An order in the shape that `app/README.md` describes, broken as its fate wants.
fn value(order: &Order, random: &mut StdRng) -> Vec<u8> {
    let lines = if order.fate == Fate::Slow {
        500
    } else {
        random.random_range(1..=4)
    };
    let mut lines: Vec<_> = (0..lines)
        .map(|_| {
            json!({
                "sku": SKUS[random.random_range(0..SKUS.len())],
                "quantity": random.random_range(1..=120_u32),
            })
        })
        .collect();
    match order.fate {
        Fate::Invalid if random.random() => lines.clear(),
        Fate::Invalid => lines[0]["quantity"] = json!(0),
        Fate::UnknownSku => lines[0]["sku"] = json!("UNICORN"),
        _ => {}
    }
    let (country, currency) = PLACES[random.random_range(0..PLACES.len())];
    let mut body = json!({
        "order_id": order.id,
        "customer": order.key,
        "country": country,
        "currency": currency,
        "lines": lines,
    });
    if random.random_ratio(1, 50) {
        body["priority"] = json!(true);
    }
    if random.random_ratio(1, 10) {
        body["discount_code"] = json!("WELCOME10");
    }
    let mut bytes = body.to_string().into_bytes();
    if order.fate == Fate::Malformed {
        // as a producer that crashed, or one that speaks something else: bytes that are no text at all
        bytes.truncate(bytes.len() / 2);
        bytes.extend_from_slice(b"\xff\x00\xfe");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_orders_and_another_seed_others() {
        let stream = |seed| Orders::new(seed, Mix::DEMO).take(500).collect::<Vec<_>>();
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
    }

    #[test]
    fn every_fate_of_the_mix_occurs_and_the_places_of_a_key_count_up() {
        let mix = Mix {
            poison: 5,
            ..Mix::DEMO
        };
        let mut fates: HashMap<Fate, u32> = HashMap::new();
        let mut places: HashMap<String, u64> = HashMap::new();
        for order in Orders::new(1, mix).take(20_000) {
            *fates.entry(order.fate).or_default() += 1;
            let next = places.entry(order.key).or_default();
            assert_eq!(order.place, *next);
            *next += 1;
        }
        assert_eq!(fates.len(), 6, "{fates:?}");
        assert!(fates[&Fate::Good] > 19_500, "{fates:?}");
        let most = places.values().max().unwrap();
        assert!(
            *most > 1_000 && places.len() > 1_000,
            "a few order most: {most} of {} customers",
            places.len()
        );
    }

    #[test]
    fn a_fate_is_read_back_as_it_was_written() {
        for (fate, word) in Fate::WORDS {
            assert_eq!(fate.to_string(), word);
            assert_eq!(word.parse(), Ok(fate));
        }
        assert!("fine".parse::<Fate>().is_err());
    }
}
