//! An API server on an in-memory store, for trying clients against it: prints the path of a kubeconfig, then serves
//! until Ctrl-C.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use apiserver::pki::{Bundle, Kubeconfig, KubeconfigContext, ServerNames};
use apiserver::{Config, Server, ServiceRanges};
use store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    transport::install_crypto();
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = std::path::PathBuf::from(folder);
    let bundle = Arc::new(Bundle::load_or_create(&folder)?);
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let config = Config {
        listen: SocketAddr::new(local, 0),
        advertise: local,
        names: ServerNames::default(),
        bundle: Arc::clone(&bundle),
        ranges: ServiceRanges::default(),
        metrics: Arc::default(),
    };
    let shutdown = CancellationToken::new();
    let server = Server::start(config, Arc::new(MemoryStore::default()), shutdown.clone()).await?;
    let admin = bundle.issue_client("kubernetes-admin", Some("system:masters"))?;
    let kubeconfig = Kubeconfig {
        ca_pem: bundle.ca_pem(),
        user: "kubernetes-admin",
        identity: &admin,
        contexts: vec![KubeconfigContext {
            name: "standalone".to_owned(),
            server: format!("https://{}", server.local_addr),
        }],
    };
    let path = folder.join("admin.kubeconfig");
    std::fs::write(&path, kubeconfig.render())?;
    std::io::Write::write_all(&mut std::io::stdout(), format!("{}\n", path.display()).as_bytes())?;
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    server.stopped().await;
    Ok(())
}
