//! What can be wrong with a tracker, and the law that says so.

/// Makes the flaws, each with the law that names it, once.
macro_rules! flaws {
    ($($(#[$what:meta])* $flaw:ident => $law:ident,)*) => {
        /// What is wrong with a [`Broken`] tracker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Flaw { $($(#[$what])* $flaw,)* }

        impl Flaw {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$flaw,)*];

            /// The law that names this fault.
            pub fn law(self) -> &'static str {
                match self { $(Self::$flaw => stringify!($law),)* }
            }
        }
    };
}

flaws! {
    /// Writes all but the last entry of a slice.
    LosesTheLastOfASlice => the_last_entry_of_a_slice_is_kept,
    /// Of two entries the lesser version stays.
    JoinsTheWrongWayRound => the_greater_version_stays_whichever_comes_first,
    /// Whatever arrives last stays.
    LetsTheLastWriteWin => a_late_write_of_an_older_version_changes_nothing,
    /// Compares versions without their term.
    IgnoresTheTerm => each_part_of_a_version_counts_in_its_order,
    /// Compares attempts as text without leading zeros.
    ComparesAttemptsAsText => each_part_of_a_version_counts_in_its_order,
    /// Of a repeated id in one slice only the first counts.
    KeepsTheFirstOfARepeatedId => a_slice_may_repeat_an_id,
    /// Answers that every entry stands.
    SaysThatAllStand => record_says_which_entries_stand,
    /// Writes the first thousand of a slice.
    CutsASliceAtAThousand => two_thousand_entries_fit_one_call,
    /// A later write without captured bytes removes them.
    DropsCapturedBytesOnALaterWrite => captured_bytes_survive_later_writes_without_them,
    /// The first failure is the last write's.
    ForgetsTheFirstFailure => the_first_failure_is_remembered,
    /// Keeps the captured bytes of another era's record.
    KeepsBytesOfAnOlderEra => a_greater_era_starts_afresh,
    /// Reads what is held, and writes the join later.
    ReadsThenWrites => concurrent_writers_end_in_the_greater_version,
    /// Writes progress over progress.
    OverwritesProgress => progress_keeps_the_greatest_positions_and_the_least_floor,
    /// Keeps nothing over a reopen.
    ForgetsOnReopen => what_was_recorded_survives_a_reopen,
    /// Keeps no resolution over a reopen.
    ForgetsResolutionsOnReopen => what_was_resolved_survives_a_reopen,
    /// Cuts bytes at the first NUL.
    CutsBytesAtNul => bytes_with_nul_come_back_unchanged,
    /// Reads bytes as text.
    ReadsBytesAsText => bytes_that_are_not_utf8_come_back_unchanged,
    /// Reads empty bytes as null.
    ReadsEmptyAsNull => empty_is_not_null,
    /// Keeps headers as a map.
    KeepsHeadersAsAMap => headers_keep_their_order_and_repeated_names,
    /// Refuses an entry of more than 32 KiB.
    RefusesLargeEntries => an_entry_of_64_kib_is_accepted,
    /// Lists ids as text orders them.
    OrdersIdsAsText => ids_order_as_numbers,
    /// A page starts with the last entry of the page before.
    RepeatsAnEntryBetweenPages => pages_by_id_neither_repeat_nor_skip_under_writes,
    /// Reads pages by their number, so that a write in front repeats an entry.
    CountsPages => pages_by_id_neither_repeat_nor_skip_under_writes,
    /// A page starts behind the *time* of the last entry, so that others of that time are left out.
    SkipsAnEntryBetweenPages => pages_newest_first_neither_repeat_nor_skip_under_writes,
    /// Newest first by the last write.
    ListsByTheLastWrite => newest_first_is_by_the_first_failure,
    /// A full page always has a next.
    AlwaysSaysThatThereIsMore => the_last_page_has_no_next,
    /// Does not look at the class that was asked for.
    IgnoresTheClass => every_filter_means_what_the_query_says,
    /// Counts what failed once and succeeded since.
    GroupsWhatHasSucceeded => groups_count_failures_by_cause,
    /// Decides the changes of one call on what was held before it.
    LetsTwoClaimsInOneCallWin => of_two_claims_in_one_call_one_wins,
    /// Looks whether a change takes, and writes it later.
    LetsTwoRacingClaimsWin => of_two_racing_claims_one_wins,
    /// Does not look at the revision.
    IgnoresTheRevision => a_change_takes_only_on_the_held_revision,
    /// A claim takes whichever failure it was made about.
    ClaimsAnotherFailure => a_claim_about_an_older_failure_is_refused,
    /// Binds a resolution to the record, not to its failure.
    LetsAResolutionOutliveItsFailure => a_resolution_does_not_outlive_its_failure,
    /// Binds a decision on a blocking record to one try of it.
    ForgetsADecisionAtEachRetry => a_decision_on_a_blocking_record_stands_while_it_is_retried,
    /// Writes the resolution that an entry brings.
    RecordsResolutions => record_never_touches_a_resolution,
    /// Purges by age alone, what is in flight included.
    PurgesWhatIsInFlight => purge_never_takes_what_is_in_flight_or_blocking,
    /// Purges what somebody is replaying.
    PurgesWhatIsBeingReplayed => purge_never_takes_what_is_being_replayed,
    /// Purges failures that nobody has decided about.
    PurgesOpenFailures => purge_never_takes_an_open_failure,
    /// Purges all that may go.
    PurgesWithoutLimit => purge_takes_no_more_than_its_limit_the_oldest_first,
    /// Puts all services into one namespace.
    SharesNamespaces => namespaces_are_kept_apart,
    /// Does not look at the cluster.
    AdmitsAnyCluster => another_cluster_under_the_same_name_is_refused,
    /// Refuses a call without entries.
    RefusesAnEmptyCall => an_empty_call_changes_nothing,
    /// Keeps the greatest positions of any era.
    JoinsProgressAcrossEras => progress_of_a_greater_era_wins_whole,
    /// Keeps every gap that any writer ever named.
    UnitesTheGapsOfAllWriters => the_gaps_are_those_of_the_later_writer,
    /// Keeps the gaps of the row that came last.
    TakesTheGapsThatCameLast => the_gaps_are_those_of_the_later_writer,
    /// Keeps no word of what the store was never told.
    ForgetsWhatItMissed => the_gaps_are_those_of_the_later_writer,
    /// Of two rows of one writer the gaps of the later call stay.
    KeepsTheGapsOfOneRow => progress_of_one_writer_unites_its_gaps,
    /// Lists partitions as text orders them.
    OrdersPartitionsAsText => progress_is_one_row_per_partition_in_order,
    /// Keeps no progress over a reopen.
    ForgetsProgressOnReopen => progress_survives_a_reopen,
    /// Loses the time of the next try.
    DropsTheNextTry => every_field_comes_back,
    /// Has room for an era in 63 bits.
    ReadsErasAsSigned => numbers_come_back_unchanged_to_their_bounds,
    /// Takes two topics for one that differ in case alone.
    ReadsTopicsWithoutCase => topics_with_odd_names_are_kept_apart,
    /// Answers in the order of ids.
    GetsInItsOwnOrder => get_answers_in_the_order_it_was_asked,
    /// Says that a skip took on a record that does not block.
    SkipsWhatDoesNotBlock => only_what_is_blocking_can_be_retried_or_skipped,
    /// Says that a change of an unknown record took.
    ResolvesWhatIsUnknown => an_unknown_record_is_not_resolved,
    /// Gives a page of any size.
    ListsAsManyAsAsked => a_page_is_bounded,
    /// Reads a cursor of the other order as the end.
    TakesAnyCursor => a_cursor_of_the_other_order_is_refused,
    /// Purges what was written at the time itself.
    PurgesWhatIsOfThatTime => purge_takes_only_what_was_written_before,
    /// Keeps for ever what a reset left unfinished.
    KeepsWhatAnOlderEraLeft => purge_takes_what_an_older_era_left,
    /// Purges whatever may go, whichever kind was asked for.
    PurgesAnyKind => purge_takes_only_the_kind_it_was_asked_for,
    /// Takes entries over without what was decided about them.
    ImportsWithoutResolutions => import_brings_resolutions_with_their_revision,
    /// Counts revisions anew in what it takes over.
    ImportsWithoutRevisions => import_brings_resolutions_with_their_revision,
    /// Takes over a resolution whatever its revision.
    ImportsOlderResolutions => import_never_goes_back_to_an_older_revision,
    /// Takes over an outcome whatever its version.
    ImportsOverOutcomes => import_joins_outcomes_as_record_does,
    /// Raises the revision at each import.
    CountsImports => an_import_may_be_repeated,
    /// Of two writers that find nothing, both insert: the later one stays.
    InsertsTwice => writers_racing_on_an_absent_entry_leave_the_greater_version,
    /// Does not look at the topic that was asked for.
    IgnoresTheTopic => every_filter_means_what_the_query_says,
    /// Does not look at the statuses that were asked for.
    IgnoresTheStatus => every_filter_means_what_the_query_says,
    /// Reads a key as a prefix.
    ReadsAKeyAsAPrefix => every_filter_means_what_the_query_says,
    /// Includes the end of a time.
    IncludesTheEndOfATime => every_filter_means_what_the_query_says,
    /// Reads a text as a pattern of SQL.
    ReadsATextAsAPattern => a_text_is_searched_as_it_is_written,
    /// Minds the case of a text.
    MindsTheCaseOfAText => a_text_is_searched_as_it_is_written,
    /// Folds the case of letters beyond A to Z.
    FoldsEveryCase => a_text_is_searched_as_it_is_written,
    /// Leaves an entry at each ping.
    PingsWithAnEntry => a_healthy_store_answers_a_ping,
}
