//! Cable: the links of one member or a minority are down. The members see it, and clients do not reach them either.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

pub(super) struct Cable {
    members: Vec<usize>,
}

impl Cable {
    pub(super) fn new(aim: Aim) -> Self {
        Self { members: aim.one_or_minority() }
    }
}

#[async_trait(?Send)]
impl Fault for Cable {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        site.network.unplug(&self.members)?;
        let mut unplugged = Vec::new();
        for member in &self.members {
            if site.network.is_unplugged(*member)? {
                unplugged.push(site.cluster.members.get(*member).map(|member| member.name.clone()));
            }
        }
        Ok((unplugged.len() == self.members.len()).then(|| json!({ "no_carrier": unplugged })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        site.network.plug(&self.members)?;
        Ok(None)
    }
}
