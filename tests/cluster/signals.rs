//! Processes of a cluster that stand still: alive for the kernel and their parent, silent for everybody else.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Cluster;

/// The kernel stops every thread at its next return to user mode; this only bounds a failure.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Cluster {
    /// Stops a process (SIGSTOP) and returns its id once no thread of it runs any more.
    pub fn pause(&self, name: &str) -> u32 {
        let pid = self.pid(name).unwrap_or_else(|| panic!("{name} is not running"));
        send(pid, Signal::SIGSTOP);
        let start = Instant::now();
        while !stands_still(pid) {
            assert!(start.elapsed() < STOP_TIMEOUT, "{name} ({pid}) does not stop");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        pid
    }

    /// Lets a stopped process go on.
    pub fn resume(&self, name: &str) {
        let pid = self.pid(name).unwrap_or_else(|| panic!("{name} is not running"));
        send(pid, Signal::SIGCONT);
    }
}

fn send(pid: u32, signal: Signal) {
    let target = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(target, signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
}

/// Whether every thread is in state T (proc(5)).
fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
    // The state stands behind the program's name, which is in brackets and may itself hold some.
    let is_stopped = |stat: String| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'));
    threads.flatten().map(stat).all(is_stopped)
}
