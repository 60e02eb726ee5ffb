use super::*;

fn read(text: &str) -> serde_json::Result<Config> {
    serde_json::from_str(text)
}

async fn options(text: &str) -> Result<ClientOptions> {
    read(text).unwrap().options().await
}

#[tokio::test]
async fn a_configuration_is_checked_and_unknown_keys_are_refused() {
    assert_eq!(read("{}").unwrap(), Config::default());
    assert!(read(r#"{"urll": "x"}"#).unwrap_err().to_string().contains("urll"));
    for wrong in [
        "{}",
        r#"{"url": "db1:27017"}"#,
        r#"{"url": "mongodb://localhost/", "connections": 0}"#,
        r#"{"url": "mongodb://localhost/", "connect-timeout-ms": 5}"#,
        r#"{"url": "mongodb://localhost/", "call-timeout-ms": 600001}"#,
        r#"{"url": "mongodb://localhost/", "database": "a b"}"#,
        r#"{"url": "mongodb://localhost/", "database": ""}"#,
        r#"{"url": "mongodb://localhost/", "password": "hunter2"}"#,
    ] {
        let error = options(wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        assert!(error.to_string().contains("mongo."), "{error}");
    }
}

#[tokio::test]
async fn user_and_password_beside_the_address_count_more_than_those_in_it() {
    let text = r#"{"url": "mongodb://bob:secret@localhost/?authSource=users", "username": "ada", "password": "hunter2"}"#;
    let config = read(text).unwrap();
    let credential = config.options().await.unwrap().credential.unwrap();
    assert_eq!(credential.username.as_deref(), Some("ada"));
    assert_eq!(credential.password.as_deref(), Some("hunter2"));
    assert_eq!(credential.source.as_deref(), Some("users"));
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("secret"), "{shown}");
    let wrong = options(r#"{"url": "mongodb://bob:hun/ter2@localhost/"}"#)
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Config);
    assert!(!format!("{wrong} {wrong:?}").contains("ter2"), "{wrong:?}");
}

#[tokio::test]
async fn a_plain_connection_to_another_host_is_refused_and_both_ways_out_are_told() {
    for local in [
        "localhost",
        "127.0.0.1:27018",
        "[::1]:27017",
        "%2Ftmp%2Fmongodb.sock",
    ] {
        options(&format!(r#"{{"url": "mongodb://{local}/"}}"#))
            .await
            .unwrap();
    }
    let error = options(r#"{"url": "mongodb://localhost,db1.example/"}"#)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(
        ["db1.example", "tls=true", "mongo.allow-plaintext"]
            .iter()
            .all(|part| text.contains(part)),
        "{text}"
    );
    for way_out in [
        r#"{"url": "mongodb://db1.example/?tls=true"}"#,
        r#"{"url": "mongodb://db1.example/", "allow-plaintext": true}"#,
        r#"{"url": "mongodb://db1.example/", "tls-ca-file": "Cargo.toml"}"#,
    ] {
        options(way_out).await.unwrap();
    }
    assert!(
        options(r#"{"url": "mongodb://db1.example/?tls=false"}"#)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_file_of_authorities_turns_tls_on_and_keeps_what_the_address_says() {
    let url = "mongodb://db1.example/?tls=true&tlsCertificateKeyFile=/etc/orders/me.pem";
    // Any file that is there.
    let text = format!(r#"{{"url": "{url}", "tls-ca-file": "Cargo.toml"}}"#);
    let Some(Tls::Enabled(tls)) = options(&text).await.unwrap().tls else {
        panic!("TLS is off");
    };
    assert_eq!(tls.ca_file_path.as_deref(), Some("Cargo.toml".as_ref()));
    assert_eq!(
        tls.cert_key_file_path.as_deref(),
        Some("/etc/orders/me.pem".as_ref())
    );
}

#[tokio::test]
async fn the_pool_holds_as_many_connections_as_configured() {
    let most = |text: &'static str| async move { options(text).await.unwrap().max_pool_size };
    assert_eq!(most(r#"{"url": "mongodb://localhost/"}"#).await, Some(8));
    assert_eq!(
        most(r#"{"url": "mongodb://localhost/", "connections": 3}"#).await,
        Some(3)
    );
}
