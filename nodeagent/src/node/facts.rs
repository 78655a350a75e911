//! What the machine is: its resources and versions, read once from the kernel's files.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::runtime::DnsConfig;

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Number of processors.
    pub cpu_count: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Size of the data directory's file system.
    pub storage_bytes: u64,
    /// Identity of the installation.
    pub machine_id: String,
    /// Identity of this boot.
    pub boot_id: String,
    /// Kernel release.
    pub kernel: String,
    /// Name of the distribution.
    pub os_image: String,
}

/// Reads the machine; what cannot be read stays empty.
#[must_use]
pub fn machine(data_dir: &Path) -> Machine {
    let line =
        |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let storage =
        statvfs(data_dir).map(|fs| fs.blocks().saturating_mul(fs.fragment_size())).unwrap_or_default();
    Machine {
        cpu_count: i64::try_from(cpus).unwrap_or(1),
        memory_bytes: memory_bytes(&line("/proc/meminfo")).unwrap_or_default(),
        storage_bytes: storage,
        machine_id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel: line("/proc/sys/kernel/osrelease"),
        os_image: os_image(&line("/etc/os-release")),
    }
}

fn memory_bytes(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

/// Reads the node's own resolver settings.
#[must_use]
pub fn node_dns() -> DnsConfig {
    parse_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_understood() {
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB"), Some(2 << 20));
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        let dns = parse_resolv_conf("# x\nsearch a b\nnameserver 1.1.1.1\noptions ndots:2\n");
        assert_eq!((dns.servers.len(), dns.searches.len(), dns.options), (1, 2, vec!["ndots:2".to_owned()]));
    }
}
