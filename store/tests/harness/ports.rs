//! Ports for members that tests start and start again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Returns a port that was free a moment ago. It lies below those of outgoing connections, and no two tests of this process get the
/// same: between look and use a port is anybody's.
pub fn free_port() -> u16 {
    static PASSED: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + u16::try_from(std::process::id() % 100).unwrap() * 64;
    std::iter::from_fn(|| Some(first + PASSED.fetch_add(1, Ordering::Relaxed)))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
