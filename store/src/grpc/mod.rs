//! etcd's gRPC services over any [`Kv`], [`Admin`] and [`Guarded`]: who asks, conversion, checks on shape, headers and exact error texts. No rule of
//! the store lives here.

mod auth;
mod cluster;
mod counted;
mod election;
mod guard;
mod health;
mod kv;
mod learner;
mod lease;
mod lock;
mod maintenance;
mod members;
mod password;
pub(crate) mod reflection;
pub(crate) mod status;
mod watch;

use std::sync::{Arc, OnceLock};

use proto::etcdserverpb as pb;
use proto::store::members_server;
use proto::v3electionpb::election_server;
use proto::v3lockpb::lock_server;
use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::guarded::Guarded;
use crate::kv::{Kv, RequestLimits, Responder};
use crate::metrics::ClientCounters;
use crate::mvcc::Revision;
use crate::reads::{self, ReadBudget, ReadPermit};
use crate::web_token::{OptionsError, TokenOptions, TokenSigner};

pub(crate) use auth::AuthService;
pub(crate) use cluster::ClusterService;
pub(crate) use counted::CountCalls;
pub(crate) use election::ElectionService;
pub use guard::CertificateNames;
pub(crate) use guard::{Credential, Guard};
pub(crate) use health::HealthService;
pub(crate) use kv::KvService;
pub(crate) use learner::LearnerGate;
pub(crate) use lease::LeaseService;
pub(crate) use lock::LockService;
pub(crate) use maintenance::{ETCD_VERSION, MaintenanceService, STORAGE_VERSION};
pub(crate) use members::MembersService;
pub use password::BcryptCost;
pub(crate) use watch::WatchService;

/// What gRPC health, reflection and metrics know by name.
pub(crate) const SERVICES: &[&str] = &[
    pb::kv_server::SERVICE_NAME,
    pb::watch_server::SERVICE_NAME,
    pb::lease_server::SERVICE_NAME,
    pb::cluster_server::SERVICE_NAME,
    pb::maintenance_server::SERVICE_NAME,
    pb::auth_server::SERVICE_NAME,
    lock_server::SERVICE_NAME,
    election_server::SERVICE_NAME,
    members_server::SERVICE_NAME,
    tonic_health::pb::health_server::SERVICE_NAME,
];

/// The store as all services share it.
#[derive(Clone)]
pub struct Edge {
    /// For what needs no permission; clients go through [`Guard`].
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) admin: Arc<dyn Admin>,
    auth: Arc<dyn Guarded>,
    auth_options: AuthOptions,
    /// What is counted on all ports.
    pub(crate) clients: ClientCounters,
    pub(crate) reads: Arc<ReadBudget>,
    pub(crate) limits: RequestLimits,
}

/// How clients prove who they are.
#[derive(Clone, Debug, Default)]
pub struct AuthOptions {
    pub certificate_names: CertificateNames,
    pub tokens: TokenKind,
    pub bcrypt_cost: BcryptCost,
}

/// What stands for a user between two logins.
#[derive(Clone, Debug, Default)]
pub enum TokenKind {
    /// A session that all members are told of.
    #[default]
    Simple,
    /// A text that is signed.
    Web(Arc<TokenSigner>),
}

impl TokenKind {
    /// Reads a value of `--auth-token`, and the keys that it names.
    ///
    /// # Errors
    /// When it cannot be read, or there is no use in the keys.
    pub fn read(text: &str) -> Result<Self, OptionsError> {
        match TokenOptions::parse(text)? {
            TokenOptions::Simple => Ok(Self::Simple),
            TokenOptions::Web(options) => {
                TokenSigner::new(&options).map(|signer| Self::Web(Arc::new(signer)))
            }
        }
    }
}

impl Edge {
    /// Returns the edge of one store.
    #[must_use]
    pub fn new<S: Kv + Admin + Guarded>(store: &Arc<S>) -> Self {
        Self {
            kv: Arc::<S>::clone(store),
            admin: Arc::<S>::clone(store),
            auth: Arc::<S>::clone(store),
            auth_options: AuthOptions::default(),
            clients: ClientCounters::new(SERVICES),
            reads: Arc::new(ReadBudget::default()),
            limits: store.limits(),
        }
    }

    /// Says how much memory the answers to clients' reads may take together.
    #[must_use]
    pub fn with_read_budget(self, budget: ReadBudget) -> Self {
        Self { reads: Arc::new(budget), ..self }
    }

    /// Says how clients prove who they are.
    #[must_use]
    pub fn with_auth(self, auth_options: AuthOptions) -> Self {
        Self { auth_options, ..self }
    }

    /// Returns the store as the sender of a request may use it. The one place where clients are told apart.
    fn guard<T>(&self, request: &Request<T>) -> Guard<'_> {
        self.guard_for(self.credential(request))
    }

    /// Returns the store as the owner of a stream may use it.
    fn guard_for(&self, credential: Credential) -> Guard<'_> {
        Guard { edge: self, credential, signed: OnceLock::new() }
    }

    fn credential<T>(&self, request: &Request<T>) -> Credential {
        Credential::of(request, self.auth_options.certificate_names)
    }

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

/// Returns a response that keeps what was set aside for it until it is sent.
fn holding<T>(message: T, permit: Option<Arc<ReadPermit>>) -> Response<T> {
    let mut response = Response::new(message);
    reads::attach(response.extensions_mut(), permit);
    response
}

/// Whether the caller set `hasleader`.
fn requires_leader<T>(request: &Request<T>) -> bool {
    request.metadata().get("hasleader").is_some_and(|value| value == "true")
}
