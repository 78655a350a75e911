//! Kill: SIGKILL to one member, a pause, and a start on the same data directory.

use std::time::Duration;

use serde_json::json;

use super::{Injected, Nemesis};
use crate::history::{EventKind, Function};

impl Nemesis<'_> {
    pub(super) async fn kill(
        &mut self,
        victim: usize,
        leader: Option<usize>,
        lasting: Duration,
    ) -> anyhow::Result<Injected> {
        let node = self.name(Some(victim));
        let leader_before = self.name(leader);
        let is_leader = leader == Some(victim);
        self.record(
            EventKind::Invoke,
            Function::Kill,
            node.clone(),
            json!({ "leader_before": leader_before }),
        )?;
        let killed = match self.cluster.members.get_mut(victim) {
            Some(member) => member.kill().await?,
            None => None,
        };
        let witness = killed.map(|killed| json!({ "pid": killed.pid, "signal": killed.signal }));
        let value = json!({ "leader_before": leader_before, "hit_leader": is_leader, "witness": witness });
        self.record(EventKind::Info, Function::Kill, node.clone(), value)?;
        tokio::time::sleep(lasting).await;
        let leader_after = self.name(self.cluster.leader().await);
        if let Some(member) = self.cluster.members.get_mut(victim) {
            member.start()?;
        }
        self.record(
            EventKind::Info,
            Function::Restart,
            node.clone(),
            json!({ "leader_after": leader_after }),
        )?;
        let role = if is_leader { "the leader" } else { "a follower" };
        let node = node.unwrap_or_default();
        let after = leader_after.unwrap_or_else(|| "nobody".to_owned());
        let witnessed = killed.map_or_else(
            || "NO WITNESS: it was not running".to_owned(),
            |killed| format!("pid {} ended by signal {}", killed.pid, killed.signal),
        );
        Ok(Injected { line: format!("kill {node} ({role}): {witnessed}; {after} led; started again") })
    }
}
