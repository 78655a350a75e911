//! What a member's process runs beside the store: an API server on it, and the managers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::pki::ServerNames;
use apiserver::{Config, PortlessServer, Server, ServiceRanges};
use prometheus_client::registry::Registry;
use simulation::control_plane::{API_PORT, Accepted, Process};
use simulation::sign_in;
use store::Member;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use transport::accept::{Dates, ServeOptions};
use transport::peer::Peer;

use crate::certificates::Certificates;
use crate::managers;

/// A client that does not sign in in this time only holds a slot, as one that does not finish a handshake.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the API on a member until the process is taken away.
pub(crate) async fn run(
    process: Process,
    member: Arc<Member>,
    certificates: Arc<Certificates>,
) -> anyhow::Result<()> {
    let address = process.address();
    let config = Config {
        listen: SocketAddr::new(address, API_PORT),
        advertise: address,
        names: ServerNames::default(),
        bundle: Arc::clone(&certificates.bundle),
        ranges: ServiceRanges::default(),
        metrics: Arc::new(Registry::default()),
    };
    // Nobody cancels it: simulated processes end without a warning.
    let stop = CancellationToken::new();
    let listening = process.listen().await?;
    let outside = Arc::clone(&process.outside);
    let server = Arc::new(Server::without_port(&config, member, outside, stop.clone())?);
    let _managers = managers::start(&process, &stop)?;
    let mut connections = JoinSet::new();
    loop {
        let accepted = listening.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(Arc::clone(&server), accepted, Arc::clone(&certificates)));
    }
}

/// Serves one connection once it is known whose it is.
async fn converse(server: Arc<PortlessServer>, accepted: Accepted, certificates: Arc<Certificates>) {
    let Accepted { mut connection, remote, local } = accepted;
    let signing_in = tokio::time::timeout(SIGN_IN_TIMEOUT, sign_in::heard(&mut connection));
    let Ok(Ok(user)) = signing_in.await else { return debug!(%remote, "nobody signs in") };
    match certificates.of(&user) {
        Ok(certificates) => {
            let peer = Peer { remote_addr: remote, local_addr: local, certificates };
            let options = ServeOptions { dates: Dates::LeftOut, ..ServeOptions::default() };
            server.converse(connection, peer, options).await;
        }
        Err(error) => debug!(%remote, %error, "there is no certificate for who signs in"),
    }
}
