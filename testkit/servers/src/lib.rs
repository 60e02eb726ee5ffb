//! Starts PostgreSQL, MongoDB and Redis for tests.
