//! Full disk: a ballast file takes all that is free on one member's disk, and gives it back later.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context;
use async_trait::async_trait;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

/// The smallest piece that a file system gives.
const BLOCK: i64 = 4096;
/// What may be left: less than any log record with its metadata.
const FULL: u64 = 64 * 1024;

pub(super) struct FullDisk {
    member: usize,
    ballast: Option<PathBuf>,
}

impl FullDisk {
    pub(super) fn new(aim: Aim) -> Self {
        Self { member: aim.victim, ballast: None }
    }
}

#[async_trait(?Send)]
impl Fault for FullDisk {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let disk = site.disk(self.member)?;
        disk.device()?;
        let free_before = disk.free_bytes()?;
        let path = disk.mount_point().join("chaos-ballast");
        let file = File::create(&path)?;
        self.ballast = Some(path);
        fill(&file, free_before)?;
        let free = disk.free_bytes()?;
        Ok((free < FULL).then(|| json!({ "free_bytes_before": free_before, "free_bytes": free })))
    }

    async fn end(&mut self, _: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        if let Some(ballast) = self.ballast.take() {
            std::fs::remove_file(&ballast).context("cannot remove the ballast")?;
        }
        Ok(None)
    }
}

/// Gives all free blocks to a file, in pieces that halve when one does not fit.
pub(super) fn fill(file: &File, free: u64) -> anyhow::Result<()> {
    let (mut piece, mut offset) = (i64::try_from(free)?, 0);
    while piece >= BLOCK {
        match fallocate(file, FallocateFlags::empty(), offset, piece) {
            Ok(()) => offset += piece,
            Err(Errno::ENOSPC) => piece /= 2,
            Err(error) => return Err(error).context("cannot fill the disk"),
        }
    }
    Ok(())
}
