use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::disclosure::quoted;

/// A setting that takes one of a few words, in any case, `-` and `_` alike: `skip-and-log` is also `SKIP_AND_LOG`.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every word, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word as it is written in a configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text.trim().to_lowercase().replace('_', "-").as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(unknown(text, Self::WORDS)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
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
                json_schema!({ "type": "string", "enum": Self::WORDS })
            }
        }
    };
}

words! {
    /// What a record that cannot be transformed does to its partition.
    FailureMode {
        /// Its partition stops before it until it succeeds or an operator skips it.
        #[default] Atomic = "atomic",
        /// After `max-attempts` it is passed over, recorded, and sent to the dead-letter topic if there is one.
        SkipAndLog = "skip-and-log",
    }
}

words! {
    /// Which headers a dead letter carries beside ours.
    DeadLetterHeaders {
        /// None.
        #[default] Ours = "ours",
        /// Those of Spring Kafka's `DeadLetterPublishingRecoverer`: `kafka_dlt-…`.
        Spring = "spring",
        /// Those of Kafka Streams' exception handlers: `__streams.errors.…`.
        Streams = "streams",
    }
}

words! {
    /// What is written to the store.
    Tracking {
        /// An entry per record, durable before the transform, settled after the commit.
        Outbox = "outbox",
        /// Failures, durable before the commit that passes over them; and each partition's progress.
        #[default] Reliable = "reliable",
        /// Failures after the fact, through a bounded queue; loss is counted.
        Lightweight = "lightweight",
        /// Nothing.
        None = "none",
    }
}

words! {
    /// What a batch does while the store is away.
    OnStoreFailure {
        /// Batches with nothing to record go on.
        #[default] Degrade = "degrade",
        /// A batch with something to record waits for the store.
        Block = "block",
    }
}

words! {
    /// Which records of a lane may be transformed side by side.
    Ordering {
        /// Those with different keys.
        #[default] Key = "key",
        /// Those of different partitions.
        Partition = "partition",
        /// All.
        None = "none",
    }
}

words! {
    /// Which form of the input an entry keeps.
    StorePayload {
        /// Neither key, value nor headers.
        #[default] None = "none",
        /// The bytes as they came: what a replay needs.
        Bytes = "bytes",
        /// Readable text.
        Text = "text",
    }
}

words! {
    /// Where a group that has committed nothing begins.
    InitialOffset {
        /// At the first record.
        #[default] Earliest = "earliest",
        /// Behind the last.
        Latest = "latest",
    }
}

words! {
    /// What a partition does whose log begins behind what it is to read next: retention or an operator deleted records unread.
    OnUnreadable {
        /// It waits for a person, and says what to type.
        #[default] Wait = "wait",
        /// It goes on at the log's start. What is lost is a gap, counted and said.
        SkipToLogStart = "skip-to-log-start",
    }
}

words! {
    /// How logs look.
    LogFormat {
        /// `text` on a terminal, otherwise `json`.
        #[default] Auto = "auto",
        /// One JSON object per line.
        Json = "json",
        /// For a person.
        Text = "text",
    }
}

fn unknown(text: &str, words: &[&str]) -> String {
    let known = words.join(", ");
    match super::nearest(text, words.iter().copied()) {
        Some(near) => format!("{} is none of {known}; did you mean `{near}`?", quoted(text)),
        None => format!("{} is none of {known}", quoted(text)),
    }
}
