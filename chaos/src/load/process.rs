//! What processes have used so far, from /proc.
//!
//! Written bytes are the disk's, not the processes' own count in `/proc/PID/io`: the kernel charges a process with the whole
//! folio that a small append makes dirty, a megabyte and more for a preallocated log. The price is that whatever else
//! writes to that disk is counted too.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

/// Microseconds of one clock tick: the kernel shows user and system time in hundredths of a second on every platform.
const TICK_MICROSECONDS: u64 = 10_000;

/// Bytes of a sector in /proc/diskstats, whatever the disk's own size is.
const SECTOR_BYTES: u64 = 512;

/// What members have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub cpu_microseconds: u64,
    /// By the disk that holds their data; 0 where the file system is not on one disk.
    pub bytes_written: u64,
}

/// Adds up the processor time of processes, and reads the counter of the disk below `data`.
///
/// # Errors
/// When a process is gone.
pub(super) fn usage(pids: &[u32], data: &Path) -> anyhow::Result<Usage> {
    let device = std::fs::metadata(data)?.dev();
    let disks = std::fs::read_to_string("/proc/diskstats")?;
    let mut sum = Usage { cpu_microseconds: 0, bytes_written: written(&disks, device).unwrap_or(0) };
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let stat = std::fs::read_to_string(&path).with_context(|| format!("member {pid} is gone"))?;
        sum.cpu_microseconds += cpu(&stat).context(path)?;
    }
    Ok(sum)
}

/// Returns the memory that a process really occupies: pages that it shares are counted in parts (PSS).
///
/// # Errors
/// When the process is gone.
pub(super) fn memory(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("process {pid} is gone"))?;
    kilobytes(&text, "Pss:").context(path)
}

/// Returns the memory that a process occupies without pages of files, which the kernel takes back when it needs them.
///
/// # Errors
/// When the process is gone.
pub(super) fn anonymous_memory(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("process {pid} is gone"))?;
    kilobytes(&text, "Pss_Anon:").context(path)
}

fn kilobytes(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Returns a process and everything that descends from it, with the names of their programs.
///
/// # Errors
/// When /proc cannot be read.
pub(super) fn family(ancestor: u32) -> anyhow::Result<Vec<(u32, String)>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has ended meanwhile has no file any more.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some((name, parent)) = name_and_parent(&stat) {
            parents.push((pid, name, parent));
        }
    }
    let mut known = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = known.get(next) {
        known.extend(parents.iter().filter(|(_, _, of)| *of == parent).map(|(pid, _, _)| *pid));
        next += 1;
    }
    Ok(parents
        .into_iter()
        .filter(|(pid, _, _)| known.contains(pid))
        .map(|(pid, name, _)| (pid, name))
        .collect())
}

fn name_and_parent(stat: &str) -> Option<(String, u32)> {
    let (begin, fields) = stat.rsplit_once(')')?;
    let (_, name) = begin.split_once('(')?;
    Some((name.to_owned(), fields.split_whitespace().nth(1)?.parse().ok()?))
}

fn cpu(stat: &str) -> Option<u64> {
    // The command name may hold blanks; the fields begin behind its parenthesis, with the third.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some((user + system) * TICK_MICROSECONDS)
}

fn written(disks: &str, device: u64) -> Option<u64> {
    let (major, minor) = (libc::major(device).to_string(), libc::minor(device).to_string());
    let mut fields = disks.lines().map(str::split_whitespace).find_map(|mut fields| {
        let is_device = fields.next() == Some(&major) && fields.next() == Some(&minor);
        is_device.then_some(fields)
    })?;
    // Name, four figures of reads, writes completed and merged, then sectors written.
    Some(fields.nth(7)?.parse::<u64>().ok()? * SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "17 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 8 0 1";
        assert_eq!(cpu(stat), Some(1_500_000));
    }

    #[test]
    fn the_share_of_shared_pages_counts() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:            9000 kB\nPss:            1200 kB\nPss_Anon:        700 kB\n";
        assert_eq!(kilobytes(rollup, "Pss:"), Some(1200 * 1024));
        assert_eq!(kilobytes(rollup, "Pss_Anon:"), Some(700 * 1024));
    }

    #[test]
    fn a_name_may_hold_blanks_and_parentheses() {
        assert_eq!(name_and_parent("17 (a (b) c) S 4 2 3"), Some(("a (b) c".to_owned(), 4)));
    }

    #[test]
    fn this_process_descends_from_its_parent() {
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert!(family(parent).unwrap().iter().any(|(pid, _)| *pid == own));
        assert!(!family(own).unwrap().iter().any(|(pid, _)| *pid == parent));
        assert!(memory(own).unwrap() > 100_000);
    }

    #[test]
    fn written_bytes_are_those_of_the_disk() {
        let disks = " 7 0 loop0 1 2 3 4 5 6 7 8\n 254 0 vda 10 20 30 40 50 60 70 80 0 90\n";
        assert_eq!(written(disks, libc::makedev(254, 0)), Some(70 * 512));
        assert_eq!(written(disks, libc::makedev(254, 1)), None);
    }
}
