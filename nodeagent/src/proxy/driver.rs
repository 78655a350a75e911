//! Brings the model's changes into the kernel of one namespace.
//!
//! The first step replaces the whole table in one transaction, and so does a refused one; all others send the difference. Tracked connections survive both. The rules stay when the process ends: a restart interrupts nobody.

use std::time::Duration;

use client::Cache;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio_util::sync::CancellationToken;

use crate::network::{ClusterId, Netns, NetworkError, run_nft};
use crate::nft::Batch;
use crate::proxy::feed::ServiceFeed;
use crate::proxy::model::Model;
use crate::proxy::rules::Scope;

/// How often the whole table is put in place again, in case somebody else touched it.
const RESYNC: Duration = Duration::from_secs(3600);
/// How soon a refused table is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where the service rules go and for whom.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    pub cluster: ClusterId,
    pub netns: Netns,
    pub scope: Scope,
}

/// Why the service rules cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The very first table was refused: `nft` is missing, the process lacks rights, or the kernel lacks nftables.
    #[error("cannot install the service rules: {0}")]
    Install(#[source] NetworkError),
}

/// Keeps the service rules of a namespace equal to the caches until shutdown. The rules stay; remove them with
/// [`crate::network::Ranges::remove`].
///
/// # Errors
/// Only when the first table cannot be installed; later refusals are logged and repaired.
pub async fn run(
    config: ProxyConfig,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    let start = ServiceFeed::start(&services, &slices);
    let Some(mut feed) = shutdown.run_until_cancelled(start).await else { return Ok(()) };
    let mut model = Model::new(config.cluster.services_table(), config.scope.clone());
    let present = feed.pending();
    model.update_all(&present, feed.index());
    replace(&config, &model).await.map_err(ProxyError::Install)?;
    // Whether the kernel may hold something else than the model.
    let mut is_stale = false;
    loop {
        let wait = if is_stale { RETRY } else { RESYNC };
        let batch = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            touched = feed.next() => model.update_all(&touched, feed.index()),
            () = tokio::time::sleep(wait) => {
                is_stale = true;
                Batch::default()
            }
        };
        let outcome =
            if is_stale { replace(&config, &model).await } else { update(&config, &model, batch).await };
        is_stale = outcome.is_err();
        if let Err(error) = outcome {
            tracing::warn!(%error, "the table of service rules is refused");
        }
    }
}

/// Sends a change, or the whole table where the kernel refuses the change: somebody else touched the table.
async fn update(config: &ProxyConfig, model: &Model, batch: Batch) -> Result<(), NetworkError> {
    let Err(error) = change(config, batch).await else { return Ok(()) };
    tracing::warn!(%error, "a change of service rules is refused, replacing the table");
    replace(config, model).await
}

async fn replace(config: &ProxyConfig, model: &Model) -> Result<(), NetworkError> {
    let text = model.table().replace_text();
    config.netns.try_run(move || run_nft(&text)).await
}

async fn change(config: &ProxyConfig, batch: Batch) -> Result<(), NetworkError> {
    if batch.is_empty() {
        return Ok(());
    }
    let text = batch.text(&config.cluster.services_table());
    config.netns.try_run(move || run_nft(&text)).await
}
