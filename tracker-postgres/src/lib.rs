//! Failure tracker in PostgreSQL.
