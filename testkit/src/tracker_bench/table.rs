//! What is printed: the tables that go into the documentation.

use std::fmt::Write;

use super::{Row, Weight, cost::Lap};

/// One store at one size, as soon as it is known.
pub(super) fn line(row: &Row) -> String {
    format!(
        "{} at {}: received {} ms, succeeded {} ms, page {} ms, groups {:.0} ms, claim {} ms (p50 / p95)",
        row.store,
        row.entries,
        times(&row.received),
        times(&row.succeeded),
        times(&row.first_page),
        row.groups.milliseconds(0.5),
        times(&row.claim),
    )
}

fn times(lap: &Lap) -> String {
    format!("{:.1} / {:.1}", lap.milliseconds(0.5), lap.milliseconds(0.95))
}

/// CPU in microseconds for each of the batch's 1 000 records.
fn cpu(lap: &Lap) -> String {
    let (client, server) = lap.cpu();
    format!("{client:.2} + {server:.2}")
}

/// What the service writes for a batch of 1 000.
pub(super) fn told(rows: &[Row]) -> String {
    let mut text = String::from(
        "| store | open failures held | none failed | 10 failed (two calls) | 1 000 received | 1 000 succeeded | filling: entries/s |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let _ = write!(text, "| {} | {} ", row.store, row.entries);
        for lap in [&row.progress, &row.failed, &row.received, &row.succeeded] {
            let _ = write!(text, "| {} ({}) ", times(lap), cpu(lap));
        }
        let _ = writeln!(text, "| {:.0} |", row.fill);
    }
    text
}

/// What a person asks and decides.
pub(super) fn asked(rows: &[Row]) -> String {
    let mut text = String::from(
        "| store | open failures held | page of 50, the newest | page of 50, in the midst | groups | claim 10 |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {} |",
            row.store,
            row.entries,
            times(&row.first_page),
            times(&row.middle_page),
            row.groups.milliseconds(0.5),
            times(&row.claim),
        );
    }
    text
}

/// What an entry takes.
pub(super) fn weights(weights: &[Weight]) -> String {
    let mut text =
        String::from("| store | entries | bytes an entry on disk | in memory |\n|---|--:|--:|--:|\n");
    for weight in weights {
        let entries = u64::try_from(weight.entries).unwrap_or(0).max(1);
        let in_memory = weight
            .in_memory
            .map_or_else(String::new, |bytes| (bytes / entries).to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {in_memory} |",
            weight.store,
            weight.entries,
            weight.on_disk / entries
        );
    }
    text
}
