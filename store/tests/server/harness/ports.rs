//! Ports for members that tests start and start again.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports of outgoing connections.
const FIRST: u16 = 12_000;
/// Ports of one process: more than its tests need.
const SHARE: u16 = 1_000;
const SHARES: u16 = 20;

/// The ports that belong to this process as long as it lives.
struct Share {
    next: AtomicU16,
    /// Nobody else can listen at this name.
    _claim: UnixListener,
}

impl Share {
    fn claim() -> Self {
        let claim = |share: u16| {
            let name = format!("keelson-test-ports-{share}");
            let claim = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).ok()?;
            Some(Self { next: AtomicU16::new(FIRST + share * SHARE), _claim: claim })
        };
        (0..SHARES).find_map(claim).expect("fewer processes than this test at a time")
    }
}

/// Returns a port that was free a moment ago. No two tests get the same, also of several processes at a time: between look and use a
/// port is anybody's.
pub fn free_port() -> u16 {
    static SHARE_OF_PROCESS: LazyLock<Share> = LazyLock::new(Share::claim);
    std::iter::from_fn(|| Some(SHARE_OF_PROCESS.next.fetch_add(1, Ordering::Relaxed)))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
