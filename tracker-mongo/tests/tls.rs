//! The database behind TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

#[allow(dead_code, reason = "each file uses a part of it")]
mod common;

use common::{config, failed, holds, opened, refused};
use test_servers::{Authority, Kind, Server};
use tracker_api::ErrorKind;
use tracker_mongo::Config;

fn with_tls(ours: &Authority, settings: &[(&str, &str)]) -> Server {
    let file = |name: &str| ours.file(name).display().to_string();
    let (pem, authority) = (file("server.pem"), file("ca.crt"));
    let mut all = vec![
        // The kit itself speaks to it without.
        ("tlsMode", "allowTLS"),
        ("tlsCertificateKeyFile", pem.as_str()),
        ("tlsCAFile", authority.as_str()),
    ];
    all.extend(settings);
    Server::start_with(Kind::Mongo, &all).unwrap()
}

fn of(server: &Server, more: &str, authority: Option<&Authority>) -> Config {
    let url = server.url();
    let sign = if url.contains('?') { '&' } else { '?' };
    Config {
        tls_ca_file: authority.map(Authority::certificate),
        connect_timeout_ms: 2_000,
        ..config(&format!("{url}{sign}tls=true{more}"))
    }
}

#[tokio::test]
async fn with_tls_only_a_server_that_the_configured_authority_signed_is_trusted() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = with_tls(&ours, &[("tlsAllowConnectionsWithoutCertificates", "")]);
    let tracker = opened(of(&server, "", Some(&ours))).await.unwrap();
    tracker.record(&[failed(1, 1)], &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1, 1)).await);

    for authority in [Some(&theirs), None] {
        let error = refused(opened(of(&server, "", authority)).await);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("certificate") && text.contains("mongo.tls-ca-file"),
            "{text}"
        );
    }
    let absent = Config {
        tls_ca_file: Some(ours.file("absent.crt")),
        ..of(&server, "", None)
    };
    let error = refused(opened(absent).await);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("absent.crt"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_is_shown_it() {
    let ours = Authority::new().unwrap();
    let server = with_tls(&ours, &[]);
    let file = ours.file("client.pem").display().to_string().replace('/', "%2F");
    let shown = of(&server, &format!("&tlsCertificateKeyFile={file}"), Some(&ours));
    opened(shown).await.unwrap().ping().await.unwrap();
    refused(opened(of(&server, "", Some(&ours))).await);
}
