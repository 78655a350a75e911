//! The catch-all routes of a namespace: packets to pods and services are answered on this machine or nowhere.

use std::net::Ipv4Addr;

use crate::network::{ClusterId, Ipv4Net, Netns, NetworkError, plan, run_nft, sysctl, tool};

/// Which ranges a namespace serves.
#[derive(Clone, Debug)]
pub struct RangesConfig {
    pub cluster: ClusterId,
    pub netns: Netns,
    /// The pods of all nodes.
    pub pod_range: Ipv4Net,
    pub service_range: Ipv4Net,
    /// The node's address: what local programs use as their source towards services.
    pub source: Option<Ipv4Addr>,
}

/// The ranges of one namespace. Removal is explicit: rules and routes outlive a restart of the process on purpose.
#[derive(Clone, Debug)]
pub struct Ranges {
    config: RangesConfig,
}

impl Ranges {
    /// Returns ranges that were installed before, by another process for instance.
    #[must_use]
    pub fn of(config: RangesConfig) -> Self {
        Self { config }
    }

    /// Returns the rules' table of another cluster that serves addresses of these ranges in the namespace, if there is one.
    ///
    /// Routes carry no cluster's name. Where our own table stands they are ours, left by a process that was killed.
    ///
    /// # Errors
    /// When `ip` or `nft` fail.
    pub async fn taken_by(config: &RangesConfig) -> Result<Option<String>, NetworkError> {
        let RangesConfig { cluster, pod_range, service_range, .. } = *config;
        config
            .netns
            .try_run(move || {
                let tables = tool::nft_tables()?;
                if tables.contains(&cluster.services_table()) {
                    return Ok(None);
                }
                let protocol = plan::ROUTE_PROTOCOL.to_string();
                let routes = ["-json", "-4", "route", "show", "table", "all", "proto", &protocol];
                let is_taken = plan::routed(&tool::ip_json(&routes)?)
                    .any(|routed| pod_range.overlaps(routed) || service_range.overlaps(routed));
                Ok(tables.into_iter().find(|table| is_taken && ClusterId::is_services_table(table)))
            })
            .await
    }

    /// Installs the routes and turns on forwarding. Repeats are fine.
    ///
    /// # Errors
    /// When `ip` refuses a route or the setting cannot be written.
    pub async fn install(config: RangesConfig) -> Result<Self, NetworkError> {
        let lines = plan::catch_all(config.pod_range, config.service_range, config.source);
        config
            .netns
            .try_run(move || {
                sysctl("net/ipv4/ip_forward", "1")?;
                tool::ip_batch(&["link set lo up".to_owned()])?;
                tool::ip_batch(&lines)
            })
            .await?;
        Ok(Self { config })
    }

    /// Removes the routes (those to other nodes' pods too), the service rules and left-over pod links.
    ///
    /// # Errors
    /// When `ip` or `nft` fail; what is already gone is fine.
    pub async fn remove(self) -> Result<(), NetworkError> {
        let RangesConfig { cluster, pod_range, service_range, .. } = self.config;
        self.config
            .netns
            .try_run(move || {
                for link in pod_links(cluster)? {
                    tool::ip(&["link", "delete", "dev", &link])?;
                }
                for line in plan::remove_ranges(pod_range, service_range) {
                    tool::ip_batch(&[line])?;
                }
                let table = cluster.services_table();
                // `add` before `delete`: a table that is not there is fine.
                run_nft(&format!("add table ip {table}\ndelete table ip {table}\n"))
            })
            .await
    }
}

/// Names of the pod links in the calling thread's namespace.
pub(super) fn pod_links(cluster: ClusterId) -> Result<Vec<String>, NetworkError> {
    let prefix = cluster.pod_link_prefix();
    let links = tool::ip_json(&["-json", "link", "show", "type", "veth"])?;
    let names = links.iter().filter_map(|link| link.get("ifname")?.as_str());
    Ok(names.filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect())
}
