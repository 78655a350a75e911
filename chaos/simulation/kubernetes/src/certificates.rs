//! Certificates of those who have signed in: servers read from them who calls, as in production.
//!
//! Keys are drawn anew in each run. Nothing of them is written to the store or sent, so a run repeats all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use apiserver::pki::Bundle;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use simulation::sign_in::User;

/// A certificate with those that vouch for it.
type Chain = Arc<[CertificateDer<'static>]>;

/// The cluster's keys, and what they have signed.
pub(crate) struct Certificates {
    pub(crate) bundle: Arc<Bundle>,
    issued: Mutex<BTreeMap<User, Chain>>,
}

impl Certificates {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let bundle = Bundle::generate().context("cannot make the cluster's keys")?;
        Ok(Self { bundle: Arc::new(bundle), issued: Mutex::default() })
    }

    /// Returns the certificate of a user.
    pub(crate) fn of(&self, user: &User) -> anyhow::Result<Chain> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chain) = issued.get(user) {
            return Ok(Arc::clone(chain));
        }
        let pem = self.bundle.issue_client(&user.name, user.group.as_deref())?.certificate_pem;
        let chain: Chain = Arc::from([CertificateDer::from_pem_slice(pem.as_bytes())?]);
        issued.insert(user.clone(), Arc::clone(&chain));
        Ok(chain)
    }
}
