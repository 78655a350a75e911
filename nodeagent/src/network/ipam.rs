//! Addresses of a node's pods: which are taken, by whom, and which comes next. Pure.
//!
//! Invariants: an owner has at most one address; an address at most one owner; the first host address is the gateway and
//! never given out. A freed address is used again as late as possible, so that nobody who remembers it meets a new pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::network::Ipv4Net;

/// Smallest range that has a gateway and a pod.
const PREFIX_LEN_MAX: u8 = 29;

/// The addresses of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ipam {
    range: Ipv4Net,
    /// Sandbox id to address.
    owners: BTreeMap<String, Ipv4Addr>,
    /// The address given out last.
    last: Ipv4Addr,
}

impl Ipam {
    /// Returns an empty book for a range, or nothing when the range is too small.
    pub(super) fn new(range: Ipv4Net) -> Option<Self> {
        (range.prefix_len() <= PREFIX_LEN_MAX).then(|| Self {
            range,
            owners: BTreeMap::new(),
            last: gateway(range),
        })
    }

    /// Moves to another range; pods keep what they have.
    pub(super) fn set_range(&mut self, range: Ipv4Net) {
        if range != self.range {
            self.range = range;
            self.last = gateway(range);
        }
    }

    /// Returns the range that new pods get their addresses from.
    pub(super) fn range(&self) -> Ipv4Net {
        self.range
    }

    /// Returns the address on the node's side of every pod link.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        gateway(self.range)
    }

    /// Returns the owner's address, a free one if it has none yet, or nothing when all are taken.
    pub(super) fn allocate(&mut self, owner: &str) -> Option<Ipv4Addr> {
        if let Some(address) = self.owners.get(owner) {
            return Some(*address);
        }
        let taken: BTreeSet<Ipv4Addr> = self.owners.values().copied().collect();
        let free = |address: &Ipv4Addr| *address != self.gateway() && !taken.contains(address);
        let after_last = self.range.hosts().filter(|address| *address > self.last);
        let up_to_last = self.range.hosts().filter(|address| *address <= self.last);
        let address = after_last.chain(up_to_last).find(free)?;
        self.owners.insert(owner.to_owned(), address);
        self.last = address;
        Some(address)
    }

    /// Returns the owner's address, if it has one.
    pub(super) fn address(&self, owner: &str) -> Option<Ipv4Addr> {
        self.owners.get(owner).copied()
    }

    /// Takes the owner's address back and returns it.
    pub(super) fn release(&mut self, owner: &str) -> Option<Ipv4Addr> {
        self.owners.remove(owner)
    }

    /// Returns the owners that are not in the set.
    pub(super) fn others(&self, running: &BTreeSet<String>) -> Vec<String> {
        self.owners.keys().filter(|owner| !running.contains(*owner)).cloned().collect()
    }

    /// Returns every address in use.
    pub(super) fn taken(&self) -> BTreeSet<Ipv4Addr> {
        self.owners.values().copied().collect()
    }
}

fn gateway(range: Ipv4Net) -> Ipv4Addr {
    range.nth(1).unwrap_or_else(|| range.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ipam(range: &str) -> Ipam {
        Ipam::new(range.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_first_pod_gets_the_address_after_the_gateway() {
        let mut ipam = ipam("10.244.1.0/24");
        assert_eq!(ipam.gateway(), "10.244.1.1".parse::<Ipv4Addr>().unwrap());
        assert_eq!(ipam.allocate("a"), Some("10.244.1.2".parse().unwrap()));
        assert_eq!(ipam.allocate("a"), Some("10.244.1.2".parse().unwrap()));
    }

    #[test]
    fn a_freed_address_comes_back_last() {
        let mut ipam = ipam("10.244.1.0/29");
        let first = ipam.allocate("a").unwrap();
        ipam.release("a");
        let next: Vec<_> = (0..4).map(|n| ipam.allocate(&format!("b{n}")).unwrap()).collect();
        assert!(!next.contains(&first));
        assert_eq!(ipam.allocate("c"), Some(first));
        assert_eq!(ipam.allocate("d"), None);
    }

    #[test]
    fn a_range_without_room_is_refused() {
        assert!(Ipam::new("10.244.1.0/30".parse().unwrap()).is_none());
    }

    #[test]
    fn pods_keep_their_address_when_the_range_moves() {
        let mut ipam = ipam("10.244.1.0/24");
        let before = ipam.allocate("a").unwrap();
        ipam.set_range("10.244.2.0/24".parse().unwrap());
        assert_eq!(ipam.address("a"), Some(before));
        assert_eq!(ipam.allocate("b"), Some("10.244.2.2".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_address_has_two_owners(steps in prop::collection::vec((0u8..12, any::<bool>()), 1..200)) {
            let mut ipam = ipam("10.244.1.0/29");
            for (owner, give) in steps {
                let owner = owner.to_string();
                if give { ipam.allocate(&owner); } else { ipam.release(&owner); }
                prop_assert_eq!(ipam.taken().len(), ipam.owners.len());
                prop_assert!(!ipam.taken().contains(&ipam.gateway()));
                prop_assert!(ipam.taken().iter().all(|address| ipam.range.contains(*address)));
            }
        }
    }
}
