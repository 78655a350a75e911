//! Two signs of life: the Lease every ten seconds, the status on change and every five minutes.

use std::time::Duration;

use client::{Client, Patch, WriteOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::registration::NodeDescription;

/// Upstream's namespace of node leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long a lease counts (upstream's default).
const LEASE_SECONDS: u32 = 40;
/// How often it is renewed: a quarter of its life.
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// After a failure the renewal is tried sooner, so that one lost server costs no beat.
const LEASE_RETRY: Duration = Duration::from_secs(1);
/// How often an unchanged status is written (upstream's default).
const STATUS_INTERVAL: Duration = Duration::from_secs(300);
const STATUS_RETRY: Duration = Duration::from_secs(2);

/// Whether pods can run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Ready,
    /// No, and why.
    NotReady(String),
}

/// Renews the node's lease until the token is cancelled.
pub async fn run_lease(client: Client, node_name: String, shutdown: CancellationToken) {
    loop {
        let renewed = client.renew_lease(LEASE_NAMESPACE, &node_name, &node_name, LEASE_SECONDS).await;
        let pause = match renewed {
            Ok(_) => LEASE_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "node lease is not renewed");
                LEASE_RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Writes the node's status when its health changes and at intervals, until the token is cancelled.
pub async fn run_status(
    client: Client,
    description: NodeDescription,
    mut last: NodeStatus,
    mut health: watch::Receiver<Health>,
    shutdown: CancellationToken,
) {
    loop {
        let now_health = health.borrow_and_update().clone();
        let pause = match write(&client, &description, &now_health, &last).await {
            Ok(status) => {
                last = status;
                STATUS_INTERVAL
            }
            Err(error) if error.is_not_found() => {
                super::register(&client, &description).await;
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(%error, "node status is not written");
                STATUS_RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = health.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn write(
    client: &Client,
    description: &NodeDescription,
    health: &Health,
    last: &NodeStatus,
) -> Result<NodeStatus, client::ApiError> {
    let status = description.status(health, last, Timestamp::now());
    let patch = Patch::Strategic(json!({ "status": status }));
    client.patch::<Node>("", &description.name, "status", &patch, &WriteOptions::default()).await?;
    Ok(status)
}
