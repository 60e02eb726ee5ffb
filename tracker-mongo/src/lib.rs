//! Failure tracker in MongoDB.
