//! Failure tracker in Redis.
