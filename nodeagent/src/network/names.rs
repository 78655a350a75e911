//! Names that the kernel sees. Each carries eight hex digits of the data directory, so that clusters on one machine do
//! not meet and a clean-up can tell its own from others'.

use std::net::Ipv4Addr;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The identity of a cluster on this machine: the first four bytes of the hash of its data directory's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId([u8; 4]);

impl ClusterId {
    /// Returns the id of the cluster that lives in a data directory. Give the canonical path: the id follows its text.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        let hash = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(hash) {
            *to = from;
        }
        Self(id)
    }

    /// Returns an id from its bytes, for tests.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// Returns the id as a number, to derive ranges from.
    pub(super) fn number(self) -> u32 {
        u32::from_be_bytes(self.0)
    }

    /// Returns the name of the table with the service rules.
    #[must_use]
    pub fn services_table(self) -> String {
        format!("keelson-{self}")
    }

    /// Says whether a table is the one with the service rules of some cluster.
    pub(super) fn is_services_table(name: &str) -> bool {
        name.strip_prefix("keelson-")
            .is_some_and(|id| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// Returns the name of the table that lets node namespaces reach the outside.
    pub(super) fn hub_table(self) -> String {
        format!("keelson-{self}-hub")
    }

    /// Returns the name of a pod's link on the node's side. Device names have 15 characters: `k`, the id, and the low
    /// 24 bits of the pod's address, which are unique while the cluster's pod range is a `/8` or smaller.
    pub(super) fn pod_link(self, pod: Ipv4Addr) -> String {
        format!("k{self}{:06x}", u32::from(pod) & 0x00ff_ffff)
    }

    /// Returns what every pod link's name begins with.
    pub(super) fn pod_link_prefix(self) -> String {
        format!("k{self}")
    }

    /// Returns the name of the hub's link to a node namespace.
    pub(super) fn node_link(self, index: u16) -> String {
        format!("kn{self}{index:x}")
    }
}

impl std::fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_the_kernels_fifteen_characters() {
        let id = ClusterId::from_bytes([0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(id.pod_link("10.244.1.7".parse().unwrap()), "kdeadbeeff40107");
        assert_eq!(id.node_link(u16::MAX), "kndeadbeefffff");
        assert_eq!(id.services_table(), "keelson-deadbeef");
    }

    #[test]
    fn the_id_follows_the_path() {
        assert_eq!(ClusterId::of(Path::new("/a")), ClusterId::of(Path::new("/a")));
        assert_ne!(ClusterId::of(Path::new("/a")), ClusterId::of(Path::new("/b")));
    }
}
