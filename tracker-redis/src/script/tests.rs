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
fn a_damaged_field_is_shown_as_what_it_stands_for() {
    let keys = Keys::of("orders");
    let id: String = codec::id(&tracker_api::Partition::new("orders", 3).at(42))
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(
        keys.field(&format!("entries {id}"))
            .contains("the entry orders:3:42 in the key `tracker:{")
    );
    assert!(keys.field("progress 6869").contains("the field `hi` of the key"));
    assert!(keys.field("").contains("``"));
}
