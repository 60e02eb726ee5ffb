//! Where a namespace may be: behind TLS, at a socket, with sentinels, in a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use common::{
    beside, cluster, config, failed, free_port, holds, namespace, of_cluster, opened, own, refused, tell,
    until,
};
use test_servers::{Authority, Kind, Server};
use tracker_api::{DynTracker, ErrorKind, Query, SecretUrl};
use tracker_redis::{Config, Mode, open};

fn with_tls(ours: &Authority, clients: &str) -> (Server, u16) {
    let port = free_port();
    let file = |name: &str| ours.file(name).display().to_string();
    let server = own(&[
        ("tls-port", &port.to_string()),
        ("tls-cert-file", &file("server.crt")),
        ("tls-key-file", &file("server.key")),
        ("tls-ca-cert-file", &file("ca.crt")),
        ("tls-auth-clients", clients),
    ]);
    (server, port)
}

#[tokio::test]
async fn with_tls_only_a_server_that_the_configured_authority_signed_is_trusted() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (_server, port) = with_tls(&ours, "no");
    let trusting = |authority: Option<&Authority>| Config {
        tls_ca_file: authority.map(Authority::certificate),
        ..config(&format!("rediss://127.0.0.1:{port}"))
    };
    let tracker = open(trusting(Some(&ours)), &namespace("orders")).await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1)).await);

    for untrusted in [trusting(Some(&theirs)), trusting(None)] {
        let error = refused(open(untrusted, &namespace("orders")).await);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let absent = Config {
        tls_ca_file: Some(ours.file("absent.crt")),
        ..trusting(None)
    };
    let error = refused(open(absent, &namespace("orders")).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("absent.crt"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_is_shown_it() {
    let ours = Authority::new().unwrap();
    let (_server, port) = with_tls(&ours, "yes");
    let known = Config {
        tls_ca_file: Some(ours.certificate()),
        tls_cert_file: Some(ours.file("client.crt")),
        tls_key_file: Some(ours.file("client.key")),
        ..config(&format!("rediss://127.0.0.1:{port}"))
    };
    let tracker = open(known.clone(), &namespace("orders")).await.unwrap();
    tracker.ping().await.unwrap();
    let unknown = Config {
        tls_cert_file: None,
        tls_key_file: None,
        ..known
    };
    refused(open(unknown, &namespace("orders")).await);
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to_in_plain_text_when_tls_is_asked_for() {
    let server = own(&[]);
    let url = server.url().replace("redis://", "rediss://");
    let config = Config {
        connect_timeout_ms: 1_000,
        ..config(&url)
    };
    refused(open(config, &namespace("orders")).await);
}

#[tokio::test]
async fn a_socket_of_this_machine_and_a_database_of_a_number_are_places_too() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let server = own(&[("unixsocket", &socket)]);
    let by_socket = Config {
        database: Some(3),
        ..config(&format!("unix://{socket}"))
    };
    let tracker = open(by_socket, &namespace("orders")).await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    let same = opened(&format!("{}3", server.url()), "orders").await.unwrap();
    assert!(holds(&same, &failed(1)).await);
    let other = opened(&server.url(), "orders").await.unwrap();
    assert_eq!(other.get(&[failed(1).id]).await.unwrap(), [None], "database 0");
    let error = refused(opened(&format!("{}99", server.url()), "orders").await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn the_master_that_sentinels_name_is_followed_over_a_failover() {
    let (master, replica) = (own(&[]), own(&[]));
    tell(&replica, &["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    let watched = format!("main 127.0.0.1 {} 1", master.port());
    let sentinel = Server::start_with(Kind::RedisSentinel, &[("sentinel monitor", &watched)]).unwrap();
    let named = |name: &str| Config {
        sentinel_master: Some(name.into()),
        ..config(&sentinel.url())
    };
    let error = refused(open(named("absent"), &namespace("orders")).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("absent"), "{error}");

    let tracker = open(named("main"), &namespace("orders")).await.unwrap();
    let names: Vec<_> = tracker
        .risks()
        .await
        .unwrap()
        .into_iter()
        .map(|risk| risk.name)
        .collect();
    assert_eq!(names, ["redis-failover"]);
    tracker.record(&[failed(1)], &[]).await.unwrap();
    until(
        "the sentinel knows the replica, and it has what was written",
        async || {
            let told: String = redis::cmd("INFO")
                .arg("replication")
                .query_async(&mut beside(&replica).await)
                .await
                .unwrap();
            let knows: String = redis::cmd("INFO")
                .arg("sentinel")
                .query_async(&mut beside(&sentinel).await)
                .await
                .unwrap();
            let keys: u64 = redis::cmd("DBSIZE")
                .query_async(&mut beside(&replica).await)
                .await
                .unwrap();
            told.contains("master_link_status:up") && knows.contains("slaves=1") && keys > 0
        },
    )
    .await;
    // It takes the sentinel a moment to think the replica fit for it.
    until("the sentinel begins a failover", async || {
        let order: redis::RedisResult<redis::Value> = redis::cmd("SENTINEL")
            .arg("FAILOVER")
            .arg("main")
            .query_async(&mut beside(&sentinel).await)
            .await;
        order.is_ok()
    })
    .await;
    until("the other one is the master", async || {
        let role: Vec<redis::Value> = redis::cmd("ROLE")
            .query_async(&mut beside(&replica).await)
            .await
            .unwrap();
        matches!(role.first(), Some(redis::Value::BulkString(role)) if role == b"master")
    })
    .await;
    // What the old one confirms until it is told is lost with it: that is the risk. Then the new one is written to.
    until("the tracker writes to the new one", async || {
        let written = tracker.record(&[failed(2)], &[]).await.is_ok();
        let direct = opened(&replica.url(), "orders").await.unwrap();
        written && holds(&direct, &failed(1)).await && holds(&direct, &failed(2)).await
    })
    .await;
    assert!(holds(&tracker, &failed(1)).await && holds(&tracker, &failed(2)).await);
}

async fn key_of(nodes: &[Server]) -> (usize, Vec<String>) {
    for (place, node) in nodes.iter().enumerate() {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut beside(node).await)
            .await
            .unwrap();
        if !keys.is_empty() {
            return (place, keys);
        }
    }
    panic!("no node has a key");
}

#[tokio::test]
async fn a_namespace_is_on_one_node_of_a_cluster_and_is_followed_when_its_slot_moves() {
    let nodes = cluster().await;
    let tracker = open(of_cluster(&nodes), &namespace("orders")).await.unwrap();
    let names: Vec<_> = tracker
        .risks()
        .await
        .unwrap()
        .into_iter()
        .map(|risk| risk.name)
        .collect();
    assert_eq!(names, ["redis-failover"]);
    let slice: Vec<_> = (0..500).map(failed).collect();
    assert_eq!(tracker.record(&slice, &[]).await.unwrap(), vec![true; 500]);
    let (from, keys) = key_of(&nodes).await;
    let to = (from + 1) % nodes.len();

    // By any node it is the same namespace; taken for a single server, the other nodes say what to do.
    for (place, node) in nodes.iter().enumerate() {
        let one = Config {
            mode: Some(Mode::Cluster),
            url: SecretUrl::new(node.url()),
            ..Config::default()
        };
        let by_one: DynTracker = open(one, &namespace("orders")).await.unwrap();
        assert!(holds(&by_one, &failed(7)).await);
        if place != from {
            let error = refused(opened(&node.url(), "orders").await);
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains("redis.mode"), "{error}");
        }
    }

    let id = |node: usize| {
        let node = &nodes[node];
        async move {
            let id: String = redis::cmd("CLUSTER")
                .arg("MYID")
                .query_async(&mut beside(node).await)
                .await
                .unwrap();
            id
        }
    };
    let (from_id, to_id) = (id(from).await, id(to).await);
    let slot: u16 = redis::cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg(&keys[0])
        .query_async(&mut beside(&nodes[from]).await)
        .await
        .unwrap();
    let slot = slot.to_string();
    tell(&nodes[to], &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
    tell(&nodes[from], &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    let port = nodes[to].port().to_string();
    tell(
        &nodes[from],
        &["MIGRATE", "127.0.0.1", &port, &keys[0], "0", "5000"],
    )
    .await;
    // Half of it is here and half of it is there: neither is shown as if it were the whole.
    for error in [
        refused(tracker.list(&Query::default()).await),
        refused(tracker.record(&slice[..1], &[]).await),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("moved"), "{error}");
    }
    for key in &keys[1..] {
        tell(&nodes[from], &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
    }
    for node in [to, from] {
        tell(&nodes[node], &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    assert_eq!(tracker.record(&[failed(900)], &[]).await.unwrap(), [true]);
    assert_eq!(key_of(&nodes).await.0, to);
    assert!(holds(&tracker, &failed(499)).await && holds(&tracker, &failed(900)).await);
}

#[tokio::test]
async fn a_cluster_that_misses_a_node_is_unavailable() {
    let nodes = cluster().await;
    for node in &nodes {
        tell(node, &["CONFIG", "SET", "cluster-node-timeout", "500"]).await;
    }
    let tracker = open(of_cluster(&nodes), &namespace("orders")).await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
    let (holder, _) = key_of(&nodes).await;
    nodes[holder].kill().unwrap();
    until("the cluster is down", async || {
        let error = refused(tracker.record(&[failed(2)], &[]).await);
        assert!(error.is_transient(), "{error}");
        error.to_string().contains("CLUSTERDOWN")
    })
    .await;
    nodes[holder].start_again().unwrap();
    until("the cluster is whole again", async || {
        tracker.record(&[failed(2)], &[]).await.is_ok()
    })
    .await;
    assert!(holds(&tracker, &failed(1)).await && holds(&tracker, &failed(2)).await);
}

#[tokio::test]
async fn of_several_hosts_one_that_never_answers_leaves_the_others_their_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = own(&[]);
    let config = Config {
        mode: Some(Mode::Cluster),
        connect_timeout_ms: 4_000,
        ..config(&format!(
            "redis://{},127.0.0.1:{}",
            silent.local_addr().unwrap(),
            server.port()
        ))
    };
    let tracker = open(config, &namespace("orders")).await.unwrap();
    tracker.record(&[failed(1)], &[]).await.unwrap();
}
