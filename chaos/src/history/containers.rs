//! What the harness saw of containers: processes that live, and those that said that they started. Neither agent nor runtime is asked.

use serde::{Deserialize, Serialize};

use super::paired::paired;
use super::{Event, EventKind, Function};

/// The file to which each container appends a line when it starts.
pub const STARTS: &str = "starts.txt";

/// Whose a container is, as its environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerOf {
    /// Of its pod.
    pub uid: String,
    pub container: String,
}

impl ContainerOf {
    /// Variables of a container's environment: the run's folder of starts, which marks it as the run's, and whose it is.
    pub const RUN: &str = "CHAOS_RUN";
    pub const UID: &str = "CHAOS_UID";
    pub const NODE: &str = "CHAOS_NODE";
    pub const NAME: &str = "CHAOS_CONTAINER";
    /// What begins a line of a start, in the words of a shell.
    pub const IN_SHELL: &str = "$CHAOS_UID $CHAOS_NODE $CHAOS_CONTAINER";
}

/// The first process of a container. A pid may be used again; with its start it is one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerProcess {
    #[serde(flatten)]
    pub of: ContainerOf,
    pub node: String,
    pub pid: u32,
    /// Hundredths of a second since the machine's boot, by the kernel.
    pub started: u64,
}

/// A line that a container has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Start {
    #[serde(flatten)]
    pub of: ContainerOf,
    pub node: String,
    /// Hundredths of a second since the machine's boot.
    pub at: u64,
}

impl Start {
    /// Reads a whole line; `None` where it is not what containers write.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (uid, node, container) = (words.next()?, words.next()?, words.next()?);
        let at = hundredths(&words.next()?)?;
        words.next().is_none().then_some(Self { of: ContainerOf { uid, container }, node, at })
    }
}

/// Reads a time since boot as `/proc/uptime` has it: seconds with two digits behind the point.
#[must_use]
pub fn hundredths(uptime: &str) -> Option<u64> {
    let (seconds, rest) = uptime.split_once('.')?;
    let is_whole = rest.len() == 2;
    let (seconds, rest): (u64, u64) = (seconds.parse().ok()?, rest.parse().ok()?);
    is_whole.then_some(seconds.saturating_mul(100).saturating_add(rest))
}

/// What one look at the machine showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// When it began, in hundredths of a second since the machine's boot.
    pub began: u64,
    pub processes: Vec<ContainerProcess>,
    /// Lines that were not there at the look before.
    pub starts: Vec<Start>,
}

/// A look, in the history's time. Each process that it shows lived at some moment of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Index of its beginning.
    pub index: u64,
    pub began_at: u64,
    pub ended_at: u64,
    pub sight: Sight,
}

/// Returns all looks that came to their end, in order.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn looks(events: &[Event]) -> Result<Vec<Look>, String> {
    let mut looks = Vec::new();
    for (began, ended) in paired(events.iter().filter(|event| event.f == Function::Containers))? {
        if let Some(ended) = ended.filter(|ended| ended.kind == EventKind::Ok) {
            let sight = ended.carried("look at containers")?;
            looks.push(Look { index: began.index, began_at: began.time, ended_at: ended.time, sight });
        }
    }
    Ok(looks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whole_or_not_at_all() {
        let start = Start::read("0-1 node-a1 main 4711.05").unwrap();
        let of = ContainerOf { uid: "0-1".to_owned(), container: "main".to_owned() };
        assert_eq!(start, Start { of, node: "node-a1".to_owned(), at: 471_105 });
        for broken in
            ["", "0-1 node-a1 main", "0-1 node-a1 main 4711", "0-1 node-a1 main 4711.05 more", "u n m 1.5"]
        {
            assert_eq!(Start::read(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_process_is_flat_in_the_history() {
        let process = ContainerProcess {
            of: ContainerOf { uid: "u".to_owned(), container: "main".to_owned() },
            node: "n".to_owned(),
            pid: 7,
            started: 9,
        };
        let told =
            serde_json::json!({ "uid": "u", "container": "main", "node": "n", "pid": 7, "started": 9 });
        assert_eq!(serde_json::to_value(&process).unwrap(), told);
        assert_eq!(serde_json::from_value::<ContainerProcess>(told).unwrap(), process);
    }
}
