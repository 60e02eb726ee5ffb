use super::*;

#[test]
fn a_secret_is_never_shown() {
    let secret = Secret::new("hunter2");
    let shown = [
        format!("{secret:?}"),
        format!("{secret}"),
        serde_json::to_string(&secret).unwrap(),
    ];
    assert_eq!(shown, ["***", "***", "\"***\""]);
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(serde_json::from_str::<Secret>("\"hunter2\"").unwrap(), secret);
}

#[test]
fn an_address_is_shown_without_what_is_secret_in_it() {
    for (url, shown) in [
        ("postgres://localhost/orders", "postgres://localhost/orders"),
        (
            "postgres://ada@localhost/orders",
            "postgres://ada@localhost/orders",
        ),
        (
            "postgres://ada:hunter2@localhost:5432/orders?sslmode=require",
            "postgres://ada:***@localhost:5432/orders?sslmode=require",
        ),
        (
            "mongodb://ada:h?un/t@er2@a,b/orders?w=1&sslKeyPassword=x",
            "mongodb://ada:***@a,b/orders?w=1&sslKeyPassword=***",
        ),
        (
            "jdbc:postgresql://h/o?user=ada&pw=x",
            "jdbc:postgresql://h/o?user=ada&pw=***",
        ),
        ("redis://h/0?hunter2", "redis://h/0?***"),
        ("redis://:hunter2@localhost/0", "redis://:***@localhost/0"),
        ("hunter2", "***"),
        ("", ""),
    ] {
        let secret = SecretUrl::new(url);
        assert_eq!([format!("{secret}"), format!("{secret:?}")], [shown, shown]);
        assert_eq!(serde_json::to_string(&secret).unwrap(), format!("\"{shown}\""));
        assert_eq!(secret.expose(), url);
    }
}
