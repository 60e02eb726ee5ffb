//! The steps of a transaction, and a fault at each.

use std::collections::BTreeMap;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::sleep;
use tracker_api::Partition;

use super::SimSession;
use crate::{
    kafka::{
        Aborted, Answer, Attempt, Blame, Committed, Error, ErrorKind, Failed, Membership, Refused, Send,
        What, blame,
    },
    sim::{
        fate::REFUSED,
        faults::{Step, Strike},
        group::Refusal,
        kafka::Fault,
        schedule::TRANSACTION_TIMEOUT,
    },
};

pub(super) fn retriable(message: &str) -> Error {
    Error {
        kind: ErrorKind::Retriable,
        message: message.to_owned(),
    }
}

pub(super) fn fenced(message: &str) -> Error {
    Error {
        kind: ErrorKind::Fenced,
        message: message.to_owned(),
    }
}

impl SimSession {
    /// Aborts, and recycles as after every abort.
    async fn abort(&mut self, why: Aborted) -> Aborted {
        let strike = self.step(Step::Abort).await;
        let (id, epoch) = (self.transactional_id.clone(), self.epoch);
        match strike {
            Strike::RequestLost => {}
            Strike::Late(span) => self.sim.end_late(&id, epoch, false, span),
            strike => {
                let ended = self.sim.end(&id, epoch, false);
                if let Strike::Copy(span) = strike {
                    self.sim.end_late(&id, epoch, false, span);
                }
                if ended.is_err() {
                    return Aborted::Fenced(fenced("the abort was refused: another producer has our id"));
                }
            }
        }
        if self.sim.world().recycles {
            self.recycle().await;
        }
        why
    }

    /// What the brokers answer to an attempt that holds an output which they never take: for all that travel in its request
    /// the same, and without naming it. So only the first requests that are under way together are answered.
    fn answer(&mut self, attempt: &Attempt) -> Option<Aborted> {
        const UNDER_WAY: usize = 5;
        let is_output = |send: &Send| &*send.topic == "target";
        let is_refused = |send: &Send| is_output(send) && send.value.as_deref() == Some(REFUSED.as_bytes());
        let first = attempt.sends.iter().position(is_refused)?;
        let code = |index: usize, send: &Send| match self.alone {
            true if index >= first + UNDER_WAY => Some(Code::PurgeQueue),
            true => is_refused(send).then_some(Code::MessageSizeTooLarge),
            false => is_output(send).then_some(Code::MessageSizeTooLarge),
        };
        let all = attempt.sends.iter().enumerate();
        let failed: Vec<Failed> = all
            .filter_map(|(index, send)| {
                Some(Failed {
                    index,
                    partition: 0,
                    code: code(index, send)?,
                })
            })
            .collect();
        let answer = Answer {
            sends: &attempt.sends,
            failed: &failed,
            alone: self.alone,
            complete: true,
            exact: false,
        };
        Some(match blame(&answer)? {
            Blame::Refused(refused) => Aborted::Refused(refused),
            Blame::Company { why, .. } => {
                self.alone = true;
                Aborted::Aborted(why)
            }
            Blame::Destination(why) => Aborted::Destination(why),
        })
    }

    fn has_lost(&self, partition: &Partition) -> bool {
        let gone = |news: &Membership| match news {
            Membership::Assigned(_) => false,
            Membership::Revoked(p) | Membership::Lost(p) => p.contains(partition),
        };
        !self.readers.contains_key(partition) || self.news.iter().any(gone)
    }

    pub(super) async fn try_transact(&mut self, attempt: &Attempt) -> Result<Committed, Aborted> {
        let refused = || Aborted::Fenced(fenced("refused: another producer has our id"));
        self.step(Step::Group).await;
        self.serve().map_err(Aborted::Fenced)?;
        let of_attempt = attempt.advance.iter().map(|a| &a.partition);
        let lost: Vec<_> = of_attempt.filter(|p| self.has_lost(p)).cloned().collect();
        if !lost.is_empty() {
            return Err(Aborted::LostPartitions(lost));
        }
        let metadata = self
            .sim
            .world()
            .kafka
            .group
            .metadata(&self.member)
            .filter(|m| m.generation >= 0);
        let Some(metadata) = metadata else {
            return Err(Aborted::NotMember(retriable("no generation yet")));
        };

        if self.step(Step::Begin).await == Strike::Fail {
            return Err(self.abort(Aborted::Aborted(retriable("begin"))).await);
        }
        let id = self.transactional_id.clone();
        let weight = 1.5 / attempt.sends.len().max(1) as f64;
        for (place, send) in attempt.sends.iter().enumerate() {
            match self.sim.step(self.process, Step::Produce, weight).await {
                Strike::Fail => return Err(self.abort(Aborted::Aborted(retriable("produce"))).await),
                Strike::Refuse => {
                    self.sim.world().laws.refused(send);
                    let why = Error {
                        kind: ErrorKind::Refused,
                        message: "MessageSizeTooLarge".to_owned(),
                    };
                    let what = What::Record;
                    let refused = Refused {
                        send: place,
                        what,
                        why,
                    };
                    return Err(self.abort(Aborted::Refused(vec![refused])).await);
                }
                _ => {}
            }
            let produced = self.sim.world().kafka.produce(&id, self.epoch, attempt.id, send);
            produced.map_err(|_| refused())?;
        }
        if let Some(aborted) = self.answer(attempt) {
            return Err(self.abort(aborted).await);
        }
        let cost = self.sim.world().cost * u32::try_from(attempt.sends.len()).unwrap_or(u32::MAX);
        let deadline = TRANSACTION_TIMEOUT.mul_f64(2.0 / 3.0);
        sleep(cost.min(deadline)).await;
        if cost > deadline {
            return Err(self
                .abort(Aborted::Late(retriable("some are not acknowledged")))
                .await);
        }
        if self.step(Step::Delivered).await == Strike::Fail {
            return Err(self.abort(Aborted::Aborted(retriable("a delivery error"))).await);
        }

        let mut late = false;
        let offsets: BTreeMap<_, _> = attempt
            .advance
            .iter()
            .map(|a| (a.partition.clone(), (a.next, a.note.clone())))
            .collect();
        match self.step(Step::Offsets).await {
            Strike::Fail => return Err(self.abort(Aborted::Aborted(retriable("offsets"))).await),
            Strike::Copy(span) => {
                late = true;
                self.sim
                    .offsets_late((&id, self.epoch, attempt.id), &metadata, &offsets, span);
            }
            _ => {}
        }
        let sent = self
            .sim
            .world()
            .kafka
            .offsets(&id, self.epoch, attempt.id, &metadata, &offsets);
        match sent {
            Ok(()) => {}
            Err(Fault::Fenced) => return Err(refused()),
            Err(Fault::Group(Refusal::FencedInstance)) => {
                return Err(self
                    .abort(Aborted::Fenced(fenced(
                        "offsets: another member uses our instance",
                    )))
                    .await);
            }
            Err(Fault::Group(refusal)) => {
                return Err(self
                    .abort(Aborted::NotMember(retriable(&format!("offsets: {refusal:?}"))))
                    .await);
            }
        }

        let unknown = || Aborted::Unknown(retriable("the commit was not answered"));
        match self.step(Step::Commit).await {
            Strike::Fail => return Err(self.abort(Aborted::Aborted(retriable("commit"))).await),
            Strike::AnswerLost => {
                // Applied, or fenced: nobody has told us.
                let _ = self.sim.end(&id, self.epoch, true);
                return Err(unknown());
            }
            Strike::Fenced => {
                let _ = self.sim.end(&id, self.epoch, true);
                return Err(refused());
            }
            Strike::RequestLost => return Err(unknown()),
            Strike::Late(span) => {
                self.sim.end_late(&id, self.epoch, true, span);
                return Err(unknown());
            }
            Strike::Copy(span) => {
                late = true;
                self.sim.end_late(&id, self.epoch, true, span);
            }
            _ => {}
        }
        self.sim.end(&id, self.epoch, true).map_err(|_| refused())?;
        self.alone = false;
        self.step(Step::Committed).await;
        if late && self.sim.world().recycles {
            self.recycle().await;
        }
        Ok(Committed::by_session(attempt.id))
    }
}
