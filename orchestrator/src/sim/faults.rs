//! What may go wrong, where, and how often.

use std::time::Duration;

use rand::{Rng, seq::IndexedRandom};

use super::world::World;

/// Where a fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Poll,
    /// Records are in hand, and nothing else has happened.
    Polled,
    Read,
    Start,
    Group,
    Begin,
    Produce,
    Delivered,
    Offsets,
    Commit,
    Committed,
    Abort,
    Init,
    Settle,
    Store,
}

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Strike {
    Nothing,
    Slow(Duration),
    /// The process dies here.
    Crash,
    /// SIGSTOP, and SIGCONT after so long.
    Freeze(Duration),
    /// The coordinator gives the member up, although it lives.
    Evict,
    /// The call fails, and had no effect.
    Fail,
    /// The record is refused.
    Refuse,
    /// The call has its effect, and its answer is lost.
    AnswerLost,
    /// The call has its effect, and a second copy of it is answered as fenced: its answer came after somebody else's word.
    Fenced,
    /// The call's request is lost.
    RequestLost,
    /// The call's request arrives so much later; nobody knows.
    Late(Duration),
    /// The call succeeds at its second copy; the first is still under way, for so long.
    Copy(Duration),
}

/// A fault that a directed schedule orders.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Of which process's slot; none is anybody's.
    pub(super) slot: Option<usize>,
    pub(super) step: Step,
    /// How many such steps pass first.
    pub(super) after: usize,
    pub(super) strike: Strike,
}

impl World {
    pub(super) fn draw(&mut self, process: usize, step: Step, weight: f64) -> Strike {
        let slot = self.processes[process].slot;
        let of = |p: &Planned| p.step == step && p.slot.is_none_or(|s| s == slot);
        if let Some(place) = self.plan.iter().position(of) {
            if let Some(after) = self.plan[place].after.checked_sub(1) {
                self.plan[place].after = after;
                return Strike::Nothing;
            }
            let strike = self.plan.remove(place).strike;
            self.count(step, strike);
            return strike;
        }
        let rate = if step == Step::Store {
            self.store_rate
        } else {
            self.rate
        };
        // A lane polls often and commits rarely.
        let usual = match step {
            Step::Poll | Step::Polled => 0.3,
            Step::Group | Step::Begin | Step::Delivered | Step::Offsets | Step::Abort | Step::Settle => 2.0,
            Step::Commit | Step::Committed => 5.0,
            _ => 1.0,
        };
        let biased = if self.bias == Some(step) { 10.0 } else { 1.0 };
        if rate == 0.0 || !self.rng.random_bool((rate * weight * usual * biased).min(0.8)) {
            return Strike::Nothing;
        }
        let brief = Duration::from_millis(self.rng.random_range(1..800));
        let long = Duration::from_millis(self.rng.random_range(1_000..20_000));
        let anywhere = [
            Strike::Slow(brief),
            Strike::Slow(long),
            Strike::Crash,
            Strike::Freeze(long),
            Strike::Evict,
        ];
        let own: &[Strike] = match step {
            Step::Poll | Step::Read | Step::Start | Step::Begin | Step::Delivered | Step::Settle => {
                &[Strike::Fail]
            }
            Step::Polled | Step::Group | Step::Committed => &[],
            Step::Produce => &[Strike::Fail, Strike::Refuse],
            Step::Offsets => &[Strike::Fail, Strike::Copy(brief), Strike::Copy(long)],
            Step::Commit => &[
                Strike::Fail,
                Strike::AnswerLost,
                Strike::Fenced,
                Strike::RequestLost,
                Strike::Late(brief),
                Strike::Late(long),
                Strike::Copy(brief),
                Strike::Copy(long),
            ],
            Step::Abort => &[Strike::RequestLost, Strike::Copy(brief), Strike::Late(brief)],
            Step::Init => &[Strike::Fail, Strike::AnswerLost],
            Step::Store => &[
                Strike::Fail,
                Strike::AnswerLost,
                Strike::Late(brief),
                Strike::Late(long),
                Strike::Slow(long),
            ],
        };
        let own_first = !own.is_empty() && self.rng.random_bool(0.7);
        let strike = if own_first {
            own.choose(&mut self.rng)
        } else {
            anywhere.choose(&mut self.rng)
        };
        let strike = *strike.unwrap_or(&Strike::Nothing);
        self.count(step, strike);
        strike
    }

    fn count(&mut self, step: Step, strike: Strike) {
        let text = format!("{strike:?}");
        let name = text.split('(').next().unwrap_or(&text);
        *self.struck.entry(format!("{name} at {step:?}")).or_default() += 1;
    }
}
