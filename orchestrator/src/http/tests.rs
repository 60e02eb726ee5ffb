use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{Health, Hosts, Info, Phase, management};
use tracker_api::{Partition, Timestamp};

use crate::{
    lane::stalls::{Stall, Why},
    resilience, telemetry,
};

const LIMIT: Duration = Duration::from_secs(240);

fn working(lanes: usize) -> Health {
    let health = Health::new(lanes, LIMIT);
    health.phase(Phase::Ready);
    for lane in 0..lanes {
        health.beat(lane);
        health.joined(lane, 3);
    }
    health
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stops_turning_is_not_live_and_one_that_turns_again_is() {
    let health = working(2);
    time::advance(LIMIT).await;
    health.beat(1);
    assert!(health.live().ok, "at the limit");
    time::advance(Duration::from_secs(2)).await;
    let dead = health.live();
    assert_eq!(dead.reasons, ["lane 0 has not turned for 242 s (limit 240 s)"]);
    assert!(!health.ready().ok);
    health.beat(0);
    assert!(health.live().ok && health.ready().ok);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_at_the_start_kills_nobody() {
    let health = Health::new(1, LIMIT);
    time::advance(LIMIT * 10).await;
    assert!(health.live().ok);
    assert_eq!(
        health.ready().reasons,
        ["starting", "lane 0 has not joined the group yet"]
    );
}

#[tokio::test(start_paused = true)]
async fn ready_from_the_last_lane_that_joined_to_the_first_word_of_draining() {
    let health = Health::new(2, LIMIT);
    health.phase(Phase::Ready);
    health.joined(0, 4);
    assert!(!health.ready().ok);
    health.joined(1, 0);
    assert!(health.ready().ok, "a lane may stand by");
    health.phase(Phase::Draining);
    assert_eq!(health.ready().reasons, ["draining"]);
    assert!(health.live().ok);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_cannot_move_is_not_ready_and_one_that_stands_at_a_record_is() {
    let health = working(1);
    let stall = |why| Stall {
        partition: Some(Partition::new("orders", 3)),
        why,
        text: "orders:3:42".into(),
        since: Timestamp(0),
    };
    health.stalled(0, vec![stall(Why::Blocked)]);
    let told = "lane 0: orders:3: blocked since 1970-01-01T00:00:00Z: orders:3:42";
    assert_eq!(health.ready().notes, [told]);
    assert!(health.ready().ok);
    health.stalled(0, vec![stall(Why::Start)]);
    assert_eq!(health.ready().reasons, [told.replace("blocked", "start")]);
    health.stalled(0, Vec::new());
    health.reason(0, Some("waiting for the store: down".into()));
    assert_eq!(health.ready().reasons, ["lane 0: waiting for the store: down"]);
    health.reason(0, None);
    assert!(health.ready().ok);
    health.refused(0, Some("SASL was refused".into()));
    assert_eq!(health.ready().reasons, ["lane 0: SASL was refused"]);
    health.reason(0, None);
    assert!(!health.ready().ok, "another's word does not end it");
    health.refused(0, None);
    assert!(health.ready().ok);
    // A lane that does not exist changes nothing.
    health.reason(7, Some("?".into()));
    assert!(health.ready().ok);
}

/// A management listener of its own port.
struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn served(health: Health) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let info = Info {
        name: "orders".into(),
        version: "1.2.3".into(),
        instance: "a".into(),
        group: "g".into(),
        tracking: "reliable".into(),
        store: "memory".into(),
    };
    let task = tokio::spawn(management(
        listener,
        health,
        telemetry::install(),
        info,
        Hosts::new(&["metrics.example.org".into()]),
        stop.clone(),
    ));
    Served { address, stop, task }
}

impl Served {
    async fn ask(&self, method: &str, path: &str, accept: &str) -> (u16, String) {
        self.ask_for("x", method, path, accept).await
    }

    async fn ask_for(&self, host: &str, method: &str, path: &str, accept: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("accept", accept)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "*/*").await
    }
}

pub(crate) const PATHS: [&str; 8] = [
    "/livez",
    "/readyz",
    "/metrics",
    "/actuator/health",
    "/actuator/health/liveness",
    "/actuator/health/readiness",
    "/actuator/prometheus",
    "/actuator/info",
];

#[tokio::test]
async fn every_path_answers_a_get_and_refuses_every_write() {
    let served = served(working(1)).await;
    for path in PATHS {
        assert_eq!(served.get(path).await.0, 200, "{path}");
        assert_eq!(served.ask("HEAD", path, "*/*").await.0, 200, "{path}");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            assert_eq!(served.ask(method, path, "*/*").await.0, 405, "{method} {path}");
        }
    }
    for path in [
        "/",
        "/v1/failures",
        "/v1/info",
        "/actuator/shutdown",
        "/actuator/env",
        "/..%2f..%2fetc/passwd",
    ] {
        assert_eq!(served.get(path).await.0, 404, "{path}");
        assert_eq!(served.ask("POST", path, "*/*").await.0, 404, "{path}");
    }
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test]
async fn not_ready_is_503_with_its_reason_as_text_and_as_json() {
    let health = working(1);
    let served = served(health.clone()).await;
    assert_eq!(served.get("/readyz").await, (200, "ready\n".into()));
    assert_eq!(served.get("/livez").await, (200, "live\n".into()));
    health.reason(0, Some("waiting for \u{1b}[31mthe store: db1 refused".into()));
    let (status, text) = served.get("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(text, "not ready\nlane 0: waiting for \\u{1b}[31mthe store\n");
    let (status, json) = served.ask("GET", "/readyz", "application/json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, json["ok"].as_bool()), (503, Some(false)));
    assert_eq!(json["reasons"][0], "lane 0: waiting for \u{1b}[31mthe store");
    assert_eq!(served.get("/actuator/health/readiness").await.0, 503);
    assert_eq!(served.get("/actuator/health").await.0, 503);
    assert_eq!(served.get("/livez").await.0, 200);
    assert_eq!(served.get("/actuator/health/liveness").await.0, 200);
}

#[tokio::test]
async fn a_degraded_store_is_shown_and_is_no_reason_to_take_the_instance_out() {
    let health = working(1);
    let (say, state) = tokio::sync::watch::channel(resilience::State::default());
    health.store(state);
    let served = served(health).await;
    assert!(
        served
            .get("/actuator/health")
            .await
            .1
            .contains(r#""db":{"details""#)
    );
    say.send_modify(|state| state.failures = 3);
    let (status, text) = served.get("/actuator/health").await;
    assert_eq!(status, 200);
    assert!(
        text.contains(r#""status":"DEGRADED""#) && text.contains("the store does not answer"),
        "{text}"
    );
    assert_eq!(
        served.get("/readyz").await,
        (200, "ready\nthe store does not answer\n".into())
    );
}

#[tokio::test]
async fn metrics_are_prometheus_text_at_both_paths() {
    let served = served(working(1)).await;
    telemetry::LaneMetrics::new(911).in_flight(5);
    for path in ["/metrics", "/actuator/prometheus"] {
        let (_, text) = served.get(path).await;
        assert!(
            text.contains("orch_in_flight_records{lane=\"911\"} 5\n"),
            "{path}: {text}"
        );
    }
    assert!(
        served
            .get("/actuator/info")
            .await
            .1
            .contains(r#""version":"1.2.3""#)
    );
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_stopping_does_not_wait_for_idle_clients() {
    let served = served(working(1)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let _idle = TcpStream::connect(served.address).await.unwrap();
    let mut half = TcpStream::connect(served.address).await.unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nhost").await.unwrap();
    served.get("/livez").await;
    served.stop.cancel();
    time::timeout(Duration::from_secs(5), served.task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn clients_that_neither_ask_nor_read_do_not_keep_a_probe_out() {
    let served = served(working(1)).await;
    let mut crowd = Vec::new();
    // In tests there are 16 places.
    for client in 0..48 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        match client % 3 {
            0 => {}
            1 => stream.write_all(b"GET /livez HTTP/1.1\r\nhost").await.unwrap(),
            _ => {
                let asking = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20_000);
                // Until nothing more goes through: neither side reads.
                let _ = time::timeout(Duration::from_millis(50), stream.write_all(&asking)).await;
            }
        }
        crowd.push(stream);
        let probe = time::timeout(Duration::from_secs(1), served.get("/livez")).await;
        assert_eq!(
            probe.expect("a probe is answered").0,
            200,
            "beside {client} others"
        );
    }
    drop(crowd);
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lets_us_wait_loses_its_place_after_ten_seconds() {
    let served = served(working(1)).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut unread = TcpStream::connect(served.address).await.unwrap();
    let asking = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20_000);
    let _ = time::timeout(Duration::from_secs(2), unread.write_all(&asking)).await;
    let began = time::Instant::now();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    // It has taken nothing, so its connection ends with what was in flight.
    let mut taken = [0; 1];
    time::sleep(Duration::from_secs(12)).await;
    while unread.read(&mut taken).await.is_ok_and(|read| read > 0) {}
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test]
async fn a_page_that_makes_its_own_name_point_to_us_reads_nothing() {
    let served = served(working(1)).await;
    for path in PATHS.into_iter().chain(["/"]) {
        let (status, text) = served.ask_for("evil.example:8080", "GET", path, "*/*").await;
        assert_eq!(status, 421, "{path}");
        assert!(
            text.contains("management-hosts") && !text.contains("evil"),
            "{text}"
        );
    }
    for host in [
        "10.0.3.7:8080",
        "[::1]:8080",
        "localhost",
        "metrics.example.org:8080",
    ] {
        assert_eq!(
            served.ask_for(host, "GET", "/livez", "*/*").await.0,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn the_network_is_told_kinds_of_reasons_and_the_operator_their_words() {
    const WORDS: &str = "connection to ada@db1.internal:5432 (/var/lib/x) refused";
    let health = working(2);
    health.reason(1, Some(format!("waiting for the store: {WORDS}")));
    health.refused(1, Some(format!("SASL was refused by {WORDS}")));
    let blocked = Stall {
        partition: Some(Partition::new("orders", 3)),
        why: Why::Blocked,
        text: WORDS.into(),
        since: Timestamp(0),
    };
    health.stalled(0, vec![blocked]);
    let (_, state) = tokio::sync::watch::channel(resilience::State {
        circuit: resilience::Circuit::Closed,
        failures: 3,
        failing_since: None,
        last_error: Some(WORDS.into()),
        only_writes: false,
        faults: vec![resilience::Fault {
            operation: "progress",
            since: jiff::Timestamp::UNIX_EPOCH,
            error: WORDS.into(),
        }],
    });
    health.store(state);
    let served = served(health.clone()).await;
    for path in PATHS {
        for accept in ["*/*", "application/json"] {
            let (_, text) = served.ask("GET", path, accept).await;
            assert!(!text.contains("db1") && !text.contains("ada"), "{path}: {text}");
        }
    }
    let (_, text) = served.get("/readyz").await;
    let wanted = "not ready\nlane 1: waiting for the store\nlane 1: Kafka refuses it\n\
                  lane 0: orders:3: blocked since 1970-01-01T00:00:00Z\nthe store does not answer; `progress` fails since 1970-01-01T00:00:00Z\n";
    assert_eq!(text, wanted);
    // What the control socket tells.
    let ready = health.ready();
    let all = ready.reasons.iter().chain(&ready.notes);
    assert!(all.into_iter().all(|told| told.ends_with(WORDS)), "{ready:?}");
}
