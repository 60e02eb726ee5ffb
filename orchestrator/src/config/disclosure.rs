//! What of a user's values may be shown: one rule, which every error, warning and `config show` asks.
//!
//! A value, or a line of the file, is shown only where its key is known and no secret. Of a value that may be shown, what
//! an address or a list of settings holds in it is still hidden: see [`redact`].

use std::collections::{BTreeMap, BTreeSet};

use super::{
    clients,
    keys::{ALIASES, Key, paths, relaxed},
    settings::Properties,
    spring,
};
use crate::registry::Registry;

/// The keys whose values may be shown. The default shows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disclosure {
    /// Whole paths below `orchestrator`, and Spring's; [`relaxed`].
    paths: BTreeSet<String>,
    /// The last parts of those paths.
    names: BTreeSet<String>,
    /// Fields of the stores that are secrets by their type: `store.field`, [`relaxed`].
    secrets: BTreeSet<String>,
    /// Sections of librdkafka's names, such as `kafka.properties.`.
    properties: Vec<String>,
}

impl Disclosure {
    pub(crate) fn of(keys: &BTreeMap<String, Key>, registry: &Registry) -> Self {
        let mut known = Self::default();
        for (path, key) in paths(keys) {
            match (&path[..], key) {
                (_, Key::Properties) => known.properties.push(path.join(".") + "."),
                ([store, field], _) if registry.is_secret(store, field) => {
                    known.secrets.insert(relaxed(&path.join(".")));
                }
                ([.., last], _) if Properties::is_secret(last) => {}
                _ => known.add(&path.join(".")),
            }
        }
        ALIASES.iter().for_each(|(alias, _)| known.add(alias));
        spring::known().for_each(|name| known.add(name));
        known
    }

    fn add(&mut self, path: &str) {
        let last = path.rsplit('.').next().unwrap_or(path);
        self.names.insert(relaxed(last));
        self.paths.insert(relaxed(path));
    }

    /// Whether a store's field is a secret by its type.
    pub(crate) fn is_secret(&self, store: &str, field: &str) -> bool {
        self.secrets.contains(&relaxed(&format!("{store}.{field}")))
    }

    /// Whether the value at `key` may be shown: `orchestrator.failure-mode`, `spring.kafka.bootstrap-servers`.
    pub(crate) fn may_show(&self, key: &str) -> bool {
        let path = key.strip_prefix("orchestrator.").unwrap_or(key);
        let property = self
            .properties
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix.as_str()));
        match property {
            Some(name) => !Properties::is_secret(name) && clients::is_known(name),
            None => self.paths.contains(&relaxed(path)),
        }
    }

    /// A line of the file as it may be shown where something is wrong with the value of `key`; without a key, where the
    /// file is no YAML. `name: ***` keeps a key in its place; none shows nothing of the line.
    pub(crate) fn line(&self, line: &str, key: Option<&str>) -> Option<String> {
        // A comment may hold anything.
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        let shown = || Some(format!("{indent}{}", redact(body)));
        let pair = body
            .split_once(':')
            .filter(|(_, value)| value.is_empty() || value.starts_with(' '));
        let Some((name, value)) = pair else {
            // A line of its own of the value at that key.
            return key.filter(|key| self.may_show(key)).and_then(|_| shown());
        };
        let bare = name.trim().trim_matches(['\'', '"']);
        let is_keys = key.is_some_and(|key| relaxed(key).ends_with(&relaxed(bare)));
        let may_show = match key {
            Some(key) => self.may_show(key) && (is_keys || self.names.contains(&relaxed(bare))),
            None => self.names.contains(&relaxed(bare)),
        };
        // Keys within the value, each with a value of its own (a placeholder is none); a tag, which is a word of the user's.
        let holds_keys =
            value.replace("${", "").contains('{') || value.trim_start().starts_with(['!', '&', '*']);
        match (may_show && !holds_keys, is_keys) {
            (true, _) => shown(),
            (false, true) => Some(format!("{indent}{name}: ***")),
            (false, false) => None,
        }
    }

    /// Why a file is not YAML, without what the parser quotes of it beyond the names of known keys.
    pub(crate) fn parsers(&self, reason: &str) -> String {
        let mut shown = String::with_capacity(reason.len());
        let mut rest = reason;
        let quotes = [
            ("`", "`"),
            ("'", "'"),
            ("\"", "\""),
            ("[", "]"),
            ("mapping key: ", ","),
        ];
        loop {
            let next = quotes
                .iter()
                .filter_map(|(open, close)| Some((rest.find(open)?, open, close)));
            let Some((start, open, close)) = next.min() else {
                return shown + rest;
            };
            let (before, after) = rest.split_at(start + open.len());
            shown.push_str(before);
            let end = after.find(close).unwrap_or(after.len());
            let quoted = &after[..end];
            // Such as `,` and `]`: signs of YAML, which it misses.
            let is_sign = quoted.chars().count() < 4 && !quoted.chars().any(char::is_alphanumeric);
            let may_show = is_sign || self.names.contains(&relaxed(quoted));
            shown.push_str(if may_show { quoted } else { "***" });
            shown.push_str(after[end..].get(..close.len()).unwrap_or_default());
            rest = after[end..].get(close.len()..).unwrap_or_default();
        }
    }
}

/// A value in an error: redacted, escaped, cut to 100 characters, between backticks.
pub(crate) fn quoted(value: &str) -> String {
    const LONGEST: usize = 100;
    let shown = redact(value);
    let cut: String = shown.chars().take(LONGEST).collect();
    let dots = if cut.len() < shown.len() { "…" } else { "" };
    format!("`{}{dots}`", cut.escape_debug())
}

/// `text` without what an address or a list of settings in it hides: `scheme://***@host/path?***`, `***@host`,
/// `password=***`. Behind a setting that speaks of a secret nothing is shown: who knows where it ends.
pub(crate) fn redact(text: &str) -> String {
    hide_settings(&hide_logins(text))
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`')
}

/// Addresses without user, password and query.
fn hide_logins(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for word in text.split_inclusive(ends_word) {
        let end = word.trim_end_matches(ends_word);
        let mut rest = end;
        while let Some(start) = rest.find("://") {
            let (before, after) = rest.split_at(start + 3);
            shown.push_str(before);
            // Up to the next address of a list. The last `@` counts: a password may hold one, and what begins a path.
            let next = after.find("://").and_then(|next| after[..next].rfind(','));
            let url = &after[..next.unwrap_or(after.len())];
            let host = url.rfind('@').map_or(0, |at| at);
            if host > 0 {
                shown.push_str("***");
            }
            let place = &url[host..];
            match place.find(['?', '#']) {
                Some(query) if place.len() > query + 1 => {
                    shown.push_str(&place[..=query]);
                    shown.push_str("***");
                }
                _ => shown.push_str(place),
            }
            rest = &after[url.len()..];
        }
        match rest.rsplit_once('@') {
            Some((who, host)) if who.contains(':') => {
                shown.push_str("***@");
                shown.push_str(host);
            }
            _ => shown.push_str(rest),
        }
        shown.push_str(&word[end.len()..]);
    }
    shown
}

/// The text up to the first `name=value` or `name: value` whose name speaks of a secret.
fn hide_settings(text: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    for (at, sign) in text.match_indices(['=', ':']) {
        let before = text[..at].trim_end_matches([' ', '"', '\'']);
        let start = before
            .rfind(|c| !is_name(c))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let after = &text[at + 1..];
        let is_setting = !after.trim().is_empty() && !after.starts_with(['…', '/', '`', ':']);
        if is_setting && Properties::is_secret(&before[start..]) {
            return format!("{}{sign}***", &text[..at]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::known;

    fn disclosure() -> Disclosure {
        let registry = Registry::default();
        Disclosure::of(&known(&registry), &registry)
    }

    #[test]
    fn an_address_loses_user_password_and_query() {
        for (text, shown) in [
            ("postgres://u:p@h:1/db", "postgres://***@h:1/db"),
            ("a://u:p@ss@h b://x:y/z@h", "a://***@h b://***@h"),
            ("http://h:1/db, https://k", "http://h:1/db, https://k"),
            ("a://u:p@h:1,b://v:q@k", "a://***@h:1,b://***@k"),
            (
                "jdbc:postgresql://h/db?user=x&pass=p",
                "jdbc:postgresql://h/db?***",
            ),
            ("me:p@h:9092", "***@h:9092"),
            ("localhost:9092", "localhost:9092"),
            ("someone@example.org", "someone@example.org"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn a_list_of_settings_ends_at_its_first_secret() {
        for (text, shown) in [
            ("host=h password=p w=1", "host=h password=***"),
            (
                "Module required username=\"u\" password=\"p q\";",
                "Module required username=\"u\" password=***",
            ),
            (
                "{\"user\": \"u\", \"apikey\": \"p\"}",
                "{\"user\": \"u\", \"apikey\":***",
            ),
            (
                "use `sasl.username` and `sasl.password`",
                "use `sasl.username` and `sasl.password`",
            ),
            ("topic:0:42", "topic:0:42"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn a_line_is_shown_only_where_its_key_is_known_and_no_secret() {
        let shown = |line: &str, key: &str| disclosure().line(line, Some(&format!("orchestrator.{key}")));
        for (line, key, wanted) in [
            ("  ordering: kay # p", "ordering", Some("  ordering: kay")),
            (
                "  max-poll-records: x",
                "batch-records",
                Some("  max-poll-records: x"),
            ),
            ("  skip: [a:0:1]", "skip", Some("  skip: [a:0:1]")),
            ("    - a:0:x", "skip", Some("    - a:0:x")),
            (
                "  db-strategy: a://u:p@h?q=p",
                "db-strategy",
                Some("  db-strategy: a://***@h?***"),
            ),
            (
                "    linger.ms: soon",
                "kafka.producer.linger.ms",
                Some("    linger.ms: soon"),
            ),
            (
                "    lingr.ms: p",
                "kafka.producer.lingr.ms",
                Some("    lingr.ms: ***"),
            ),
            (
                "    sasl.password: p",
                "kafka.properties.sasl.password",
                Some("    sasl.password: ***"),
            ),
            ("  apikey: p", "apikey", Some("  apikey: ***")),
            ("  p", "apikey", None),
            ("  - p", "apikey", None),
            ("  p: x", "apikey", None),
            (
                "  kafka: {producer: {linger.ms: soon, x: p}}",
                "kafka.producer.linger.ms",
                None,
            ),
            ("  ordering: {x: p}", "ordering", Some("  ordering: ***")),
        ] {
            assert_eq!(shown(line, key).as_deref(), wanted, "{line}");
        }
        let broken = |line: &str| disclosure().line(line, None);
        assert_eq!(broken("  ordering: [key").as_deref(), Some("  ordering: [key"));
        assert_eq!(broken("  pass: [p"), None);
        assert_eq!(broken("MIIEvQIBADANBg"), None);
    }

    #[test]
    fn what_the_parser_quotes_is_shown_only_if_it_is_the_name_of_a_key() {
        let shown = |reason: &str| disclosure().parsers(reason);
        assert_eq!(shown("unsupported tag `!hunter2`"), "unsupported tag `***`");
        assert_eq!(shown("expected ',' or ']'"), "expected ',' or ']'");
        assert_eq!(
            shown("duplicate mapping key: group-id, set x"),
            "duplicate mapping key: group-id, set x"
        );
        assert_eq!(
            shown("duplicate mapping key: hunter2, set x"),
            "duplicate mapping key: ***, set x"
        );
        assert_eq!(shown("it begins ' and ends"), "it begins '***");
    }
}
