use std::fmt::Write as _;

use jiff::Timestamp;
use tracker_api::{CorruptRow, Status};

use super::{
    ask::{Listing, Settled, Verb},
    house::Compared,
    many::{About, Grouped},
    operations::Reconciled,
    shown::{Bytes, Payload, Position, Shown},
    standing::Stalled,
};

/// Text for a terminal or a log: whatever could move the cursor, forge a line or turn the reading direction is spelt
/// out. Topics, keys, classes and messages are written by whoever writes to Kafka.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c,
            '\u{00AD}' | '\u{061C}' | '\u{115F}'..='\u{1160}' | '\u{180E}' | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}');
        if c.is_control() || hidden {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// At most `bound` characters, the last one `…` when some were left out.
fn short(text: &str, bound: usize) -> String {
    let text = escape(text);
    if text.chars().count() <= bound {
        return text;
    }
    let mut cut: String = text.chars().take(bound.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

pub(super) fn status(of: Status) -> &'static str {
    match of {
        Status::Received => "received",
        Status::Failing => "failing",
        Status::Blocking => "blocking",
        Status::Open => "open",
        Status::Skipped => "skipped",
        Status::Replaying => "replaying",
        Status::Replayed => "replayed",
        Status::Discarded => "discarded",
        Status::Succeeded => "succeeded",
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn next_try(of: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = of else { return "-".into() };
    let left = at.as_millisecond().saturating_sub(now.as_millisecond());
    match left {
        ..=0 => "now".into(),
        1..=119_999 => format!("in {} s", (left + 999) / 1_000),
        _ => format!("in {} min", left / 60_000),
    }
}

/// No column is padded beyond this: one huge value must not make every other line as long. A topic's name of 249
/// characters with its partition and offset still lines up.
const WIDEST: usize = 300;

/// Columns as wide as their widest cell, up to [`WIDEST`]; a longer cell moves the rest of its own line. The last
/// column is not padded. Takes cells of any length, and expects them to be [escaped](escape).
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let length = |cell: &String| cell.chars().count();
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(length).max().unwrap_or(0).min(WIDEST)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(wide).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            // Not `{cell:width$}`: a format's width is 16 bits, and a wider one panics.
            let blanks = width.saturating_sub(length(cell)) + 2;
            line.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

pub(super) fn listing(of: &Listing, now: Timestamp) -> String {
    let mut rows = vec![row([
        "TIME", "ID", "CLASS", "STATUS", "TRIES", "NEXT TRY", "MESSAGE",
    ])];
    for record in &of.failures {
        rows.push(vec![
            time(record.first_failed_at.unwrap_or(record.at)),
            escape(&record.id),
            short(record.class.as_deref().unwrap_or("-"), 32),
            status(record.status).to_owned(),
            record.tries.to_string(),
            next_try(record.next_try, now),
            short(record.message.as_deref().unwrap_or("-"), 60),
        ]);
    }
    columns(&rows)
}

pub(super) fn record(of: &Shown, now: Timestamp) -> String {
    let mut rows = vec![
        row(["id", &escape(&of.id)]),
        row(["status", status(of.status)]),
        row(["class", &escape(of.class.as_deref().unwrap_or("-"))]),
        row(["message", &escape(of.message.as_deref().unwrap_or("-"))]),
        row(["fingerprint", of.fingerprint.as_deref().unwrap_or("-")]),
        row(["tries", &of.tries.to_string()]),
        row(["next try", &next_try(of.next_try, now)]),
        row([
            "first failed",
            &of.first_failed_at.map_or_else(|| "-".into(), time),
        ]),
        row(["written", &time(of.at)]),
        row(["era, term", &format!("{}, {}", of.era, of.term)]),
        row(["attempt", &of.attempt]),
        row(["revision", &of.revision.to_string()]),
    ];
    if let Some(resolved) = &of.resolution {
        let applies = if resolved.applies {
            ""
        } else {
            " (about an earlier failure)"
        };
        let said = format!(
            "{}{applies} by {} at {}: {}",
            resolved.decision,
            escape(&resolved.actor),
            time(resolved.at),
            escape(&resolved.reason)
        );
        rows.push(row(["decision", &said]));
    }
    match (&of.payload, of.captured, of.bytes_refused) {
        (Some(payload), ..) => bytes_of(payload, &mut rows),
        (None, true, _) => rows.push(row(["payload", "kept; --payload shows it"])),
        (None, false, true) => rows.push(row(["payload", "not kept: the store refused it"])),
        (None, false, false) => rows.push(row(["payload", "not kept"])),
    }
    columns(&rows)
}

fn bytes_of(payload: &Payload, rows: &mut Vec<Vec<String>>) {
    let text = |bytes: &Option<Bytes>| {
        bytes.as_ref().map_or_else(
            || "null".to_owned(),
            |bytes| {
                format!(
                    "({}, {} bytes) {}",
                    bytes.encoding,
                    bytes.length,
                    escape(&bytes.data)
                )
            },
        )
    };
    rows.push(row(["key", &text(&payload.key)]));
    for (name, value) in &payload.headers {
        rows.push(row([
            "header",
            &format!("{}: {}", escape(&name.data), text(value)),
        ]));
    }
    rows.push(row(["value", &text(&payload.value)]));
}

pub(super) fn progress(of: &[Position]) -> String {
    let mut rows = vec![row([
        "PARTITION",
        "ERA",
        "FLOOR",
        "RECEIVED",
        "COMMITTED",
        "SUCCEEDED",
        "FAILED",
        "GAPS",
        "WRITTEN",
        "LAG",
        "STANDS",
    ])];
    for position in of {
        rows.push(vec![
            escape(&format!("{}:{}", position.topic, position.partition)),
            position.era.to_string(),
            position.floor.to_string(),
            position.received.to_string(),
            position.committed.to_string(),
            position.succeeded.to_string(),
            position.failed.to_string(),
            position.gaps.len().to_string(),
            time(position.at),
            position.lag.map_or("-".into(), |lag| lag.to_string()),
            stands(position),
        ]);
    }
    let mut text = columns(&rows);
    let mut told: Vec<&Stalled> = Vec::new();
    for stall in of.iter().flat_map(|position| &position.stalls) {
        if !told.contains(&stall) {
            told.push(stall);
        }
    }
    told.into_iter().for_each(|stall| {
        text.push('\n');
        text.push_str(&stalled(stall));
    });
    text
}

fn stands(position: &Position) -> String {
    let whys: Vec<&str> = position.stalls.iter().map(|stall| &*stall.why).collect();
    if whys.is_empty() {
        "-".into()
    } else {
        whys.join(", ")
    }
}

/// `orders:3: unreadable since 2026-11-28T07:20:11Z: …`
pub(super) fn stalled(stall: &Stalled) -> String {
    let of = stall
        .partition
        .clone()
        .unwrap_or_else(|| format!("lane {}", stall.lane));
    let (of, text) = (escape(&of), escape(&stall.text));
    format!("{of}: {} since {}: {text}", stall.why, time(stall.since))
}

pub(super) fn reconciled(of: &[Reconciled]) -> String {
    let mut rows = vec![row([
        "PARTITION",
        "COMMITTED",
        "SETTLED AS SUCCEEDED",
        "SETTLED AS FAILED",
        "UNKNOWN",
    ])];
    for partition in of {
        rows.push(vec![
            escape(&partition.partition),
            partition
                .committed
                .map_or_else(|| "-".into(), |offset| offset.to_string()),
            partition.report.succeeded.to_string(),
            partition.report.failed.to_string(),
            partition.report.unknown.to_string(),
        ]);
    }
    columns(&rows)
}

pub(super) fn groups(of: &[Grouped]) -> String {
    let mut rows = vec![row([
        "COUNT",
        "FIRST",
        "LAST",
        "CLASS",
        "FINGERPRINT",
        "SAMPLE",
        "MESSAGE",
    ])];
    for group in of {
        rows.push(vec![
            group.count.to_string(),
            time(group.first),
            time(group.last),
            short(&group.class, 32),
            group.fingerprint.clone(),
            escape(&group.sample),
            short(&group.message, 60),
        ]);
    }
    columns(&rows)
}

/// What did not take, and how many did.
pub(super) fn settled(verb: Verb, of: &[Settled]) -> String {
    let done = of.iter().filter(|settled| settled.done).count();
    let word = match verb {
        Verb::Discard => "discarded",
        Verb::Restore => "opened again",
    };
    let mut text = format!("{word}: {done} of {}\n", of.len());
    for other in of.iter().filter(|settled| !settled.done) {
        let why = other.why.as_deref().unwrap_or("-");
        let _ = writeln!(text, "{}: {}", escape(&other.id), escape(why));
    }
    text
}

pub(super) fn compared(of: &Compared, left: &str, right: &str) -> String {
    let mut rows = vec![row(["STORE", "ENTRIES", "PARTITIONS", "SHA-256"])];
    for (name, (entries, partitions), hash) in [
        (left, of.left, &of.left_sha256),
        (right, of.right, &of.right_sha256),
    ] {
        rows.push(vec![
            escape(name),
            entries.to_string(),
            partitions.to_string(),
            hash.clone(),
        ]);
    }
    let mut text = columns(&rows);
    if of.is_same() {
        let _ = writeln!(text, "identical: {} entries", of.left.0);
        return text;
    }
    let _ = writeln!(text, "different in {} places:", of.differences);
    for id in &of.differing {
        let _ = writeln!(text, "  {}", escape(id));
    }
    if of.differences > of.differing.len() as u64 {
        text.push_str("  …\n");
    }
    text
}

/// One line, or nothing where every row can be read.
pub(super) fn left_out(rows: &[CorruptRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let names: Vec<String> = rows.iter().take(5).map(|row| escape(&row.row)).collect();
    let more = if rows.len() > names.len() { ", …" } else { "" };
    format!(
        "{} rows of the store cannot be read and are left out: {}{more} (`tracker info` says why)\n",
        rows.len(),
        names.join(", ")
    )
}

pub(super) fn about(of: &About, store: &str) -> String {
    let answers = match &of.answers {
        Ok(()) => "yes".to_owned(),
        Err(why) => format!("no: {}", escape(why)),
    };
    let mut rows = vec![
        row(["store", store]),
        row(["answers", &answers]),
        row(["partitions", &of.partitions.to_string()]),
        row(["failed, at least", &of.failed.to_string()]),
        row(["succeeded, at least", &of.succeeded.to_string()]),
    ];
    for risk in &of.risks {
        rows.push(row([
            "risk",
            &format!("{}: {}", escape(&risk.name), escape(&risk.what)),
        ]));
    }
    for corrupt in &of.corrupt_rows {
        rows.push(row([
            "cannot be read",
            &format!("{}: {}", escape(&corrupt.row), escape(&corrupt.why)),
        ]));
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_or_forges_a_line_is_printed() {
        let evil = "\u{1b}]0;owned\u{7}\r\nERROR forged\u{202E}txt\u{2028}\u{9b}31m\u{200B}\u{E0041}";
        let safe = escape(evil);
        assert!(safe.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{safe:?}");
        assert!(
            safe.starts_with(r"\u{1b}]0;owned\u{7}\r\nERROR forged\u{202e}txt"),
            "{safe}"
        );
        assert_eq!(escape("Zoë paid 3 €, 日本"), "Zoë paid 3 €, 日本");
    }

    #[test]
    fn a_long_message_is_cut_after_it_was_made_safe() {
        assert_eq!(short("abcdef", 6), "abcdef");
        assert_eq!(short("abcdefg", 6), "abcde…");
        assert_eq!(short("\u{1b}\u{1b}", 6), "\\u{1b…");
    }

    #[test]
    fn a_cell_of_any_length_is_printed_whole_and_does_not_widen_the_other_lines() {
        let huge = "x".repeat(70_000);
        let rows = [row(["a", &huge, "c"]), row(["longer", "b", "c"])];
        let text = columns(&rows);
        let (first, second) = text.split_once('\n').unwrap();
        assert_eq!(first, format!("a       {huge}  c"));
        assert_eq!(
            second.trim_end().chars().count(),
            "longer  ".len() + WIDEST + "  c".len()
        );
        assert_eq!(columns(&[row(["value", &huge])]), format!("value  {huge}\n"));
    }

    #[test]
    fn the_next_try_is_told_from_now() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |millis| next_try(Timestamp::from_millisecond(millis).ok(), now);
        assert_eq!(
            [at(-5), at(0), at(2_001), at(3_000), at(119_999), at(180_000)],
            ["now", "now", "in 3 s", "in 3 s", "in 120 s", "in 3 min"]
        );
        assert_eq!(next_try(None, now), "-");
    }
}
