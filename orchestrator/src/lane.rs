//! (in the making)

pub(crate) mod pool;
