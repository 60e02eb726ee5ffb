//! Free loopback ports.

use std::net::TcpListener;

use rand::Rng;

use crate::Result;

/// A free port, below the range from which the kernel takes ports for outgoing connections: so none is taken between
/// our look and its use.
pub fn free() -> Result<u16> {
    let mut random = rand::rng();
    for _ in 0..1_000 {
        let port = random.random_range(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port between 15000 and 32000 on 127.0.0.1".into())
}
