//! The controller manager: one instance leads, with warm caches, and every write of its tenure is fenced.

use std::time::Duration;

use client::{Client, LeaderLock, LeaderLockConfig, Tenure};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::Config;
use crate::runtime::Caches;
use crate::start;

/// The lock whose epoch fences all controllers.
pub const LOCK: &str = "kube-controller-manager";

/// How long controllers may take to stop after their tenure ended.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Competes for leadership and runs all controllers while leading, until `shutdown`.
///
/// # Errors
/// When the configuration cannot work.
pub async fn run(config: Config, client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    config.validate()?;
    let mut reflectors = JoinSet::new();
    let caches = Caches::start(&client, &mut reflectors, &shutdown);
    let lock = LeaderLock::new(
        client.clone(),
        LeaderLockConfig {
            lock: LOCK.to_owned(),
            identity: config.identity.clone(),
            ttl: config.lease_duration,
        },
    );
    config.leader_status.stands_by(LOCK);
    while let Some(tenure) = shutdown.run_until_cancelled(lock.acquire()).await {
        config.leader_status.leads(LOCK);
        lead(&config, &client, &caches, &tenure, &shutdown).await;
        config.leader_status.stands_by(LOCK);
        if shutdown.is_cancelled() {
            tenure.release().await;
            break;
        }
    }
    while reflectors.join_next().await.is_some() {}
    Ok(())
}

/// One tenure: nothing is reconciled before every cache has passed the revision at which the lock was won, because
/// only then does it show everything that the former leader wrote.
async fn lead(
    config: &Config,
    client: &Client,
    caches: &Caches,
    tenure: &Tenure,
    shutdown: &CancellationToken,
) {
    let stop = tenure.lost.child_token();
    let ready = async {
        tokio::select! {
            () = caches.ensure_revision(tenure.epoch.revision) => true,
            () = stop.cancelled() => false,
            () = shutdown.cancelled() => false,
        }
    };
    if !ready.await {
        return;
    }
    info!(revision = tenure.epoch.revision, "caches are current; controllers start");
    let mut controllers = JoinSet::new();
    let context = start::Start { config, client, caches, tenure, stop: stop.clone() };
    start::all(&context, &mut controllers);
    tokio::select! {
        () = stop.cancelled() => {}
        () = shutdown.cancelled() => stop.cancel(),
    }
    let stopped = async { while controllers.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, stopped).await.is_err() {
        controllers.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
