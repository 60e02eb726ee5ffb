use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

/// The group's generation and our member id, at one moment.
pub(in crate::kafka) struct GroupMetadata(*mut sys::rd_kafka_consumer_group_metadata_t);

// SAFETY: a value without ties to a thread or to the client that it came from.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// As the consumer knows it now. None while it is not a member: a commit of offsets would then fence nobody, as
    /// brokers take an unknown generation with an empty member id for a consumer without a group.
    pub(in crate::kafka) fn of<C: ClientContext>(consumer: &Client<C>) -> Option<Self> {
        // SAFETY: the client lives through the call; the answer is null or ours.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.native_ptr()) };
        if metadata.is_null() {
            return None;
        }
        let metadata = Self(metadata);
        // SAFETY: the pointer is not null and lives as long as `metadata`.
        let (generation, member) = unsafe {
            (
                sys::rd_kafka_consumer_group_metadata_generation_id(metadata.0),
                super::text(sys::rd_kafka_consumer_group_metadata_member_id(metadata.0)),
            )
        };
        (generation >= 0 && !member.is_empty()).then_some(metadata)
    }

    pub(super) fn ptr(&self) -> *const sys::rd_kafka_consumer_group_metadata_t {
        self.0
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: ours alone.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0) }
    }
}
