//! Whether the group answers a member, as far as the client that speaks for it can tell.
//!
//! librdkafka calls nobody back about heartbeats, but it shows their fate in two places. It takes our membership away (no
//! member id, no generation) when no heartbeat was answered for `session.timeout.ms`; under the newer protocol, where the
//! broker alone keeps that time, it does not. And its statistics say whether it has a coordinator to speak to. A client
//! that lost all its brokers (2.12.1, after a broker froze) stays without one for ever: see decision 0023.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Error, ErrorKind, Silent};

/// Statistics come each second; older ones say nothing.
const RECENT: Duration = Duration::from_secs(5);

/// How long after a silence a late copy of our own request to join may fence us.
const OWN_JOIN: Duration = Duration::from_secs(120);
/// A client without a coordinator for so long was not answered. Shorter than any session, as the copies are sent when one has
/// run out; longer than a client needs for a connection after its process was stopped.
const ALONE: Duration = Duration::from_secs(3);

/// What `statistics.interval.ms` must be for this, in milliseconds.
pub(super) const STATISTICS: &str = "1000";

/// How long a lane waits for a group that does not answer before its session is made anew: a minute longer than the group
/// waits for the lane, so that a client that can find back has done so.
pub(crate) fn patience(session_timeout: Duration, max_poll_interval: Duration) -> Duration {
    (session_timeout + Duration::from_secs(60)).min(max_poll_interval)
}

/// What a client's statistics tell of its group's coordinator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coordinator {
    /// Whether there was one when last told, and when that was.
    last: Option<(bool, Instant)>,
    /// By the client's own clock, in microseconds: the last statistics, and since when there has been none.
    told: i64,
    alone: Option<i64>,
    /// When it was last told that there had been none for [`ALONE`].
    unanswered: Option<Instant>,
}

impl Coordinator {
    /// Takes in a client's statistics; those that do not speak of a group say nothing.
    pub(super) fn tell(&mut self, statistics: &[u8], now: Instant) {
        #[derive(Deserialize)]
        struct Statistics {
            ts: i64,
            cgrp: Option<Group>,
        }
        #[derive(Deserialize)]
        struct Group {
            state: String,
        }
        let read: Option<Statistics> = serde_json::from_slice(statistics).ok();
        let Some((ts, group)) = read.and_then(|read| Some((read.ts, read.cgrp?))) else {
            return;
        };
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let is_there = group.state == "up";
        // They come each second: where they did not, this process stood still, and not the broker.
        if is_there || ts.saturating_sub(self.told) > micros(RECENT) {
            self.alone = None;
        }
        self.told = ts;
        self.last = Some((is_there, now));
        if !is_there && ts.saturating_sub(*self.alone.get_or_insert(ts)) >= micros(ALONE) {
            self.unanswered = Some(now);
        }
    }

    /// Whether there was one when last told, and when that was.
    pub(super) fn last(&self) -> Option<(bool, Instant)> {
        self.last
    }

    /// What an error of the consumer means for the session. A static member that was not answered has asked to join more
    /// than once, and a broker that thaws takes the copies one after another: the later one fences the earlier one. So soon
    /// after a silence it need not be another process, and a new session tells: one that fences that too is.
    pub(super) fn read(&self, error: Error, now: Instant) -> Error {
        let own = self
            .unanswered
            .is_some_and(|then| now.saturating_duration_since(then) < OWN_JOIN);
        if error.kind != ErrorKind::Fenced || !own {
            return error;
        }
        Error {
            kind: ErrorKind::Fatal,
            message: format!(
                "a late copy of a request of our own to join may have fenced us, after Kafka did not answer: {}",
                error.message
            ),
        }
    }
}

/// For how long the group has not answered.
#[derive(Debug)]
pub(super) struct Presence {
    session_timeout: Duration,
    max_poll_interval: Duration,
    /// When we were last a member with a coordinator, or began.
    seen: Instant,
    looked: Instant,
    was_member: bool,
}

impl Presence {
    pub(super) fn new(session_timeout: Duration, max_poll_interval: Duration, now: Instant) -> Self {
        Self {
            session_timeout,
            max_poll_interval,
            seen: now,
            looked: now,
            was_member: false,
        }
    }

    /// Takes a look, about once a second: whether the client is a member now, and what the last statistics said and when.
    pub(super) fn look(
        &mut self,
        now: Instant,
        is_member: bool,
        coordinator: Option<(bool, Instant)>,
    ) -> Option<Silent> {
        // What happened while nobody polled, or the process stood still, nobody was told.
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        if gap > RECENT {
            self.seen += gap;
        }
        // Without recent statistics nothing speaks against it.
        let has_coordinator = coordinator
            .filter(|(_, at)| now.saturating_duration_since(*at) < RECENT)
            .is_none_or(|(has, _)| has);
        if std::mem::replace(&mut self.was_member, is_member) && !is_member {
            // librdkafka has waited that long already.
            let last = now.checked_sub(self.session_timeout).unwrap_or(now);
            self.seen = self.seen.min(last);
        }
        if is_member && has_coordinator {
            self.seen = now;
        }
        let silent = now.saturating_duration_since(self.seen);
        // Who has a coordinator and is no member yet may wait for the others of its group, which have so long.
        let patience = if has_coordinator {
            self.max_poll_interval
        } else {
            patience(self.session_timeout, self.max_poll_interval)
        };
        (silent >= self.session_timeout).then(|| {
            let what = if has_coordinator {
                "the group has not taken this member in"
            } else {
                "no coordinator of the group answers this member"
            };
            Silent {
                why: format!(
                    "waiting for Kafka: {what} for longer than `session-timeout` ({:?}). Its partitions may be others' now; \
                     after {patience:?} it begins anew with a new client",
                    self.session_timeout
                ),
                lost: silent >= patience,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Member {
        presence: Presence,
        begun: Instant,
    }

    impl Member {
        fn new() -> Self {
            let begun = Instant::now();
            let presence = Presence::new(Duration::from_secs(10), Duration::from_secs(300), begun);
            Self { presence, begun }
        }

        /// `lost` of what is said after so many seconds, each of which saw a look; none if nothing is.
        fn at(&mut self, second: u64, is_member: bool, coordinator: bool) -> Option<bool> {
            let now = self.begun + Duration::from_secs(second);
            self.presence.looked = now - Duration::from_secs(1);
            let silent = self.presence.look(now, is_member, Some((coordinator, now)));
            silent.map(|silent| silent.lost)
        }
    }

    #[test]
    fn a_member_that_the_client_gave_up_is_silent_at_once_and_lost_after_a_minute_more() {
        let mut member = Member::new();
        assert_eq!(member.at(100, true, true), None);
        assert_eq!(
            member.at(101, false, false),
            Some(false),
            "10 s have passed already"
        );
        assert_eq!(member.at(160, false, false), Some(false));
        assert_eq!(member.at(161, false, false), Some(true));
    }

    #[test]
    fn a_member_without_a_coordinator_is_silent_after_the_session_timeout() {
        let mut member = Member::new();
        assert_eq!(member.at(100, true, true), None);
        assert_eq!(member.at(109, true, false), None);
        assert_eq!(member.at(110, true, false), Some(false));
        assert_eq!(member.at(169, true, false), Some(false));
        assert_eq!(member.at(170, true, false), Some(true));
        assert_eq!(member.at(171, true, true), None, "it found back");
    }

    #[test]
    fn who_waits_for_the_others_of_its_group_is_not_lost_before_they_are() {
        let mut member = Member::new();
        assert_eq!(member.at(9, false, true), None);
        assert_eq!(member.at(10, false, true), Some(false));
        assert_eq!(member.at(299, false, true), Some(false));
        assert_eq!(member.at(300, false, true), Some(true));
    }

    #[test]
    fn old_statistics_say_nothing() {
        let mut member = Member::new();
        let old = member.begun;
        let now = old + Duration::from_secs(60);
        member.presence.looked = now - Duration::from_secs(1);
        assert_eq!(member.presence.look(now, true, Some((false, old))), None);
        assert_eq!(member.presence.look(now, true, None), None);
    }

    #[test]
    fn time_in_which_nobody_looked_says_nothing() {
        let mut member = Member::new();
        assert_eq!(member.at(1, true, true), None);
        let later = member.begun + Duration::from_secs(200);
        assert_eq!(member.presence.look(later, true, Some((false, later))), None);
    }

    /// A client's statistics after so many seconds of its clock.
    fn tell(coordinator: &mut Coordinator, second: i64, state: &str, now: Instant) {
        let statistics = format!(
            r#"{{"ts":{},"cgrp":{{"state":"{state}","x":1}}}}"#,
            second * 1_000_000
        );
        coordinator.tell(statistics.as_bytes(), now);
    }

    #[test]
    fn who_is_fenced_right_after_a_silence_may_have_fenced_itself_and_nobody_else_may() {
        let now = Instant::now();
        let kind = |coordinator: &Coordinator, second| {
            let fenced = Error {
                kind: ErrorKind::Fenced,
                message: "fenced".into(),
            };
            coordinator.read(fenced, now + Duration::from_secs(second)).kind
        };
        let mut coordinator = Coordinator::default();
        tell(&mut coordinator, 1, "up", now);
        for second in 2..5 {
            tell(&mut coordinator, second, "query-coord", now);
        }
        assert_eq!(kind(&coordinator, 0), ErrorKind::Fenced, "it was answered");
        // All told at once, by the first poll after a transaction.
        for second in 5..20 {
            tell(&mut coordinator, second, "query-coord", now);
        }
        tell(&mut coordinator, 20, "up", now);
        assert_eq!(kind(&coordinator, 0), ErrorKind::Fatal);
        assert_eq!(kind(&coordinator, 119), ErrorKind::Fatal);
        assert_eq!(kind(&coordinator, 121), ErrorKind::Fenced);
        // A process that was stopped itself, while a twin took over.
        let mut sleeper = Coordinator::default();
        tell(&mut sleeper, 1, "up", now);
        tell(&mut sleeper, 60, "query-coord", now);
        tell(&mut sleeper, 61, "wait-broker-transport", now);
        tell(&mut sleeper, 62, "up", now);
        assert_eq!(kind(&sleeper, 0), ErrorKind::Fenced);
    }

    #[test]
    fn only_a_group_that_is_up_has_a_coordinator() {
        let now = Instant::now();
        let read = |state: &str| {
            let mut coordinator = Coordinator::default();
            tell(&mut coordinator, 1, state, now);
            coordinator.last()
        };
        assert_eq!(read("up"), Some((true, now)));
        for state in [
            "init",
            "query-coord",
            "wait-coord",
            "wait-broker",
            "wait-broker-transport",
        ] {
            assert_eq!(read(state), Some((false, now)), "{state}");
        }
        for nothing in ["{}", "nonsense", r#"{"ts":1}"#] {
            let mut coordinator = Coordinator::default();
            coordinator.tell(nothing.as_bytes(), now);
            assert_eq!(coordinator.last(), None);
        }
    }
}
