//! The configurations that the documentation shows, given to the real binary.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// `config check` on the first YAML block of a page, with `more` lines behind it.
fn check(page: &str, name: &str, more: &str) -> Output {
    let block = page
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("orchestrator.yml");
    fs::write(&file, format!("{block}{more}")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_orders-orchestrator"))
        .args(["config", "check", "--config"])
        .arg(&file)
        .env_clear()
        .current_dir(&folder)
        .output()
        .unwrap()
}

const YOUR_OWN_SERVICE: &str = include_str!("../../docs/your-own-service.md");

#[test]
fn the_configuration_of_a_service_of_ones_own_is_valid() {
    let output = check(YOUR_OWN_SERVICE, "valid", "");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_misspelt_key_is_refused_with_the_nearest_name() {
    let output = check(YOUR_OWN_SERVICE, "misspelt", "  failure-mod: skip-and-log\n");
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("orchestrator.yml:8") && told.contains("failure-mode"),
        "{told}"
    );
}

#[test]
fn a_store_that_is_not_built_in_is_refused_with_the_known_ones() {
    let page = YOUR_OWN_SERVICE.replace("db-strategy: rocksdb", "db-strategy: rockdb");
    let output = check(&page, "store", "");
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("rocksdb"), "{told}");
}

#[test]
fn the_configuration_of_the_readme_is_valid() {
    let output = check(include_str!("../../README.md"), "readme", "");
    assert!(output.status.success(), "{output:?}");
}
