use std::{fmt, io::IsTerminal};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// Sets up this process's log, on stdout for `json`, on stderr for `text`. `RUST_LOG` decides what is logged, else
/// `LOGGING_LEVEL_ROOT`, the original's variable, else `level`. Whoever has set up a log before keeps it.
pub fn logging(format: LogFormat, service: &str, level: &str) {
    let filter = filter(
        std::env::var("RUST_LOG").ok(),
        std::env::var("LOGGING_LEVEL_ROOT").ok(),
        level,
    );
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stdout().is_terminal(),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    // Fails if a log was set up before, which is then the one to keep.
    let _ = match json {
        true => subscriber
            .event_format(Ecs {
                service: service.to_owned(),
            })
            .try_init(),
        false => subscriber
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .try_init(),
    };
}

/// The first of them that says something valid; librdkafka's own chatter is left out unless it is asked for.
fn filter(rust_log: Option<String>, root: Option<String>, level: &str) -> EnvFilter {
    let root = root
        .map(|root| root.trim().to_lowercase())
        .filter(|root| !root.is_empty());
    let rust_log = rust_log.filter(|text| !text.trim().is_empty());
    let wanted = [rust_log, root, Some(level.to_owned())];
    let valid = wanted
        .into_iter()
        .flatten()
        .find_map(|text| EnvFilter::try_new(text).ok());
    valid.unwrap_or_default()
}

/// One JSON object per line, by the names of the Elastic Common Schema.
struct Ecs {
    service: String,
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

impl<S, N> FormatEvent<S, N> for Ecs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let thread = std::thread::current();
        let ours = [
            ("@timestamp", Timestamp::now().to_string()),
            ("log.level", event.metadata().level().to_string().to_lowercase()),
            ("log.logger", event.metadata().target().to_owned()),
            ("ecs.version", "8.11.0".to_owned()),
            ("service.name", self.service.clone()),
            (
                "process.thread.name",
                thread.name().unwrap_or_default().to_owned(),
            ),
        ];
        let mut line = fields.0;
        line.entry("message").or_insert_with(|| "".into());
        line.extend(ours.map(|(name, value)| (name.to_owned(), value.into())));
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use serde_json::Value;

    use super::{Ecs, filter};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_by_the_names_of_ecs() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Ecs {
                service: "orders".into(),
            })
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(dedupKey = %"orders:0:1", attempts = 3, "failed\nagain");
        });
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["log.level"], "warn");
        assert_eq!(line["message"], "failed\nagain");
        assert_eq!(line["dedupKey"], "orders:0:1");
        assert_eq!(line["attempts"], 3);
        assert_eq!(line["service.name"], "orders");
        line["@timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    }

    #[test]
    fn the_originals_variable_is_heard_below_ours() {
        let told = |rust: Option<&str>, root: Option<&str>| {
            filter(rust.map(str::to_owned), root.map(str::to_owned), "info").to_string()
        };
        assert_eq!(told(None, None), "info");
        assert_eq!(told(None, Some("DEBUG")), "debug");
        assert_eq!(
            told(Some("orchestrator=trace"), Some("DEBUG")),
            "orchestrator=trace"
        );
        assert_eq!(told(Some("=,="), Some("")), "info");
    }
}
