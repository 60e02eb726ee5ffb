//! Any text as PostgreSQL's `text`, which cannot hold NUL: without loss, in the same order, and so that one text contains
//! another exactly when it did before.
//!
//! The characters U+0000 to U+0005 become pairs: the first of a pair is U+0001 or U+0002, the second U+0003, U+0004 or U+0005.
//! So no first is ever a second, every other text stays as it is, and what begins a pair sorts below all that stays.

use std::borrow::Cow;

const ESCAPED: std::ops::RangeInclusive<char> = '\0'..='\u{5}';
const PAIRS: [[char; 2]; 6] = [
    ['\u{1}', '\u{3}'],
    ['\u{1}', '\u{4}'],
    ['\u{1}', '\u{5}'],
    ['\u{2}', '\u{3}'],
    ['\u{2}', '\u{4}'],
    ['\u{2}', '\u{5}'],
];

/// The text as it is stored.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| ESCAPED.contains(&c)) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match ESCAPED.contains(&c).then(|| PAIRS.get(c as usize)).flatten() {
            Some(pair) => stored.extend(pair),
            None => stored.push(c),
        }
    }
    Cow::Owned(stored)
}

/// The text that was stored; none if nobody's `stored` makes this.
pub(crate) fn read(stored: &str) -> Option<String> {
    if !stored.contains(|c| ESCAPED.contains(&c)) {
        return Some(stored.to_owned());
    }
    let mut text = String::with_capacity(stored.len());
    let mut rest = stored.chars();
    while let Some(c) = rest.next() {
        if ESCAPED.contains(&c) {
            let pair = [c, rest.next()?];
            let number = PAIRS.iter().position(|known| *known == pair)?;
            text.push(char::from(u8::try_from(number).ok()?));
        } else {
            text.push(c);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};

    use super::{read, stored};

    fn texts() -> impl Strategy<Value = String> {
        let characters = prop_oneof![3 => (0..8_u8).prop_map(char::from), 1 => any::<char>()];
        proptest::collection::vec(characters, 0..6).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn any_text_comes_back_keeps_its_order_and_contains_what_it_contained(a in texts(), b in texts()) {
            assert_eq!(read(&stored(&a)).as_deref(), Some(&*a));
            assert!(!stored(&a).contains('\0'));
            assert_eq!(stored(&a).as_bytes().cmp(stored(&b).as_bytes()), a.as_bytes().cmp(b.as_bytes()));
            assert_eq!(stored(&a).contains(&*stored(&b)), a.contains(&b));
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is_and_what_nobody_stored_is_not_read() {
        assert_eq!(stored("orders \u{1F4A5}\n\t\u{6}"), "orders \u{1F4A5}\n\t\u{6}");
        for foreign in ["\u{1}", "\u{3}", "\u{1}\u{1}", "a\u{2}b"] {
            assert_eq!(read(foreign), None, "{foreign:?}");
        }
    }
}
