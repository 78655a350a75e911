//! Waiting until a cluster is Ready: every expected node is.

use std::time::Duration;

use anyhow::Result;
use client::{Client, ListOptions};
use proto::api::k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;

use super::layout::Layout;

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(200);

/// Returns once `expected` nodes are Ready, or when `shutdown` comes first (then false).
pub async fn wait(client: &Client, expected: usize, shutdown: &CancellationToken) -> Result<bool> {
    loop {
        // Servers that are still electing a leader answer with errors; the next look asks again.
        let ready = client
            .list::<Node>("", &ListOptions::default())
            .await
            .map_or(None, |list| Some(list.items.iter().filter(|node| is_ready(node)).count()));
        if ready.is_some_and(|ready| ready >= expected) {
            return Ok(true);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The word that says that a cluster can be used.
pub const READY: &str = "Ready";

/// Prints how to use the cluster.
pub fn announce(layout: &Layout, port: u16, took: Duration) {
    let kubeconfig = layout.admin_kubeconfig();
    eprintln!("keelson: {READY} after {:.1} s, API at https://127.0.0.1:{port}", took.as_secs_f64());
    eprintln!("keelson: use it with");
    eprintln!("    export KUBECONFIG={}", kubeconfig.display());
    eprintln!("    kubectl get nodes");
    eprintln!("keelson: logs are in {}; Ctrl-C stops the cluster", layout.root().join("logs").display());
}
