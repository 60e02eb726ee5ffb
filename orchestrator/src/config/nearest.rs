/// The known name that `text` was most likely meant to be; none if nothing is near.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace(['-', '_', '.'], "");
    // Nobody's slip is that long, and the distance costs the product of the lengths.
    if text.len() > 100 {
        return None;
    }
    let wanted = plain(text);
    let near = |name: &str| {
        let name = plain(name);
        let distance = strsim::damerau_levenshtein(&wanted, &name);
        let closeness = strsim::jaro_winkler(&wanted, &name);
        // One slip in four letters; or the same beginning and most of the rest.
        (distance * 4 <= name.chars().count().max(4) + 3 || closeness > 0.88).then_some((distance, closeness))
    };
    known
        .into_iter()
        .filter_map(|name| near(name).map(|rank| (rank, name)))
        .min_by(|((a, x), _), ((b, y), _)| a.cmp(b).then(y.total_cmp(x)))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 4] = ["failure-mode", "tracking", "rocksdb", "batch-delay"];

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        assert_eq!(nearest("failure-mod", KNOWN), Some("failure-mode"));
        assert_eq!(nearest("FAILUREMODE", KNOWN), Some("failure-mode"));
        assert_eq!(nearest("traking", KNOWN), Some("tracking"));
        assert_eq!(nearest("rockdb", KNOWN), Some("rocksdb"));
    }

    #[test]
    fn something_else_finds_nothing() {
        assert_eq!(nearest("colour", KNOWN), None);
        assert_eq!(nearest("x", KNOWN), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), KNOWN), None);
    }
}
