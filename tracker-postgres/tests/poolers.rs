//! What stands between the service and the server, and what a session remembers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use common::{admin, config, holds, opened, own, refused, run, succeeded};
use test_servers::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracker_api::{ErrorKind, SecretUrl};
use tracker_postgres::Config;

/// What a pooler does with a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pooler {
    /// As pgbouncer: lets through while connecting what it knows, and refuses the rest by name.
    OfSessions,
    /// Refuses also what every client of ours says.
    ThatRefusesUs,
    /// Gives the session to somebody else after each transaction: what was set is gone.
    OfTransactions,
}

/// A pooler on a port of its own, before `server`.
async fn pooler(server: &Server, kind: Pooler) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, behind) = (listener.local_addr().unwrap().port(), server.port());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, behind, kind));
        }
    });
    port
}

async fn relay(mut client: TcpStream, behind: u16, kind: Pooler) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", behind)).await.ok()?;
    loop {
        let size = client.read_u32().await.ok()?;
        let mut startup = vec![0; usize::try_from(size).ok()? - 4];
        client.read_exact(&mut startup).await.ok()?;
        if startup[..4] == 80_877_103_u32.to_be_bytes() {
            // It asks for TLS.
            client.write_all(b"N").await.ok()?;
            continue;
        }
        let told = String::from_utf8_lossy(&startup[4..]).into_owned();
        let mut names = told.split('\0').step_by(2).filter(|name| !name.is_empty());
        let known = [
            "user",
            "database",
            "client_encoding",
            "DateStyle",
            "TimeZone",
            "application_name",
        ];
        let refused =
            |name: &&str| !known.contains(name) || kind == Pooler::ThatRefusesUs && *name == "TimeZone";
        if let Some(name) = names.find(refused) {
            let words = format!("SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: {name}\0\0");
            client.write_u8(b'E').await.ok()?;
            client
                .write_u32(u32::try_from(words.len()).ok()? + 4)
                .await
                .ok()?;
            client.write_all(words.as_bytes()).await.ok()?;
            return None;
        }
        server.write_u32(size).await.ok()?;
        server.write_all(&startup).await.ok()?;
        break;
    }
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = from_client
            .read(&mut buffer)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        let bytes = &mut buffer[..read];
        let (for_good, for_now) = (b"value, false)", b"value, true )");
        let set = bytes
            .windows(for_good.len())
            .position(|window| window == for_good);
        if let (Pooler::OfTransactions, Some(at)) = (kind, set) {
            bytes[at..at + for_now.len()].copy_from_slice(for_now);
        }
        to_server.write_all(bytes).await.ok()?;
    }
}

fn through(server: &Server, port: u16) -> Config {
    Config {
        url: SecretUrl::new(
            server
                .url()
                .replace(&server.port().to_string(), &port.to_string()),
        ),
        ..config(server, "pooled")
    }
}

#[tokio::test]
async fn a_pooler_that_refuses_startup_parameters_is_no_hindrance_as_settings_are_made_afterwards() {
    let server = own();
    let port = pooler(&server, Pooler::OfSessions).await;
    let tracker = opened(&through(&server, port)).await.unwrap();
    tracker.record(&[succeeded(1)], &[]).await.unwrap();
    assert!(holds(&tracker, 1).await);
}

#[tokio::test]
async fn what_a_pooler_refuses_is_an_error_of_the_configuration_that_names_it() {
    let server = own();
    let port = pooler(&server, Pooler::ThatRefusesUs).await;
    let error = refused(opened(&through(&server, port)).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("unsupported startup parameter: TimeZone")
            && text.contains("ignore_startup_parameters"),
        "{text}"
    );
}

#[tokio::test]
async fn a_session_whose_settings_do_not_hold_is_refused_with_the_setting_and_what_to_do() {
    let server = own();
    let port = pooler(&server, Pooler::OfTransactions).await;
    let error = refused(opened(&through(&server, port)).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("`search_path` was set to pooled") && text.contains("pool_mode = session"),
        "{text}"
    );
}

/// As after a failover, or a while in which the server only read.
#[tokio::test]
async fn a_session_that_remembers_a_fault_which_is_over_is_replaced() {
    let server = own();
    let mut admin = admin(&server).await;
    let one = Config {
        connections: 1,
        ..config(&server, "orchestrator")
    };
    let tracker = opened(&one).await.unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    run(
        &mut admin,
        "ALTER DATABASE postgres SET default_transaction_read_only = on",
    )
    .await;
    run(&mut admin, others).await;
    let error = tracker.record(&[succeeded(1)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("25006"), "{error}");
    // Reads go on, and leave a session behind that would only read for ever.
    tracker.progress().await.unwrap();
    run(
        &mut admin,
        "ALTER DATABASE postgres RESET default_transaction_read_only",
    )
    .await;
    tracker.record(&[succeeded(1)], &[]).await.unwrap();
    assert!(holds(&tracker, 1).await);
}

#[tokio::test]
async fn a_promise_that_the_server_takes_back_while_it_is_open_is_a_risk_from_then_on() {
    let server = own();
    let mut admin = admin(&server).await;
    let tracker = opened(&config(&server, "orchestrator")).await.unwrap();
    let names = async || -> Vec<String> {
        let risks = tracker.risks().await.unwrap();
        risks.into_iter().map(|risk| risk.name).collect()
    };
    let before = names().await;
    run(&mut admin, "ALTER SYSTEM SET full_page_writes = off").await;
    run(&mut admin, "SELECT pg_reload_conf()").await;
    common::until("the server reads its settings", async || {
        names().await.contains(&"postgres-no-full-page-writes".to_owned())
    })
    .await;
    run(&mut admin, "ALTER TABLE orchestrator.entry SET UNLOGGED").await;
    assert!(names().await.contains(&"postgres-unlogged".to_owned()));
    assert!(!before.contains(&"postgres-unlogged".to_owned()));
}
