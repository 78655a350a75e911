//! Controllers and scheduler of a process, which contend with those of the others for their locks.

use client::Client;
use controllers::scheduler;
use simulation::control_plane::Process;
use simulation::sign_in::User;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Stands in the place of the CA's certificate, which differs from run to run, where it is published.
const CA: &str = "the simulator has no TLS";

/// Starts both.
///
/// # Errors
/// When a host has no name.
pub(crate) fn start(process: &Process, stop: &CancellationToken) -> anyhow::Result<JoinSet<()>> {
    let identity = format!("{}_{}", process.host(), process.outside.uuid());
    let mut loops = JoinSet::new();
    let config = controllers::Config {
        identity: identity.clone(),
        ca_pem: CA.to_owned(),
        lease_duration: process.lock_ttl,
        ..controllers::Config::default()
    };
    let running = controllers::run(config, client(process, "system:kube-controller-manager")?, stop.clone());
    loops.spawn(async move {
        if let Err(error) = running.await {
            warn!(%error, "controllers do not run");
        }
    });
    let config =
        scheduler::Config { lock_ttl: process.lock_ttl, ..scheduler::Config::new(identity, process.seed) };
    loops.spawn(scheduler::run(config, client(process, "system:kube-scheduler")?, stop.clone()));
    Ok(loops)
}

/// Returns a client of this server first and of the others after it.
fn client(process: &Process, name: &str) -> anyhow::Result<Client> {
    let others = process.servers.iter().map(String::as_str).filter(|server| *server != process.host());
    let servers = std::iter::once(process.host()).chain(others);
    let user = User::component(name);
    let channels = servers.map(|server| process.channel(server, &user)).collect::<Result<Vec<_>, _>>()?;
    Ok(Client::over(channels, name, process.outside.clone())?)
}
