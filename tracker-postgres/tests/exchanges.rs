//! A call is one exchange with the server, whatever its size.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{config, failed, opened, succeeded};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};
use tracker_api::{
    Change, Decision, Entry, Order, Purgeable, Query, RecordId, Resolution, SecretUrl, Timestamp,
};
use tracker_postgres::Config;

/// Counts the messages after which a client of PostgreSQL waits for an answer: `Sync` and a simple `Query`.
async fn count(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    waits: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    // The first message has no kind; no TLS is asked for.
    let mut begun = false;
    loop {
        let kind = if begun { Some(from.read_u8().await?) } else { None };
        begun = true;
        let length = from.read_u32().await?;
        let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
        from.read_exact(&mut rest).await?;
        if matches!(kind, Some(b'S' | b'Q')) {
            waits.fetch_add(1, Ordering::SeqCst);
        }
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend(length.to_be_bytes());
        message.extend(rest);
        to.write_all(&message).await?;
    }
}

/// A proxy before the server, and how often its clients waited.
async fn proxy(server: String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let waits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&waits);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from, mut back) = client.into_split();
            let (mut answers, to) = TcpStream::connect(&server).await.unwrap().into_split();
            tokio::spawn(count(from, to, Arc::clone(&counted)));
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
        }
    });
    (port, waits)
}

#[tokio::test]
async fn a_call_is_one_exchange_whatever_its_size() {
    let server = test_servers::postgres();
    let (_, place) = server
        .url()
        .split_once('@')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let (address, database) = place.split_once('/').unwrap();
    let (port, waits) = proxy(address.to_owned()).await;
    let user = server.url().split_once('@').unwrap().0.to_owned();
    let config = Config {
        url: SecretUrl::new(format!("{user}@127.0.0.1:{port}/{database}?sslmode=disable")),
        ..config(server, "exchanges")
    };
    let tracker = opened(&config).await.unwrap();
    let entries = |n: i64| -> Vec<Entry> {
        (0..n)
            .map(|i| if i % 2 == 0 { failed(i, 1) } else { succeeded(i) })
            .collect()
    };
    let ids = |n: i64| -> Vec<RecordId> { entries(n).into_iter().map(|entry| entry.id).collect() };
    let changes = |n: i64, revision: u64| -> Vec<Change> {
        let change = |entry: Entry| Change {
            to: Some(Resolution {
                decision: Decision::Discarded,
                about: entry.version,
                actor: "ada".into(),
                reason: String::new(),
                at: Timestamp(1),
            }),
            id: entry.id,
            revision,
        };
        entries(n).into_iter().map(change).collect()
    };
    let newest = |limit| Query {
        order: Order::NewestFirst,
        limit,
        ..Query::default()
    };
    // A new connection is set up and read back first. The first time, each statement is prepared.
    tracker.risks().await.unwrap();
    for (round, size) in [1, 1, 10, 2_000].into_iter().enumerate() {
        let before = || waits.swap(0, Ordering::SeqCst);
        let mut seen = Vec::new();
        before();
        tracker.record(&entries(size), &[]).await.unwrap();
        seen.push(("record", before()));
        tracker.import(&entries(size), &[]).await.unwrap();
        seen.push(("import", before()));
        tracker
            .resolve(&changes(size, u64::try_from(round).unwrap()))
            .await
            .unwrap();
        seen.push(("resolve", before()));
        let found = tracker.get(&ids(size)).await.unwrap();
        seen.push(("get", before()));
        assert!(found.iter().all(Option::is_some));
        for limit in [1, 1_000] {
            tracker.list(&newest(limit)).await.unwrap();
            seen.push(("list", before()));
        }
        tracker.groups(&Query::default()).await.unwrap();
        seen.push(("groups", before()));
        tracker.progress().await.unwrap();
        seen.push(("progress", before()));
        tracker.ping().await.unwrap();
        seen.push(("ping", before()));
        tracker
            .purge(Purgeable::Superseded, Timestamp(0), 10)
            .await
            .unwrap();
        seen.push(("purge", before()));
        if round > 0 {
            for (call, exchanges) in seen {
                assert_eq!(exchanges, 1, "{call} of {size}");
            }
        } else {
            assert!(
                seen.iter().all(|(_, exchanges)| *exchanges <= 2),
                "prepared and sent: {seen:?}"
            );
        }
    }
}
