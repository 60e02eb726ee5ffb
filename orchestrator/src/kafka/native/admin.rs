//! Questions that are answered on a queue of their own: the asker waits as long as it likes, or looks again later.

use std::{
    ffi::{CStr, CString, c_int},
    ptr, slice,
    time::Duration,
};

use rdkafka::{
    TopicPartitionList, bindings as sys,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode as Code,
};
use tracker_api::Partition;

/// The longest timeout that there is, for a question to a coordinator. librdkafka 2.12.1 aborts the process when such a one
/// has run out of time before it was sent and a coordinator then comes up (`eonce->refcnt > 0`, seen after a broker thawed):
/// so it may not run out. Who asked has stopped waiting long before, and a lane that is not answered for a minute drops the
/// client with all its questions.
const NEVER: Duration = Duration::from_secs(3_600);

/// A question that was asked. Dropped, its answer is thrown away.
pub(in crate::kafka) struct Question(*mut sys::rd_kafka_queue_t);

// SAFETY: a queue may be polled and destroyed by any thread; this is its only handle.
unsafe impl Send for Question {}

/// What was answered about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Answered {
    pub(in crate::kafka) partition: Partition,
    /// Below 0: there is none.
    pub(in crate::kafka) offset: i64,
    /// The metadata of a committed offset; none if it is empty or not UTF-8.
    pub(in crate::kafka) note: Option<String>,
    /// Why it was not answered.
    pub(in crate::kafka) error: Option<Code>,
}

/// Which end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum End {
    /// Its first offset.
    Start,
    /// Behind the last one that is neither in an open transaction nor behind one.
    Stable,
    /// Behind the last one of all.
    Last,
}

impl Question {
    /// Where these logs begin or end. The client must live as long as the question.
    pub(in crate::kafka) fn ends<C: ClientContext>(
        client: &Client<C>,
        of: &[Partition],
        end: End,
        timeout: Duration,
    ) -> Self {
        let spec = match end {
            End::Start => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
            End::Stable | End::Last => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
        };
        let isolation = match end {
            End::Last => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            End::Start | End::Stable => {
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
            }
        };
        let list = list(of);
        let rk = client.native_ptr();
        // SAFETY: the client lives; list, options and their values are copied by the call that asks; each element is
        // within the list.
        unsafe {
            for index in 0..usize::try_from((*list.ptr()).cnt).unwrap_or(0) {
                (*(*list.ptr()).elems.add(index)).offset = spec as i64;
            }
            let question = Self(sys::rd_kafka_queue_new(rk));
            let options = options(
                rk,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
                timeout,
            );
            drop(super::take(sys::rd_kafka_AdminOptions_set_isolation_level(
                options, isolation,
            )));
            sys::rd_kafka_ListOffsets(rk, list.ptr(), options, question.0);
            sys::rd_kafka_AdminOptions_destroy(options);
            question
        }
    }

    /// What a group has committed, each partition for itself: one with a pending offset is answered
    /// `UnstableOffsetCommit`, the others with their offsets. The client must live as long as the question.
    pub(in crate::kafka) fn committed<C: ClientContext>(
        client: &Client<C>,
        group: &CStr,
        of: &[Partition],
    ) -> Self {
        let list = list(of);
        let rk = client.native_ptr();
        // SAFETY: as in `ends`; the question that is asked is copied and destroyed here.
        unsafe {
            let question = Self(sys::rd_kafka_queue_new(rk));
            let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
            let options = options(rk, op, NEVER);
            drop(super::take(
                sys::rd_kafka_AdminOptions_set_require_stable_offsets(options, 1),
            ));
            let mut asked = sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list.ptr());
            sys::rd_kafka_ListConsumerGroupOffsets(rk, &raw mut asked, 1, options, question.0);
            sys::rd_kafka_ListConsumerGroupOffsets_destroy(asked);
            sys::rd_kafka_AdminOptions_destroy(options);
            question
        }
    }

    /// The answer, if it comes within `wait`; an error speaks of the whole question.
    pub(in crate::kafka) fn answer(&self, wait: Duration) -> Option<Result<Vec<Answered>, Code>> {
        let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is ours; the event is null or ours until it is destroyed here, and what is read from it is
        // copied before that.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.0, wait);
            if event.is_null() {
                return None;
            }
            let error: Code = sys::rd_kafka_event_error(event).into();
            let answer = if error == Code::NoError {
                Ok(read(event))
            } else {
                Err(error)
            };
            sys::rd_kafka_event_destroy(event);
            Some(answer)
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // SAFETY: ours alone; what comes later is thrown away.
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

fn list(of: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(of.len());
    for partition in of {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

/// # Safety
/// The client lives. The caller destroys the options.
unsafe fn options(
    rk: *mut sys::rd_kafka_t,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
) -> *mut sys::rd_kafka_AdminOptions_t {
    let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: by this function's contract. Without room for words an error is told by its code alone; a timeout that is
    // refused leaves the client's own.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(rk, op);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout, ptr::null_mut(), 0);
        options
    }
}

/// # Safety
/// The event lives and is no error.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Vec<Answered> {
    let mut answered = Vec::new();
    // SAFETY: each result is null, or lives as long as the event with as many elements as it says.
    unsafe {
        let mut count = 0;
        let offsets = sys::rd_kafka_event_ListOffsets_result(event);
        if !offsets.is_null() {
            let infos = sys::rd_kafka_ListOffsets_result_infos(offsets, &raw mut count);
            for index in 0..count {
                let element = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
                answered.push(one(&*element));
            }
        }
        let committed = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        if !committed.is_null() {
            let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(committed, &raw mut count);
            for index in 0..count {
                let list = sys::rd_kafka_group_result_partitions(*groups.add(index));
                if !list.is_null() {
                    let elements = usize::try_from((*list).cnt).unwrap_or(0);
                    answered.extend((0..elements).map(|i| one(&*(*list).elems.add(i))));
                }
            }
        }
    }
    answered
}

/// # Safety
/// The element's topic is a C string, its metadata null or `metadata_size` bytes.
unsafe fn one(element: &sys::rd_kafka_topic_partition_t) -> Answered {
    // SAFETY: by this function's contract.
    let (topic, note) = unsafe {
        let bytes = (!element.metadata.is_null() && element.metadata_size > 0)
            .then(|| slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size));
        let note = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        (super::text(element.topic), note)
    };
    let error: Code = element.err.into();
    Answered {
        partition: Partition::new(topic, element.partition),
        offset: element.offset,
        note,
        error: (error != Code::NoError).then_some(error),
    }
}

/// A group's name as librdkafka takes it; none if it holds NUL, which no broker takes.
pub(in crate::kafka) fn name(group: &str) -> Option<CString> {
    CString::new(group).ok()
}
