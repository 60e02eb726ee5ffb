use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracker_api::{
    AttemptId, Captured, Change, Decision, Entry, ErrorKind, Failure, FailureTracker, Group, Header,
    MemoryTracker, Outcome, Page, Partition, Progress, Purgeable, Query, RecordId, Timestamp, Version,
};

use super::{
    Access, Ask, Client, DataDir, Error, Kind, Listing, Operations, Reconciled, Report, Resolve, Seen,
    command::{FailuresCommand, report},
    store_command::TrackerCommand,
};
use crate::http::{Control, Health, Info, SOCKET};

mod house;
mod many;

fn version(outcome: Outcome) -> Version {
    Version {
        era: 5,
        term: 1,
        attempt: AttemptId::default(),
        outcome,
    }
}

/// An entry of `orders:0` that failed first at `offset` seconds.
fn entry(offset: i64, outcome: Outcome, class: &str) -> Entry {
    let at = Timestamp(1_700_000_000_000 + offset * 1_000);
    let mut entry = Entry::new(Partition::new("orders", 0).at(offset), version(outcome), at);
    let mut failure = Failure::new(class, "amount `12\u{1b}[31m` is no number");
    failure.passes = outcome == Outcome::Failed;
    entry.failure = matches!(outcome, Outcome::Failing | Outcome::Failed).then_some(failure);
    entry.first_failed_at = Some(at);
    entry
}

fn progress(topic: &str, era: u64, floor: i64) -> Progress {
    Progress {
        partition: Partition::new(topic, 0),
        era,
        term: 2,
        attempt: AttemptId(uuid::Uuid::from_u128(3)),
        floor,
        received: 10,
        committed: 8,
        gaps: std::iter::once(3..5).collect(),
        missed: std::iter::once(4..5).collect(),
        failed: 2,
        succeeded: 6,
        at: Timestamp(1_700_000_000_000),
    }
}

async fn tracker(entries: &[Entry]) -> Arc<MemoryTracker> {
    let tracker = Arc::new(MemoryTracker::default());
    tracker
        .record(entries, &[progress("orders", 5, 0)])
        .await
        .unwrap();
    tracker
}

fn id(text: &str) -> RecordId {
    text.parse().unwrap()
}

fn because(reason: &str) -> Resolve {
    Resolve {
        reason: reason.into(),
        actor: "ann".into(),
        revision: None,
    }
}

#[tokio::test]
async fn only_a_blocking_record_is_retried_or_skipped_and_the_decision_stands_in_the_tracker() {
    let tracker = tracker(&[
        entry(1, Outcome::Failed, "malformed"),
        entry(2, Outcome::Succeeded, ""),
        entry(3, Outcome::Failing, "down"),
    ])
    .await;
    let operations = Operations::new(tracker.clone());
    for offset in [1, 2] {
        let record = id(&format!("orders:0:{offset}"));
        let error = operations.skip(&record, &because("test data")).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotBlocking);
    }
    let record = id("orders:0:3");
    let shown = operations.retry(&record, &because("it is back")).await.unwrap();
    assert_eq!(
        (shown.revision, shown.resolution.unwrap().decision.as_str()),
        (1, "retry")
    );
    let shown = operations.skip(&record, &because("  test data ")).await.unwrap();
    assert_eq!(shown.revision, 2);
    let held = tracker
        .get(std::slice::from_ref(&record))
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(held.decision(), Some(&Decision::Skip));
    let resolution = held.resolution.unwrap();
    assert_eq!(
        (resolution.actor.as_str(), resolution.reason.as_str()),
        ("ann", "test data")
    );
    assert_eq!(resolution.about, held.version);
    let error = operations
        .skip(&id("orders:0:99"), &because("test data"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[tokio::test]
async fn a_decision_needs_a_reason_and_an_actor() {
    let operations = Operations::new(tracker(&[entry(3, Outcome::Failing, "down")]).await);
    for (actor, reason) in [
        ("ann", "    "),
        ("ann", "abcd  "),
        ("", "test data"),
        ("ann", &"x".repeat(501)),
    ] {
        let resolve = Resolve {
            actor: actor.into(),
            ..because(reason)
        };
        let error = operations.skip(&id("orders:0:3"), &resolve).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{actor:?} {reason:?}");
    }
    assert_eq!(
        operations.show(&id("orders:0:3"), false).await.unwrap().revision,
        0
    );
}

#[tokio::test]
async fn of_many_who_saw_one_revision_one_decides() {
    let operations = Operations::new(tracker(&[entry(3, Outcome::Failing, "down")]).await);
    let seen = Resolve {
        revision: Some(0),
        ..because("test data")
    };
    let record = id("orders:0:3");
    let all = (0..20).map(|_| operations.skip(&record, &seen));
    let answers = futures::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!((error.kind, error.exit_code()), (Kind::Conflict, 75));
    }
}

/// Writes, and loses the answer of `resolve`; or does not even write.
#[derive(Debug)]
struct Lossy {
    inner: Arc<MemoryTracker>,
    writes: AtomicBool,
}

#[async_trait]
impl FailureTracker for Lossy {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> tracker_api::Result<Vec<bool>> {
        self.inner.record(entries, progress).await
    }
    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> tracker_api::Result<()> {
        self.inner.import(entries, progress).await
    }
    async fn resolve(&self, changes: &[Change]) -> tracker_api::Result<Vec<bool>> {
        if self.writes.load(SeqCst) {
            self.inner.resolve(changes).await?;
        }
        Err(tracker_api::Error::new(ErrorKind::Timeout, "no answer"))
    }
    async fn progress(&self) -> tracker_api::Result<Vec<Progress>> {
        self.inner.progress().await
    }
    async fn get(&self, ids: &[RecordId]) -> tracker_api::Result<Vec<Option<Entry>>> {
        self.inner.get(ids).await
    }
    async fn list(&self, query: &Query) -> tracker_api::Result<Page> {
        self.inner.list(query).await
    }
    async fn groups(&self, query: &Query) -> tracker_api::Result<Vec<Group>> {
        self.inner.groups(query).await
    }
    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> tracker_api::Result<u64> {
        self.inner.purge(what, before, limit).await
    }
    async fn ping(&self) -> tracker_api::Result<()> {
        self.inner.ping().await
    }
    fn corrupt_rows(&self) -> Vec<tracker_api::CorruptRow> {
        self.inner.corrupt_rows()
    }

    async fn risks(&self) -> tracker_api::Result<Vec<tracker_api::Risk>> {
        self.inner.risks().await
    }
}

#[tokio::test]
async fn a_decision_whose_answer_was_lost_is_told_as_what_it_became() {
    let inner = tracker(&[entry(3, Outcome::Failing, "down")]).await;
    let lossy = Arc::new(Lossy {
        inner,
        writes: AtomicBool::new(true),
    });
    let operations = Operations::new(lossy.clone());
    let record = id("orders:0:3");
    assert_eq!(
        operations
            .skip(&record, &because("test data"))
            .await
            .unwrap()
            .revision,
        1
    );
    lossy.writes.store(false, SeqCst);
    let error = operations.skip(&record, &because("test data")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("may take effect later"), "{error}");
}

#[tokio::test]
async fn a_listing_shows_each_record_once_by_pages_the_newest_first() {
    let mut entries: Vec<Entry> = (0..700)
        .map(|n| entry(n, Outcome::Failed, if n % 3 == 0 { "a" } else { "b" }))
        .collect();
    entries.push(entry(700, Outcome::Failing, "a"));
    entries.push(entry(701, Outcome::Succeeded, ""));
    let operations = Operations::new(tracker(&entries).await);
    let mut ask = Ask {
        class: Some("a".into()),
        limit: 7,
        ..Ask::default()
    };
    let mut offsets = Vec::new();
    loop {
        let page = operations.list(&ask).await.unwrap();
        assert!(page.failures.len() <= 7);
        offsets.extend(page.failures.iter().map(|shown| shown.offset));
        ask.after = page.next;
        if ask.after.is_none() {
            break;
        }
    }
    let expected: Vec<i64> = std::iter::once(700)
        .chain((0..700).rev().filter(|n| n % 3 == 0))
        .collect();
    assert_eq!(offsets, expected);

    let count = async |status, topic: &str| {
        let ask = Ask {
            status,
            topic: Some(topic.into()),
            limit: 1_000,
            ..Ask::default()
        };
        operations.list(&ask).await.unwrap().failures.len()
    };
    assert_eq!(count(Seen::Blocking, "orders").await, 1);
    assert_eq!(count(Seen::Succeeded, "orders").await, 1);
    assert_eq!(count(Seen::All, "orders").await, 200);
    assert_eq!(count(Seen::All, "other").await, 0);
    let wrong = Ask {
        after: Some("x".into()),
        ..Ask::default()
    };
    assert_eq!(operations.list(&wrong).await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn what_failed_before_a_reset_counts_as_absent_above_the_floor() {
    let tracker = tracker(&[
        entry(3, Outcome::Failed, "old"),
        entry(7, Outcome::Failing, "old"),
    ])
    .await;
    tracker.record(&[], &[progress("orders", 6, 5)]).await.unwrap();
    let operations = Operations::new(tracker);
    let listing = operations.list(&Ask::default()).await.unwrap();
    assert_eq!(
        listing
            .failures
            .iter()
            .map(|shown| shown.offset)
            .collect::<Vec<_>>(),
        [3]
    );
    assert_eq!(
        operations.show(&id("orders:0:7"), false).await.unwrap_err().kind,
        Kind::NotFound
    );
    let error = operations
        .retry(&id("orders:0:7"), &because("test data"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    #[command(subcommand)]
    Failures(Box<FailuresCommand>),
    #[command(subcommand)]
    Tracker(TrackerCommand),
}

/// Exit code, what was printed, what went wrong.
async fn run(access: &Access, line: &str) -> (i32, String, String) {
    let words = std::iter::once("x").chain(line.split(' ').filter(|word| !word.is_empty()));
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = match cli.command {
        Commands::Failures(command) => command.run(access, &mut out, &mut err).await,
        Commands::Tracker(command) => {
            let keep = crate::config::Settings::new("b", "g", "s", "t", "memory").retention;
            command.run(access, "memory", &keep, &mut out, &mut err).await
        }
    };
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

fn operations(tracker: Arc<MemoryTracker>) -> Operations {
    Operations::new(tracker).with_reconcile(Arc::new(|| {
        Box::pin(async {
            Ok(vec![Reconciled {
                partition: "orders:0".into(),
                committed: Some(8),
                report: Report {
                    failed: 1,
                    succeeded: 2,
                    unknown: 3,
                },
            }])
        })
    }))
}

/// A service with a control socket in `data_dir`, until the guard is dropped.
struct Service {
    _held: DataDir,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

fn service(data_dir: &Path, operations: Operations) -> Service {
    let held = DataDir::hold(data_dir, Some("orders-1")).unwrap();
    let stop = CancellationToken::new();
    let info = Info {
        instance: held.instance().to_owned(),
        ..Info::default()
    };
    let health = Health::new(1, Duration::from_secs(1));
    let control = Control::bind(data_dir).unwrap();
    let task = tokio::spawn(control.serve(operations, health, info, stop.clone()));
    Service {
        _held: held,
        stop,
        task: Some(task),
    }
}

impl Service {
    async fn stop(mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }
}

async fn never() -> super::Result<Operations> {
    panic!("the store was opened although a service holds it")
}

fn entries() -> Vec<Entry> {
    let mut blocking = entry(9, Outcome::Failing, "price-service");
    blocking.captured = Some(Captured {
        key: Some(Bytes::from_static(b"k\x1b")),
        value: Some(Bytes::from_static(b"\xff\x00")),
        headers: vec![Header {
            name: Bytes::from_static(b"h"),
            value: None,
        }],
    });
    vec![
        entry(1, Outcome::Failed, "malformed"),
        entry(2, Outcome::Failed, "malformed"),
        blocking,
    ]
}

#[tokio::test]
async fn a_command_says_the_same_through_the_service_and_through_the_store() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "failures list",
        "failures list -o json",
        "failures list --status open --topic orders --partition 0 --class malformed --limit 1 -o ndjson",
        "failures list --status replayed",
        "failures show orders:0:9 --payload",
        "failures show orders:0:9 --payload -o json",
        "failures show orders:0:77",
        "failures show or%20&ders:0:9",
        "failures skip orders:0:1 --reason test-data --actor bob",
        "failures skip orders:0:9 --reason bad --actor bob",
        "failures skip orders:0:9 --reason test-data --actor bob --revision 4",
        "tracker progress",
        "tracker progress -o ndjson",
        "tracker reconcile",
        "tracker reconcile -o json",
    ] {
        let tracker = tracker(&entries()).await;
        let service = service(dir.path(), operations(tracker.clone()));
        let access = Access::reach(dir.path(), never).await.unwrap();
        assert!(matches!(access, Access::Service(_)));
        let asked = run(&access, line).await;
        service.stop().await;
        let access = Access::reach(dir.path(), async || Ok(operations(tracker)))
            .await
            .unwrap();
        assert!(matches!(access, Access::Store(_, Some(_))));
        assert_eq!(run(&access, line).await, asked, "{line}");
    }
}

#[tokio::test]
async fn commands_print_tables_for_people_and_json_for_programs() {
    let access = Access::Store(operations(tracker(&entries()).await), None);
    let (code, out, _) = run(&access, "failures list").await;
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with(
            "TIME                  ID          CLASS          STATUS    TRIES  NEXT TRY  MESSAGE"
        ),
        "{out}"
    );
    assert!(
        lines[1].starts_with(
            "2023-11-14T22:13:29Z  orders:0:9  price-service  blocking  1      -         amount"
        ),
        "{out}"
    );
    assert_eq!(lines.len(), 4);
    assert!(
        !out.contains('\u{1b}') && out.contains(r"`12\u{1b}[31m`"),
        "{out}"
    );

    let (_, out, _) = run(&access, "failures list -o json --limit 2").await;
    let listing: Listing = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (listing.failures.len(), listing.next.as_deref()),
        (2, Some("1700000002000@orders:0:2"))
    );
    let (_, out, _) = run(
        &access,
        "failures list -o ndjson --after 1700000002000@orders:0:2",
    )
    .await;
    assert_eq!(out.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (json["id"].as_str(), json["status"].as_str()),
        (Some("orders:0:1"), Some("open"))
    );

    let (_, out, _) = run(&access, "failures show orders:0:9 --payload").await;
    assert!(
        out.contains(r"(utf8, 2 bytes) k\u{1b}") && out.contains("(hex, 2 bytes) ff00"),
        "{out}"
    );
    let (_, out, _) = run(&access, "failures show orders:0:9 -o json").await;
    assert!(!out.contains("payload") && !out.contains("ff00"), "{out}");

    let (code, out, _) = run(
        &access,
        "failures retry orders:0:9 --reason it-is-back --actor bob",
    )
    .await;
    assert!(
        code == 0 && out.contains("retry by bob at 20") && out.contains(": it-is-back"),
        "{out}"
    );
    let (_, out, _) = run(&access, "tracker progress").await;
    assert!(
        out.contains("orders:0   5    0      10        8          6          2       1"),
        "{out}"
    );
    let (_, out, _) = run(&access, "tracker reconcile -o json").await;
    assert!(out.contains(r#""unknown": 3"#), "{out}");
}

#[tokio::test]
async fn exit_codes_say_what_happened() {
    let access = Access::Store(Operations::new(tracker(&entries()).await), None);
    for (line, expected) in [
        ("failures list --status discarded", 3),
        ("failures list --status discarded -o json", 3),
        ("failures show orders:0:77", 3),
        ("failures skip orders:0:1 --reason test-data --actor bob", 1),
        ("failures skip orders:0:9 --reason x --actor bob", 2),
        (
            "failures skip orders:0:9 --reason test-data --actor bob --revision 1",
            75,
        ),
        (
            "failures skip orders:0:9 --reason test-data --actor bob --revision 0",
            0,
        ),
        ("tracker reconcile", 1),
    ] {
        let (code, _, err) = run(&access, line).await;
        assert_eq!(code, expected, "{line}: {err}");
        assert_eq!(err.starts_with("error: "), code != 0, "{line}: {err}");
    }
    let gone = Access::Service(Client::new(Path::new("/nonexistent")));
    assert_eq!(run(&gone, "tracker progress").await.0, 69);
    let none = Access::Store(Operations::none(), None);
    for line in [
        "failures list",
        "failures show orders:0:1",
        "tracker progress",
        "tracker reconcile",
    ] {
        let (code, out, err) = run(&none, line).await;
        assert_eq!((code, out.as_str()), (78, ""), "{line}");
        assert!(err.contains("tracking is `none`"), "{err}");
    }
    for line in [
        "failures show x",
        "failures list --partition 3",
        "failures list --limit 0",
        "failures skip orders:0:1",
    ] {
        let words = std::iter::once("x").chain(line.split(' ').filter(|word| !word.is_empty()));
        assert_eq!(
            Cli::try_parse_from(words).err().map(|error| error.exit_code()),
            Some(2),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_held_directory_without_a_service_is_said_to_be_held() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::hold(dir.path(), Some("orders-1")).unwrap();
    let error = Access::reach(dir.path(), never).await.unwrap_err();
    let mut err = Vec::new();
    assert_eq!(report(&error, &mut err), 75);
    let text = String::from_utf8(err).unwrap();
    assert!(text.contains("instance orders-1"), "{text}");
    drop(held);
    let failing = async || Err(Error::new(Kind::Unavailable, "no store"));
    assert_eq!(
        Access::reach(dir.path(), failing).await.unwrap_err().exit_code(),
        69
    );
    let nowhere = dir.path().join("nowhere");
    let access = Access::reach(&nowhere, async || Ok(Operations::none()))
        .await
        .unwrap();
    assert!(matches!(access, Access::Store(_, None)) && !nowhere.exists());
}

#[tokio::test]
async fn the_socket_is_its_owners_replaces_a_stale_one_and_goes_with_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(SOCKET);
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let service = service(dir.path(), Operations::none());
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let info = Client::new(dir.path()).info().await.unwrap();
    assert_eq!(
        (info["info"]["instance"].as_str(), info["phase"].as_str()),
        (Some("orders-1"), Some("starting"))
    );
    service.stop().await;
    assert!(!socket.exists());
    let long = dir.path().join("x".repeat(120));
    let error = Control::bind(&long).unwrap_err();
    assert!(error.to_string().contains("control socket"), "{error}");
}

#[tokio::test]
async fn the_socket_refuses_what_is_too_long_or_no_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path(), operations(tracker(&entries()).await));
    let status = async |head: &str, body: &str| {
        let mut stream = tokio::net::UnixStream::connect(dir.path().join(SOCKET))
            .await
            .unwrap();
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer.get(9..12).unwrap_or_default().to_owned()
    };
    let skip = "POST /v1/failures/orders:0:9/skip";
    let long = format!(r#"{{"reason":"test data","actor":"bob"{}}}"#, " ".repeat(70_000));
    for (head, body, expected) in [
        (skip, "{", "422"),
        (skip, r#"{"reason":"test data"}"#, "422"),
        (
            skip,
            r#"{"reason":"test data","actor":"bob","force":true}"#,
            "422",
        ),
        (skip, &long, "422"),
        (
            "POST /v1/failures/orders:0/skip",
            r#"{"reason":"test data","actor":"bob"}"#,
            "422",
        ),
        ("GET /v1/failures/orders:0:9/skip", "", "405"),
        ("DELETE /v1/failures/orders:0:9", "", "405"),
        ("GET /v1/failures?limit=x", "", "422"),
        ("GET /v1/failures?sort=x", "", "422"),
        ("GET /v1/failures?limit=1000000", "", "200"),
        (
            &format!("GET /v1/failures?topic={}", "x".repeat(9_000)),
            "",
            "414",
        ),
        ("GET /..%2f..%2fetc/passwd", "", "404"),
        (skip, r#"{"reason":"test data","actor":"bob"}"#, "200"),
    ] {
        assert_eq!(
            status(head, body).await,
            expected,
            "{} {}",
            head.get(..40).unwrap_or(head),
            body.get(..40).unwrap_or(body)
        );
    }
    service.stop().await;
}

#[test]
fn the_documentation_names_every_command_status_and_endpoint() {
    use clap::{CommandFactory, ValueEnum};
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut names = Vec::new();
    for group in Cli::command().get_subcommands() {
        let commands = group.get_subcommands();
        names.extend(commands.map(|command| format!("`{} {}", group.get_name(), command.get_name())));
    }
    assert_eq!(names.len(), 14);
    let words = Seen::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value);
    names.extend(words.map(|word| format!("`{}`", word.get_name())));
    names.extend(crate::http::PATHS.iter().map(|path| format!("`{path}`")));
    for name in names {
        assert!(docs.contains(&name), "docs/operations.md does not name {name}");
    }
}
