use std::sync::Arc;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

/// The group's generation and our member id, at one moment.
#[derive(Clone)]
pub(in crate::kafka) struct GroupMetadata(Arc<Native>);

struct Native(*mut sys::rd_kafka_consumer_group_metadata_t);

// SAFETY: a value without ties to a thread or to the client that it came from, which nobody changes.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl GroupMetadata {
    /// As the consumer knows it now. None while it is not a member: a commit of offsets would then fence nobody, as
    /// brokers take an unknown generation with an empty member id for a consumer without a group.
    pub(in crate::kafka) fn of<C: ClientContext>(consumer: &Client<C>) -> Option<Self> {
        // SAFETY: the client lives through the call; the answer is null or ours.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.native_ptr()) };
        if metadata.is_null() {
            return None;
        }
        let metadata = Self(Arc::new(Native(metadata)));
        // SAFETY: the pointer is not null and lives as long as `metadata`.
        let (generation, member) = unsafe {
            (
                sys::rd_kafka_consumer_group_metadata_generation_id(metadata.ptr()),
                super::text(sys::rd_kafka_consumer_group_metadata_member_id(metadata.ptr())),
            )
        };
        (generation >= 0 && !member.is_empty()).then_some(metadata)
    }

    pub(super) fn ptr(&self) -> *const sys::rd_kafka_consumer_group_metadata_t {
        self.0.0
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: ours alone.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0) }
    }
}
