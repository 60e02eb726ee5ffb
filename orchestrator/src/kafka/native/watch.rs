use std::{
    collections::BTreeSet,
    ffi::{c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rdkafka::{bindings as sys, types::RDKafkaErrorCode as Code};

use crate::kafka::{blame::Failed, logs, plain::plain, verdict};

/// How long further answers are waited for when one record was refused: all that is under way is answered in this time or
/// not at all, as librdkafka gives up what it has not sent yet.
const GRACE: Duration = Duration::from_millis(500);
/// What librdkafka logs of a partition that cannot be part of a transaction, before and behind the topic's name: the error
/// that it raises names no topic.
const DENIED: (&str, &str) = ("Failed to add partition \"", "\" [");

const ADD_PARTITIONS: i16 = 24;
const ADD_OFFSETS: i16 = 25;
const END_TXN: i16 = 26;
const TXN_OFFSET_COMMIT: i16 = 28;
const INIT_PRODUCER_ID: i16 = 22;

/// How the sends of an attempt stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum Acks {
    /// Each was answered, well or not.
    All,
    /// Time was up first.
    Late,
}

/// What librdkafka's threads tell of one producer. It outlives the client.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The attempt that counts; reports of an earlier one are stale.
    attempt: AtomicU32,
    answered: AtomicU32,
    wanted: AtomicU32,
    errors: Mutex<Vec<Failed>>,
    /// Topics that the transaction may not write to.
    denied: Mutex<BTreeSet<String>>,
    changed: Condvar,
    unanswered: AtomicU32,
    unanswered_init: AtomicBool,
    /// The last refusal of a connection, with what to look at.
    refused: Mutex<Option<String>>,
}

impl Watch {
    /// Forgets the attempt before.
    pub(super) fn begin(&self) {
        self.attempt.fetch_add(1, SeqCst);
        self.answered.store(0, SeqCst);
        self.wanted.store(u32::MAX, SeqCst);
        self.errors().clear();
        self.denied().clear();
    }

    /// What a record carries through librdkafka: its attempt and its place in it.
    pub(super) fn mark(&self, index: usize) -> *mut c_void {
        let mark = (u64::from(self.attempt.load(SeqCst)) << 32) | u64::try_from(index).unwrap_or(u64::MAX);
        std::ptr::without_provenance_mut(usize::try_from(mark).unwrap_or(0))
    }

    /// The place of a record of the attempt that counts.
    fn place(&self, mark: *mut c_void) -> Option<usize> {
        let mark = u64::try_from(mark.addr()).unwrap_or(0);
        (mark >> 32 == u64::from(self.attempt.load(SeqCst)))
            .then(|| usize::try_from(mark & u64::from(u32::MAX)).unwrap_or(0))
    }

    fn errors(&self) -> MutexGuard<'_, Vec<Failed>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn denied(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `wanted` records were answered, and not much longer once one was refused. Woken by the last of them.
    pub(super) fn wait(&self, wanted: usize, mut deadline: Instant) -> Acks {
        let mut refused = false;
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        self.wanted.store(wanted, SeqCst);
        let mut errors = self.errors();
        while self.answered.load(SeqCst) < wanted {
            if !refused && !errors.is_empty() {
                refused = true;
                deadline = deadline.min(Instant::now() + GRACE);
            }
            let Some(left) = deadline
                .checked_duration_since(Instant::now())
                .filter(|d| !d.is_zero())
            else {
                return Acks::Late;
            };
            errors = self
                .changed
                .wait_timeout(errors, left.min(Duration::from_millis(100)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Acks::All
    }

    pub(super) fn answered(&self) -> usize {
        usize::try_from(self.answered.load(SeqCst)).unwrap_or(usize::MAX)
    }

    /// The records that were not delivered, by place.
    pub(super) fn failed(&self) -> Vec<Failed> {
        let mut failed = self.errors().clone();
        failed.sort_unstable_by_key(|failed| failed.index);
        failed
    }

    /// Whether a request that ends or changes a transaction failed on its way: its copy may arrive late.
    pub(super) fn has_unanswered(&self) -> bool {
        self.unanswered.load(SeqCst) > 0
    }

    /// The same of the request that fences predecessors: a late copy of it fences ourselves.
    pub(super) fn has_unanswered_init(&self) -> bool {
        self.unanswered_init.load(SeqCst)
    }

    /// Why a broker refused the connection, and what to look at; none if none did.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn report(&self, mark: *mut c_void, partition: i32, code: Code) {
        if let Some(index) = self.place(mark) {
            self.errors().push(Failed {
                index,
                partition,
                code,
            });
        }
    }

    fn heed(&self, line: &str) {
        let topic = line
            .split_once(DENIED.0)
            .and_then(|(_, rest)| rest.split_once(DENIED.1));
        let code = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        // SAFETY: a constant string.
        let why = unsafe { super::text(sys::rd_kafka_err2str(code)) };
        if let Some((topic, _)) = topic
            && line.ends_with(&why)
        {
            self.denied().insert(topic.to_owned());
        }
    }

    fn answer(&self, mark: *mut c_void) {
        if self.place(mark).is_some() && self.answered.fetch_add(1, SeqCst) + 1 >= self.wanted.load(SeqCst) {
            drop(self.errors());
            self.changed.notify_all();
        }
    }
}

/// Runs the body of a callback: a panic that left it would abort the process.
fn guarded(body: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(body)));
}

/// Attaches the interceptors to a client that is being created.
///
/// # Safety
/// Called by librdkafka alone, with `opaque` a `Watch` that outlives the client.
pub(super) unsafe extern "C" fn on_new(
    client: *mut sys::rd_kafka_t,
    _: *const sys::rd_kafka_conf_t,
    opaque: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> sys::rd_kafka_resp_err_t {
    let name = c"orchestrator".as_ptr();
    // SAFETY: the client is alive; `opaque` is handed on as it came.
    unsafe {
        let first =
            sys::rd_kafka_interceptor_add_on_response_received(client, name, Some(on_response), opaque);
        let second = sys::rd_kafka_interceptor_add_on_acknowledgement(client, name, Some(on_answer), opaque);
        if first == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            second
        } else {
            first
        }
    }
}

/// A response, or why there is none.
///
/// # Safety
/// As [`on_new`].
#[allow(clippy::too_many_arguments, reason = "librdkafka's signature")]
unsafe extern "C" fn on_response(
    _: *mut sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    api: i16,
    _: i16,
    _: i32,
    _: usize,
    _: i64,
    error: sys::rd_kafka_resp_err_t,
    opaque: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    let failed = error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        && error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__DESTROY;
    if failed {
        // SAFETY: by contract.
        let watch = unsafe { &*opaque.cast::<Watch>() };
        match api {
            ADD_PARTITIONS | ADD_OFFSETS | END_TXN | TXN_OFFSET_COMMIT => {
                watch.unanswered.fetch_add(1, SeqCst);
            }
            INIT_PRODUCER_ID => watch.unanswered_init.store(true, SeqCst),
            _ => {}
        }
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// A record was delivered or given up.
///
/// # Safety
/// As [`on_new`]; the message is alive.
unsafe extern "C" fn on_answer(
    _: *mut sys::rd_kafka_t,
    message: *mut sys::rd_kafka_message_t,
    opaque: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: by contract.
    let (watch, mark) = unsafe { (&*opaque.cast::<Watch>(), (*message)._private) };
    guarded(|| watch.answer(mark));
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// A record that was not delivered. Called by whoever polls, before the record leaves the out queue.
///
/// # Safety
/// As [`on_answer`], with the client's opaque.
pub(super) unsafe extern "C" fn on_report(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: by contract.
    let (watch, message) = unsafe { (&*opaque.cast::<Watch>(), &*message) };
    if message.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        guarded(|| watch.report(message._private, message.partition, message.err.into()));
    }
}

/// A line of librdkafka's log.
///
/// # Safety
/// The client and the strings are alive; its opaque is a `Watch` that outlives it.
pub(super) unsafe extern "C" fn on_log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    guarded(|| {
        // SAFETY: by contract.
        let (facility, line, watch) = unsafe {
            let watch = sys::rd_kafka_opaque(client).cast::<Watch>().as_ref();
            (super::text(facility), super::text(line), watch)
        };
        if let Some(watch) = watch.filter(|_| facility == "ADDPARTS") {
            watch.heed(&line);
        }
        logs::line(level, &facility, &plain(&line));
    });
}

/// A fault of the connection or the client, which librdkafka logs or answers elsewhere too.
///
/// # Safety
/// The string is alive; `opaque` is the client's.
pub(super) unsafe extern "C" fn on_error(
    _: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    guarded(|| {
        // SAFETY: by contract.
        let (watch, reason) = unsafe { (&*opaque.cast::<Watch>(), super::text(reason)) };
        let reason = plain(&reason);
        logs::line(4, "PRODUCER", &reason);
        if let Some(refusal) = verdict::refusal_of_number(code) {
            let mut refused = watch.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some(format!("{reason}. {refusal}"));
        }
    });
}
