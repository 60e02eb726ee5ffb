use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::disclosure::quoted;

/// A length of time: `150ms`, `30s`, `5m`, `1h`, `1d`, in whole numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A length of time whose key ends in `-ms`: a bare number of milliseconds, or with a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) Duration);

/// How long something is kept: a length of time, or `never` for one that does not go by age.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep(pub(crate) Option<Duration>);

/// A number of bytes: `65536`, `64KiB`, `4MiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) usize);

impl Span {
    pub(crate) fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim()))
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// The shortest exact way to write it.
pub(crate) fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    units
        .iter()
        .find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit))
        .map_or_else(
            || format!("{millis}ms"),
            |(name, unit)| format!("{}{name}", millis / unit),
        )
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).map(Self).ok_or_else(|| match split(text) {
            Some((number, "")) => format!("`{number}` has no unit: write `{number}s` or `{number}ms`"),
            _ => format!(
                "{} is not a length of time such as 150ms, 30s, 5m or 1h",
                quoted(text)
            ),
        })
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            never if never.eq_ignore_ascii_case("never") => Ok(Self(None)),
            text => text
                .parse::<Span>()
                .map(|span| Self(Some(span.0)))
                .map_err(|error| format!("{error}; `never` keeps for ever")),
        }
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match split(text) {
            Some((number, "")) => Some(Duration::from_millis(number)),
            _ => duration(text),
        }
        .map(Self)
        .ok_or_else(|| format!("{} is not a number of milliseconds", quoted(text)))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{} is not a number of bytes such as 65536, 64KiB or 4MiB",
                quoted(text)
            )
        };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let bytes = match unit.to_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        let bytes = number
            .checked_mul(bytes)
            .and_then(|bytes| usize::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map_or_else(|| "never".to_owned(), show))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_millis())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units
            .iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit))
        {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Written as text, read from text.
macro_rules! as_text {
    ($name:ident, $schema:tt) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

as_text!(Span, { "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|min|h|d)$" });
as_text!(Keep, { "type": "string", "pattern": "^([0-9]+ ?(ms|s|m|min|h|d)|never)$" });
as_text!(Millis, { "type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ ?(ms|s|m|min|h|d)?$" });
as_text!(Size, { "type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ ?([KMG]i?B?|[kmg]i?b?)?$" });

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Keep, Millis, Size, Span};

    #[test]
    fn a_bare_number_is_refused_where_its_unit_is_anyones_guess() {
        let error = "30".parse::<Span>().unwrap_err();
        assert_eq!(error, "`30` has no unit: write `30s` or `30ms`");
        assert_eq!("30".parse::<Millis>().unwrap().0, Duration::from_millis(30));
    }

    #[test]
    fn units_are_read_and_written_back() {
        for text in ["150ms", "30s", "5m", "1h", "2d", "1500ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["4MiB", "64KiB", "1000", "3GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("10 s".parse::<Millis>().unwrap().to_string(), "10000");
    }

    #[test]
    fn what_is_kept_may_be_kept_for_ever() {
        for text in ["30d", "12h", "never"] {
            assert_eq!(text.parse::<Keep>().unwrap().to_string(), text);
        }
        assert_eq!("Never".parse::<Keep>().unwrap().0, None);
        assert!("always".parse::<Keep>().unwrap_err().contains("`never`"));
    }

    #[test]
    fn nonsense_is_refused_and_never_wraps_around() {
        for text in ["", "s", "-1s", "1.5s", "1 fortnight", "18446744073709551615d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "-1", "4 MB/s", "18446744073709551615GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
