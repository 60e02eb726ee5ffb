use super::*;

fn read(text: &str) -> Config {
    serde_json::from_str(text).unwrap()
}

/// With an address where none is said.
fn checked(text: &str) -> Result<Target> {
    let mut config = read(text);
    if !text.contains("\"url\"") {
        config.url = SecretUrl::new("redis://127.0.0.1:6379");
    }
    config.checked()
}

fn tcp(name: &str, port: u16) -> Host {
    Host::Tcp(name.to_owned(), port)
}

#[test]
fn an_address_says_where_and_who_and_the_section_wins_over_it() {
    let target = checked(r#"{"url": "rediss://ada:s%40fe@db.example:7000/4"}"#).unwrap();
    assert_eq!(
        (target.hosts, target.tls, target.database),
        (vec![tcp("db.example", 7000)], true, 4)
    );
    assert_eq!(target.login.username.as_deref(), Some("ada"));
    assert_eq!(target.login.password.as_deref(), Some("s@fe"));
    let target = checked(
        r#"{"url": "redis://ada:old@localhost/4", "username": "bob", "password": "new", "database": 5}"#,
    )
    .unwrap();
    assert_eq!((target.hosts, target.database), (vec![tcp("localhost", 6379)], 5));
    assert_eq!(target.login.username.as_deref(), Some("bob"));
    assert_eq!(target.login.password.as_deref(), Some("new"));
    let target = checked(r#"{"url": "unix:///run/redis.sock"}"#).unwrap();
    assert_eq!(target.hosts, [Host::Unix("/run/redis.sock".into())]);
    let target = checked(r#"{"url": "redis://:p:w@[::1]:7000,127.0.0.1"}"#).unwrap();
    assert_eq!(target.hosts, [tcp("::1", 7000), tcp("127.0.0.1", 6379)]);
    assert_eq!(
        (target.login.username, target.login.password.as_deref()),
        (None, Some("p:w"))
    );
}

#[test]
fn the_mode_is_inferred_unless_it_is_said() {
    let mode = |text: &str| checked(text).map(|target| target.mode);
    assert_eq!(mode("{}").unwrap(), Mode::Standalone);
    assert_eq!(
        mode(r#"{"url": "redis://127.0.0.1,127.0.0.2"}"#).unwrap(),
        Mode::Cluster
    );
    assert_eq!(mode(r#"{"mode": "cluster"}"#).unwrap(), Mode::Cluster);
    let several = r#"{"url": "redis://127.0.0.1,127.0.0.2", "sentinel-master": "main"}"#;
    assert_eq!(mode(several).unwrap(), Mode::Sentinel);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_name() {
    for (wrong, name) in [
        (r#"{"url": ""}"#, "redis.url"),
        (r#"{"url": "localhost:6379"}"#, "redis.url"),
        (r#"{"url": "http://localhost"}"#, "redis.url"),
        (r#"{"url": "redis://"}"#, "redis.url"),
        (r#"{"url": "redis://localhost:70000"}"#, "redis.url"),
        (r#"{"url": "redis://localhost/mine"}"#, "redis.url"),
        (r#"{"url": "redis://a:%zz@localhost"}"#, "redis.url"),
        (r#"{"url": "redis://localhost?protocol=resp3"}"#, "redis.url"),
        (r#"{"url": "unix://redis.sock"}"#, "redis.url"),
        (
            r#"{"url": "redis://127.0.0.1,127.0.0.2", "mode": "standalone"}"#,
            "redis.mode",
        ),
        (r#"{"mode": "sentinel"}"#, "redis.sentinel-master"),
        (r#"{"mode": "cluster", "database": 1}"#, "redis.database"),
        (r#"{"database": 1000001}"#, "redis.database"),
        (r#"{"tls-cert-file": "x"}"#, "redis.tls-key-file"),
        (r#"{"connect-timeout-ms": 99}"#, "redis.connect-timeout-ms"),
        (r#"{"call-timeout-ms": 600001}"#, "redis.call-timeout-ms"),
        (r#"{"url": "redis://db.example"}"#, "redis.allow-plaintext"),
        (
            r#"{"url": "redis://127.0.0.1,10.0.0.1"}"#,
            "redis.allow-plaintext",
        ),
        (r#"{"url": "redis://localhost.example"}"#, "redis.allow-plaintext"),
    ] {
        let error = checked(wrong).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        assert!(error.to_string().contains(name), "{wrong}: {error}");
    }
    assert!(
        serde_json::from_str::<Config>(r#"{"urll": "x"}"#)
            .unwrap_err()
            .to_string()
            .contains("urll")
    );
    checked(r#"{"url": "redis://db.example", "allow-plaintext": true}"#).unwrap();
    checked(r#"{"url": "rediss://db.example"}"#).unwrap();
}

#[test]
fn a_secret_is_in_no_text_of_the_configuration_or_of_its_errors() {
    let text = r#"{"url": "redis://ada:swordfish@db.example", "password": "swordfish", "sentinel-password": "swordfish"}"#;
    let config = read(text);
    let error = config.checked().err().unwrap();
    for shown in [
        format!("{config:?}"),
        serde_json::to_string(&config).unwrap(),
        format!("{error} {error:?}"),
    ] {
        assert!(!shown.contains("swordfish"), "{shown}");
    }
}

#[test]
fn the_defaults_are_what_an_empty_section_means() {
    assert_eq!(read("{}"), Config::default());
    let told = Config::default().checked().err().unwrap().to_string();
    assert!(told.contains("redis.url is not set"), "{told}");
}

#[test]
fn sentinels_are_told_a_login_of_their_own() {
    let target = checked(
        r#"{"mode": "sentinel", "sentinel-master": "orders", "username": "ada", "password": "store",
            "sentinel-username": "eve", "sentinel-password": "watch"}"#,
    )
    .unwrap();
    assert_eq!(target.sentinel_login.username.as_deref(), Some("eve"));
    assert_eq!(target.sentinel_login.password.as_deref(), Some("watch"));
    assert_eq!(target.login.username.as_deref(), Some("ada"));
}
