//! Bit flips in the files of stopped members, of a minority at most. A member may refuse to start or repair itself; in the end
//! it is replaced, as an operator does with a disk that cannot be trusted.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};

use super::fault::{Aim, Fault};
use super::{Draw, Site};

/// Files of a member that are hit.
const FILES: usize = 2;
/// Flips in each of them.
const FLIPS: u64 = 3;
/// Files of RocksDB that nobody reads again.
const UNREAD: [&str; 4] = ["LOG", "LOCK", "IDENTITY", "OPTIONS"];

pub(super) struct BitFlips {
    members: Vec<usize>,
    draw: Draw,
}

/// One bit that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Flip {
    file: String,
    offset: u64,
    before: u8,
    after: u8,
}

impl BitFlips {
    pub(super) fn new(aim: Aim) -> Self {
        Self { members: aim.one_or_minority(), draw: aim.draw }
    }
}

#[async_trait(?Send)]
impl Fault for BitFlips {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut witness = Vec::new();
        for index in &self.members {
            let directory = site.cluster.directory(*index)?;
            let is_etcd = site.cluster.is_etcd();
            let member = site.cluster.members.get_mut(*index).context("no such member")?;
            member.kill().await?;
            let flips = flip(&directory, self.draw, is_etcd)?;
            anyhow::ensure!(!flips.is_empty(), "{} has no file to damage", member.name);
            let name = member.name.clone();
            witness.push(json!({ "member": name, "flips": flips }));
            member.start()?;
        }
        Ok(Some(json!({ "damage": witness })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        // A cluster takes nobody in while one of its members is down: all that are damaged go first.
        for index in &self.members {
            site.cluster.remove(*index).await?;
        }
        for index in &self.members {
            site.cluster.add(*index).await?;
        }
        Ok(None)
    }
}

fn flip(directory: &Path, draw: Draw, is_etcd: bool) -> anyhow::Result<Vec<Flip>> {
    let mut files = Vec::new();
    collect(directory, &mut files)?;
    // etcd 3.4 has no checksum on the pages of its database: it would serve the damage as data.
    files.retain(|file| !is_etcd || file.extension().is_some_and(|extension| extension == "wal"));
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        !UNREAD.iter().any(|unread| name.starts_with(unread))
    });
    files.sort();
    let place = draw.choice(100, u64::try_from(files.len())?);
    let place = usize::try_from(place)?.min(files.len());
    files.rotate_left(place);
    let mut flips: Vec<Flip> = Vec::new();
    for (number, file) in (0..).zip(&files) {
        for flip in 0..FLIPS {
            flips.extend(flip_one(directory, file, (draw, 1000 + number * FLIPS + flip))?);
        }
        // A file that holds nothing but zeros gives none.
        if flips.len() >= FILES * usize::try_from(FLIPS)? {
            break;
        }
    }
    Ok(flips)
}

fn flip_one(directory: &Path, path: &Path, (draw, question): (Draw, u64)) -> anyhow::Result<Option<Flip>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = std::fs::read(path)?;
    // Files are allocated ahead, and nobody reads what is not written.
    let written: Vec<(usize, u8)> = bytes.into_iter().enumerate().filter(|(_, byte)| *byte != 0).collect();
    let place = draw.choice(question, u64::try_from(written.len())?);
    let Some((offset, before)) = written.get(usize::try_from(place)?).copied() else { return Ok(None) };
    let offset = u64::try_from(offset)?;
    let after = before ^ (1 << draw.choice(question + 1000, 8));
    file.write_all_at(&[after], offset)?;
    file.sync_all()?;
    let file = path.strip_prefix(directory)?.to_string_lossy().into_owned();
    Ok(Some(Flip { file, offset, before, after }))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.metadata()?.len() > 0 {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_changes_one_bit_of_a_byte_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.wal");
        let mut content = vec![0; 10_000];
        content.extend([0xff; 100]);
        std::fs::write(&path, &content).unwrap();
        std::fs::write(folder.path().join("db"), [1; 100]).unwrap();
        let flips = flip(folder.path(), Draw::from_seed(3), true).unwrap();
        let damaged = std::fs::read(&path).unwrap();
        let changed: Vec<usize> = (0..content.len()).filter(|at| content[*at] != damaged[*at]).collect();
        assert!(!changed.is_empty() && changed.iter().all(|at| *at >= 10_000));
        assert!(
            flips.iter().all(|flip| flip.file == "0.wal" && (flip.before ^ flip.after).count_ones() == 1)
        );
        assert_eq!(std::fs::read(folder.path().join("db")).unwrap(), [1; 100]);
    }
}
