//! What real containers need on this machine; without it, nodes are hollow and one line says why.

use std::path::Path;

use anyhow::{Context, Result};
use nodeagent::network::{ClusterId, Netns, Ranges, RangesConfig};

use super::UpArgs;
use super::layout::Layout;
use crate::outcome::Usage;

/// Programs that an agent starts.
const PROGRAMS: &[&str] = &["containerd", "runc", "nft"];

/// Returns the arguments with real agents turned into hollow nodes where containers cannot run.
pub fn adapt(mut args: UpArgs) -> UpArgs {
    if args.agents == 0 {
        return args;
    }
    if let Some(missing) = missing() {
        eprintln!(
            "keelson: containers cannot run here ({missing}); {} hollow node(s) take their place",
            args.agents
        );
        args.hollow_nodes += args.agents;
        args.agents = 0;
    }
    args
}

/// Refuses ranges that another cluster of this machine serves: its routes would win over ours, or ours over its.
///
/// # Errors
/// [`Usage`] with the other cluster's table and what to do.
pub async fn refuse_taken_ranges(args: &UpArgs, layout: &Layout) -> Result<()> {
    if args.agents == 0 {
        return Ok(());
    }
    let (pods, services) = (&args.cluster.pod_cidr, &args.cluster.service_cidr);
    let config = RangesConfig {
        cluster: ClusterId::of(layout.root()),
        netns: Netns::Own,
        pod_range: pods.parse().map_err(|_invalid| Usage(format!("--pod-cidr {pods}: no IPv4 network")))?,
        service_range: services
            .parse()
            .map_err(|_invalid| Usage(format!("--service-cidr {services}: no IPv4 network")))?,
        source: None,
    };
    let taken = Ranges::taken_by(&config).await.context("cannot look at this machine's routes")?;
    let Some(table) = taken else { return Ok(()) };
    Err(Usage(format!(
        "another cluster of this machine (nft table {table}) serves addresses of {pods} or {services}; stop it, \
         or give --pod-cidr and --service-cidr of your own"
    ))
    .into())
}

/// Says in a few words what is missing, if anything.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let path = std::env::var_os("PATH")?;
    let found = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if let Some(program) = PROGRAMS.iter().find(|program| !found(program)) {
        return Some(format!("{program} is not installed"));
    }
    let has_cgroups = Path::new("/sys/fs/cgroup/memory").exists()
        || Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    (!has_cgroups).then(|| "no control groups are mounted".to_owned())
}
