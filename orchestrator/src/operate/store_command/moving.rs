//! What `tracker copy` and `tracker verify` do, and how far they have come.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::Moving;
use crate::operate::{
    command::{print, report},
    error::Result,
    house::{self, Compared, Moved, Side},
    table,
};

/// Shows how far a move has come: a bar on a terminal, else a line every few seconds. On stderr.
struct Bar {
    bar: Option<ProgressBar>,
    told: Instant,
    what: &'static str,
}

impl Bar {
    fn new(what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1_000);
            let style = ProgressStyle::with_template(
                "{msg} [{bar:30}] {percent:>3} %  {elapsed} of about {duration}",
            );
            bar.set_style(
                style
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
            bar
        });
        Self {
            bar,
            told: Instant::now(),
            what,
        }
    }

    fn seen(&mut self, entries: u64, share: Option<f64>) {
        let what = self.what;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{what} {entries} entries"));
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is between 0 and 1000"
            )]
            bar.set_position((share.unwrap_or(0.0).clamp(0.0, 1.0) * 1_000.0) as u64);
        } else if self.told.elapsed() >= Duration::from_secs(5) {
            self.told = Instant::now();
            let share = share.map_or_else(String::new, |share| format!(", {:.0} %", share * 100.0));
            eprintln!("{what} {entries} entries{share}");
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Copies, then compares. Exit code 0 when both sides hold the same afterwards, 4 when not.
pub(crate) async fn copy(
    moving: &Moving,
    (from, to): (&Side, &Side),
    checkpoint: &std::path::Path,
    out: &mut impl Write,
    err: &mut impl Write,
) -> i32 {
    match copied(moving, (from, to), checkpoint, out, err).await {
        Ok(code) => code,
        Err(error) => report(&error, err),
    }
}

async fn copied(
    moving: &Moving,
    (from, to): (&Side, &Side),
    checkpoint: &std::path::Path,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<i32> {
    loop {
        let mut bar = Bar::new("copied");
        let moved = house::copy(from, to, checkpoint, |entries, share| bar.seen(entries, share)).await;
        bar.end();
        let moved = moved?;
        told(&moved, err);
        // What went to standard output, or came from standard input, cannot be read once more.
        if from.is_stream() || to.is_stream() {
            let _ = writeln!(
                err,
                "copied {} entries and the progress of {} partitions",
                moved.entries, moved.progress
            );
            let whole = moved.refused.is_empty() && moved.stripped.is_empty() && moved.corrupt.is_empty();
            return Ok(if whole { 0 } else { 4 });
        }
        let found = compare(from, to).await?;
        if moved.resumed && !found.is_same() {
            // It may be long ago that it was cut off. The next round begins at the start, so there is no third.
            let _ = writeln!(
                err,
                "What the earlier copy had taken was written to since: once more, from the start."
            );
            continue;
        }
        shown(moving, &found, out)?;
        if found.is_same() {
            return Ok(0);
        }
        let _ = writeln!(
            err,
            "The two differ: the target held more, or one was written to meanwhile. Once the service has stopped, copy again: what is there already costs little."
        );
        return Ok(4);
    }
}

fn told(moved: &Moved, err: &mut impl Write) {
    if moved.resumed {
        let _ = writeln!(err, "An earlier copy that did not end was gone on with.");
    }
    for (what, ids) in [
        ("taken without its bytes", &moved.stripped),
        ("refused", &moved.refused),
        ("cannot be read in the source; left behind", &moved.corrupt),
    ] {
        for id in ids {
            let _ = writeln!(err, "{}: {what}", table::escape(id));
        }
    }
}

/// Compares. Exit code 0 when both sides hold the same, 1 when not.
pub(crate) async fn verify(
    moving: &Moving,
    (from, to): (&Side, &Side),
    out: &mut impl Write,
    err: &mut impl Write,
) -> i32 {
    let found = match compare(from, to).await {
        Ok(found) => found,
        Err(error) => return report(&error, err),
    };
    match shown(moving, &found, out) {
        Ok(()) => i32::from(!found.is_same()),
        Err(error) => report(&error, err),
    }
}

async fn compare(from: &Side, to: &Side) -> Result<Compared> {
    let mut bar = Bar::new("compared");
    let found = house::compare(from, to, |entries, share| bar.seen(entries, share)).await;
    bar.end();
    found
}

fn shown(moving: &Moving, found: &Compared, out: &mut impl Write) -> Result<()> {
    print(out, moving.output, found, |_| {
        table::compared(found, &moving.from, &moving.to)
    })
}
