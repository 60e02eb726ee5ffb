use std::{
    collections::{BTreeSet, HashMap},
    ffi::{CString, c_int},
    mem::ManuallyDrop,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{bindings as sys, topic_partition_list::TopicPartitionList, types::RDKafkaErrorCode as Code};

use super::{
    Acks, GroupMetadata,
    caller::{self, Caller},
    conf::Conf,
    fields::{Fields, Headers},
    take,
    watch::{self, Watch},
};
type Outcome<T, E = TxnError> = std::result::Result<T, E>;

use crate::kafka::{ClientSettings, Error, ErrorKind, Result, Send, blame::Failed, verdict::TxnError};

/// A transactional producer. Its calls block; one thread makes them.
pub(in crate::kafka) struct Producer {
    client: Client,
    topics: HashMap<Arc<str>, *mut sys::rd_kafka_topic_t>,
    watch: Arc<Watch>,
    stop: Arc<AtomicBool>,
    poller: Option<JoinHandle<()>>,
    /// Where its blocking calls run; none once it is dropped.
    caller: Option<Caller>,
}

/// How much longer than its own timeout a call may take: librdkafka looks at it now and then, and the machine may be busy.
const SLACK: Duration = Duration::from_secs(2);
/// Threads of this process that may wait in calls which do not return. With more of them nothing is begun: a process that is
/// started anew has none.
const MOST_LATE: usize = 16;

// SAFETY: librdkafka's handles may be used by any thread; `Producer` is used by one at a time.
unsafe impl std::marker::Send for Producer {}

#[derive(Clone, Copy)]
struct Client(*mut sys::rd_kafka_t);

// SAFETY: librdkafka's clients may be used by any thread.
unsafe impl std::marker::Send for Client {}

impl Producer {
    /// Creates one; nothing was asked of the broker yet.
    pub(in crate::kafka) fn new(settings: &ClientSettings) -> Result<Self> {
        let thread = |what: &str| Error {
            kind: ErrorKind::Fatal,
            message: format!("no thread for the Kafka producer: {what}"),
        };
        if caller::late() >= MOST_LATE {
            return Err(thread(&format!(
                "{MOST_LATE} are held by calls of librdkafka that do not return; start the service anew"
            )));
        }
        let caller = Caller::start().map_err(|error| thread(&error.to_string()))?;
        let conf = Conf::new(settings)?;
        let watch = Arc::new(Watch::default());
        let opaque = Arc::as_ptr(&watch).cast_mut().cast();
        // SAFETY: `opaque` lives until the client is destroyed: `drop` keeps the `Arc` beyond that.
        let added = unsafe {
            sys::rd_kafka_conf_set_opaque(conf.ptr(), opaque);
            sys::rd_kafka_conf_set_dr_msg_cb(conf.ptr(), Some(watch::on_report));
            sys::rd_kafka_conf_set_log_cb(conf.ptr(), Some(watch::on_log));
            sys::rd_kafka_conf_set_error_cb(conf.ptr(), Some(watch::on_error));
            sys::rd_kafka_conf_interceptor_add_on_new(
                conf.ptr(),
                c"orchestrator".as_ptr(),
                Some(watch::on_new),
                opaque,
            )
        };
        if added != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Error {
                kind: ErrorKind::Fatal,
                message: "librdkafka takes no interceptors: it must be one of version 2.12.1 or later".into(),
            });
        }
        let client = Client(conf.client(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER)?);
        let mut producer = Self {
            client,
            topics: HashMap::new(),
            watch,
            stop: Arc::new(AtomicBool::new(false)),
            poller: None,
            caller: Some(caller),
        };
        let stop = producer.stop.clone();
        let poller = thread::Builder::new()
            .name("kafka-poll".into())
            .spawn(move || serve(client, &stop));
        producer.poller = Some(poller.map_err(|error| thread(&error.to_string()))?);
        Ok(producer)
    }

    /// Fences the predecessor with the same transactional id and ends its open transaction.
    pub(in crate::kafka) fn init(&self, timeout: Duration) -> Outcome<()> {
        // SAFETY: the client outlives its caller's thread; the error is taken.
        self.call(timeout, move |client| unsafe {
            take(sys::rd_kafka_init_transactions(client, millis(timeout)))
        })
    }

    /// Makes a call that librdkafka means to end within `timeout`. Late: the answer is an error after which the producer is of
    /// no more use, and its client lives on until the call returns.
    fn call(
        &self,
        timeout: Duration,
        call: impl FnOnce(*mut sys::rd_kafka_t) -> Outcome<()> + std::marker::Send + 'static,
    ) -> Outcome<()> {
        let client = self.client;
        let body = move || {
            let client = client;
            call(client.0)
        };
        let answer = self
            .caller
            .as_ref()
            .and_then(|caller| caller.call(timeout + SLACK, body));
        answer.unwrap_or_else(|| {
            Err(TxnError {
                code: Code::OperationTimedOut,
                text: format!(
                    "librdkafka did not return within {:?}, as it was told to",
                    timeout + SLACK
                ),
                fatal: true,
                abortable: false,
                retriable: false,
            })
        })
    }

    pub(in crate::kafka) fn begin(&self) -> Outcome<()> {
        self.watch.begin();
        // SAFETY: as above.
        unsafe { take(sys::rd_kafka_begin_transaction(self.client.0)) }
    }

    /// Hands a record over; its bytes are copied.
    pub(in crate::kafka) fn send(&mut self, send: &Send, index: usize) -> Outcome<()> {
        let topic = self.topic(&send.topic)?;
        let headers = Headers::new(send);
        let mut fields = Fields::default();
        fields.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic);
        let flags = sys::RD_KAFKA_MSG_F_COPY;
        fields.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = flags);
        let mark = self.watch.mark(index);
        fields.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE, |u| u.ptr = mark);
        if let Some(partition) = send.partition {
            fields.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION, |u| {
                u.i32_ = partition;
            });
        }
        for (field, bytes) in [
            (sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY, &send.key),
            (sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE, &send.value),
        ] {
            if let Some(bytes) = bytes {
                fields.push(field, |u| {
                    u.mem.ptr = bytes.as_ptr().cast_mut().cast();
                    u.mem.size = bytes.len();
                });
            }
        }
        if let Some(timestamp) = send.timestamp {
            fields.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP, |u| {
                u.i64_ = timestamp;
            });
        }
        if let Some(headers) = &headers {
            let ptr = headers.0;
            fields.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = ptr);
        }
        // SAFETY: all that the fields point at lives through the call, which copies it; the headers are librdkafka's
        // when it succeeds and stay ours when it does not.
        let sent = unsafe {
            take(sys::rd_kafka_produceva(
                self.client.0,
                fields.list.as_ptr(),
                fields.len,
            ))
        };
        if let (Ok(()), Some(headers)) = (&sent, headers) {
            std::mem::forget(headers);
        }
        sent
    }

    fn topic(&mut self, name: &Arc<str>) -> Outcome<*mut sys::rd_kafka_topic_t> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(*topic);
        }
        let unusable = || TxnError {
            code: Code::InvalidTopic,
            text: format!("`{}` is no name of a topic", name.escape_debug()),
            fatal: false,
            abortable: true,
            retriable: false,
        };
        let text = CString::new(name.as_bytes()).map_err(|_| unusable())?;
        // SAFETY: the client is alive; the answer is null or a handle that `drop` gives back.
        let topic = unsafe { sys::rd_kafka_topic_new(self.client.0, text.as_ptr(), std::ptr::null_mut()) };
        if topic.is_null() {
            return Err(unusable());
        }
        self.topics.insert(name.clone(), topic);
        Ok(topic)
    }

    /// Waits until each of `sent` records was answered and has left the out queue, so that every delivery error is known.
    pub(in crate::kafka) fn wait(&self, sent: usize, deadline: Instant) -> Acks {
        if self.watch.wait(sent, deadline) == Acks::Late {
            return Acks::Late;
        }
        // SAFETY: the client is alive.
        while unsafe { sys::rd_kafka_outq_len(self.client.0) } > 0 {
            if Instant::now() >= deadline {
                return Acks::Late;
            }
            thread::sleep(Duration::from_micros(100));
        }
        Acks::All
    }

    /// Waits until some record was answered.
    pub(in crate::kafka) fn wait_for_one(&self, deadline: Instant) -> Acks {
        self.watch.wait(1, deadline)
    }

    /// Why a broker refused the connection, and what to look at; none if none did.
    pub(in crate::kafka) fn refused(&self) -> Option<String> {
        self.watch.refused()
    }

    /// How many records were answered.
    pub(in crate::kafka) fn answered(&self) -> usize {
        self.watch.answered()
    }

    /// The records that were not delivered, by place in the attempt.
    pub(in crate::kafka) fn failed(&self) -> Vec<Failed> {
        self.watch.failed()
    }

    /// The topics that the open transaction may not write to.
    pub(in crate::kafka) fn denied(&self) -> BTreeSet<String> {
        self.watch.denied().clone()
    }

    /// Why the open transaction can only be aborted, if it can.
    pub(in crate::kafka) fn cause(&self) -> Option<TxnError> {
        // No other call tells it without a side effect: a transaction that is open refuses to begin, with its error if it has one.
        // SAFETY: the client is alive; the error is taken.
        let answer = unsafe { take(sys::rd_kafka_begin_transaction(self.client.0)) };
        answer.err().filter(|error| error.abortable || error.fatal)
    }

    pub(in crate::kafka) fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Outcome<()> {
        let (offsets, group) = (offsets.clone(), group.clone());
        // SAFETY: list and group live through the call, the client outlives its caller's thread.
        self.call(timeout, move |client| unsafe {
            take(sys::rd_kafka_send_offsets_to_transaction(
                client,
                offsets.ptr(),
                group.ptr(),
                millis(timeout),
            ))
        })
    }

    pub(in crate::kafka) fn commit(&self, timeout: Duration) -> Outcome<()> {
        // SAFETY: the client outlives its caller's thread.
        self.call(timeout, move |client| unsafe {
            take(sys::rd_kafka_commit_transaction(client, millis(timeout)))
        })
    }

    pub(in crate::kafka) fn abort(&self, timeout: Duration) -> Outcome<()> {
        // SAFETY: the client outlives its caller's thread.
        self.call(timeout, move |client| unsafe {
            take(sys::rd_kafka_abort_transaction(client, millis(timeout)))
        })
    }

    /// The error after which this producer can do nothing more, if there was one.
    pub(in crate::kafka) fn fatal(&self) -> Option<TxnError> {
        let mut why = [0; 512];
        // SAFETY: the client is alive, the buffer as long as said.
        let (code, text) = unsafe {
            let code = sys::rd_kafka_fatal_error(self.client.0, why.as_mut_ptr(), why.len());
            (code, super::text(why.as_ptr()))
        };
        (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| TxnError {
            code: code.into(),
            text,
            fatal: true,
            abortable: false,
            retriable: false,
        })
    }

    /// Whether a late copy of one of its requests may still reach the broker.
    pub(in crate::kafka) fn has_unanswered(&self) -> bool {
        self.watch.has_unanswered()
    }

    /// Whether a late copy of its `init` may still reach the broker, and fence us.
    pub(in crate::kafka) fn has_unanswered_init(&self) -> bool {
        self.watch.has_unanswered_init()
    }
}

impl Drop for Producer {
    /// Waits a second for librdkafka's threads to end; a name lookup that hangs, or a call that is late, keeps them longer, in
    /// the background.
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // SAFETY: the client is alive; the queue is given back.
        unsafe {
            let queue = sys::rd_kafka_queue_get_main(self.client.0);
            sys::rd_kafka_queue_yield(queue);
            sys::rd_kafka_queue_destroy(queue);
        }
        let Some(caller) = self.caller.take() else { return };
        let topics: Vec<Topic> = self.topics.drain().map(|(_, topic)| Topic(topic)).collect();
        let (client, watch, poller) = (self.client, OutlivesClient::of(&self.watch), self.poller.take());
        let (done, ended) = mpsc::channel::<()>();
        let is_late = caller.is_late();
        // A call that has not returned still uses the client: whatever it takes, this comes after it.
        caller.leave(move || {
            let (client, topics) = (client, topics);
            drop(poller.map(JoinHandle::join));
            // SAFETY: topics and client are ours, and nothing else uses them any more; what callbacks reach goes after that.
            unsafe {
                for topic in topics {
                    sys::rd_kafka_topic_destroy(topic.0);
                }
                sys::rd_kafka_destroy(client.0);
            }
            watch.let_go();
            drop(done);
        });
        if !is_late {
            let _ = ended.recv_timeout(Duration::from_secs(1));
        }
    }
}

struct Topic(*mut sys::rd_kafka_topic_t);

// SAFETY: librdkafka's handles may be used by any thread.
unsafe impl std::marker::Send for Topic {}

/// What a client's callbacks reach, kept until the client is destroyed. Dropped before that, as a closure that never runs
/// drops it, it keeps it for ever: a callback that came later would reach freed memory otherwise.
struct OutlivesClient(ManuallyDrop<Arc<Watch>>);

impl OutlivesClient {
    fn of(watch: &Arc<Watch>) -> Self {
        Self(ManuallyDrop::new(watch.clone()))
    }

    /// The client is destroyed.
    fn let_go(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

/// Serves callbacks until told to stop.
fn serve(client: Client, stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        // SAFETY: `drop` joins this thread before it destroys the client.
        unsafe { sys::rd_kafka_poll(client.0, 1_000) };
    }
}

fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clients_callbacks_reach_outlives_a_client_that_nobody_destroys() {
        let watch = Arc::new(Watch::default());
        let seen = Arc::downgrade(&watch);
        // As a thread that cannot start drops its closure without having run it.
        let kept = OutlivesClient::of(&watch);
        let never_run: Box<dyn FnOnce()> = Box::new(move || kept.let_go());
        drop(never_run);
        drop(watch);
        assert!(seen.upgrade().is_some());
        // As one that runs.
        let watch = Arc::new(Watch::default());
        let seen = Arc::downgrade(&watch);
        let kept = OutlivesClient::of(&watch);
        drop(watch);
        kept.let_go();
        assert!(seen.upgrade().is_none());
    }
}
