use std::{ffi::CStr, ptr, slice};

use rdkafka::{
    bindings as sys,
    client::{Client, ClientContext},
    message::BorrowedMessage,
    topic_partition_list::TopicPartitionList,
};

/// The headers of a record, in order: name and value as bytes. A name that holds NUL ends there: librdkafka hands names out
/// as C strings.
pub(in crate::kafka) fn each_header(
    message: &BorrowedMessage<'_>,
    mut each: impl FnMut(&[u8], Option<&[u8]>),
) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message lives through this function and owns the headers.
    let answer = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: fills the three with pointers into the headers, or answers that there is no such header.
        let answer = unsafe {
            sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size)
        };
        if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: `name` is a C string, `value` null or `size` bytes, both within the message.
        unsafe {
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
            each(CStr::from_ptr(name).to_bytes(), value);
        }
    }
}

/// The metadata of each element, in order; none if it is empty or not UTF-8: then it is no note of ours.
pub(in crate::kafka) fn notes(list: &TopicPartitionList) -> Vec<Option<String>> {
    let native = list.ptr();
    // SAFETY: the list lives through this function; `elems` holds `cnt` elements, each metadata `metadata_size` bytes.
    unsafe {
        let count = usize::try_from((*native).cnt).unwrap_or(0);
        (0..count)
            .map(|i| {
                let element = &*(*native).elems.add(i);
                if element.metadata.is_null() || element.metadata_size == 0 {
                    return None;
                }
                let bytes = slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
                String::from_utf8(bytes.to_vec()).ok()
            })
            .collect()
    }
}

/// How many events and records wait for the next poll.
pub(in crate::kafka) fn waiting<C: ClientContext>(consumer: &Client<C>) -> usize {
    // SAFETY: the client lives through the calls; the handle is given back.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(consumer.native_ptr());
        if queue.is_null() {
            return 0;
        }
        let waiting = sys::rd_kafka_queue_length(queue);
        sys::rd_kafka_queue_destroy(queue);
        waiting
    }
}
