use std::{ffi::CString, ptr, time::Duration};

use rdkafka::{
    bindings as sys,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode as Code,
};

/// A topic's id, if the broker has ids. Asks this broker, as the client may have no connection to the controller; -1: whichever
/// librdkafka takes for the controller. Waits at most `patience`.
pub(in crate::kafka) fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    broker: i32,
    patience: Duration,
) -> Result<Option<u128>, Code> {
    let name = CString::new(topic).map_err(|_| Code::InvalidArgument)?;
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX / 2);
    let mut names = [name.as_ptr()];
    // SAFETY: the client and the name live through this function; options, collection, queue and event are ours alone and
    // are given back in it. An answer that comes later finds its queue closed, and librdkafka drops it.
    unsafe {
        let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = sys::rd_kafka_AdminOptions_new(client.native_ptr(), op);
        if options.is_null() {
            return Err(Code::InvalidArgument);
        }
        // Where these are refused, librdkafka's own stand, and the wait below ends all the same.
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        if broker >= 0 {
            sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        }
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        sys::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(200));
        let answer = read(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

/// # Safety
/// `event` is null or lives through the call.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Option<u128>, Code> {
    if event.is_null() {
        return Err(Code::OperationTimedOut);
    }
    // SAFETY: as long as said; the result, its descriptions, their ids and errors are parts of the event.
    unsafe {
        let failed: Code = sys::rd_kafka_event_error(event).into();
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if failed != Code::NoError || result.is_null() {
            return Err(failed);
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Err(Code::UnknownTopic);
        }
        let topic = *topics;
        let refused = sys::rd_kafka_TopicDescription_error(topic);
        if !refused.is_null() {
            let code: Code = sys::rd_kafka_error_code(refused).into();
            if code != Code::NoError {
                return Err(code);
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() {
            0
        } else {
            let half = |bits: i64| u128::from(bits.cast_unsigned());
            half(sys::rd_kafka_Uuid_most_significant_bits(id)) << 64
                | half(sys::rd_kafka_Uuid_least_significant_bits(id))
        };
        Ok((id != 0).then_some(id))
    }
}
