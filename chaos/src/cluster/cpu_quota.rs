//! A share of a processor that one member may not exceed: a control group of the member's own, with a quota of time in each period.

use std::time::Duration;

use super::control_group::{ControlGroup, Controller};
use super::network::number_behind;

/// Of each period, this part may be used: little enough that a member under load has to wait, and enough that it goes on.
const SHARE: u32 = 100;

/// One member under a quota, until it is dropped.
pub struct CpuQuota {
    group: ControlGroup,
}

/// How often and how long threads of a group had to wait for the next period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Periods whose quota was used up.
    pub periods: u64,
    /// Time without a processor, summed up over all processors.
    pub waited: Duration,
}

impl CpuQuota {
    /// Says what is missing for it.
    #[must_use]
    pub fn missing() -> Option<String> {
        let folder = Controller::Cpu.folder();
        (!folder.join("cgroup.procs").exists()).then(|| {
            format!("there is no {} (the cpu controller of control groups version 1)", folder.display())
        })
    }

    /// Makes the group: all below it have a hundredth of a processor together. `name` begins with the run's id.
    ///
    /// # Errors
    /// When the kernel refuses: a period is 0.1 to 1 s, as a quota is 1 ms at least, and not every kernel has quotas.
    pub fn create(name: &str, period: Duration) -> anyhow::Result<Self> {
        let group = ControlGroup::create(Controller::Cpu, name)?;
        let quota = period / SHARE;
        group.set("cpu.cfs_period_us", &period.as_micros().to_string())?;
        group.set("cpu.cfs_quota_us", &quota.as_micros().to_string())?;
        Ok(Self { group })
    }

    /// Moves a process with all of its threads below the quota.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take(&self, pid: u32) -> anyhow::Result<()> {
        self.group.take(pid)
    }

    /// Returns how much those below the quota had to wait so far.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn throttled(&self) -> anyhow::Result<Throttled> {
        Ok(read(&self.group.read("cpu.stat")?))
    }
}

/// Reads the kernel's `cpu.stat`: a name and a number in each line.
fn read(stat: &str) -> Throttled {
    let number = |name| number_behind(name, stat).unwrap_or(0);
    Throttled { periods: number("nr_throttled"), waited: Duration::from_nanos(number("throttled_time")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_to_wait_is_read_from_the_kernels_words() {
        let stat = "nr_periods 4\nnr_throttled 3\nthrottled_time 2500000000\nnr_bursts 0\nburst_time 0\n";
        assert_eq!(read(stat), Throttled { periods: 3, waited: Duration::from_millis(2500) });
        assert_eq!(read(""), Throttled::default());
    }
}
