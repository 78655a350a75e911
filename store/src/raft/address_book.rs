//! Where members are and which data directories they have, as the newest membership says.
//!
//! openraft keeps a client for as long as a member belongs to the cluster, whatever changes about it. So clients look here whenever
//! they connect or call: a member that has moved is found, and one that has started for the first time is called by its incarnation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::types::Member;

/// The members by id.
#[derive(Default)]
pub(crate) struct AddressBook {
    members: Mutex<BTreeMap<u64, Member>>,
}

impl AddressBook {
    /// Notes who belongs to the cluster now.
    pub(crate) fn replace(&self, members: BTreeMap<u64, Member>) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    fn get(&self, id: u64) -> Option<Member> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// Whom a client talks to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) id: u64,
    /// What was known when the client was made; counts until membership says more.
    given: Member,
    addresses: Arc<AddressBook>,
}

impl Target {
    pub(crate) fn new(id: u64, given: Member, addresses: Arc<AddressBook>) -> Self {
        Self { id, given, addresses }
    }

    /// Returns the incarnation that it must have, 0 when nobody knows.
    pub(crate) fn incarnation(&self) -> u64 {
        self.addresses.get(self.id).map_or(self.given.incarnation, |member| member.incarnation)
    }

    /// Returns `host:port` to connect to.
    pub(crate) fn address(&self) -> String {
        let member = self.addresses.get(self.id);
        let member = member.as_ref().unwrap_or(&self.given);
        member.peer_urls.first().map(|url| authority(url).to_owned()).unwrap_or_default()
    }
}

/// Returns `host:port` of a peer URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_follows_membership_and_is_as_given_until_then() {
        let member = |port: u16, incarnation| Member {
            peer_urls: vec![format!("http://a:{port}")],
            incarnation,
            ..Member::default()
        };
        let book = Arc::new(AddressBook::default());
        let target = Target::new(1, member(1, 0), Arc::clone(&book));
        assert_eq!((target.address(), target.incarnation()), ("a:1".to_owned(), 0));
        book.replace(BTreeMap::from([(1, member(2, 5)), (3, member(3, 3))]));
        assert_eq!((target.address(), target.incarnation()), ("a:2".to_owned(), 5));
        book.replace(BTreeMap::from([(3, member(3, 3))]));
        assert_eq!((target.address(), target.incarnation()), ("a:1".to_owned(), 0));
    }
}
