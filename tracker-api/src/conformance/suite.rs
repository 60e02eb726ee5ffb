use super::{
    Law, bytes, filters, imports, joins, listing, namespaces, positions, programs, purging, resolutions,
};

pub(super) const LAWS: &[Law] = crate::conformance_suite! { @list (@table) };

/// One test per law of the contract, for one backend. The argument makes the [`Harness`](crate::conformance::Harness);
/// it is evaluated once in each test.
///
/// ```
/// use tracker_api::{conformance::Memory, conformance_suite};
///
/// conformance_suite!(Memory::default());
/// ```
#[macro_export]
macro_rules! conformance_suite {
    (@table $($part:ident :: $law:ident,)*) => {
        &[$(Law { name: stringify!($law), prove: |case| Box::pin($part::$law(case)) },)*]
    };
    (@tests ($harness:expr) $($part:ident :: $law:ident,)*) => {
        $(#[test]
        fn $law() {
            $crate::conformance::check(stringify!($law), $harness);
        })*
    };
    // The one list of laws.
    (@list ($($then:tt)*)) => {
        $crate::conformance_suite! { $($then)*
            joins::the_greater_version_stays_whichever_comes_first,
            joins::each_part_of_a_version_counts_in_its_order,
            joins::a_late_write_of_an_older_version_changes_nothing,
            joins::a_write_may_be_repeated,
            joins::a_slice_may_repeat_an_id,
            joins::the_last_entry_of_a_slice_is_kept,
            joins::record_says_which_entries_stand,
            joins::two_thousand_entries_fit_one_call,
            joins::captured_bytes_survive_later_writes_without_them,
            joins::the_first_failure_is_remembered,
            joins::a_failure_without_a_first_time_first_failed_when_it_was_written,
            joins::a_greater_era_starts_afresh,
            joins::concurrent_writers_end_in_the_greater_version,
            joins::writers_racing_on_an_absent_entry_leave_the_greater_version,
            joins::a_call_that_is_dropped_may_be_repeated,
            joins::an_empty_call_changes_nothing,
            positions::progress_keeps_the_greatest_positions_and_the_least_floor,
            positions::progress_of_one_writer_unites_its_gaps,
            positions::the_gaps_are_those_of_the_later_writer,
            positions::progress_of_a_greater_era_wins_whole,
            positions::progress_is_one_row_per_partition_in_order,
            bytes::bytes_with_nul_come_back_unchanged,
            bytes::bytes_that_are_not_utf8_come_back_unchanged,
            bytes::empty_is_not_null,
            bytes::headers_keep_their_order_and_repeated_names,
            bytes::every_field_comes_back,
            bytes::numbers_come_back_unchanged_to_their_bounds,
            bytes::an_entry_of_64_kib_is_accepted,
            bytes::topics_with_odd_names_are_kept_apart,
            bytes::get_answers_in_the_order_it_was_asked,
            bytes::what_was_recorded_survives_a_reopen,
            bytes::what_was_resolved_survives_a_reopen,
            bytes::progress_survives_a_reopen,
            resolutions::a_change_takes_only_on_the_held_revision,
            resolutions::of_two_claims_in_one_call_one_wins,
            resolutions::of_two_racing_claims_one_wins,
            resolutions::a_claim_about_an_older_failure_is_refused,
            resolutions::a_resolution_does_not_outlive_its_failure,
            resolutions::a_decision_on_a_blocking_record_stands_while_it_is_retried,
            resolutions::a_decision_on_a_blocking_record_ends_with_its_era,
            resolutions::a_void_leaves_a_resolution_standing,
            resolutions::record_never_touches_a_resolution,
            resolutions::resolve_never_touches_an_outcome,
            resolutions::only_what_is_blocking_can_be_retried_or_skipped,
            resolutions::a_failure_can_be_opened_again,
            resolutions::an_unknown_record_is_not_resolved,
            resolutions::resolve_answers_each_change_in_order,
            imports::import_brings_resolutions_with_their_revision,
            imports::import_never_goes_back_to_an_older_revision,
            imports::import_joins_outcomes_as_record_does,
            imports::an_import_may_be_repeated,
            listing::ids_order_as_numbers,
            listing::pages_by_id_neither_repeat_nor_skip_under_writes,
            listing::pages_newest_first_neither_repeat_nor_skip_under_writes,
            listing::newest_first_is_by_the_first_failure,
            listing::newest_first_breaks_ties_by_id_descending,
            listing::newest_first_lists_only_what_has_failed_once,
            listing::the_last_page_has_no_next,
            listing::a_page_is_bounded,
            listing::a_cursor_of_the_other_order_is_refused,
            filters::every_filter_means_what_the_query_says,
            listing::a_listing_follows_what_is_written,
            filters::a_text_is_searched_as_it_is_written,
            filters::groups_count_failures_by_cause,
            filters::groups_look_at_filters_only,
            purging::purge_never_takes_what_is_in_flight_or_blocking,
            purging::purge_never_takes_what_is_being_replayed,
            purging::purge_never_takes_an_open_failure,
            purging::purge_takes_what_is_finished,
            purging::purge_takes_what_an_older_era_left,
            purging::purge_takes_only_what_was_written_before,
            purging::purge_takes_no_more_than_its_limit_the_oldest_first,
            purging::purge_takes_only_the_kind_it_was_asked_for,
            purging::what_was_purged_is_gone_from_every_answer,
            namespaces::namespaces_are_kept_apart,
            namespaces::another_cluster_under_the_same_name_is_refused,
            namespaces::a_namespace_may_be_opened_before_its_cluster_is_known,
            namespaces::two_handles_of_one_namespace_share_what_they_hold,
            namespaces::a_healthy_store_answers_a_ping,
            programs::every_program_ends_as_in_the_model,
        }
    };
    ($harness:expr) => {
        $crate::conformance_suite! { @list (@tests ($harness)) }
    };
}
