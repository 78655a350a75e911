//! Kill of the runtime: SIGKILL to the containerd of every agent. Its shims and containers live on, and the agent starts another one.

use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Site;
use super::fault::Fault;
use crate::cluster::RealNode;

/// An agent looks after its containerd every second, and that takes seconds to serve on a busy machine.
const SERVE_TIMEOUT: Duration = Duration::from_secs(60);
const SERVE_POLL: Duration = Duration::from_millis(50);

/// All runtimes at once. What was killed, in the order of nodes.
#[derive(Default)]
pub(super) struct KillRuntime {
    killed: Vec<u32>,
}

#[async_trait(?Send)]
impl Fault for KillRuntime {
    /// No member is hit.
    fn members(&self) -> Vec<usize> {
        Vec::new()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        for pid in site.cluster.nodes.iter().filter_map(RealNode::runtime_pid) {
            if kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).is_ok() {
                self.killed.push(pid);
            }
        }
        Ok(None)
    }

    /// The witness are the pids that were killed, and others that serve.
    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let nodes = &site.cluster.nodes;
        if nodes.is_empty() || self.killed.len() < nodes.len() {
            return Ok(None);
        }
        let began = Instant::now();
        loop {
            let serving: Vec<u32> =
                nodes.iter().filter(|node| node.serves()).filter_map(RealNode::runtime_pid).collect();
            if serving.len() == nodes.len() && serving.iter().all(|pid| !self.killed.contains(pid)) {
                return Ok(Some(json!({ "killed": self.killed, "serving": serving })));
            }
            if began.elapsed() > SERVE_TIMEOUT {
                return Ok(None);
            }
            tokio::time::sleep(SERVE_POLL).await;
        }
    }
}
