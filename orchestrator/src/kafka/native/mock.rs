//! librdkafka's mock cluster: good for error paths, no oracle for exactly-once.

use std::ffi::CString;

use rdkafka::bindings as sys;

pub(in crate::kafka) use sys::rd_kafka_resp_err_t as Answer;

use super::conf::Conf;
use crate::kafka::ClientSettings;

pub(in crate::kafka) const PRODUCE: i16 = 0;
pub(in crate::kafka) const JOIN_GROUP: i16 = 11;
pub(in crate::kafka) const INIT_PRODUCER_ID: i16 = 22;
pub(in crate::kafka) const ADD_PARTITIONS: i16 = 24;
pub(in crate::kafka) const ADD_OFFSETS: i16 = 25;
pub(in crate::kafka) const END_TXN: i16 = 26;
pub(in crate::kafka) const TXN_OFFSET_COMMIT: i16 = 28;

/// One broker.
pub(in crate::kafka) struct Mock {
    client: *mut sys::rd_kafka_t,
    cluster: *mut sys::rd_kafka_mock_cluster_t,
}

impl Mock {
    pub(in crate::kafka) fn new(topics: &[(&str, i32)]) -> Self {
        let mut quiet = ClientSettings::default();
        quiet.set("log_level", "3");
        let conf = Conf::new(&quiet).unwrap();
        let client = conf.client(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER).unwrap();
        // SAFETY: client and cluster live until `drop`; names are copied.
        let cluster = unsafe {
            let cluster = sys::rd_kafka_mock_cluster_new(client, 1);
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
            for (name, partitions) in topics {
                let name = CString::new(*name).unwrap();
                sys::rd_kafka_mock_topic_create(cluster, name.as_ptr(), *partitions, 1);
            }
            cluster
        };
        Self { client, cluster }
    }

    pub(in crate::kafka) fn servers(&self) -> String {
        // SAFETY: the cluster is alive.
        unsafe { super::text(sys::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
    }

    /// The next requests of this kind are answered so; `_TRANSPORT` closes the connection instead.
    pub(in crate::kafka) fn answer(&self, api: i16, answers: &[Answer]) {
        // SAFETY: as long as said; copied.
        unsafe {
            sys::rd_kafka_mock_push_request_errors_array(self.cluster, api, answers.len(), answers.as_ptr());
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // SAFETY: ours, in this order.
        unsafe {
            sys::rd_kafka_mock_cluster_destroy(self.cluster);
            sys::rd_kafka_destroy(self.client);
        }
    }
}
