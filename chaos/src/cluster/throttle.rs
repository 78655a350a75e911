//! A ceiling on what one member writes: a control group (version 1, blkio) of the member's own, with a limit for its disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::RUN_PREFIX;
use super::command::run;

/// Where the kernel shows the controller.
const CONTROLLER: &str = "/sys/fs/cgroup/blkio";
/// Bytes each second: a few hundred times slower than a disk, and still enough for a member to go on.
const BYTES_PER_SECOND: u64 = 256 * 1024;
/// A process that is ending may take a moment to leave.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);
const REMOVE_POLL: Duration = Duration::from_millis(5);

/// One member under a ceiling, until it is dropped.
pub struct Throttle {
    group: PathBuf,
}

impl Throttle {
    /// Says what is missing for it.
    #[must_use]
    pub fn missing() -> Option<String> {
        let file = Path::new(CONTROLLER).join("blkio.throttle.write_bps_device");
        (!file.exists()).then(|| {
            format!("there is no {} (the blkio controller of control groups version 1)", file.display())
        })
    }

    /// Makes the group for a disk. `name` begins with the run's id.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(name: &str, device: &str) -> anyhow::Result<Self> {
        let throttle = Self { group: Path::new(CONTROLLER).join(name) };
        std::fs::create_dir_all(&throttle.group)
            .with_context(|| format!("cannot create {}", throttle.group.display()))?;
        let limit = format!("{device} {BYTES_PER_SECOND}");
        std::fs::write(throttle.group.join("blkio.throttle.write_bps_device"), limit)?;
        Ok(throttle)
    }

    /// Moves a process with all of its threads below the ceiling.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take(&self, pid: u32) -> anyhow::Result<()> {
        std::fs::write(self.group.join("cgroup.procs"), pid.to_string())?;
        Ok(())
    }

    /// Lets all processes go.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&self) -> anyhow::Result<()> {
        let pids = std::fs::read_to_string(self.group.join("cgroup.procs"))?;
        for pid in pids.lines() {
            // One that has ended meanwhile is none of ours any more.
            let _ = std::fs::write(Path::new(CONTROLLER).join("cgroup.procs"), pid);
        }
        Ok(())
    }

    /// Measures how long it takes to write and sync 64 KiB, below the ceiling.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn time_write(&self, file: &Path) -> anyhow::Result<Duration> {
        time_write(file, &self.group)
    }

    /// Measures the same without a ceiling.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn time_free_write(file: &Path) -> anyhow::Result<Duration> {
        time_write(file, Path::new(CONTROLLER))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let _ = self.release();
        let began = Instant::now();
        while let Err(error) = std::fs::remove_dir(&self.group) {
            if began.elapsed() > REMOVE_TIMEOUT {
                tracing::warn!(group = %self.group.display(), %error, "a control group of the run stays behind");
                return;
            }
            std::thread::sleep(REMOVE_POLL);
        }
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

/// Removes groups of runs whose harness is gone.
pub(super) fn sweep() {
    for entry in std::fs::read_dir(CONTROLLER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(RUN_PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
