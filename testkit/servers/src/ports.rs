//! Free loopback ports.

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
};

const LOWEST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A free port, below the range from which the kernel takes ports for outgoing connections: so none is taken between
/// our look and its use. Chosen at random, and held by the listener, so that processes which look at the same time do not meet.
pub(crate) fn free() -> Result<(u16, TcpListener), String> {
    for _ in 0..1_000 {
        let random = RandomState::new().hash_one(0_u8) % u64::from(COUNT);
        let port = LOWEST + u16::try_from(random).unwrap_or(0);
        if let Ok(held) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok((port, held));
        }
    }
    Err("no free port between 15000 and 32000 on 127.0.0.1".to_owned())
}
