use std::{
    collections::{BTreeSet, HashMap},
    ffi::{CStr, CString, c_char, c_int},
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    bindings as sys,
    client::{Client, ClientContext},
};

const LIMIT: &CStr = c"max.message.bytes";

/// `max.message.bytes` of each topic whose broker tells us, within `patience`: one that may not be asked about, or that is not
/// there, is left out.
pub(in crate::kafka) fn topic_limits<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<Arc<str>>,
    patience: Duration,
) -> HashMap<String, usize> {
    let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    let mut resources = Vec::with_capacity(topics.len());
    for topic in topics {
        let Ok(name) = CString::new(topic.as_bytes()) else {
            continue;
        };
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: the name is copied; the resource is given back below.
        let resource = unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        if !resource.is_null() {
            resources.push(resource);
        }
    }
    let rk = client.native_ptr();
    let mut why: [c_char; 128] = [0; 128];
    // SAFETY: the client lives through this function; what is made here is given back here, the event after the last use
    // of what it holds.
    unsafe {
        let api = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        let options = sys::rd_kafka_AdminOptions_new(rk, api);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, why.as_mut_ptr(), why.len());
        let queue = sys::rd_kafka_queue_new(rk);
        sys::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), resources.len(), options, queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        let event = sys::rd_kafka_queue_poll(queue, millis);
        let mut limits = HashMap::new();
        if !event.is_null() {
            let result = sys::rd_kafka_event_DescribeConfigs_result(event);
            if !result.is_null() {
                limits = read(result);
            }
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        limits
    }
}

/// # Safety
/// `result` lives through the call.
unsafe fn read(result: *const sys::rd_kafka_DescribeConfigs_result_t) -> HashMap<String, usize> {
    let mut limits = HashMap::new();
    let mut count = 0;
    // SAFETY: the arrays hold as many elements as said, and live as long as the result.
    unsafe {
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        for i in 0..count {
            let resource = *resources.add(i);
            if sys::rd_kafka_ConfigResource_error(resource)
                != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                continue;
            }
            let mut entries = 0;
            let configs = sys::rd_kafka_ConfigResource_configs(resource, &raw mut entries);
            for j in 0..entries {
                let entry = *configs.add(j);
                if CStr::from_ptr(sys::rd_kafka_ConfigEntry_name(entry)) == LIMIT
                    && let Ok(limit) = super::text(sys::rd_kafka_ConfigEntry_value(entry)).parse()
                {
                    limits.insert(super::text(sys::rd_kafka_ConfigResource_name(resource)), limit);
                }
            }
        }
    }
    limits
}
