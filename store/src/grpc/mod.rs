//! etcd's gRPC services over any [`Kv`] and [`Admin`]: conversion, checks on shape, headers and exact error texts. No rule of
//! the store lives here.

mod cluster;
mod election;
mod health;
mod kv;
mod learner;
mod lease;
mod lock;
mod maintenance;
pub(crate) mod reflection;
pub(crate) mod status;
mod watch;

use std::sync::Arc;

use proto::etcdserverpb as pb;
use tonic::{Request, Status};

use crate::admin::Admin;
use crate::kv::{Kv, Responder};
use crate::mvcc::Revision;

pub(crate) use cluster::ClusterService;
pub(crate) use election::ElectionService;
pub(crate) use health::HealthService;
pub(crate) use kv::KvService;
pub(crate) use learner::LearnerGate;
pub(crate) use lease::LeaseService;
pub(crate) use lock::LockService;
pub(crate) use maintenance::{ETCD_VERSION, MaintenanceService, STORAGE_VERSION};
pub(crate) use watch::WatchService;

/// Largest request, as the log would carry it (etcd's default).
pub(crate) const REQUEST_BYTES_MAX: usize = 1_572_864;
/// Largest message on the wire; a little above, so that a request slightly too large gets the store's own error.
pub(crate) const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;

/// The store as all services share it.
#[derive(Clone)]
pub struct Edge {
    pub kv: Arc<dyn Kv>,
    pub admin: Arc<dyn Admin>,
}

impl Edge {
    /// Returns a header with the store's present revision.
    fn header(&self) -> Option<pb::ResponseHeader> {
        self.header_at(self.kv.status().revision)
    }

    /// Returns a header with a given revision.
    fn header_at(&self, revision: Revision) -> Option<pb::ResponseHeader> {
        let Responder { cluster_id, member_id, term } = self.kv.responder();
        Some(pb::ResponseHeader { cluster_id, member_id, revision: revision.0, raft_term: term })
    }

    /// Returns a header without revision, as the cluster service sends it.
    fn bare_header(&self) -> Option<pb::ResponseHeader> {
        self.header_at(Revision(0))
    }

    /// Refuses a request that asks for a leader while there is none.
    fn check_leader<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if requires_leader(request) && self.kv.status().leader_id == 0 {
            return Err(status::no_leader());
        }
        Ok(())
    }
}

/// Whether the caller set `hasleader`.
fn requires_leader<T>(request: &Request<T>) -> bool {
    request.metadata().get("hasleader").is_some_and(|value| value == "true")
}

/// Refuses requests larger than the log takes.
fn check_size(message: &impl prost::Message) -> Result<(), Status> {
    if message.encoded_len() > REQUEST_BYTES_MAX { Err(status::request_too_large()) } else { Ok(()) }
}
