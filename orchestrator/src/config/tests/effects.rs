//! Every documented key does what its line says: each is paired with the test that shows its effect, not only that it is read.
//! That each value of ours reaches its part, `runtime/wiring.rs` shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The key, and the test that fails when it does nothing.
const EFFECTS: &[(&str, &str)] = &[
    (
        "accept-store-risks",
        "a_risk_is_refused_where_tracking_needs_the_promise_unless_it_is_accepted_by_name",
    ),
    (
        "backoff",
        "a_wait_doubles_from_backoff_up_to_max_backoff_and_jitter_only_shortens_it",
    ),
    ("batch-bytes", "a_poll_stops_at_batch_bytes"),
    (
        "batch-max-delay",
        "a_batch_waits_twice_as_long_as_its_last_transaction_took_within_the_two_delays",
    ),
    (
        "batch-min-delay",
        "a_lone_record_waits_for_more_as_long_as_batch_min_delay",
    ),
    ("batch-records", "a_transaction_takes_at_most_batch_records"),
    ("bootstrap-servers", "clients_are_made_from_what_is_configured"),
    (
        "concurrency",
        "as_many_lanes_run_as_concurrency_says_and_no_longer_than_they_may",
    ),
    (
        "data-dir",
        "an_embedded_store_gets_its_place_in_the_data_directory",
    ),
    (
        "db-circuit-failure-threshold",
        "the_breaker_counts_a_call_once_and_not_its_tries",
    ),
    (
        "db-circuit-open-ms",
        "an_open_breaker_answers_at_once_since_when_and_until_when",
    ),
    (
        "db-strategy",
        "a_service_moves_through_all_stores_and_takes_everything_along",
    ),
    ("db-timeout-ms", "each_try_has_a_time_of_its_own"),
    (
        "db-tries",
        "only_an_outage_is_tried_again_and_at_most_as_often_as_configured",
    ),
    (
        "dead-letter-headers",
        "springs_and_streams_tools_find_the_headers_that_they_read",
    ),
    (
        "dead-letter-topic",
        "seven_bad_records_of_five_hundred_cost_the_others_nothing",
    ),
    (
        "failure-mode",
        "in_atomic_a_failing_record_stops_its_partition_and_no_other",
    ),
    ("fallback", "what_the_store_does_not_take_stays_in_the_fallback"),
    ("group-id", "clients_are_made_from_what_is_configured"),
    ("initial-offset", "a_new_group_begins_where_initial_offset_says"),
    (
        "instance",
        "a_configured_instance_makes_static_members_and_an_invented_one_does_not",
    ),
    ("kafka.consumer", "clients_are_made_from_what_is_configured"),
    ("kafka.producer", "clients_are_made_from_what_is_configured"),
    ("kafka.properties", "clients_are_made_from_what_is_configured"),
    (
        "log-failure-messages",
        "the_line_of_a_failed_record_carries_its_message_cut_and_escaped_unless_a_key_turns_it_off",
    ),
    ("log-format", "a_line_is_one_json_object_by_the_names_of_ecs"),
    (
        "management-address",
        "two_processes_of_a_group_share_it_while_one_is_killed_and_another_joins",
    ),
    (
        "management-hosts",
        "a_page_that_makes_its_own_name_point_to_us_reads_nothing",
    ),
    (
        "max-attempts",
        "a_retryable_failure_is_tried_max_attempts_times_and_then_passed",
    ),
    (
        "max-backoff",
        "a_wait_doubles_from_backoff_up_to_max_backoff_and_jitter_only_shortens_it",
    ),
    (
        "max-poll-interval",
        "whoever_did_not_poll_for_too_long_has_lost_its_partitions",
    ),
    (
        "mongo.allow-plaintext",
        "a_plain_connection_to_another_host_is_refused_and_both_ways_out_are_told",
    ),
    (
        "mongo.call-timeout-ms",
        "a_frozen_server_times_out_and_the_tracker_recovers",
    ),
    (
        "mongo.connect-timeout-ms",
        "a_server_that_is_not_there_is_unavailable_within_the_bound",
    ),
    ("mongo.database", "the_shape_of_a_document_is_this"),
    (
        "mongo.password",
        "user_and_password_beside_the_address_count_more_than_those_in_it",
    ),
    (
        "mongo.tls-ca-file",
        "with_tls_only_a_server_that_the_configured_authority_signed_is_trusted",
    ),
    (
        "mongo.url",
        "a_wrong_password_and_missing_rights_are_told_with_the_user",
    ),
    (
        "mongo.username",
        "user_and_password_beside_the_address_count_more_than_those_in_it",
    ),
    ("namespace", "namespaces_on_one_path_share_one_database"),
    ("on-store-failure", "a_failing_store_is_waited_for_under_block"),
    (
        "on-unreadable",
        "skip_to_log_start_goes_on_where_the_log_begins_and_says_what_is_lost",
    ),
    (
        "ordering",
        "with_partition_order_two_of_one_partition_never_run_at_once",
    ),
    (
        "outbox.skip-succeeded",
        "what_has_succeeded_is_not_produced_again_after_a_reset",
    ),
    (
        "postgres.allow-plaintext",
        "another_host_is_spoken_to_with_tls_unless_somebody_said_otherwise",
    ),
    (
        "postgres.call-timeout-ms",
        "a_frozen_server_times_out_within_the_bound_and_then_goes_on",
    ),
    (
        "postgres.connect-timeout-ms",
        "nobody_there_is_an_outage_and_silence_a_timeout_within_its_bound",
    ),
    (
        "postgres.migrations",
        "tables_are_made_once_by_whoever_may_and_only_looked_at_by_others",
    ),
    (
        "postgres.password",
        "wrong_credentials_and_a_missing_database_are_errors_of_the_configuration",
    ),
    (
        "postgres.schema",
        "the_documented_grants_are_enough_and_a_missing_one_is_named",
    ),
    (
        "postgres.tls-ca-file",
        "with_tls_only_a_server_that_the_configured_authority_signed_is_trusted",
    ),
    (
        "postgres.url",
        "an_address_of_jdbc_is_read_and_what_is_only_jdbcs_is_left_out",
    ),
    (
        "postgres.username",
        "wrong_credentials_and_a_missing_database_are_errors_of_the_configuration",
    ),
    (
        "redis.allow-plaintext",
        "a_plain_connection_that_would_leave_the_machine_is_refused_before_it_is_made",
    ),
    (
        "redis.call-timeout-ms",
        "one_that_accepts_and_never_answers_is_a_timeout_within_the_bound",
    ),
    (
        "redis.connect-timeout-ms",
        "a_server_that_is_not_there_is_unavailable",
    ),
    (
        "redis.database",
        "a_socket_of_this_machine_and_a_database_of_a_number_are_places_too",
    ),
    ("redis.mode", "the_mode_is_inferred_unless_it_is_said"),
    (
        "redis.password",
        "wrong_credentials_are_told_without_the_password",
    ),
    (
        "redis.sentinel-master",
        "the_master_that_sentinels_name_is_followed_over_a_failover",
    ),
    (
        "redis.tls-ca-file",
        "with_tls_only_a_server_that_the_configured_authority_signed_is_trusted",
    ),
    (
        "redis.tls-cert-file",
        "a_server_that_asks_for_our_certificate_is_shown_it",
    ),
    (
        "redis.tls-key-file",
        "a_server_that_asks_for_our_certificate_is_shown_it",
    ),
    (
        "redis.url",
        "an_address_says_where_and_who_and_the_section_wins_over_it",
    ),
    (
        "redis.username",
        "wrong_credentials_are_told_without_the_password",
    ),
    (
        "retention.resolved",
        "each_kind_goes_by_its_own_age_and_open_failures_never",
    ),
    (
        "retention.succeeded",
        "each_kind_goes_by_its_own_age_and_open_failures_never",
    ),
    ("rocksdb.path", "namespaces_on_one_path_share_one_database"),
    ("session-timeout", "clients_are_made_from_what_is_configured"),
    (
        "shutdown-timeout",
        "a_stop_that_takes_longer_than_shutdown_timeout_is_cut_short",
    ),
    (
        "skip",
        "a_record_named_in_the_configuration_is_passed_although_the_mode_is_atomic",
    ),
    (
        "source-topic",
        "in_atomic_a_failing_record_stops_its_partition_and_no_other",
    ),
    (
        "store-payload",
        "an_entry_keeps_the_bytes_that_store_payload_says",
    ),
    (
        "store-payload-on-failure-only",
        "an_entry_keeps_the_bytes_that_store_payload_says",
    ),
    (
        "target-topic",
        "in_atomic_a_failing_record_stops_its_partition_and_no_other",
    ),
    (
        "tracking",
        "without_tracking_nothing_is_written_and_the_note_promises_nothing",
    ),
    ("transaction-timeout", "clients_are_made_from_what_is_configured"),
    (
        "transactional-id-prefix",
        "clients_are_made_from_what_is_configured",
    ),
    (
        "transform-concurrency",
        "sixty_four_transforms_of_10_ms_overlap_on_one_worker",
    ),
    (
        "transform-timeout",
        "a_timeout_is_precise_counts_from_the_records_own_start_and_may_be_retried",
    ),
    (
        "mongo.connections",
        "the_pool_holds_as_many_connections_as_configured",
    ),
    (
        "postgres.connections",
        "no_more_connections_are_made_at_once_than_configured",
    ),
    (
        "redis.sentinel-password",
        "sentinels_are_told_a_login_of_their_own",
    ),
    (
        "redis.sentinel-username",
        "sentinels_are_told_a_login_of_their_own",
    ),
    (
        "rocksdb.cache-mib",
        "cache_and_write_buffers_are_as_large_as_configured",
    ),
    (
        "rocksdb.write-buffer-mib",
        "cache_and_write_buffers_are_as_large_as_configured",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The keys of the page, which another test holds against the schema of every store.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let (_, rest) = page.split_once("<!-- keys -->").unwrap();
    let (table, _) = rest.split_once("<!-- /keys -->").unwrap();
    let keys = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    keys.map(str::to_owned).collect()
}

/// The names of all functions that a test may be.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in source.lines().map(str::trim_start) {
                let name = line.trim_start_matches("async ").strip_prefix("fn ");
                match name.and_then(|rest| rest.split(['(', '<']).next()) {
                    Some(name) if marked => {
                        found.insert(name.to_owned());
                        marked = false;
                    }
                    Some(_) => marked = false,
                    None => marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test"),
                }
                // Those that `each_store!` makes for every store have no mark of their own.
                if let Some(name) = name.filter(|name| name.contains("(store: Store")) {
                    found.extend(name.split('(').next().map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn every_documented_key_has_a_test_that_shows_its_effect() {
    let documented = documented();
    assert!(documented.len() > 70, "{documented:?}");
    let mut known = BTreeSet::new();
    tests(root(), &mut known);
    let pairs: BTreeMap<&str, &str> = EFFECTS.iter().copied().collect();
    assert_eq!(pairs.len(), EFFECTS.len(), "a key is named twice");
    let mut wrong = Vec::new();
    for key in &documented {
        match pairs.get(key.as_str()) {
            Some(test) if !known.contains(*test) => wrong.push(format!("`{key}`: there is no test `{test}`")),
            None => {
                wrong.push(format!(
                    "`{key}`: name the test that shows what it does in EFFECTS"
                ));
            }
            Some(_) => {}
        }
    }
    for key in pairs.keys() {
        if !documented.contains(*key) {
            wrong.push(format!("`{key}` is no documented key"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
