//! Several servers or agents: one process each, supervised.
//!
//! Start: keys and ports, node namespaces, servers, pass-through, agents. Stop: agents first, so that containers end while the
//! API still answers, then servers, then the namespaces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use apiserver::pki::Bundle;
use nodeagent::network::hosts::{self, Hosts, HostsConfig};
use nodeagent::network::{ClusterId, Netns};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::layout::{Layout, Marker};
use super::machine_network::MachineNetwork;
use super::supervisor::{Program, keep_running};
use super::{UpArgs, kubeconfig, pass_through, ready};
use crate::files::write_secret;
use crate::outcome::Usage;
use crate::server::component_client;

/// Time for a server to hand over and close: much more than it takes.
const SERVER_GRACE: Duration = Duration::from_secs(15);
/// Time for an agent to stop its containers: the default grace period of a pod and some.
const AGENT_GRACE: Duration = Duration::from_secs(45);
/// How long a cluster in the background may take to become Ready before `--detach` gives up on it.
const DETACH_TIMEOUT: Duration = Duration::from_secs(180);
/// How long the tokens that agents of this machine join with are valid.
const TOKEN_LIFETIME_HOURS: i64 = 1;

/// Runs the cluster until `shutdown`.
pub async fn run(args: &UpArgs, layout: &Layout, marker: &Marker, shutdown: CancellationToken) -> Result<()> {
    let began = Instant::now();
    let bundle = Arc::new(Bundle::load_or_create(&layout.pki()).context("cannot use the cluster's keys")?);
    let front =
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.api_port))).await.map_err(|error| {
            Usage(format!("cannot listen on port {}: {error}; choose another --api-port", args.api_port))
        })?;
    let front_port = front.local_addr()?.port();
    let api_ports: Vec<u16> = marker.servers.iter().map(|ports| ports.api).collect();
    kubeconfig::write(layout, &bundle, front_port, &api_ports)?;

    let nodes = Nodes::create(args, layout).await?;
    let executable = std::env::current_exe().context("cannot find this program's own file")?;
    let plan = Plan { args, layout, marker, nodes: &nodes, executable };
    let stop_servers = CancellationToken::new();
    let mut servers = spawn(plan.servers()?, &stop_servers);
    let targets = api_ports.iter().map(|&port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
    let mut front_task = JoinSet::new();
    front_task.spawn(pass_through::run(front, targets, stop_servers.clone()));
    let stop_agents = CancellationToken::new();
    write_token(layout, &bundle)?;
    let mut agents = spawn(plan.agents(), &stop_agents);

    let urls: Vec<String> = api_ports.iter().map(|port| format!("https://127.0.0.1:{port}")).collect();
    let client = component_client(&bundle, "system:kube-controller-manager", &urls)?;
    let machine = MachineNetwork::start(args, layout, &client)?;
    let expected = usize::try_from(args.agents + args.hollow_nodes)?;
    let outcome = tokio::select! {
        is_ready = ready::wait(&client, expected, &shutdown) => match is_ready {
            Ok(true) => { ready::announce(layout, front_port, began.elapsed()); Ok(()) }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        },
        error = first_failure(&mut servers, &mut agents) => Err(error),
    };
    let outcome = match outcome {
        Ok(()) => tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = first_failure(&mut servers, &mut agents) => Err(error),
        },
        Err(error) => Err(error),
    };
    eprintln!("keelson: stopping");
    stop_agents.cancel();
    drain(&mut agents).await;
    stop_servers.cancel();
    drain(&mut servers).await;
    while front_task.join_next().await.is_some() {}
    machine.remove().await?;
    nodes.remove().await?;
    outcome
}

type Supervised = JoinSet<Result<()>>;

fn spawn(programs: Vec<Program>, shutdown: &CancellationToken) -> Supervised {
    let mut set = JoinSet::new();
    for program in programs {
        set.spawn(keep_running(program, shutdown.clone()));
    }
    set
}

/// Returns the first reason why a process cannot be kept running.
async fn first_failure(servers: &mut Supervised, agents: &mut Supervised) -> anyhow::Error {
    loop {
        let ended = tokio::select! {
            Some(ended) = servers.join_next() => ended,
            Some(ended) = agents.join_next() => ended,
            else => std::future::pending().await,
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return error.into(),
        }
    }
}

async fn drain(set: &mut Supervised) {
    while set.join_next().await.is_some() {}
}

/// The node namespaces of a cluster whose agents run in some.
struct Nodes {
    config: Option<HostsConfig>,
    hosts: Option<Hosts>,
}

impl Nodes {
    async fn create(args: &UpArgs, layout: &Layout) -> Result<Self> {
        if args.agents == 0 {
            return Ok(Self { config: None, hosts: None });
        }
        let config = HostsConfig {
            cluster: ClusterId::of(layout.root()),
            root: Netns::Own,
            run_dir: layout.root().join("run"),
            count: u16::try_from(args.agents)?,
        };
        let hosts = hosts::create(&config).await.context("cannot make the nodes' network namespaces")?;
        Ok(Self { config: Some(config), hosts: Some(hosts) })
    }

    /// The address that nodes and pods reach the servers at.
    fn hub(&self) -> IpAddr {
        self.hosts.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |hosts| IpAddr::V4(hosts.hub))
    }

    async fn remove(&self) -> Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        hosts::remove(config).await.context("cannot remove the nodes' network namespaces")
    }
}

/// What is needed to write down the command of every process.
struct Plan<'a> {
    args: &'a UpArgs,
    layout: &'a Layout,
    marker: &'a Marker,
    nodes: &'a Nodes,
    executable: PathBuf,
}

impl Plan<'_> {
    fn servers(&self) -> Result<Vec<Program>> {
        let names: Vec<String> =
            (1..=self.marker.servers.len()).map(|number| format!("server-{number}")).collect();
        let members: Vec<String> = names
            .iter()
            .zip(&self.marker.servers)
            .map(|(name, ports)| format!("{name}=https://127.0.0.1:{}", ports.peer))
            .collect();
        let cluster = &self.args.cluster;
        let mut programs = Vec::new();
        for (name, ports) in names.iter().zip(&self.marker.servers) {
            let flags = [
                ("--data-dir", display(&self.layout.process(name))),
                ("--pki-dir", display(&self.layout.pki())),
                ("--name", name.clone()),
                ("--listen", format!("0.0.0.0:{}", ports.api)),
                ("--advertise", self.nodes.hub().to_string()),
                ("--listen-peer", format!("127.0.0.1:{}", ports.peer)),
                ("--initial-cluster", members.join(",")),
                ("--servers", self.urls(Ipv4Addr::LOCALHOST.into()).join(",")),
                ("--pod-cidr", cluster.pod_cidr.clone()),
                ("--service-cidr", cluster.service_cidr.clone()),
                ("--node-monitor-grace-seconds", cluster.node_monitor_grace_seconds.to_string()),
                ("--pod-eviction-seconds", cluster.pod_eviction_seconds.to_string()),
                ("--election-timeout-ms", cluster.election_timeout_ms.to_string()),
                ("--controllers-commit-delay-ms", cluster.controllers_commit_delay_ms.to_string()),
            ];
            let mut command = vec![display(&self.executable), "server".to_owned()];
            command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
            command.extend(cluster.feature_level_max.map(|max| format!("--feature-level-max={max}")));
            programs.push(self.program(name, command, SERVER_GRACE));
        }
        Ok(programs)
    }

    fn agents(&self) -> Vec<Program> {
        let namespaces = self.nodes.hosts.iter().flat_map(|hosts| &hosts.nodes);
        let mut programs: Vec<Program> = (1..)
            .zip(namespaces)
            .map(|(number, node): (u32, _)| {
                let name = format!("agent-{number}");
                let mut command =
                    vec!["nsenter".to_owned(), format!("--net={}", node.path.display()), "--".to_owned()];
                command.extend(self.agent_command(&name, self.nodes.hub()));
                command.extend([
                    "--node-name".to_owned(),
                    format!("node-{number}"),
                    "--address".to_owned(),
                    node.address.to_string(),
                ]);
                self.program(&name, command, AGENT_GRACE)
            })
            .collect();
        if self.args.hollow_nodes > 0 {
            let mut command = self.agent_command("hollow", Ipv4Addr::LOCALHOST.into());
            command.extend(["--hollow-nodes".to_owned(), self.args.hollow_nodes.to_string()]);
            programs.push(self.program("hollow", command, AGENT_GRACE));
        }
        programs
    }

    fn agent_command(&self, name: &str, server: IpAddr) -> Vec<String> {
        vec![
            display(&self.executable),
            "agent".to_owned(),
            "--data-dir".to_owned(),
            display(&self.layout.process(name)),
            "--cluster-dir".to_owned(),
            display(self.layout.root()),
            "--server".to_owned(),
            self.urls(server).join(","),
            "--token-file".to_owned(),
            display(&token_file(self.layout)),
            "--pod-cidr".to_owned(),
            self.args.cluster.pod_cidr.clone(),
            "--service-cidr".to_owned(),
            self.args.cluster.service_cidr.clone(),
        ]
    }

    fn urls(&self, address: IpAddr) -> Vec<String> {
        self.marker.servers.iter().map(|ports| format!("https://{address}:{}", ports.api)).collect()
    }

    fn program(&self, name: &str, command: Vec<String>, grace: Duration) -> Program {
        Program {
            name: name.to_owned(),
            command,
            pid_file: self.layout.pid_file(name),
            log_file: self.layout.log_file(name),
            grace,
        }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// Where agents of this machine find the token to join with.
pub fn token_file(layout: &Layout) -> PathBuf {
    layout.root().join("run/agent.token")
}

/// Writes a fresh join token, readable by root only.
pub fn write_token(layout: &Layout, bundle: &Bundle) -> Result<()> {
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(TOKEN_LIFETIME_HOURS);
    write_secret(&token_file(layout), bundle.join_token(expires).to_string().as_bytes())
}

/// Starts the same command in the background and waits until it says that the cluster is Ready.
pub fn detach(args: &UpArgs) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let log_path = args.data_dir.with_extension("up.log");
    if let Some(parent) = log_path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let log =
        std::fs::File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
    let flags = std::env::args_os().skip(1).filter(|flag| flag != "--detach");
    let mut child = Command::new(std::env::current_exe()?)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + DETACH_TIMEOUT;
    loop {
        let said = std::fs::read_to_string(&log_path).unwrap_or_default();
        if said.contains(ready::READY) {
            eprint!("{said}");
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = child.try_wait()? {
            eprint!("{said}");
            bail!("the cluster ended with {status}");
        }
        if Instant::now() > deadline {
            bail!(
                "not Ready within {} s; it goes on in the background, see {}",
                DETACH_TIMEOUT.as_secs(),
                log_path.display()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
