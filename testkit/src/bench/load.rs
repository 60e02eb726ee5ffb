//! What the contestants are given, and when they are ready for it.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::json;

use crate::{
    Result,
    orders::{Fate, Order},
};

const CUSTOMERS: usize = 100_000;
const READY: Duration = Duration::from_secs(60);

/// Orders of so many bytes each, so many of a thousand invalid, their customers evenly spread, so that all partitions hold
/// as much.
pub(super) fn orders(count: usize, bytes: usize, failing: u32) -> Vec<Order> {
    let mut random = StdRng::seed_from_u64(7);
    let mut places = vec![0_u64; CUSTOMERS];
    let mut order = |number: usize| {
        let customer = random.random_range(0..CUSTOMERS);
        let place = places[customer];
        places[customer] += 1;
        let (id, key) = (format!("order-{number:07}"), format!("customer-{customer:05}"));
        let skus = ["DESK-OAK", "CHAIR-ERGO", "LAMP-LED", "MONITOR-27"];
        let mut line = || json!({"sku": skus[random.random_range(0..skus.len())], "quantity": random.random_range(1..=9)});
        let mut body = json!({
            "order_id": id, "customer": key, "country": "DE", "currency": "EUR", "lines": [line(), line()], "note": "",
        });
        let fails = failing > 0 && random.random_range(0..1_000) < failing;
        if fails {
            body["lines"][0]["quantity"] = 0.into();
        }
        let length = body.to_string().len();
        body["note"] = "x".repeat(bytes.saturating_sub(length)).into();
        Order {
            id,
            key,
            place,
            fate: if fails { Fate::Invalid } else { Fate::Good },
            value: body.to_string().into_bytes(),
        }
    };
    (0..count).map(&mut order).collect()
}

/// Waits until `group` has this many members, each with its equal share of the partitions, and stays so.
pub(super) fn wait_settled(bootstrap: &str, group: &str, members: usize, partitions: i32) -> Result<()> {
    let asked: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0")
        .create()?;
    let share = usize::try_from(partitions)? / members;
    let begun = Instant::now();
    let mut since = None::<Instant>;
    while since.is_none_or(|since| since.elapsed() < Duration::from_millis(1_500)) {
        // A coordinator that is still loading answers with an error.
        let groups = asked.fetch_group_list(Some(group), Duration::from_secs(10));
        let settled = groups.iter().flat_map(|g| g.groups()).any(|g| {
            let shares = || g.members().iter().map(|m| m.assignment().and_then(assigned));
            g.state() == "Stable"
                && g.members().len() == members
                && shares().all(|s| s.is_some_and(|s| s >= share))
        });
        since = settled.then(|| since.unwrap_or_else(Instant::now));
        if begun.elapsed() > READY {
            return Err(format!("group {group} did not settle within {} s", READY.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// How many partitions an assignment in the consumers' protocol names.
fn assigned(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + size)?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    let (mut at, mut total) = (6, 0);
    for _ in 0..number(2, 4)? {
        at += 2 + number(at, 2)?;
        let partitions = number(at, 4)?;
        total += partitions;
        at += 4 + 4 * partitions;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_counted() {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 2, b'i', b'n', 0, 0, 0, 3];
        bytes.extend([0; 12]);
        bytes.extend([0xff; 4]); // no user data
        assert_eq!(assigned(&bytes), Some(3));
        assert_eq!(assigned(&bytes[..9]), None);
        assert_eq!(assigned(&[0, 1, 0, 0, 0, 0]), Some(0));
    }

    #[test]
    fn an_order_is_as_long_as_asked_and_has_an_id_of_its_own() {
        let orders = orders(1_000, 300, 100);
        assert!(orders.iter().all(|order| order.value.len() == 300));
        let failing = orders.iter().filter(|order| order.fate == Fate::Invalid).count();
        assert!((50..200).contains(&failing), "{failing}");
        let ids: std::collections::HashSet<_> = orders.iter().map(|order| &order.id).collect();
        assert_eq!(ids.len(), 1_000);
    }
}
