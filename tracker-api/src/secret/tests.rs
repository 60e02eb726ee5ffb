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
