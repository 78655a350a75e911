//! What every Prometheus client tells of its process, read from `/proc` when somebody asks. What cannot be read is not shown.

use std::fs;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Of `/proc/self/stat`: the kernel's interface counts in hundredths of a second on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn register(registry: &mut Registry) {
    let mut show = |name: &str, help: &str, value: Option<f64>| {
        let Some(value) = value else { return };
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    show(
        "process_resident_memory_bytes",
        "Memory of this process",
        kilobytes(&status, "VmRSS:").map(|kb| kb * 1024.0),
    );
    show(
        "process_virtual_memory_bytes",
        "Address space of this process",
        kilobytes(&status, "VmSize:").map(|kb| kb * 1024.0),
    );
    show(
        "process_cpu_seconds_total",
        "Processor time of this process",
        cpu_ticks(&stat).map(|ticks| ticks / TICKS_PER_SECOND),
    );
    let open = fs::read_dir("/proc/self/fd").map(|files| files.count()).ok();
    show(
        "process_open_fds",
        "Open files of this process",
        open.and_then(|open| u32::try_from(open).ok()).map(f64::from),
    );
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time. The program's name stands before them in brackets, and may hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "7 (a (odd) name) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 12345 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!((cpu_ticks(""), kilobytes("", "VmRSS:")), (None, None));
    }
}
