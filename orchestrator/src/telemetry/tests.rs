use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use tracker_api::{ErrorKind, FailureTracker};

use super::{CATALOGUE, Kind};
use crate::resilience::{
    Guarded, Settings,
    scripted::{Act, Scripted},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table() -> String {
    let mut table = String::from("| metric | kind | labels | what |\n|---|---|---|---|\n");
    for metric in CATALOGUE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        let _ = writeln!(
            table,
            "| `{}` | {kind} | {labels} | {} |",
            metric.name, metric.help
        );
    }
    table
}

/// `UPDATE_DOCS=1 cargo test` writes the table anew.
#[test]
fn the_documentation_lists_the_catalogue() {
    let path = root().join("docs/operations.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("checked by a test -->\n").unwrap();
    let (listed, tail) = rest.split_once("<!-- end of metrics -->").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let table = table();
        let new = format!("{head}checked by a test -->\n{table}<!-- end of metrics -->{tail}");
        fs::write(&path, new).unwrap();
    } else {
        assert_eq!(listed, table(), "run the tests with UPDATE_DOCS=1");
    }
}

/// Code, dashboards, alerts and documents may name what the catalogue names, and nothing else.
#[test]
fn whatever_is_named_like_a_metric_is_in_the_catalogue() {
    let mut files = Vec::new();
    for dir in [
        "orchestrator",
        "app",
        "tracker-api",
        "deploy",
        "observability",
        "load-test",
        "docs",
    ] {
        collect(&root().join(dir), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for (start, _) in text.match_indices("orch_") {
            let preceded = text[..start].chars().next_back();
            if preceded.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &text[start..];
            let end = rest
                .find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
                .unwrap_or(rest.len());
            let name = &rest[..end];
            if name == "orch_" {
                continue;
            }
            let known = CATALOGUE.iter().any(|metric| {
                let suffix = name.strip_prefix(metric.name);
                match metric.kind {
                    Kind::Histogram(_) => matches!(suffix, Some("" | "_bucket" | "_sum" | "_count")),
                    _ => suffix == Some(""),
                }
            });
            assert!(
                known,
                "{} names {name}, which no metric is called",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(
        seen > CATALOGUE.len(),
        "found {seen} names: the test looks in the wrong place"
    );
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if matches!(kind, Some("rs" | "md" | "json" | "yml" | "yaml")) {
            files.push(path);
        }
    }
}

#[test]
fn calls_to_the_store_and_the_state_of_the_breaker_are_metered() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let line = |name: &str| {
        let text = handle.render();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    let work = async {
        let store = Scripted::new(Act::Answer);
        let settings = Settings {
            timeout: Duration::from_millis(100),
            tries: 2,
            failure_threshold: 2,
            open_for: Duration::from_secs(10),
        };
        let guarded = Guarded::new(store.clone(), settings);
        guarded.ping().await.unwrap();
        assert_eq!(line(r#"orch_circuit_state{state="closed"}"#), 1.0);
        store.then(Act::Fail(ErrorKind::Refused));
        guarded.ping().await.unwrap_err();
        assert_eq!(line("orch_db_degraded"), 0.0);
        store.then(Act::Hang);
        let cancelled = tokio::time::timeout(Duration::from_millis(1), guarded.progress()).await;
        assert!(cancelled.is_err());
        guarded.ping().await.unwrap_err();
        assert_eq!(
            (line("orch_db_degraded"), line("orch_db_circuit_open")),
            (1.0, 0.0)
        );
        guarded.ping().await.unwrap_err();
        guarded.ping().await.unwrap_err();
        assert_eq!(
            (line("orch_db_degraded"), line("orch_db_circuit_open")),
            (1.0, 1.0)
        );
        assert_eq!(line(r#"orch_circuit_state{state="open"}"#), 1.0);
        assert_eq!(line(r#"orch_circuit_state{state="closed"}"#), 0.0);
        let calls = |outcome: &str| {
            line(&format!(
                r#"orch_tracker_calls_total{{operation="ping",outcome="{outcome}"}}"#
            ))
        };
        assert_eq!(
            (
                calls("ok"),
                calls("refused"),
                calls("timeout"),
                calls("circuit_open")
            ),
            (1.0, 1.0, 2.0, 1.0)
        );
        assert_eq!(
            line(r#"orch_tracker_calls_total{operation="progress",outcome="cancelled"}"#),
            1.0
        );
        assert_eq!(line(r#"orch_tracker_retries_total{operation="ping"}"#), 2.0);
        // What the breaker refused took no time of the store.
        assert_eq!(
            line(r#"orch_tracker_call_duration_seconds_count{operation="ping"}"#),
            4.0
        );
    };
    metrics::with_local_recorder(&recorder, || runtime.block_on(work));
}
