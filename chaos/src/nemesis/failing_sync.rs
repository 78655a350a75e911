//! Failing sync: what one member writes is accepted, and saving it fails: because its disk is a sparse file and there is no room
//! to fill the holes, or because the disk is gone.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

/// More than the file's blocks that are filled by chance.
const PROBE_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct FailingSync {
    member: usize,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Cause {
    /// Only what needs new blocks fails.
    NoRoom,
    /// Everything fails.
    Gone,
}

impl FailingSync {
    pub(super) fn new(aim: Aim) -> Self {
        let cause = if aim.draw.choice(0, 2) == 0 { Cause::NoRoom } else { Cause::Gone };
        Self { member: aim.victim, cause }
    }
}

#[async_trait(?Send)]
impl Fault for FailingSync {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    fn plan(&self) -> Value {
        json!({ "cause": self.cause })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let disk = site.disk(self.member)?;
        disk.device()?;
        let path = disk.mount_point().join("chaos-failing");
        let probed = match self.cause {
            Cause::NoRoom => {
                disk.starve()?;
                probe(&path)
            }
            Cause::Gone => {
                let mut file = File::create(&path)?;
                file.write_all(b"accepted")?;
                disk.fail()?;
                file.sync_all().err().map(|error| error.to_string())
            }
        };
        Ok(probed.map(|error| json!({ "write": "accepted", "sync": error })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        if let Some(member) = site.cluster.members.get_mut(self.member) {
            // Whoever is still there works on a file system that has given up.
            member.kill().await?;
        }
        let disk = site.disk(self.member)?;
        disk.feed()?;
        disk.remount()?;
        let probe = disk.mount_point().join("chaos-failing");
        if probe.exists() {
            std::fs::remove_file(probe)?;
        }
        if let Some(member) = site.cluster.members.get_mut(self.member) {
            member.start()?;
        }
        Ok(None)
    }
}

/// Writes and syncs; returns the error of the sync, if it was this one that failed.
pub(super) fn probe(path: &Path) -> Option<String> {
    let mut file = File::create(path).ok()?;
    file.write_all(&vec![0x5a; PROBE_BYTES]).ok()?;
    file.sync_all().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn both_causes_are_drawn() {
        let causes: Vec<Cause> = (0..50)
            .map(|seed| FailingSync::new(Aim { victim: 0, count: 3, draw: Draw::from_seed(seed) }).cause)
            .collect();
        assert!(causes.contains(&Cause::NoRoom) && causes.contains(&Cause::Gone));
    }

    #[test]
    fn a_sync_that_works_is_no_witness() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(probe(&folder.path().join("probe")), None);
    }
}
