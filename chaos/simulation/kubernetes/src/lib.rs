//! The `k8s` tier in the simulator: API servers on simulated members, controllers and schedulers as their clients, and hollow nodes.
//!
//! Production's code throughout, but for TLS: connections say who they are of ([`simulation::sign_in`]). Reading order: `server` (what a
//! member's process runs beside the store), `managers` (controllers and scheduler), `agents`, `certificates`. What this crate does not
//! hold: faults, clients, verdicts. They are the simulator's.

mod server;

mod managers;

mod agents;

mod certificates;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use simulation::command;
use simulation::control_plane::{ControlPlane, Process};
use store::Member;

use certificates::Certificates;

/// The simulator with whole servers, as chaos's command line takes it.
pub const SIMULATOR: chaos::cli::Simulator =
    chaos::cli::Simulator { sim: |args| command::sim(args, Some(control_plane)), ..simulation::SIMULATOR };

/// The control plane of one run.
struct Cluster {
    certificates: Arc<Certificates>,
}

fn control_plane() -> anyhow::Result<Arc<dyn ControlPlane>> {
    Ok(Arc::new(Cluster { certificates: Arc::new(Certificates::new()?) }))
}

impl ControlPlane for Cluster {
    fn server(&self, process: Process, member: Arc<Member>) -> BoxFuture<'static, anyhow::Result<()>> {
        server::run(process, member, Arc::clone(&self.certificates)).boxed()
    }

    fn agents(&self, process: Process) -> BoxFuture<'static, anyhow::Result<()>> {
        agents::run(process).boxed()
    }
}
