//! The `k8s` tier: what stands on members, and beside them. It is handed in: this crate holds the store, and not what uses it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use store::Member;
use store::net::Connection;
use tonic::transport::{Channel, Endpoint};
use transport::outside::Outside;
use turmoil::net::{TcpListener, TcpStream};

use crate::machine::{Machine, name};
use crate::network::OfProcess;
use crate::outside::SimOutside;
use crate::plan::Plan;
use crate::sign_in::{self, User};

/// Port of the API on every member.
pub const API_PORT: u16 = 6443;
/// The host of all agents.
pub(crate) const AGENTS: &str = "agents";

/// Makes what stands on the members of one run.
pub type MakeControlPlane = fn() -> anyhow::Result<Arc<dyn ControlPlane>>;

/// API servers with controllers and scheduler, and agents. One for each run.
pub trait ControlPlane: Send + Sync {
    /// Serves the API over a member, and runs controllers and scheduler beside it. Ends only with an error.
    fn server(&self, process: Process, member: Arc<Member>) -> BoxFuture<'static, anyhow::Result<()>>;

    /// Runs the agents of all nodes. Ends only with an error.
    fn agents(&self, process: Process) -> BoxFuture<'static, anyhow::Result<()>>;
}

/// A simulated process as it sees itself: its network, its time, its chance. A clone is the same one.
#[derive(Clone)]
pub struct Process {
    machine: Arc<Machine>,
    pub outside: Arc<dyn Outside>,
    /// Hosts of all API servers.
    pub servers: Vec<String>,
    /// Draws what the process draws by itself.
    pub seed: u64,
    /// How long a lock stays with a leader that is silent.
    pub lock_ttl: Duration,
}

impl Process {
    /// `start` counts the processes of the machine, which draw different numbers.
    pub(crate) fn new(machine: &Arc<Machine>, start: u64, plan: &Plan) -> Self {
        // Other numbers than the store's member draws, which multiplies by another prime.
        let seed = machine.seed.wrapping_mul(10_009).wrapping_add(start);
        Self {
            machine: Arc::clone(machine),
            outside: SimOutside::shared(seed),
            servers: (0..plan.voters).map(name).collect(),
            seed,
            lock_ttl: Duration::from_millis(plan.lock_ttl_ms),
        }
    }

    /// Returns the name of its host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.machine.name
    }

    /// Returns the address of its host. Only on that host.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        turmoil::lookup(self.machine.name.as_str())
    }

    /// Listens for clients of the API.
    ///
    /// # Errors
    /// When somebody listens there already.
    pub async fn listen(&self) -> io::Result<Listening> {
        let listener = TcpListener::bind(("0.0.0.0", API_PORT)).await?;
        Ok(Listening { listener, machine: Arc::clone(&self.machine) })
    }

    /// Returns a channel to the API server of a host that connects when it is used, as `user`.
    ///
    /// # Errors
    /// When that is no name of a host.
    pub fn channel(&self, host: &str, user: &User) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{host}:{API_PORT}"))?;
        let (process, user, host) = (self.clone(), user.clone(), host.to_owned());
        let connector = tower::service_fn(move |_: Uri| {
            let (process, user, host) = (process.clone(), user.clone(), host.clone());
            async move { process.connect(&host, &user).await.map(TokioIo::new) }
        });
        Ok(transport::grpc::with_deadlines(endpoint).connect_with_connector_lazy(connector))
    }

    /// Connects to the API server of a host, as `user`.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn connect(&self, host: &str, user: &User) -> io::Result<Connection> {
        let stream = TcpStream::connect((host, API_PORT)).await?;
        let mut connection = Connection::new(OfProcess::new(stream, &self.machine));
        sign_in::tell(&mut connection, user).await?;
        Ok(connection)
    }
}

/// Accepts connections of a process.
pub struct Listening {
    listener: TcpListener,
    machine: Arc<Machine>,
}

/// A connection, and both its ends.
pub struct Accepted {
    pub connection: Connection,
    pub remote: SocketAddr,
    pub local: SocketAddr,
}

impl Listening {
    /// Waits for the next connection; nobody has signed in on it yet.
    ///
    /// # Errors
    /// When the host is at its end.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (stream, remote) = self.listener.accept().await?;
        let local = stream.local_addr()?;
        Ok(Accepted { connection: Connection::new(OfProcess::new(stream, &self.machine)), remote, local })
    }
}
