//! What cannot be restored or saved is refused in one line, and leaves nothing that a member would start from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::FallocateFlags;
use store::wal::FreeSpace;

use super::ours::{Ours, alone_at, snapshot, with};
use crate::harness::{free_port, skip};

/// Runs `keelson snapshot`; returns exit code and line.
async fn refused(words: Vec<String>) -> (u8, String) {
    let error = snapshot(words).await.unwrap_err();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    (error.exit_code(), line)
}

async fn saved(directory: &Path) -> PathBuf {
    let ours = Ours::alone(&directory.join("source"), free_port()).await;
    ours.client().fill().await;
    let file = directory.join("saved.db");
    let endpoint = format!("--endpoints={}", ours.server.address);
    snapshot(["save", file.to_str().unwrap(), &endpoint]).await.unwrap();
    ours.stop().await;
    file
}

/// What lies in a folder.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_and_foreign_files_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(saved(directory.path()).await).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (file, data) = (place.path().join("file.db"), place.path().join("data"));
    let check = async |bytes: &[u8], code: u8, expected: &str| {
        fs::write(&file, bytes).unwrap();
        let words = with(&["restore", file.to_str().unwrap()], &alone_at(&data, 1));
        let (found, line) = refused(words).await;
        assert!(line.contains(expected), "{line}");
        assert_eq!(found, code, "{line}");
        assert_eq!(names(place.path()), ["file.db"]);
    };
    let mut flipped = whole.clone();
    flipped[20_000] ^= 1;
    check(&flipped, 1, "expected sha256").await;
    check(&whole[..whole.len() - 32], 64, "snapshot missing hash but --skip-hash-check=false").await;
    check(&whole[..whole.len() / 2 / 512 * 512 + 32], 1, "expected sha256").await;
    check(b"notes of mine", 1, "this is no bbolt file").await;
    check(b"", 1, "this is no bbolt file").await;
    let missing = place.path().join("missing.db");
    let (code, line) = refused(with(&["restore", missing.to_str().unwrap()], &alone_at(&data, 1))).await;
    assert!(line.contains("cannot read snapshot") && line.contains("No such file"), "{line}");
    assert_eq!(code, 1);

    fs::write(&file, &whole).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("mine"), "mine").unwrap();
    let (code, line) = refused(with(&["restore", file.to_str().unwrap()], &alone_at(&data, 1))).await;
    assert!(line.contains("not empty or could not be read"), "{line}");
    assert_eq!(
        (code, names(&data), names(place.path())),
        (64, vec!["mine".to_owned()], vec!["data".to_owned(), "file.db".to_owned()])
    );
    // An empty directory is as good as none.
    fs::remove_file(data.join("mine")).unwrap();
    snapshot(with(&["restore", file.to_str().unwrap()], &alone_at(&data, 1))).await.unwrap();
}

/// A small disk in memory; unmounted with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Returns nothing where nobody may mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("only root can mount a small disk");
            return None;
        }
        fs::create_dir(at).unwrap();
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success());
        Some(Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_too_small_is_named_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = saved(directory.path()).await;
    // Too small for a log; and for half a snapshot.
    let Some(disk) = SmallDisk::mount(&directory.path().join("small"), "256k") else { return };
    let words = with(&["restore", file.to_str().unwrap()], &alone_at(&disk.0.join("data"), 1));
    let (code, line) = refused(words).await;
    assert_eq!(code, 1);
    assert!(line.contains("disk full") || line.contains("No space left"), "{line}");
    assert_eq!(names(&disk.0), Vec::<String>::new());

    let ours = Ours::alone(&directory.path().join("large"), free_port()).await;
    ours.client().put("k", vec![b'v'; 1 << 20], 0).await;
    let saved = disk.0.join("saved.db");
    let words = ["save", saved.to_str().unwrap(), &format!("--endpoints={}", ours.server.address)];
    let (code, line) = refused(with(&words, &[])).await;
    assert_eq!(code, 1);
    assert!(line.contains("No space left"), "{line}");
    assert_eq!(names(&disk.0), Vec::<String>::new());
    ours.stop().await;
}

/// The store comes first: a member keeps its room for the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_little_room_refuses_to_write_a_snapshot_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("small"), "96m") else { return };
    let ours = Ours::alone(&disk.0.join("data"), free_port()).await;
    ours.client().put("k", vec![b'v'; 1 << 20], 0).await;
    let file = directory.path().join("saved.db");
    let save = [
        "save".to_owned(),
        file.to_str().unwrap().to_owned(),
        format!("--endpoints={}", ours.server.address),
    ];
    snapshot(&save).await.unwrap();
    fs::remove_file(&file).unwrap();
    // A sixth of the disk is to stay free.
    let ballast = File::create(disk.0.join("ballast")).unwrap();
    let space = FreeSpace::of(&disk.0).free_bytes;
    nix::fcntl::fallocate(&ballast, FallocateFlags::empty(), 0, i64::try_from(space - (16 << 20)).unwrap())
        .unwrap();
    let (code, line) = refused(save.to_vec()).await;
    assert_eq!(code, 1);
    assert!(line.contains("no snapshot now: a snapshot takes") && line.contains("are free"), "{line}");
    assert_eq!(names(directory.path()), ["small"]);
    ours.client().put("k", "w", 0).await;
    drop(ballast);
    fs::remove_file(disk.0.join("ballast")).unwrap();
    snapshot(&save).await.unwrap();
    ours.stop().await;
}
