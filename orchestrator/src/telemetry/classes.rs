use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Bounds a label that users choose: the first 64 values seen keep their names, the rest is `other`.
#[derive(Debug, Default)]
pub(super) struct Classes(Mutex<BTreeSet<Box<str>>>);

pub(super) static ERRORS: Classes = Classes(Mutex::new(BTreeSet::new()));

const BOUND: usize = 64;
const LONGEST: usize = 64;

impl Classes {
    pub(super) fn label<'a>(&self, class: &'a str) -> &'a str {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(class) {
            return class;
        }
        if seen.len() >= BOUND || class.len() > LONGEST || class.is_empty() {
            return "other";
        }
        seen.insert(class.into());
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixty_fifth_class_is_other_and_the_first_ones_keep_their_names() {
        let classes = Classes::default();
        for n in 0..64 {
            let class = format!("class-{n}");
            assert_eq!(classes.label(&class), class);
        }
        assert_eq!(classes.label("one-more"), "other");
        assert_eq!(classes.label("class-0"), "class-0");
        assert_eq!(Classes::default().label(&"x".repeat(65)), "other");
    }
}
