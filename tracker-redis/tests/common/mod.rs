//! What the tests of this crate share.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::time::{Duration, Instant};

use test_servers::{Kind, Server};
use tracker_api::{
    AttemptId, Captured, DynTracker, Entry, Error, Failure, Namespace, Outcome, Partition, Result, SecretUrl,
    Timestamp, Version,
};
use tracker_redis::{Config, open};

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace {
        name: name.into(),
        cluster: None,
    }
}

pub(crate) fn config(url: &str) -> Config {
    Config {
        url: SecretUrl::new(url),
        ..Config::default()
    }
}

pub(crate) async fn opened(url: &str, name: &str) -> Result<DynTracker> {
    open(config(url), &namespace(name)).await
}

pub(crate) fn own(settings: &[(&str, &str)]) -> Server {
    Server::start_with(Kind::Redis, settings).unwrap()
}

pub(crate) fn entry(offset: i64, term: u64, outcome: Outcome) -> Entry {
    let version = Version {
        era: 1,
        term,
        attempt: AttemptId::default(),
        outcome,
    };
    Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(offset))
}

pub(crate) fn succeeded(offset: i64) -> Entry {
    entry(offset, 1, Outcome::Succeeded)
}

pub(crate) fn failed(offset: i64) -> Entry {
    let mut entry = entry(offset, 1, Outcome::Failed);
    entry.failure = Some(Failure::new("malformed", &format!("byte {offset} is not JSON")));
    entry.first_failed_at = Some(entry.at);
    entry.captured = Some(Captured {
        key: Some(format!("order {offset}").into_bytes().into()),
        ..Captured::default()
    });
    entry
}

pub(crate) async fn holds(tracker: &DynTracker, entry: &Entry) -> bool {
    tracker.get(std::slice::from_ref(&entry.id)).await.unwrap() == [Some(entry.clone())]
}

pub(crate) fn refused<T>(answer: Result<T>) -> Error {
    match answer {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error,
    }
}

/// A connection of the test's own, past the tracker.
pub(crate) async fn beside(server: &Server) -> redis::aio::MultiplexedConnection {
    let settings = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(server.url()).unwrap();
    client
        .get_multiplexed_async_connection_with_config(&settings)
        .await
        .unwrap()
}

/// Sends a command, its words apart.
pub(crate) async fn tell(server: &Server, words: &[&str]) -> redis::Value {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(&mut beside(server).await).await.unwrap()
}

/// The keys that a namespace has, by what their names end in.
pub(crate) async fn key(server: &Server, part: &str) -> String {
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("*:{part}"))
        .query_async(&mut beside(server).await)
        .await
        .unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Three nodes that share the slots.
pub(crate) async fn cluster() -> Vec<Server> {
    let mut nodes = Vec::new();
    for from in [0, 5_462, 10_924] {
        let node = own(&[
            ("cluster-enabled", "yes"),
            ("cluster-port", &free_port().to_string()),
        ]);
        let to = (from + 5_461).min(16_383);
        tell(
            &node,
            &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()],
        )
        .await;
        nodes.push(node);
    }
    let first = &nodes[0];
    for node in &nodes[1..] {
        let bus = tell(first, &["CONFIG", "GET", "cluster-port"]).await;
        let redis::Value::Array(pair) = bus else {
            panic!("{bus:?}")
        };
        let bus: String = redis::from_redis_value(pair[1].clone()).unwrap();
        tell(
            node,
            &["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string(), &bus],
        )
        .await;
    }
    until("the nodes have met", async || {
        let mut ready = 0;
        for node in &nodes {
            let info: String = redis::cmd("CLUSTER")
                .arg("INFO")
                .query_async(&mut beside(node).await)
                .await
                .unwrap();
            ready += usize::from(info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3"));
        }
        ready == 3
    })
    .await;
    nodes
}

pub(crate) fn of_cluster(nodes: &[Server]) -> Config {
    let hosts: Vec<_> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    config(&format!("redis://{}", hosts.join(",")))
}
