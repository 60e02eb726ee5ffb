use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Error, Spanned};

/// Where something stands in a file, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A YAML file as it was written: every key and value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Null,
    /// A scalar as text: `0755` stays `0755`.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
}

/// A key and its place.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) at: Place,
}

/// The longest file that is read, in bytes: a thousand times what a configuration needs.
pub(crate) const LONGEST: usize = 1 << 20;
/// Levels of keys and lists, of which ours has six: what reads them goes as deep, some 40 KB of stack for each where it is
/// not optimised.
const DEEPEST: usize = 20;
/// Values, with what stands for them repeatedly (`*alias`).
const MOST_VALUES: usize = 100_000;
/// Repetitions: each is a copy, of up to the whole file.
const MOST_ALIASES: usize = 100;

/// Reads a file: its documents, but for empty ones; or where it is not YAML, and why. Bounded in time and memory by the length of the text.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, (Option<Place>, String)> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: MOST_VALUES,
            max_aliases: MOST_ALIASES,
            max_merge_keys: MOST_ALIASES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_VALUES },
    };
    serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options)
        .map(|roots| roots.into_iter().map(|root| node(root, text)).collect())
        .map_err(|e| {
            let at = e.location().map(place);
            let reason = match e.without_snippet() {
                Error::Budget { .. }
                | Error::AliasReplayLimitExceeded { .. }
                | Error::AliasReplayStackDepthExceeded { .. } => format!(
                    "this is too much for a configuration, which has at most {DEEPEST} levels, {MOST_VALUES} values and \
                     {MOST_ALIASES} aliases"
                ),
                other => other.to_string(),
            };
            let reason = reason.split(" at line ").next().unwrap_or_default();
            match tab(text, at) {
                Some(tab) => (Some(tab), "a tab cannot indent a line: use spaces".to_owned()),
                None => (at, reason.to_owned()),
            }
        })
}

/// The tab that indents a line, if that is what the parser stumbled over: it names the line before.
fn tab(text: &str, at: Option<Place>) -> Option<Place> {
    let from = at?.line;
    let lines = text.lines().enumerate().skip(from.saturating_sub(1)).take(2);
    let tabs = lines.filter_map(|(i, line)| {
        let indent = line.chars().take_while(|c| c.is_whitespace());
        let column = indent.into_iter().position(|c| c == '\t')? + 1;
        Some(Place { line: i + 1, column })
    });
    tabs.into_iter().next()
}

enum Raw {
    Null,
    /// Quoted, or anything that is a string anyhow.
    Text(String),
    /// A number or a boolean, as it would be printed.
    Plain(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Key>, Spanned<Raw>)>),
}

struct Key(String);

fn place(location: serde_saphyr::Location) -> Place {
    Place {
        line: usize::try_from(location.line()).unwrap_or(usize::MAX),
        column: usize::try_from(location.column()).unwrap_or(usize::MAX),
    }
}

fn node(raw: Spanned<Raw>, source: &str) -> Node {
    let at = place(raw.referenced);
    let data = match raw.value {
        Raw::Null => Data::Null,
        Raw::Text(text) => Data::Text(text),
        Raw::Plain(text) => Data::Text(as_written(raw.defined, source).unwrap_or(text)),
        Raw::List(items) => Data::List(items.into_iter().map(|item| node(item, source)).collect()),
        Raw::Map(pairs) => Data::Map(
            pairs
                .into_iter()
                .map(|(key, value)| {
                    let name = Name {
                        at: place(key.referenced),
                        text: key.value.0,
                    };
                    (name, node(value, source))
                })
                .collect(),
        ),
    };
    Node { at, data }
}

/// The characters of a number or boolean, so that `1.10` is not read as `1.1`.
fn as_written(at: serde_saphyr::Location, source: &str) -> Option<String> {
    // By its place in the text, not by line and column: those would be searched for from the start, for each value.
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let rest = source.get(start..)?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}'));
    let text = &rest[..end.unwrap_or(rest.len())];
    let plausible = text
        .chars()
        .next()
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '+' | '-' | '.'));
    plausible.then(|| text.to_owned())
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Text(text) | Raw::Plain(text) => Ok(Self(text)),
            Raw::Null => Ok(Self("null".into())),
            Raw::List(_) | Raw::Map(_) => Err(de::Error::custom("a key must be a plain name")),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Raw::Map(pairs))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::{Data, Node, Place};

    /// The only document.
    fn read(text: &str) -> Result<Node, (Option<Place>, String)> {
        let mut all = super::read(text)?;
        assert_eq!(all.len(), 1);
        Ok(all.remove(0))
    }

    fn find<'a>(node: &'a Node, key: &str) -> (Place, &'a Node) {
        let Data::Map(pairs) = &node.data else {
            panic!("{node:?}")
        };
        let (name, value) = pairs.iter().find(|(name, _)| name.text == key).unwrap();
        (name.at, value)
    }

    fn text(node: &Node) -> &str {
        match &node.data {
            Data::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let root =
            read("# about\norchestrator:\n  ordering:   key # why\n  skip: [a:0:1, 'b:0:2']\n").unwrap();
        let (_, section) = find(&root, "orchestrator");
        let (key, value) = find(section, "ordering");
        assert_eq!(key, Place { line: 3, column: 3 });
        assert_eq!(value.at, Place { line: 3, column: 15 });
        let Data::List(items) = &find(section, "skip").1.data else {
            panic!()
        };
        assert_eq!(text(&items[1]), "b:0:2");
        assert_eq!(items[1].at, Place { line: 4, column: 17 });
    }

    #[test]
    fn a_scalar_is_kept_as_it_was_written() {
        let root =
            read("a: 1.10\nb: 0755\nc: 1_000\nd: '5'\ne: yes\nf:\ng: {x: 0x1F}\nh: 99999999999999999999\n")
                .unwrap();
        for (key, wanted) in [
            ("a", "1.10"),
            ("b", "0755"),
            ("c", "1_000"),
            ("d", "5"),
            ("e", "yes"),
            ("h", "99999999999999999999"),
        ] {
            assert_eq!(text(find(&root, key).1), wanted);
        }
        assert!(matches!(find(&root, "f").1.data, Data::Null));
        assert_eq!(text(find(find(&root, "g").1, "x").1), "0x1F");
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        let root = read("a: &x 1.10\nb: *x\n").unwrap();
        assert_eq!(text(find(&root, "b").1), "1.10");
        assert_eq!(find(&root, "b").1.at, Place { line: 2, column: 4 });
    }

    #[test]
    fn what_is_not_yaml_says_where() {
        let (at, reason) = read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(at.is_some_and(|at| at.line >= 2), "{at:?} {reason}");
        let (at, reason) = read("a: 1\na: 2\n").unwrap_err();
        assert_eq!(at.map(|at| at.line), Some(2), "{reason}");
        assert!(reason.contains("duplicate"), "{reason}");
        assert!(read("a:\n\tb: 1\n").is_err());
    }

    #[test]
    fn no_file_takes_more_time_or_stack_than_its_length_deserves() {
        let many = 90_000;
        let began = std::time::Instant::now();
        let list = format!("a: [{}]\n", "1,".repeat(many));
        let lines = format!("a:\n{}", "  - 1.10\n".repeat(many));
        for (text, wanted) in [(list, "1"), (lines, "1.10")] {
            let root = read(&text).unwrap();
            let Data::List(items) = &find(&root, "a").1.data else {
                panic!()
            };
            assert_eq!(
                (items.len(), super::tests::text(&items[many - 1])),
                (many, wanted)
            );
        }
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        let deep: String = (0..200)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect();
        let bomb: String = (0..12).fold("a0: &a0 [x, x, x, x]\n".to_owned(), |text, n| {
            let below = format!("*a{n},").repeat(8);
            format!("{text}a{}: &a{} [{below}]\n", n + 1, n + 1)
        });
        let copies = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(5_000));
        for (what, text) in [
            ("brackets", "[".repeat(100_000)),
            ("braces", "{a: ".repeat(100_000)),
            ("dashes", "- ".repeat(100_000)),
            ("questions", "? ".repeat(100_000)),
            ("levels", deep),
            ("aliases", bomb),
            ("copies", copies),
            ("values", "- x\n".repeat(200_000)),
        ] {
            let began = std::time::Instant::now();
            let (at, reason) = read(&text).expect_err(what);
            assert!(at.is_some_and(|at| at.line > 0), "{what}: {at:?} {reason}");
            assert!(reason.len() < 300, "{what}: {reason}");
            assert!(began.elapsed().as_secs() < 10, "{what}: {:?}", began.elapsed());
        }
    }

    #[test]
    fn an_empty_file_is_no_error() {
        for text in ["", "\u{feff}", "# nothing\n", "---\n"] {
            assert!(super::read(text).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn every_document_is_read_and_an_empty_one_is_none() {
        let all = super::read("---\na: 1\n---\n# nothing\n---\nb: 2\n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].at, Place { line: 6, column: 1 });
    }
}
