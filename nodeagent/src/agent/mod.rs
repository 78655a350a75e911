//! The agent's wiring, read top to bottom: build, register, spawn, wait, drain.

mod network;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use client::{Cache, Client, ClientConfig, Reflector, ReflectorOptions};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{self, Served};
use crate::cni::{CniServer, NetworkProvider};
use crate::config::{Config, Connection, NetworkChoice, RuntimeChoice};
use crate::containerd::{Containerd, Paths};
use crate::events;
use crate::logs;
use crate::network::ClusterId;
use crate::network::dataplane::DataplaneCaches;
use crate::node::{self, Health, NodeDescription, StatusReporter};
use crate::pleg;
use crate::pod::spec::NodeFacts;
use crate::pods::{self, PodManager};
use crate::runtime::cri::CriRuntime;
use crate::runtime::fake::{FakeImages, FakeRuntime, FakeTimes};
use crate::runtime::{Runtime, RuntimeVersion};
use crate::volumes::Volumes;
use crate::worker::Shared;
use network::{NodeNetwork, PodProvider};

/// Between two questions to a runtime that does not answer, and how long it is asked at the start.
const RUNTIME_RETRY: Duration = Duration::from_millis(500);
const RUNTIME_LIMIT: Duration = Duration::from_secs(60);

/// A node agent.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Runs a node until the token is cancelled; then stops its containers with their grace periods and removes everything that
    /// the kernel knows of it. The pods' objects stay, so the next run on the same directory runs the same pods again.
    ///
    /// Dropping the future instead leaves containers running for the next agent to adopt.
    ///
    /// # Errors
    /// When the node cannot be set up: no root, no containerd, a directory that cannot be written.
    pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
        let agent = Build::new(config).await?;
        agent.run(shutdown).await
    }
}

/// The parts of an agent before its tasks run.
struct Build {
    config: Config,
    client: Client,
    runtime: Arc<dyn Runtime>,
    version: RuntimeVersion,
    containerd: Option<Arc<Containerd>>,
    paths: Paths,
    node_ip: Option<IpAddr>,
    /// What containers need while they stop, until the token is cancelled.
    services: JoinSet<()>,
    serving: CancellationToken,
}

impl Build {
    async fn new(config: Config) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
        let paths = Paths::new(&config.data_dir);
        let client = client(&config)?;
        let (runtime, containerd) = runtime(&config, &paths, &client).await?;
        let (mut services, serving) = (JoinSet::new(), CancellationToken::new());
        // From the first call on: whoever waits for a runtime that has ended waits for somebody to start it again.
        if let Some(containerd) = &containerd {
            let (containerd, token) = (Arc::clone(containerd), serving.clone());
            services.spawn(async move { containerd.watch(token).await });
        }
        let version = version(runtime.as_ref()).await?;
        if let Some(directory) = &config.image_dir {
            import_images(runtime.as_ref(), directory).await;
        }
        let node_ip = match (config.node_ip, &config.runtime) {
            (Some(ip), _) => Some(ip),
            (None, RuntimeChoice::Containerd) => default_route_address(),
            (None, RuntimeChoice::Hollow { .. }) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        Ok(Self { config, client, runtime, version, containerd, paths, node_ip, services, serving })
    }

    /// Returns what the node says of its machine.
    fn machine(&self) -> node::Machine {
        let told = self.config.machine.clone();
        told.unwrap_or_else(|| node::machine(&self.config.data_dir))
    }

    async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let machine = self.machine();
        let description = NodeDescription {
            name: self.config.node_name.clone(),
            ip: self.node_ip,
            labels: self.config.labels.clone(),
            machine: machine.clone(),
            runtime: self.version.clone(),
        };
        let registered = tokio::select! {
            () = shutdown.cancelled() => None,
            node = node::register(&self.client, &description) => Some(node),
        };
        let (mut services, serving) = (std::mem::take(&mut self.services), self.serving.clone());
        let Some(registered) = registered else {
            return self.stop(services, &serving).await;
        };
        tracing::info!(node = self.config.node_name, runtime = self.version.name, "node registered");

        // Two groups: what drives pods ends first, what containers need while they stop ends last.
        let driving = CancellationToken::new();
        let mut drivers: JoinSet<()> = JoinSet::new();
        let pods =
            self.reflect::<Pod>(&format!("spec.nodeName={}", self.config.node_name), &mut services, &serving);
        let service_cache = self.reflect::<Service>("", &mut services, &serving);
        let (health, health_receiver) =
            watch::channel(Health::NotReady("the pod network is not ready".to_owned()));
        let (event_queue, event_writer) = events::channel(self.client.clone(), &self.config.node_name);
        services.spawn(event_writer.run(serving.clone()));
        services.spawn(node::run_lease(self.client.clone(), self.config.node_name.clone(), serving.clone()));
        let own_node = format!("metadata.name={}", self.config.node_name);
        let reporter = StatusReporter {
            client: self.client.clone(),
            description,
            last: registered.status.unwrap_or_default(),
            health: health_receiver,
            shown: self.reflect::<Node>(&own_node, &mut services, &serving).subscribe(),
        };
        services.spawn(reporter.run(serving.clone()));
        self.spawn_network(health, &service_cache, &mut services, &serving)?;
        self.spawn_channels(&pods, &mut services, &serving)?;

        let shared = Arc::new(Shared {
            runtime: Arc::clone(&self.runtime),
            runtime_name: self.version.name.clone(),
            client: self.client.clone(),
            volumes: self
                .has_files()
                .then(|| Volumes::new(self.paths.data().join("pods"), self.client.clone())),
            node: self.node_facts(&machine),
            host_ip: self.node_ip,
            services: service_cache,
            events: event_queue,
            making: TaskTracker::new(),
        });
        if self.has_files() {
            let (runtime, pods, root) = (Arc::clone(&self.runtime), pods.clone(), log_root(&self.paths));
            drivers.spawn(logs::rotate::run(runtime, pods, root, driving.clone()));
        }
        let (changed_sender, changed) = mpsc::channel(pleg::QUEUE_LENGTH);
        drivers.spawn(pleg::run(Arc::clone(&self.runtime), changed_sender, driving.clone()));
        let (manager_pods, manager_token) = (pods.clone(), driving.clone());
        drivers.spawn(async move { PodManager::new(shared).run(manager_pods, changed, manager_token).await });

        shutdown.cancelled().await;
        tracing::info!("stopping the node's pods");
        driving.cancel();
        while drivers.join_next().await.is_some() {}
        pods::stop_all(Arc::clone(&self.runtime), &pods).await;
        self.stop(services, &serving).await
    }

    fn reflect<K: client::ApiObject>(
        &self,
        fields: &str,
        tasks: &mut JoinSet<()>,
        token: &CancellationToken,
    ) -> Cache<K> {
        let options = ReflectorOptions { field_selector: fields.to_owned(), ..ReflectorOptions::default() };
        Reflector::spawn(self.client.clone(), options, tasks, token.clone())
    }

    fn has_files(&self) -> bool {
        self.containerd.is_some()
    }

    fn node_facts(&self, machine: &node::Machine) -> NodeFacts {
        NodeFacts {
            name: self.config.node_name.clone(),
            cgroup_prefix: self.paths.cgroup_prefix(),
            log_root: log_root(&self.paths),
            memory_bytes: machine.memory_bytes,
            cpu_millis: machine.cpu_count.saturating_mul(1000),
            cluster_dns: self.config.cluster_dns.clone(),
            cluster_domain: self.config.cluster_domain.clone(),
            node_dns: node::node_dns(),
        }
    }

    /// Real nodes get their pod network from the cluster; hollow ones have none and are ready at once.
    fn spawn_network(
        &self,
        health: watch::Sender<Health>,
        services: &Cache<Service>,
        tasks: &mut JoinSet<()>,
        token: &CancellationToken,
    ) -> anyhow::Result<()> {
        if self.containerd.is_none() {
            health.send_replace(Health::Ready);
            return Ok(());
        }
        let provider: Arc<dyn NetworkProvider> = match &self.config.network {
            NetworkChoice::Given(provider) => {
                health.send_replace(Health::Ready);
                Arc::clone(provider)
            }
            NetworkChoice::Node => {
                let provider = Arc::new(PodProvider::default());
                let network = self.node_network(health, services, tasks, token)?;
                tasks.spawn(network.run(Arc::clone(&provider), token.clone()));
                provider
            }
        };
        let server =
            CniServer::bind(&self.paths.cni_socket()).context("cannot bind the network plugin's socket")?;
        tasks.spawn(server.serve(provider, token.clone()));
        Ok(())
    }

    fn node_network(
        &self,
        health: watch::Sender<Health>,
        services: &Cache<Service>,
        tasks: &mut JoinSet<()>,
        token: &CancellationToken,
    ) -> anyhow::Result<NodeNetwork> {
        let address = self.config.cluster_dns.as_ref().map(|address| address.parse::<Ipv4Addr>());
        let address = address.transpose().context("the cluster's name server")?;
        Ok(NodeNetwork {
            node_name: self.config.node_name.clone(),
            cluster: self.config.cluster.unwrap_or_else(|| ClusterId::of(self.paths.data())),
            pod_range: self.config.pod_cidr.parse().context("the pod range")?,
            service_range: self.config.service_cidr.parse().context("the service range")?,
            dns: address.map(|address| (address, self.config.cluster_domain.clone())),
            state_file: self.paths.data().join("addresses.json"),
            runtime: Arc::clone(&self.runtime),
            caches: DataplaneCaches {
                services: services.clone(),
                slices: self.reflect::<EndpointSlice>("", tasks, token),
                nodes: self.reflect::<Node>("", tasks, token),
            },
            health,
        })
    }

    /// Keeps a channel to every server, over which exec, attach and logs come.
    fn spawn_channels(
        &self,
        pods: &Cache<Pod>,
        tasks: &mut JoinSet<()>,
        token: &CancellationToken,
    ) -> anyhow::Result<()> {
        let Connection::Servers { servers, identity } = &self.config.connection else { return Ok(()) };
        let served = Arc::new(Served {
            node_name: self.config.node_name.clone(),
            runtime: Arc::clone(&self.runtime),
            pods: pods.clone(),
            log_root: log_root(&self.paths),
        });
        for server in servers {
            let channel =
                transport::grpc::channel(server, identity).context("a server's address is not usable")?;
            tasks.spawn(channel::run(channel, Arc::clone(&served), token.clone()));
        }
        Ok(())
    }

    /// Ends the services. Nothing of the node may stay in the kernel.
    async fn stop(self, mut services: JoinSet<()>, serving: &CancellationToken) -> anyhow::Result<()> {
        serving.cancel();
        while services.join_next().await.is_some() {}
        if let Some(containerd) = self.containerd.and_then(Arc::into_inner) {
            let volumes = Volumes::new(self.paths.data().join("pods"), self.client.clone());
            volumes.unmount_all();
            containerd.stop().await;
        }
        tracing::info!("node stopped");
        Ok(())
    }
}

/// Returns the directory of all pods' logs.
pub(crate) fn log_root(paths: &Paths) -> std::path::PathBuf {
    paths.data().join("pod-logs")
}

fn client(config: &Config) -> anyhow::Result<Client> {
    match &config.connection {
        Connection::Client(client) => Ok(client.clone()),
        Connection::Servers { servers, identity } => {
            let user_agent = format!("keelson-agent/{}", env!("CARGO_PKG_VERSION"));
            let config = ClientConfig { servers: servers.clone(), tls: identity.clone(), user_agent };
            Client::new(config).context("the servers' addresses are not usable")
        }
    }
}

async fn runtime(
    config: &Config,
    paths: &Paths,
    client: &Client,
) -> anyhow::Result<(Arc<dyn Runtime>, Option<Arc<Containerd>>)> {
    match &config.runtime {
        RuntimeChoice::Hollow { first_address, start } => {
            let times = FakeTimes { sandbox: Duration::ZERO, container: *start };
            let runtime = FakeRuntime::new(FakeImages::All, times, *first_address).without_network();
            let runtime = runtime.in_time_of(Arc::clone(client.outside()));
            Ok((Arc::new(runtime), None))
        }
        RuntimeChoice::Containerd => {
            anyhow::ensure!(nix::unistd::geteuid().is_root(), "containers need root");
            let plugin = match &config.network_plugin {
                Some(plugin) => plugin.clone(),
                None => std::env::current_exe().context("cannot find the own program")?,
            };
            let containerd = Containerd::start(paths.clone(), &plugin).await?;
            Ok((Arc::new(CriRuntime::new(&paths.socket())), Some(Arc::new(containerd))))
        }
    }
}

/// Asks a runtime who it is. One that has just been started again answers a moment later.
async fn version(runtime: &dyn Runtime) -> anyhow::Result<RuntimeVersion> {
    let asking = async {
        loop {
            match runtime.version().await {
                Ok(version) => return version,
                Err(error) => tracing::warn!(%error, "the runtime does not say who it is"),
            }
            tokio::time::sleep(RUNTIME_RETRY).await;
        }
    };
    tokio::time::timeout(RUNTIME_LIMIT, asking).await.context("the container runtime does not answer")
}

/// Imports every archive of a directory; one that is not usable is reported and skipped.
async fn import_images(runtime: &dyn Runtime, directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for path in
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "tar"))
    {
        match runtime.import_image(&path).await {
            Ok(names) => tracing::info!(archive = %path.display(), ?names, "image imported"),
            Err(error) => tracing::warn!(%error, archive = %path.display(), "image is not imported"),
        }
    }
}

/// Returns the local address towards the outside. Connecting a datagram socket sends no packet, it only asks the routes.
fn default_route_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Any address outside does; this one is reserved for documentation (RFC 5737).
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
