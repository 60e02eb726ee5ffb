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

/// What `statistics.interval.ms` must be for this, in milliseconds.
pub(super) const STATISTICS: &str = "1000";

/// How long a lane waits for a group that does not answer before its session is made anew: a minute longer than the group
/// waits for the lane, so that a client that can find back has done so.
pub(crate) fn patience(session_timeout: Duration, max_poll_interval: Duration) -> Duration {
    (session_timeout + Duration::from_secs(60)).min(max_poll_interval)
}

/// Whether librdkafka's statistics say that the client has a coordinator; none if they do not speak of a group.
pub(super) fn has_coordinator(statistics: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Statistics {
        cgrp: Option<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        state: String,
    }
    let read: Statistics = serde_json::from_slice(statistics).ok()?;
    Some(read.cgrp?.state == "up")
}

/// For how long the group has not answered.
#[derive(Debug)]
pub(super) struct Presence {
    session_timeout: Duration,
    max_poll_interval: Duration,
    /// When we were last a member with a coordinator, or began.
    seen: Instant,
    looked: Instant,
    /// Since when the client has had no coordinator.
    alone: Option<Instant>,
    /// When it last had had none for longer than the session may be silent.
    unanswered: Option<Instant>,
    was_member: bool,
}

impl Presence {
    pub(super) fn new(session_timeout: Duration, max_poll_interval: Duration, now: Instant) -> Self {
        Self {
            session_timeout,
            max_poll_interval,
            seen: now,
            looked: now,
            alone: None,
            unanswered: None,
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
            self.alone = None;
        }
        // Without recent statistics nothing speaks against it.
        let has_coordinator = coordinator
            .filter(|(_, at)| now.saturating_duration_since(*at) < RECENT)
            .is_none_or(|(has, _)| has);
        if has_coordinator {
            self.alone = None;
        } else if now.saturating_duration_since(*self.alone.get_or_insert(now)) >= self.session_timeout {
            self.unanswered = Some(now);
        }
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

impl Presence {
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

    #[test]
    fn who_is_fenced_right_after_a_silence_may_have_fenced_itself_and_nobody_else_may() {
        let mut member = Member::new();
        let kind = |member: &Member, second| {
            let fenced = Error {
                kind: ErrorKind::Fenced,
                message: "fenced".into(),
            };
            member
                .presence
                .read(fenced, member.begun + Duration::from_secs(second))
                .kind
        };
        assert_eq!(member.at(100, true, true), None);
        member.at(101, false, true);
        assert_eq!(kind(&member, 101), ErrorKind::Fenced, "it was answered");
        for second in 102..113 {
            member.at(second, false, false);
        }
        assert_eq!(kind(&member, 113), ErrorKind::Fatal);
        assert_eq!(kind(&member, 231), ErrorKind::Fatal);
        assert_eq!(kind(&member, 233), ErrorKind::Fenced);
        // A process that was stopped itself, while a twin took over, has not looked.
        let mut sleeper = Member::new();
        sleeper.at(100, true, true);
        let woken = sleeper.begun + Duration::from_secs(200);
        sleeper.presence.look(woken, false, Some((false, woken)));
        assert_eq!(kind(&sleeper, 200), ErrorKind::Fenced);
    }

    #[test]
    fn only_a_group_that_is_up_has_a_coordinator() {
        let read =
            |state: &str| has_coordinator(format!(r#"{{"cgrp":{{"state":"{state}","x":1}}}}"#).as_bytes());
        assert_eq!(read("up"), Some(true));
        for state in [
            "init",
            "query-coord",
            "wait-coord",
            "wait-broker",
            "wait-broker-transport",
        ] {
            assert_eq!(read(state), Some(false), "{state}");
        }
        assert_eq!(has_coordinator(b"{}"), None);
        assert_eq!(has_coordinator(b"nonsense"), None);
    }
}
