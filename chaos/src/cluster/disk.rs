//! Disks of members: each data directory is a file system of its own, ext4 in a sparse file behind a loop device.
//!
//! They are mounted in a mount namespace that only the harness and its members live in. Loop devices clear themselves. So mounts,
//! devices and memory go with the last of these processes, however it ends, and nothing is left to sweep.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use super::command::run;

/// Far more than a run writes; the file is sparse.
const SIZE: &str = "2G";
/// The kernel must not save what a member forgot to: its own commits come after the run.
const OPTIONS: &str = "loop,commit=3000,noatime";
/// The file that shows whether power was cut, with what is synced, and what is written over it and is not. A name that is
/// not synced would prove nothing: any sync of a member saves the names of all.
const PROBE: &str = "chaos-probe";
const SYNCED: &str = "synced";
const UNSYNCED: &str = "unsafe";
/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`, and its flag that drops the journal's unwritten part (linux/fs/ext4/ext4.h).
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// Where the files of disks live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Beside the run's other files.
    File,
    /// In a memory file system of each disk's own, which can be made too small for it.
    Memory,
}

/// The disk of one member.
pub struct Disk {
    backing: PathBuf,
    image: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    /// Makes a disk and mounts it at `mount_point`. The caller has a mount namespace of its own.
    ///
    /// # Errors
    /// When this process may not, or a tool is missing.
    pub fn create(backing: Backing, folder: &Path, mount_point: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::create_dir_all(mount_point)?;
        // The kernel's table of mounts knows no links.
        let (folder, mount_point) = (&folder.canonicalize()?, &mount_point.canonicalize()?);
        if backing == Backing::Memory {
            let size = format!("size={SIZE}");
            mount(Some("tmpfs"), folder.as_path(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
                .context("cannot mount a memory file system")?;
        }
        let disk = Self {
            backing: folder.to_owned(),
            image: folder.join("disk"),
            mount_point: mount_point.to_owned(),
        };
        let image = text(&disk.image);
        run("truncate", &["-s", SIZE, &image], "")?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-J", "size=16", &image], "")?;
        disk.mount()?;
        Ok(disk)
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    fn mount(&self) -> anyhow::Result<()> {
        run("mount", &["-t", "ext4", "-o", OPTIONS, &text(&self.image), &text(&self.mount_point)], "")?;
        match std::fs::remove_dir(self.mount_point.join("lost+found")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Cuts the power: what was not synced is gone, and every later access fails. Whoever uses the disk is to be killed then.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn cut_power(&self) -> anyhow::Result<()> {
        let mut probe = File::create(self.mount_point.join(PROBE))?;
        probe.write_all(SYNCED.as_bytes())?;
        probe.sync_all()?;
        // The name itself must be safe, too.
        File::open(&self.mount_point)?.sync_all()?;
        probe.write_all_at(UNSYNCED.as_bytes(), 0)?;
        self.fail()
    }

    /// Lets every later access fail.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn fail(&self) -> anyhow::Result<()> {
        shut_down(&File::open(&self.mount_point)?).context("cannot cut the power of the disk")
    }

    /// Mounts the disk again after its power was cut. Returns whether what was synced is there and what was not is gone.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn restore_power(&self) -> anyhow::Result<bool> {
        self.remount()?;
        let probe = self.mount_point.join(PROBE);
        let is_proved = std::fs::read_to_string(&probe).is_ok_and(|content| content == SYNCED);
        match std::fs::remove_file(probe) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        Ok(is_proved)
    }

    /// Mounts the disk anew, which nobody may be using; repairs it where its journal could not be written.
    ///
    /// # Errors
    /// When it is in use or damaged beyond repair.
    pub fn remount(&self) -> anyhow::Result<()> {
        run("umount", &[&text(&self.mount_point)], "")?;
        if let Err(error) = run("e2fsck", &["-p", &text(&self.image)], "") {
            // Exit code 1 says that it repaired something.
            tracing::debug!(error = format!("{error:#}"), "the file system was checked");
        }
        self.mount()
    }

    /// Returns the free bytes.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn free_bytes(&self) -> anyhow::Result<u64> {
        let state = statvfs(&self.mount_point)?;
        Ok(state.blocks_available() * state.fragment_size())
    }

    /// Returns the device as the kernel numbers it, such as `7:0`.
    ///
    /// # Errors
    /// When it is no loop device: then it is not one that the run has made.
    pub fn device(&self) -> anyhow::Result<String> {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
        let device = device_of(&table, &text(&self.mount_point)).context("the disk is not mounted")?;
        anyhow::ensure!(device.starts_with("7:"), "the disk is on device {device}, not on a loop device");
        Ok(device.to_owned())
    }

    /// Leaves the memory file system below no room, so that what the disk accepts can no longer be saved.
    ///
    /// # Errors
    /// When it is not [`Backing::Memory`].
    pub fn starve(&self) -> anyhow::Result<()> {
        let state = statvfs(&self.backing)?;
        let used = (state.blocks() - state.blocks_free()) * state.fragment_size();
        self.resize(&used.to_string())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When it is not [`Backing::Memory`].
    pub fn feed(&self) -> anyhow::Result<()> {
        self.resize(SIZE)
    }

    fn resize(&self, size: &str) -> anyhow::Result<()> {
        run("mount", &["-o", &format!("remount,size={size}"), &text(&self.backing)], "").map(|_| ())
    }
}

/// Gives the calling thread, and all threads and processes that it starts from now on, mounts of their own.
///
/// # Errors
/// When this process may not.
pub fn own_mounts() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    // What others unmount goes here, too; what is mounted here stays here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .context("cannot keep mounts apart")
}

#[expect(unsafe_code, reason = "no safe wrapper knows this system call")]
fn shut_down(root: &File) -> std::io::Result<()> {
    let flags = NO_LOG_FLUSH;
    // SAFETY: the descriptor is open for the whole call, and the kernel reads four bytes from a variable that outlives it.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const flags) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Finds the device of a mount point; of several mounts there, the last one counts.
fn device_of<'a>(table: &'a str, mount_point: &str) -> Option<&'a str> {
    let mut mounts = table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        Some((words.next()?, words.nth(1)?))
    });
    mounts.rfind(|(_, point)| *point == mount_point).map(|(device, _)| device)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_found_by_its_mount_point() {
        let table =
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n90 22 7:3 / /tmp/run/data/n1 rw - ext4 /dev/loop3 rw\n";
        assert_eq!(device_of(table, "/tmp/run/data/n1"), Some("7:3"));
        assert_eq!(device_of(table, "/"), Some("254:0"));
        assert_eq!(device_of(table, "/tmp"), None);
    }
}
