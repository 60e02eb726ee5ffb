//! What one produce call hands over.

use rdkafka::bindings as sys;

use crate::kafka::Send;

/// Headers that librdkafka has not taken yet.
pub(super) struct Headers(pub(super) *mut sys::rd_kafka_headers_t);

impl Headers {
    pub(super) fn new(send: &Send) -> Option<Self> {
        if send.headers.is_empty() {
            return None;
        }
        // SAFETY: each call copies name and value; sizes are theirs. A null value is Kafka's null.
        unsafe {
            let headers = Self(sys::rd_kafka_headers_new(send.headers.len()));
            for header in &send.headers {
                let (value, size) = header
                    .value
                    .as_ref()
                    .map_or((std::ptr::null(), 0), |v| (v.as_ptr(), v.len()));
                sys::rd_kafka_header_add(
                    headers.0,
                    header.name.as_ptr().cast(),
                    header.name.len().cast_signed(),
                    value.cast(),
                    size.cast_signed(),
                );
            }
            Some(headers)
        }
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: ours: what librdkafka took was forgotten.
        unsafe { sys::rd_kafka_headers_destroy(self.0) }
    }
}

/// The arguments of one produce call, without an allocation.
pub(super) struct Fields {
    pub(super) list: [sys::rd_kafka_vu_t; 8],
    pub(super) len: usize,
}

impl Default for Fields {
    fn default() -> Self {
        // SAFETY: integers and pointers, all valid as zero; `vtype` zero is END.
        unsafe { std::mem::zeroed() }
    }
}

impl Fields {
    pub(super) fn push(
        &mut self,
        vtype: sys::rd_kafka_vtype_t,
        set: impl FnOnce(&mut sys::rd_kafka_vu_s__bindgen_ty_1),
    ) {
        if let Some(field) = self.list.get_mut(self.len) {
            field.vtype = vtype;
            set(&mut field.u);
            self.len += 1;
        }
    }
}
