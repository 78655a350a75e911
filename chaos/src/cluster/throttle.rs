//! A ceiling on what one member writes: a control group of the member's own, with a limit for its disk.

use std::path::Path;
use std::time::{Duration, Instant};

use super::command::run;
use super::control_group::{ControlGroup, Controller};

/// The limit, among a group's files.
const LIMIT: &str = "blkio.throttle.write_bps_device";
/// Bytes each second: a few hundred times slower than a disk, and still enough for a member to go on.
const BYTES_PER_SECOND: u64 = 256 * 1024;

/// One member under a ceiling, until it is dropped.
pub struct Throttle {
    group: ControlGroup,
}

impl Throttle {
    /// Says what is missing for it.
    #[must_use]
    pub fn missing() -> Option<String> {
        let file = Controller::Blkio.folder().join(LIMIT);
        (!file.exists()).then(|| {
            format!("there is no {} (the blkio controller of control groups version 1)", file.display())
        })
    }

    /// Makes the group for a disk. `name` begins with the run's id.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(name: &str, device: &str) -> anyhow::Result<Self> {
        let group = ControlGroup::create(Controller::Blkio, name)?;
        group.set(LIMIT, &format!("{device} {BYTES_PER_SECOND}"))?;
        Ok(Self { group })
    }

    /// Moves a process with all of its threads below the ceiling.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take(&self, pid: u32) -> anyhow::Result<()> {
        self.group.take(pid)
    }

    /// Measures how long it takes to write and sync 64 KiB, below the ceiling.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn time_write(&self, file: &Path) -> anyhow::Result<Duration> {
        time_write(file, self.group.folder())
    }

    /// Measures the same without a ceiling.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn time_free_write(file: &Path) -> anyhow::Result<Duration> {
        time_write(file, Controller::Blkio.folder())
    }
}

fn time_write(file: &Path, group: &Path) -> anyhow::Result<Duration> {
    let script =
        "echo $$ > \"$0/cgroup.procs\"; exec dd if=/dev/zero of=\"$1\" bs=64k count=1 conv=fdatasync";
    let began = Instant::now();
    run("sh", &["-c", script, &group.to_string_lossy(), &file.to_string_lossy()], "")?;
    let lasted = began.elapsed();
    std::fs::remove_file(file)?;
    Ok(lasted)
}
