//! The service rules of the machine's own namespace, for clusters whose nodes live in namespaces of their own: so that
//! `curl http://<clusterIP>/` works from the machine.

use anyhow::{Context, Result};
use client::{Client, Reflector, ReflectorOptions};
use nodeagent::network::dataplane::{self, DataplaneCaches, DataplaneConfig};
use nodeagent::network::{ClusterId, Netns};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::UpArgs;
use super::layout::Layout;
use crate::outcome::Usage;

/// Routes and rules that follow the cluster while it runs.
pub struct MachineNetwork {
    /// `None` when no real node runs: nothing answers behind a service then.
    config: Option<DataplaneConfig>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl MachineNetwork {
    /// Starts following services, endpoints and nodes.
    pub fn start(args: &UpArgs, layout: &Layout, client: &Client) -> Result<Self> {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        if args.agents == 0 {
            return Ok(Self { config: None, tasks, stop });
        }
        let config = DataplaneConfig {
            cluster: ClusterId::of(layout.root()),
            netns: Netns::Own,
            node: None,
            pod_range: args
                .cluster
                .pod_cidr
                .parse()
                .map_err(|_invalid| Usage("--pod-cidr is no IPv4 network".to_owned()))?,
            service_range: args
                .cluster
                .service_cidr
                .parse()
                .map_err(|_invalid| Usage("--service-cidr is no IPv4 network".to_owned()))?,
            dns: None,
        };
        let caches = DataplaneCaches {
            services: Reflector::spawn(client.clone(), ReflectorOptions::default(), &mut tasks, stop.clone()),
            slices: Reflector::spawn(client.clone(), ReflectorOptions::default(), &mut tasks, stop.clone()),
            nodes: Reflector::spawn(client.clone(), ReflectorOptions::default(), &mut tasks, stop.clone()),
        };
        let (serving, token) = (config.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = dataplane::run(serving, caches, token).await {
                warn!(%error, "the machine itself cannot reach services");
            }
        });
        Ok(Self { config: Some(config), tasks, stop })
    }

    /// Stops following and takes routes and rules away.
    pub async fn remove(mut self) -> Result<()> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let Some(config) = &self.config else { return Ok(()) };
        dataplane::remove(config).await.context("cannot remove the machine's service rules")
    }
}
