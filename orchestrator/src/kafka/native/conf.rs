use std::{
    ffi::{CString, c_char},
    ptr,
};

use rdkafka::bindings as sys;

use crate::{
    config::nearest,
    kafka::{ClientSettings, Error, ErrorKind, Result, demands},
};

/// A configuration of librdkafka that no client has taken yet.
pub(super) struct Conf(*mut sys::rd_kafka_conf_t);

impl Conf {
    /// Sets every one, or says which was refused; never with a value that may be a secret.
    pub(super) fn new(settings: &ClientSettings) -> Result<Self> {
        // SAFETY: returns an object of ours, destroyed in `drop` or handed over in `into_raw`.
        let conf = Self(unsafe { sys::rd_kafka_conf_new() });
        for (key, value) in settings.iter() {
            conf.set(key, value)?;
        }
        Ok(conf)
    }

    fn set(&self, key: &str, value: &str) -> Result<()> {
        let refused = |message: String| Error {
            kind: ErrorKind::Refused,
            message,
        };
        let (Ok(name), Ok(text)) = (CString::new(key), CString::new(value)) else {
            return Err(refused(format!(
                "the Kafka setting `{key}` holds a NUL character"
            )));
        };
        let mut why = [0; 512];
        // SAFETY: both strings and the buffer outlive the call, which copies them.
        let answer = unsafe {
            sys::rd_kafka_conf_set(self.0, name.as_ptr(), text.as_ptr(), why.as_mut_ptr(), why.len())
        };
        match answer {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => {
                let known = self.names();
                let hint = nearest(key, known.iter().map(String::as_str))
                    .map(|name| format!(" Did you mean `{name}`?"))
                    .unwrap_or_default();
                Err(refused(format!(
                    "librdkafka knows no setting `{key}`, or was built without it.{hint}"
                )))
            }
            _ if demands::is_public(key) => Err(refused(format!(
                "`{value}` is no value for the Kafka setting `{key}`: see librdkafka's CONFIGURATION.md"
            ))),
            _ => Err(refused(format!(
                "the value of the Kafka setting `{key}` was refused: see librdkafka's CONFIGURATION.md"
            ))),
        }
    }

    /// Every name that librdkafka knows and has a value for.
    fn names(&self) -> Vec<String> {
        let mut count = 0;
        // SAFETY: returns `count` strings, name and value by turns, which live until `dump_free`.
        unsafe {
            let dump = sys::rd_kafka_conf_dump(self.0, &raw mut count);
            let names = (0..count).step_by(2).map(|i| super::text(*dump.add(i))).collect();
            sys::rd_kafka_conf_dump_free(dump, count);
            names
        }
    }

    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_conf_t {
        self.0
    }

    /// A client of this configuration.
    pub(super) fn client(self, kind: sys::rd_kafka_type_t) -> Result<*mut sys::rd_kafka_t> {
        let mut why: [c_char; 512] = [0; 512];
        // SAFETY: on success librdkafka owns the configuration, on failure it stays ours.
        let client = unsafe { sys::rd_kafka_new(kind, self.0, why.as_mut_ptr(), why.len()) };
        if client.is_null() {
            // SAFETY: filled by the call, ends with NUL.
            let why = unsafe { super::text(why.as_ptr()) };
            return Err(Error {
                kind: ErrorKind::Refused,
                message: format!("the Kafka client could not be created: {why}"),
            });
        }
        let mut this = self;
        this.0 = ptr::null_mut();
        Ok(client)
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: ours, and no client took it.
            unsafe { sys::rd_kafka_conf_destroy(self.0) }
        }
    }
}

/// Refuses settings that librdkafka does not know, without creating a client.
pub(in crate::kafka) fn check(settings: &ClientSettings) -> Result<()> {
    Conf::new(settings).map(drop)
}
