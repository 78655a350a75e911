//! An in-memory API behind the real gRPC wire, for tests of controllers, scheduler and agents.
//!
//! [`state`] is the pure part: objects by kind with revisions, finalizers, grace, fences and idempotency keys;
//! [`patch`] changes JSON; [`service`] puts both on the wire. It validates and defaults nothing, keeps a status given at
//! creation, and knows no users: what it refuses, the real server refuses too, but not the other way round.

mod patch;
mod service;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper_util::rt::TokioIo;
use proto::keelson::api_server::ApiServer;
use proto::keelson::leadership_server::LeadershipServer;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::{Endpoint, Server};

use crate::api::Client;
use crate::object::{ApiObject, ResourceKind, decode, encode};
use state::State;

/// Bytes in flight of one in-memory connection.
const CONNECTION_BYTES: usize = 1 << 20;
/// Connections waiting to be served.
const CONNECTION_COUNT_MAX: usize = 16;

/// What the next write does instead of its normal course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Applies the write and loses the answer.
    LoseAnswer,
    /// Refuses with "unavailable, nothing applied".
    Refuse,
    /// Refuses as an internal error.
    Fail,
}

/// A running fake API; dropping it ends its connections.
#[derive(Debug)]
pub struct FakeApi {
    shared: Arc<Shared>,
    client: Client,
    _server: JoinSet<()>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    watches_held: watch::Sender<bool>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change and tells the watches.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, revision) = {
            let mut state = self.state();
            (change(&mut state), state.revision())
        };
        self.revision.send_replace(revision);
        result
    }
}

impl FakeApi {
    /// Starts an empty API on an in-memory connection. Call inside a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            revision: watch::Sender::new(0),
            watches_held: watch::Sender::new(false),
        });
        let (connect, connections) = mpsc::channel::<DuplexStream>(CONNECTION_COUNT_MAX);
        let mut server = JoinSet::new();
        let service = service::FakeService(Arc::clone(&shared));
        server.spawn(async move {
            let incoming = futures::stream::unfold(connections, |mut connections| async move {
                connections.recv().await.map(|connection| (Ok::<_, std::io::Error>(connection), connections))
            });
            let router = Server::builder()
                .add_service(ApiServer::new(service.clone()))
                .add_service(LeadershipServer::new(service));
            // The server ends with its incoming stream; a test that cares sees its calls fail.
            let _ended = router.serve_with_incoming(incoming).await;
        });
        let connector = tower::service_fn(move |_| {
            let connect = connect.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(CONNECTION_BYTES);
                connect.send(theirs).await.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        });
        let channel = Endpoint::from_static("http://fake.invalid").connect_with_connector_lazy(connector);
        Self { shared, client: Client::from_channel(channel), _server: server }
    }

    /// Returns a client of this API.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Stores an object as given and returns it with its identity: the test's own hand, past every rule.
    ///
    /// # Panics
    /// When the object exists or cannot be written as JSON.
    pub fn insert<K: ApiObject>(&self, object: &K) -> K {
        let raw = encode(object).expect("API objects are JSON");
        let kind = ResourceKind::of::<K>().wire();
        let stored = self.shared.change(|state| state.create(&kind, &raw, "", None));
        decode(&stored.expect("the object is new")).expect("what was stored can be read")
    }

    /// Changes an object in place, status included, past every rule.
    ///
    /// # Panics
    /// When the object does not exist.
    pub fn modify<K: ApiObject>(&self, namespace: &str, name: &str, change: impl FnOnce(&mut K)) -> K {
        let kind = ResourceKind::of::<K>().wire();
        let stored = self.shared.change(|state| {
            let mut object: K = decode(&state.get(&kind, namespace, name)?)?;
            change(&mut object);
            state.overwrite(&kind, &encode(&object)?)
        });
        decode(&stored.expect("the object exists")).expect("what was stored can be read")
    }

    /// Removes an object at once, past finalizers and grace.
    pub fn remove<K: ApiObject>(&self, namespace: &str, name: &str) {
        let kind = ResourceKind::of::<K>().wire();
        self.shared.change(|state| state.remove(&kind, namespace, name));
    }

    /// Returns all objects of a kind, ordered by namespace and name.
    ///
    /// # Panics
    /// When a stored object is not of this kind.
    #[must_use]
    pub fn objects<K: ApiObject>(&self) -> Vec<K> {
        let kind = ResourceKind::of::<K>().wire();
        let objects = self.shared.state().objects_of(&kind);
        objects.iter().map(|object| decode(object).expect("what was stored can be read")).collect()
    }

    /// Makes the next write misbehave; several queue up.
    pub fn inject(&self, fault: Fault) {
        self.shared.state().inject(fault);
    }

    /// Holds back all watch events, or lets them go.
    pub fn hold_watches(&self, held: bool) {
        self.shared.watches_held.send_replace(held);
    }

    /// Gives a lock to nobody: the next write with its old epoch is fenced out.
    pub fn depose(&self, lock: &str) {
        self.shared.state().depose(lock);
    }

    /// Forgets history, so that a watch from an old revision is expired.
    pub fn compact(&self) {
        self.shared.state().compact();
    }

    /// Returns the revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.state().revision()
    }
}

#[cfg(test)]
mod tests;
