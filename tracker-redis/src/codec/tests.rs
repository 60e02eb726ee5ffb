use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;

proptest! {
    #[test]
    fn ids_order_as_their_bytes(
        a in (any::<String>(), any::<i32>(), any::<i64>()),
        b in (any::<String>(), any::<i32>(), any::<i64>()),
    ) {
        let [a, b] = [a, b].map(|(topic, number, offset)| Partition::new(topic, number).at(offset));
        prop_assert_eq!(id(&a).cmp(&id(&b)), a.cmp(&b));
        prop_assert_eq!(read_id(&id(&a)), Some(a));
    }

    #[test]
    fn numbers_order_as_their_bytes(a in any::<i64>(), b in any::<i64>()) {
        prop_assert_eq!(ordered(a).cmp(&ordered(b)), a.cmp(&b));
        prop_assert_eq!(read_time(&ordered(a)), Some(Timestamp(a)));
    }

    #[test]
    fn what_is_no_id_is_none(bytes in any::<Vec<u8>>()) {
        // Whatever can be read is written back the same, so nothing has two readings.
        if let Some(read) = read_id(&bytes) {
            prop_assert_eq!(id(&read), bytes);
        }
    }
}

#[test]
fn a_topic_sorts_before_those_that_it_begins_and_is_no_part_of_them() {
    let topics = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "a-b", "ab"].map(topic);
    assert!(topics.is_sorted());
    for (i, one) in topics.iter().enumerate() {
        for other in &topics[i + 1..] {
            assert!(!other.starts_with(one));
        }
    }
}
