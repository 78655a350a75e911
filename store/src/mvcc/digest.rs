//! The state digest: a sum of hashes over live rows, leases, users and roles, kept in step with every change at constant cost.
//!
//! A sum does not depend on order, so a member that replays the log, one that rebuilds its index from disk and one that
//! installs a snapshot arrive at the same number, if and only if (up to 2⁻¹²⁸) they hold the same state. History below the
//! newest row of a key is not part of it, so members may collect garbage at different times.

use xxhash_rust::xxh3::xxh3_128;

use super::meta::StateRecord;
use crate::level::Level;

/// Sum of 128-bit hashes of a set of byte strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetHash(u128);

/// Returns the hash of one element of the set.
pub(crate) fn element(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

impl SetHash {
    pub(crate) fn add(&mut self, element: u128) {
        self.0 = self.0.wrapping_add(element);
    }

    pub(crate) fn remove(&mut self, element: u128) {
        self.0 = self.0.wrapping_sub(element);
    }

    /// Returns the digest of this set together with the store's numbers. `collected` is left out: it is local.
    pub(crate) fn digest(self, state: &StateRecord) -> u128 {
        let mut bytes = Vec::with_capacity(40);
        bytes.extend_from_slice(&self.0.to_be_bytes());
        bytes.extend_from_slice(&state.revision.0.to_be_bytes());
        bytes.extend_from_slice(&state.compacted.0.to_be_bytes());
        bytes.extend_from_slice(&state.grants.to_be_bytes());
        // Versions that know of no levels arrive at the same number as long as they may.
        if state.level >= Level::RECORDED {
            bytes.extend_from_slice(&state.level.0.to_be_bytes());
        }
        xxh3_128(&bytes)
    }
}
