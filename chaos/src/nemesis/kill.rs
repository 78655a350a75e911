//! Kill: SIGKILL to one member or to all at once, a while without them, and a start on the same data directory.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

pub(super) struct Kill {
    members: Vec<usize>,
}

impl Kill {
    pub(super) fn one(aim: Aim) -> Self {
        Self { members: vec![aim.victim] }
    }

    pub(super) fn all(aim: Aim) -> Self {
        Self { members: (0..aim.count).collect() }
    }
}

#[async_trait(?Send)]
impl Fault for Kill {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut killed = Vec::new();
        for member in &self.members {
            let Some(member) = site.cluster.members.get_mut(*member) else { continue };
            killed.extend(member.kill().await?);
        }
        let pids: Vec<u32> = killed.iter().map(|killed| killed.pid).collect();
        let is_whole = killed.len() == self.members.len();
        Ok(is_whole.then(|| json!({ "pids": pids, "signal": killed.first().map(|killed| killed.signal) })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        for member in &self.members {
            if let Some(member) = site.cluster.members.get_mut(*member) {
                member.start()?;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn one_is_the_victim_and_all_are_all() {
        let aim = Aim { victim: 2, count: 5, draw: Draw::from_seed(1) };
        assert_eq!(Kill::one(aim).members(), [2]);
        assert_eq!(Kill::all(aim).members(), [0, 1, 2, 3, 4]);
    }
}
