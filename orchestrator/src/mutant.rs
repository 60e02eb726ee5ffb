//! The wrong variants of the loop that the simulation must catch: the tests of the tests.
//!
//! In every build but a test's, [`active`] is a constant `false` and the branches behind it are compiled away.

/// One wrong variant of the lane, the recorder, the note or reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "each is named where it is hooked in, some only by the simulation"
)]
pub(crate) enum Mutant {
    /// A failure is written only after the commit that passes over it.
    SwapBeforeAndAfterFailure,
    /// A success is written before its commit.
    SwapAfterSuccess,
    /// A batch is dropped while its partition is still owned, and the consumer is not put back to C(p).
    NoRewindOnDrop,
    /// The offset of the last record is committed, not the one behind it.
    WrongOffset,
    /// A failure of an aborted attempt is confirmed as failed.
    ConfirmAborted,
    /// A failure whose attempt stopped before it is confirmed as failed.
    ConfirmStopped,
    /// The void at assignment takes an id that was not reserved before the ids the lane then uses.
    VoidWithFreshId,
    /// A replaced static twin that wakes writes as if its term were still the partition's.
    TwinWithoutTerm,
    /// A new owner forgets the unconfirmed attempts of the note that it found.
    ForgetUnconfirmed,
    /// Reconcile settles the entries of whatever era it finds by a C(p) and note that it read before.
    ReconcileSleepsAcrossReset,
    /// An unknown outcome is settled by a partition that the attempt did not advance.
    SettleByUnadvanced,
    /// A failure that only the fallback or the dead-letter topic holds leaves no gap in the note.
    FallbackWithoutGap,
    /// The fallback forgets a failure before the store has it.
    ForgetBeforeDrained,
    /// An outcome of an older era is not treated as absent.
    OldEraHides,
    /// A record that is read again is taken for succeeded, whatever the store holds of it.
    SkipWithoutSuccess,
    /// What an offset reset has jumped over while it was failing stays so.
    ResetLeavesFailing,
    /// An era that lies below one that the store knows stays.
    LowEraStays,
    /// An answer about a request is taken for one about its first record.
    BlameTheFirst,
    /// A record whose output is refused is tried again at once, as if it had not failed.
    RefusedWithoutBlock,
    /// What was not acknowledged in time is sent again as it was.
    LateWithoutShrinking,
    /// A group without offsets is new, whatever the store and the data directory know.
    VacuousFirstStart,
    /// A store that does not answer has never seen a partition.
    NoAnswerIsNeverSeen,
    /// Nobody looks at what the store had confirmed.
    ToldIgnored,
    /// A topic of the same name is the same topic.
    TopicIdIgnored,
    /// The store keeps every gap that a partition's row ever had.
    GapsOnlyGrow,
    /// A partition whose committed offset is pending keeps the others, and the group, waiting.
    PendingBlocksAll,
    /// The position is committed although records before it are still to be done.
    PositionOverWork,
}

/// Whether the loop is to be wrong in this way.
#[cfg(not(test))]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether the loop is to be wrong in this way, on this thread.
#[cfg(test)]
pub(crate) fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Runs `body` with the loop wrong in one way, on this thread only.
#[cfg(test)]
pub(crate) fn with<R>(mutant: Option<Mutant>, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Mutant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTIVE.set(self.0);
        }
    }
    let _restore = Restore(ACTIVE.replace(mutant));
    body()
}

#[cfg(test)]
mod tests {
    use super::{Mutant, active, with};

    #[test]
    fn a_mutant_is_active_on_its_own_thread_and_only_within_its_body() {
        let elsewhere = with(Some(Mutant::WrongOffset), || {
            assert!(active(Mutant::WrongOffset));
            assert!(!active(Mutant::OldEraHides));
            std::thread::spawn(|| active(Mutant::WrongOffset)).join()
        });
        assert_eq!(elsewhere.ok(), Some(false));
        assert!(!active(Mutant::WrongOffset));
    }
}
