//! The store's part in the decision who may do what: it knows which keys hang on which lease.

use bytes::Bytes;

use super::LeaseId;
use super::leases::Leases;
use super::store::Store;
use crate::auth::{Access, AuthRefusal, Caller, LeaseKeys, decide};

impl Store {
    /// Decides whether a client may do something, in the state as it is now.
    ///
    /// # Errors
    /// Why not.
    pub fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<(), AuthRefusal> {
        decide(&self.auth, &self.leases, caller, access)
    }
}

impl LeaseKeys for Leases {
    fn keys_of(&self, id: LeaseId) -> Box<dyn Iterator<Item = &Bytes> + '_> {
        Box::new(self.get(id).into_iter().flat_map(|lease| &lease.keys))
    }

    fn all_keys(&self) -> Box<dyn Iterator<Item = &Bytes> + '_> {
        Box::new(self.iter().flat_map(|lease| &lease.keys))
    }
}
