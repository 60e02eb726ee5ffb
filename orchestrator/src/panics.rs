//! A panic is one line in the log: where it happened, and what it said, made safe.
//!
//! The standard library's hook writes the message to stderr as it is. A transform's message often quotes its record, so
//! that hook lets whoever writes to Kafka move cursors, forge lines and fill the disk.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    cell::Cell,
    io::Write,
    panic::{self, PanicHookInfo},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::{operate::escape, telemetry::Repeated};

/// One line for each place in the program's text within so long.
const ONCE_IN: Duration = Duration::from_secs(10);
/// The longest message, in characters: enough for any assertion, too little for a record.
const LONGEST: usize = 300;

thread_local! {
    static RUNS_TRANSFORMS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the process is ours: then its other threads' panics are told in the same way.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static SAID: Mutex<Repeated<String>> = Mutex::new(Repeated::every(ONCE_IN));

/// Marks the current thread as one that runs transforms.
pub(crate) fn runs_transforms() {
    RUNS_TRANSFORMS.set(true);
}

/// From now on panics of threads that run transforms are logged; with `is_ours` those of every thread, otherwise they
/// go on to the embedding program's hook. May be called again.
pub(crate) fn install(is_ours: bool) {
    static ONCE: Once = Once::new();
    IS_OURS.fetch_or(is_ours, Relaxed);
    ONCE.call_once(|| {
        let embedding = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // A thread that is ending has no thread-locals any more.
            let transform = RUNS_TRANSFORMS.try_with(Cell::get).unwrap_or(false);
            if transform || IS_OURS.load(Relaxed) {
                log(panic, transform);
            } else {
                embedding(panic);
            }
        }));
    });
}

fn log(panic: &PanicHookInfo<'_>, transform: bool) {
    let place = panic
        .location()
        .map_or_else(|| "?".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
    let due = SAID
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .due(place.clone());
    let Some(suppressed) = due else { return };
    let why = message(panic.payload_as_str().unwrap_or("a panic without a message"));
    let thread = escape(thread::current().name().unwrap_or("?"));
    // Only if RUST_BACKTRACE asks for one; names of functions, no data.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| escape(&backtrace.to_string()));
    let what = match transform {
        true => "a transform panicked",
        false => "a thread panicked: this is a fault of the program",
    };
    if tracing::dispatcher::has_been_set() {
        tracing::error!(%place, %thread, suppressed, %why, backtrace, "{what}");
    } else {
        // Not `eprintln!`: it panics when nobody reads stderr, and a panic in here ends the process.
        let _ = writeln!(std::io::stderr(), "error: {what}: {place}: {why}");
    }
}

/// What user code said, for one line of a log: escaped, and cut after that.
pub(crate) fn message(text: &str) -> String {
    // An escaped character is never shorter than it was: no more of them are needed than are shown.
    let head: String = text.chars().take(LONGEST + 1).collect();
    let safe = escape(&head);
    match safe.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &safe[..end]),
        None => safe,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_of_panics_of_a_transform_is_one_escaped_line_with_its_place() {
        install(false);
        let written = Written::default();
        let writer = written.clone();
        let line = thread::spawn(move || {
            runs_transforms();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish();
            let _guard = tracing::subscriber::set_default(subscriber);
            for order in 0..200 {
                let evil = format!(
                    "order {order}\n2026-01-01 ERROR forged\u{1b}[2J{}",
                    "x".repeat(100_000)
                );
                let panicked = panic::catch_unwind(|| panic!("{evil}"));
                assert!(panicked.is_err());
            }
            line!() - 3
        })
        .join()
        .unwrap();
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(&format!("{}:{line}", file!())), "{text}");
        assert!(
            text.contains(r"order 0\n2026-01-01 ERROR forged\u{1b}[2Jxxx"),
            "{text}"
        );
        // With RUST_BACKTRACE there is one, of functions' names.
        let told = text.split("backtrace=").next().unwrap();
        assert!(told.chars().count() < 800, "{told}");
    }

    #[test]
    fn a_message_is_cut_after_it_was_escaped() {
        assert_eq!(message("short\t"), "short\\t");
        let long = message(&"\u{1b}".repeat(1_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
        assert_eq!(message(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
    }
}
