//! Calls that may outlast their own timeout, on a thread of their own.
//!
//! librdkafka's transactional calls take a timeout and overrun it: `send_offsets_to_transaction` by 41 and 53 s while the
//! group's coordinator moved. A lane that waited for them would neither poll nor say why. So they run here, and the lane
//! waits no longer than it says.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

type Job = Box<dyn FnOnce() + Send>;

/// Threads of this process whose call has not returned in time.
static LATE: AtomicUsize = AtomicUsize::new(0);

/// How many threads of this process wait in a call that has not returned in time.
pub(super) fn late() -> usize {
    LATE.load(SeqCst)
}

/// A thread that runs one call after another. It ends when this is dropped and its last call has returned.
pub(super) struct Caller {
    jobs: mpsc::Sender<Job>,
    is_late: Arc<AtomicBool>,
}

impl Caller {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, taken) = mpsc::channel::<Job>();
        let is_late = Arc::new(AtomicBool::new(false));
        let was_late = is_late.clone();
        let work = move || {
            for job in taken {
                job();
                if was_late.swap(false, SeqCst) {
                    LATE.fetch_sub(1, SeqCst);
                }
            }
        };
        thread::Builder::new().name("kafka-call".into()).spawn(work)?;
        Ok(Self { jobs, is_late })
    }

    /// Runs `call` and waits for its answer, at most `limit`. None: it is late, and no other call can be made before it
    /// returns, so the client that it was made on is to be dropped.
    pub(super) fn call<O: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce() -> O + Send + 'static,
    ) -> Option<O> {
        if self.is_late() {
            return None;
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let job = move || drop(answer.send(call()));
        self.jobs.send(Box::new(job)).ok()?;
        let outcome = answered.recv_timeout(limit).ok();
        if outcome.is_none() {
            self.is_late.store(true, SeqCst);
            LATE.fetch_add(1, SeqCst);
        }
        outcome
    }

    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(SeqCst)
    }

    /// Leaves a last job behind, which runs as soon as every call has returned.
    pub(super) fn leave(self, last: impl FnOnce() + Send + 'static) {
        if let Err(unsent) = self.jobs.send(Box::new(last)) {
            // Its thread is gone, which only a panic in a call can do. What the job would let go, something may still use.
            std::mem::forget(unsent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_call_that_outlasts_its_limit_keeps_nobody_waiting_and_what_is_left_for_it_runs_after_it() {
        let caller = Caller::start().unwrap();
        assert_eq!(caller.call(Duration::from_secs(5), || 7), Some(7));
        let (go_on, wait) = mpsc::channel::<()>();
        let returned = Arc::new(AtomicBool::new(false));
        let saw = returned.clone();
        let begun = Instant::now();
        let late = caller.call(Duration::from_millis(50), move || {
            let _ = wait.recv();
            saw.store(true, SeqCst);
        });
        assert_eq!(late, None);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(caller.is_late() && super::late() >= 1);
        assert_eq!(
            caller.call(Duration::from_secs(5), || 8),
            None,
            "nothing runs beside it"
        );
        let (done, ended) = mpsc::channel();
        caller.leave(move || done.send(returned.load(SeqCst)).unwrap());
        assert!(ended.recv_timeout(Duration::from_millis(50)).is_err());
        drop(go_on);
        assert_eq!(
            ended.recv_timeout(Duration::from_secs(5)),
            Ok(true),
            "after it, not before"
        );
    }
}
