//! Kill of an agent: SIGKILL to the process that runs nodes, a while without it, and a start on the same data directory.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::Fault;

/// All agents at once: no node is left that could take over. Real containers live on, and are adopted.
pub(super) struct KillAgent;

#[async_trait(?Send)]
impl Fault for KillAgent {
    /// No member is hit.
    fn members(&self) -> Vec<usize> {
        Vec::new()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut killed = Vec::new();
        for agent in &mut site.cluster.agents {
            killed.extend(agent.kill().await?);
        }
        let pids: Vec<u32> = killed.iter().map(|killed| killed.pid).collect();
        let is_whole = !killed.is_empty() && killed.len() == site.cluster.agents.len();
        Ok(is_whole.then(|| json!({ "pids": pids, "signal": killed.first().map(|killed| killed.signal) })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        for agent in &mut site.cluster.agents {
            agent.start()?;
        }
        Ok(None)
    }
}
