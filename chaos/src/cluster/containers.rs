//! Containers of a run as the kernel shows them: their first processes, found by the mark in their environment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

use crate::history::{ContainerOf, ContainerProcess, hundredths};

/// Returns the first process of every container that carries the mark.
///
/// # Errors
/// When the kernel shows no processes.
pub fn container_processes(mark: &Path) -> anyhow::Result<Vec<ContainerProcess>> {
    let mark = format!("{}={}", ContainerOf::RUN, mark.display());
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that ends while it is looked at is none.
    let mut processes: Vec<ContainerProcess> = pids.filter_map(|pid| process(pid, &mark)).collect();
    processes.sort();
    Ok(processes)
}

/// Returns the time since boot, in hundredths of a second: what the kernel counts starts of processes in.
///
/// # Errors
/// When the kernel does not say.
pub fn since_boot() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let first = text.split_whitespace().next().and_then(hundredths);
    first.with_context(|| format!("/proc/uptime is {text}"))
}

fn process(pid: u32, mark: &str) -> Option<ContainerProcess> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment);
    let is_marked = environment.split('\0').any(|variable| variable == mark);
    if !is_marked || !is_first(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?) {
        return None;
    }
    let variables: BTreeMap<&str, &str> =
        environment.split('\0').filter_map(|variable| variable.split_once('=')).collect();
    let value = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let of = ContainerOf { uid: value(ContainerOf::UID)?, container: value(ContainerOf::NAME)? };
    let started = started(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(ContainerProcess { of, node: value(ContainerOf::NODE)?, pid, started })
}

/// Whether a process is number 1 of its own namespace: its numbers are named from the outermost on.
fn is_first(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().last() == Some("1"))
}

/// Reads when a process started; one that only waits to be reaped lives no more.
pub(super) fn started(stat: &str) -> Option<u64> {
    // The name before it, in brackets, may contain anything; what follows begins with field 3, and the start is field 22.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_a_namespace_is_number_one_innermost() {
        assert!(is_first("Name:\tsh\nNSpid:\t4711\t1\n"));
        assert!(!is_first("NSpid:\t4711\t17\n") && !is_first("NSpid:\t4711\n") && !is_first(""));
    }

    #[test]
    fn the_start_is_read_behind_any_name() {
        let stat = |state: &str| {
            let fields: Vec<String> = (4..23).map(|field| field.to_string()).collect();
            format!("17 (a) b) {state} {}", fields.join(" "))
        };
        assert_eq!(started(&stat("S")), Some(22));
        assert_eq!(started(&stat("Z")), None);
    }

    #[test]
    fn a_process_without_the_mark_is_none() {
        assert_eq!(container_processes(Path::new("/no/run/has/this")).unwrap(), []);
        assert!(since_boot().unwrap() > 0);
    }
}
