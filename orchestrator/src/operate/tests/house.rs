//! Moving house: copy, verify, files, what is interrupted.

use std::sync::atomic::AtomicUsize;

use tracker_api::{Claim, DynTracker, Resolution};

use super::*;
use crate::operate::{
    command::Format,
    house::{Side, compare, copy},
    store_command::{self, Moving},
};

/// Entries of every kind, with bytes, decisions and odd text.
async fn furnished(count: i64) -> DynTracker {
    let tracker = MemoryTracker::default();
    let entries: Vec<Entry> = (0..count)
        .map(|n| {
            let outcome = [
                Outcome::Failed,
                Outcome::Succeeded,
                Outcome::Failing,
                Outcome::Received,
            ][usize::try_from(n % 4).unwrap()];
            let mut entry = entry(n, outcome, "mal\u{0}formed");
            entry.id.partition = Partition::new(
                ["orders", "a:b", "o\nrders"][usize::try_from(n % 3).unwrap()],
                i32::try_from(n % 2).unwrap(),
            );
            entry.captured = (n % 2 == 0).then(|| Captured {
                key: Some(Bytes::from_static(b"\0\xff")),
                value: None,
                headers: vec![Header {
                    name: Bytes::new(),
                    value: Some(Bytes::from_static(b"x")),
                }],
            });
            entry.resolution = (n % 4 == 0).then(|| Resolution {
                decision: Decision::Replaying(Claim {
                    replay: uuid::Uuid::from_u128(3),
                    transactional_id: "t".into(),
                    lease_until: Timestamp(9),
                }),
                about: entry.version,
                actor: "ada".into(),
                reason: "because".into(),
                at: Timestamp(1),
            });
            entry.revision = u64::from(entry.resolution.is_some()) * 3;
            entry
        })
        .collect();
    tracker
        .import(&entries, &[progress("orders", 5, 0), progress("a:b", 7, 2)])
        .await
        .unwrap();
    Arc::new(tracker)
}

fn empty() -> DynTracker {
    Arc::new(MemoryTracker::default())
}

async fn same(a: &Side, b: &Side) -> bool {
    compare(a, b, |_, _| {}).await.unwrap().is_same()
}

#[tokio::test]
async fn a_store_that_went_through_a_file_is_the_same_and_the_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.ndjson"), dir.path().join("b.ndjson"));
    let at = dir.path().join("checkpoint.json");
    let (old, new) = (Side::Store(furnished(2_500).await), Side::Store(empty()));
    let file = Side::File(first.clone());
    let moved = copy(&old, &file, &at, |_, _| {}).await.unwrap();
    assert_eq!((moved.entries, moved.progress), (2_500, 2));
    let moved = copy(&file, &new, &at, |_, _| {}).await.unwrap();
    assert_eq!((moved.entries, moved.refused.len()), (2_500, 0));
    copy(&new, &Side::File(second.clone()), &at, |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&second).unwrap(),
        "byte by byte"
    );
    let found = compare(&old, &new, |_, _| {}).await.unwrap();
    assert!(
        found.is_same() && found.left == (2_500, 2) && found.left_sha256 == found.right_sha256,
        "{found:?}"
    );
    assert!(same(&file, &new).await);
    // Once more changes nothing.
    copy(&old, &new, &at, |_, _| {}).await.unwrap();
    assert!(same(&old, &new).await);
}

/// A store that goes away after some imports, and does not take everything.
#[derive(Debug, Default)]
struct Picky {
    inner: MemoryTracker,
    /// So many imports are left before it is away.
    left: AtomicUsize,
    imported: AtomicUsize,
    no_bytes_of: Vec<i64>,
    nothing_of: Vec<i64>,
}

impl Picky {
    fn away_after(imports: usize) -> Self {
        Self {
            left: AtomicUsize::new(imports),
            ..Self::default()
        }
    }
}

#[async_trait]
impl FailureTracker for Picky {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> tracker_api::Result<Vec<bool>> {
        self.inner.record(entries, progress).await
    }
    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> tracker_api::Result<()> {
        let refused = |entry: &Entry| {
            let bytes = self.no_bytes_of.contains(&entry.id.offset) && entry.captured.is_some();
            bytes || self.nothing_of.contains(&entry.id.offset)
        };
        if entries.iter().any(refused) {
            return Err(tracker_api::Error::new(ErrorKind::Refused, "not to my taste"));
        }
        if self
            .left
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .is_err()
        {
            return Err(tracker_api::Error::new(ErrorKind::Unavailable, "away"));
        }
        self.imported.fetch_add(entries.len(), SeqCst);
        self.inner.import(entries, progress).await
    }
    async fn resolve(&self, changes: &[Change]) -> tracker_api::Result<Vec<bool>> {
        self.inner.resolve(changes).await
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

/// A move of 5 500 entries into `target`, which ended when the target went away.
async fn cut_off(old: &Side, target: &Arc<Picky>, at: &Path) {
    let error = copy(old, &Side::Store(target.clone()), at, |_, _| {}).await;
    assert_eq!(error.unwrap_err().kind, Kind::Unavailable);
    assert!(
        target.progress().await.unwrap().is_empty(),
        "progress speaks before the entries"
    );
    assert!(at.exists());
    target.left.store(usize::MAX, SeqCst);
}

#[tokio::test]
async fn a_copy_that_was_cut_off_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("checkpoint.json");
    let old = Side::Store(furnished(5_500).await);
    let file = Side::File(dir.path().join("a.ndjson"));
    copy(&old, &file, &at, |_, _| {}).await.unwrap();
    for from in [&old, &file] {
        let target = Arc::new(Picky::away_after(2));
        cut_off(from, &target, &at).await;
        let new = Side::Store(target.clone());
        let (mut told, mut shares) = (Vec::new(), Vec::new());
        let moved = copy(from, &new, &at, |count, share| {
            told.push(count);
            shares.extend(share);
        });
        let moved = moved.await.unwrap();
        assert!(moved.resumed && moved.entries == 5_500, "{moved:?}");
        assert_eq!(
            told.first(),
            Some(&3_000),
            "what was taken is not taken once more"
        );
        assert_eq!(target.imported.load(SeqCst), 5_500);
        assert!(
            shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)),
            "{shares:?}"
        );
        assert!(same(&old, &new).await);
        assert!(!at.exists(), "what is done leaves no checkpoint");
    }
}

#[tokio::test]
async fn a_copy_that_goes_on_claims_no_more_than_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("checkpoint.json");
    let source = furnished(5_500).await;
    let old = Side::Store(source.clone());
    let target = Arc::new(Picky::away_after(2));
    cut_off(&old, &target, &at).await;
    // Written behind the copy's back, and told of by a progress that was written after it.
    let late = Partition::new("a:b", 0).at(7_777);
    let behind = Entry {
        id: late.clone(),
        ..entry(4, Outcome::Failed, "late")
    };
    let further = Progress {
        committed: 9_000,
        ..progress("a:b", 7, 2)
    };
    source.record(&[behind], &[further]).await.unwrap();
    let new = Side::Store(target.clone());
    let moved = copy(&old, &new, &at, |_, _| {}).await.unwrap();
    assert!(moved.resumed);
    assert_eq!(target.get(&[late]).await.unwrap(), [None]);
    let committed = target.progress().await.unwrap();
    assert_eq!(
        committed[0].committed, 8,
        "the store speaks of what it was not told"
    );
}

#[tokio::test]
async fn a_file_of_a_copy_is_its_owners_alone_and_never_written_over() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = (dir.path().join("a.ndjson"), dir.path().join("checkpoint.json"));
    let (old, file) = (Side::Store(furnished(5).await), Side::File(path.clone()));
    copy(&old, &file, &at, |_, _| {}).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before = std::fs::read(&path).unwrap();
    let error = copy(&old, &file, &at, |_, _| {}).await.unwrap_err();
    assert!(error.message.contains("name another, or remove it"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // Nor is a link followed.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
    copy(&old, &Side::File(link), &at, |_, _| {}).await.unwrap_err();
    assert!(!dir.path().join("nowhere").exists());
}

#[tokio::test]
async fn a_copy_into_a_file_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = (dir.path().join("a.ndjson"), dir.path().join("checkpoint.json"));
    let cut = dir.path().join("cut.ndjson");
    std::fs::write(&cut, "{\"kind\":\"tracker\",\"format\":1}\n").unwrap();
    let to = Side::File(path.clone());
    copy(&Side::File(cut.clone()), &to, &at, |_, _| {})
        .await
        .unwrap_err();
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(left, [cut]);
}

fn moving() -> Moving {
    Moving {
        from: "old".into(),
        to: "new".into(),
        output: Format::Json,
    }
}

#[tokio::test]
async fn what_was_written_behind_a_copy_that_was_cut_off_is_taken_in_a_second_round() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("checkpoint.json");
    let source = furnished(5_500).await;
    let old = Side::Store(source.clone());
    let target = Arc::new(Picky::away_after(2));
    cut_off(&old, &target, &at).await;
    let behind = Entry {
        id: Partition::new("a:b", 0).at(7_777),
        ..entry(4, Outcome::Failed, "late")
    };
    source.record(&[behind], &[]).await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let new = Side::Store(target);
    let code = store_command::copy(&moving(), (&old, &new), &at, &mut out, &mut err).await;
    let err = String::from_utf8(err).unwrap();
    assert_eq!((code, err.contains("once more")), (0, true), "{err}");
    let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(found["left_sha256"], found["right_sha256"]);
    assert!(same(&old, &new).await);
}

#[tokio::test]
async fn what_the_target_refuses_is_named_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("checkpoint.json");
    let old = Side::Store(furnished(2_500).await);
    // The first page holds both, of the topic that comes first; taken in ever smaller halves, it is 17 imports.
    let target = Arc::new(Picky {
        no_bytes_of: vec![4],
        nothing_of: vec![7],
        ..Picky::away_after(17)
    });
    cut_off(&old, &target, &at).await;
    let new = Side::Store(target.clone());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let moved = copy(&old, &new, &at, |_, _| {}).await.unwrap();
    assert!(moved.resumed);
    assert_eq!(
        (&moved.stripped[..], &moved.refused[..]),
        (&["a:b:0:4".to_owned()][..], &["a:b:1:7".to_owned()][..])
    );
    let code = store_command::copy(&moving(), (&old, &new), &at, &mut out, &mut err).await;
    let err = String::from_utf8(err).unwrap();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("a:b:1:7: refused"), "{err}");
    let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        found["differing"],
        serde_json::json!(["a:b:0:4", "a:b:1:7"]),
        "{found}"
    );
    let bare = target.get(&[id("a:b:0:4")]).await.unwrap().remove(0).unwrap();
    assert!(bare.captured.is_none() && bare.failure.unwrap().bytes_refused);
}

#[tokio::test]
async fn what_differs_is_named() {
    let (old, other) = (furnished(40).await, furnished(40).await);
    other
        .record(&[entry(77, Outcome::Failed, "new")], &[])
        .await
        .unwrap();
    other.record(&[], &[progress("orders", 6, 0)]).await.unwrap();
    let found = compare(&Side::Store(old), &Side::Store(other), |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        found.differing,
        ["orders:0:77", "progress of orders:0"],
        "{found:?}"
    );
    assert_ne!(found.left_sha256, found.right_sha256);
}

#[tokio::test]
async fn a_file_that_was_cut_or_changed_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = (dir.path().join("a.ndjson"), dir.path().join("c.json"));
    copy(
        &Side::Store(furnished(3).await),
        &Side::File(path.clone()),
        &at,
        |_, _| {},
    )
    .await
    .unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for (text, why) in [
        (
            lines[..3].join("\n") + "\n",
            ":4: the file ends before its last line",
        ),
        (whole.replace("ada", "bob"), "counts or hash differ"),
        (
            whole.replacen("\"format\":1", "\"format\":2", 1),
            ":1: format 2 is not known",
        ),
        (
            whole.replacen("\"era\"", "\"ere\"", 1),
            ":2: no line of a tracker",
        ),
        ("hello\n".to_owned(), ":1: this is no file of a tracker"),
        (String::new(), ":1: the file ends"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = copy(&Side::File(path.clone()), &Side::Store(empty()), &at, |_, _| {})
            .await
            .unwrap_err();
        assert!(error.message.contains(why), "{why}: {error}");
    }
    let missing = Side::File(dir.path().join("nowhere"));
    assert!(
        copy(&missing, &Side::Store(empty()), &at, |_, _| {})
            .await
            .unwrap_err()
            .message
            .contains("nowhere")
    );
}
