use super::*;

#[test]
fn the_keys_of_a_namespace_share_a_tag_that_holds_none_of_its_text() {
    let keys = Keys::of("a}{b\n:entries");
    let tags: Vec<&str> = keys
        .all()
        .iter()
        .map(|key| key.split_once('}').unwrap().0)
        .collect();
    assert!(tags.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(
        tags[0]
            .strip_prefix("tracker:{")
            .unwrap()
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
    );
    assert_ne!(Keys::of("a").all(), Keys::of("b").all());
}

#[test]
fn a_field_is_shown_as_what_it_stands_for() {
    let partition = tracker_api::Partition::new("orders", 3);
    assert_eq!(entry_name(&codec::id(&partition.at(42))), "orders:3:42");
    assert_eq!(entry_name(b"h\xff"), "h\\xff");
    assert_eq!(
        progress_name(&codec::partition(&partition)),
        "progress of orders:3"
    );
    assert_eq!(progress_name(b"hi"), "progress of hi");
}
