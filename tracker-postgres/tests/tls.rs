//! The database behind TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use common::{admin, holds, number, opened, refused, run, succeeded};
use test_servers::{Authority, Kind, Server};
use tracker_api::{ErrorKind, SecretUrl};
use tracker_postgres::Config;

/// A server with a certificate of this authority, which shuts out whoever comes without TLS, but for its superuser.
fn with_tls(ours: &Authority, clients: &str) -> Server {
    let file = |name: &str| ours.file(name).display().to_string();
    let rules = ours.file("hba.conf");
    let text = format!(
        "host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust {clients}\nhostnossl all all 127.0.0.1/32 reject\n"
    );
    std::fs::write(&rules, text).unwrap();
    let settings: &[(&str, &str)] = &[
        ("ssl", "on"),
        ("ssl_cert_file", &file("server.crt")),
        ("ssl_key_file", &file("server.key")),
        ("ssl_ca_file", &file("ca.crt")),
        ("hba_file", &rules.display().to_string()),
    ];
    Server::start_with(Kind::Postgres, settings).unwrap()
}

async fn user(server: &Server) {
    let mut admin = admin(server).await;
    run(
        &mut admin,
        "CREATE ROLE client LOGIN; GRANT CREATE ON DATABASE postgres TO client",
    )
    .await;
}

fn config(server: &Server, parameters: &str, authority: Option<&Authority>) -> Config {
    let port = server.port();
    Config {
        url: SecretUrl::new(format!(
            "postgres://client@127.0.0.1:{port}/postgres?{parameters}"
        )),
        tls_ca_file: authority.map(Authority::certificate),
        ..Config::default()
    }
}

#[tokio::test]
async fn with_tls_only_a_server_that_the_configured_authority_signed_is_trusted() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = with_tls(&ours, "");
    user(&server).await;
    let trusting = |authority| config(&server, "sslmode=verify-full", authority);
    let tracker = opened(&trusting(Some(&ours))).await.unwrap();
    tracker.record(&[succeeded(1)], &[]).await.unwrap();
    assert!(holds(&tracker, 1).await);
    let encrypted =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'client'";
    assert!(number(&mut admin(&server).await, encrypted).await > 0);

    for untrusted in [trusting(Some(&theirs)), trusting(None)] {
        let error = refused(opened(&untrusted).await);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("certificate") && text.contains("postgres.tls-ca-file"),
            "{text}"
        );
    }
    let absent = Config {
        tls_ca_file: Some(ours.file("absent.crt")),
        ..trusting(None)
    };
    let error = refused(opened(&absent).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("absent.crt"), "{error}");

    let plain = refused(opened(&config(&server, "sslmode=disable", None)).await);
    assert_eq!(plain.kind(), ErrorKind::Config, "{plain}");
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_is_shown_it() {
    let ours = Authority::new().unwrap();
    let server = with_tls(&ours, "clientcert=verify-ca");
    user(&server).await;
    let file = |name: &str| ours.file(name).display().to_string();
    let shown = format!(
        "sslmode=verify-full&sslcert={}&sslkey={}",
        file("client.crt"),
        file("client.key")
    );
    let tracker = opened(&config(&server, &shown, Some(&ours))).await.unwrap();
    tracker.ping().await.unwrap();
    let error = refused(opened(&config(&server, "sslmode=verify-full", Some(&ours))).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
