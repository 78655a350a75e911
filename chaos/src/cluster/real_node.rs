//! What one agent with real containers has on the machine: its containerd with shims, containers, mounts and control groups. They outlive their
//! agent by design, so the harness ends them itself, however a run ends.
//!
//! Nothing of it is guessed: the agent's own configuration of its containerd says where the runtime's state is, and that folder's name is in the
//! command lines of all its processes and in the names of its control groups. A list of data directories outlives a harness that is killed, so
//! that the next run can do the same for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{RUN_PREFIX, containers};

/// Lists of data directories, one for each run that has real nodes.
const LISTS: &str = "/run";
const LIST_ENDING: &str = "-nodes";
/// Where the kernel shows hierarchies of control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Sockets of shims; the folders go with their last user.
const SHIM_FOLDERS: [&str; 2] = ["/run/containerd/s", "/run/containerd"];
/// A killed process leaves at once, but for one that waits for a disk.
const END_TIMEOUT: Duration = Duration::from_secs(20);
const END_POLL: Duration = Duration::from_millis(20);

/// The runtime of one agent, until it is dropped. The agent itself has to be gone by then.
pub struct RealNode {
    data: PathBuf,
}

impl RealNode {
    /// Stands for the runtime of an agent with this data directory, whether it runs yet or not.
    pub(super) fn new(data: PathBuf) -> Self {
        Self { data }
    }

    /// Returns the pid of its containerd, while that lives.
    #[must_use]
    pub fn runtime_pid(&self) -> Option<u32> {
        let run = run_folder(&self.data)?;
        let text = std::fs::read_to_string(run.join("containerd.pid")).ok()?;
        let pid: u32 = text.split_whitespace().next()?.parse().ok()?;
        // A pid may be used again.
        is_of(pid, &Marks::of(&self.data, &run)).then_some(pid)
    }

    /// Whether its containerd answers on its socket.
    #[must_use]
    pub fn serves(&self) -> bool {
        let run = run_folder(&self.data);
        run.is_some_and(|run| std::os::unix::net::UnixStream::connect(run.join("containerd.sock")).is_ok())
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.data) {
            tracing::warn!(data = %self.data.display(), error = format!("{error:#}"), "containers of the run stay behind");
        }
    }
}

/// The list of a run's nodes, which goes when it is dropped, after them.
pub struct NodeList {
    path: PathBuf,
}

impl NodeList {
    /// Writes down the data directories of a run before anything is started in them.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub(super) fn create(run_id: &str, data: &[PathBuf]) -> anyhow::Result<Self> {
        let path = Path::new(LISTS).join(format!("{run_id}{LIST_ENDING}"));
        let lines: String = data.iter().map(|data| format!("{}\n", data.display())).collect();
        std::fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for NodeList {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the nodes of runs whose harness is gone.
pub(super) fn sweep() {
    for entry in std::fs::read_dir(LISTS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(run) = name.strip_prefix(RUN_PREFIX).filter(|name| name.ends_with(LIST_ENDING)) else {
            continue;
        };
        let pid = run.split('-').next().unwrap_or_default();
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let list = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let cleared: anyhow::Result<()> = list.lines().try_for_each(|data| clear(Path::new(data)));
        match cleared {
            Ok(()) => drop(std::fs::remove_file(entry.path())),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(list = %entry.path().display(), error, "containers of a run that is gone stay behind");
            }
        }
    }
}

/// Ends and removes all that an agent's runtime has on this machine, and leaves its data alone.
fn clear(data: &Path) -> anyhow::Result<()> {
    // An agent that was never started has no runtime.
    let Some(run) = run_folder(data) else { return Ok(()) };
    let marks = Marks::of(data, &run);
    end_processes(&marks)?;
    for socket in shim_sockets(&run) {
        let _ = std::fs::remove_file(socket);
    }
    unmount_below(&[&run, data])?;
    remove_groups(&marks.group)?;
    if run.exists() {
        std::fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))?;
    }
    // Folders that others use are not empty.
    let shared = run.parent().into_iter().chain(SHIM_FOLDERS.iter().map(Path::new));
    for folder in shared {
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

/// Finds the folder of sockets, pid file and mounts in the configuration that an agent has written for its containerd.
fn run_folder(data: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(data.join("containerd.toml")).ok()?;
    state_folder(&text)?.parent().map(Path::to_owned)
}

fn state_folder(configuration: &str) -> Option<PathBuf> {
    let value = configuration.lines().find_map(|line| line.strip_prefix("state = "))?;
    Some(PathBuf::from(serde_json::from_str::<String>(value).ok()?))
}

/// What tells the processes of one runtime from all others.
struct Marks {
    /// Stand in command lines: of containerd its configuration, of network plugins their path, of shims and runc the folder of sockets.
    words: [String; 3],
    /// Name of the control group above all its containers.
    group: String,
}

impl Marks {
    fn of(data: &Path, run: &Path) -> Self {
        let id = run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let words = [data.join("containerd.toml"), data.join("cni/"), run.join("")];
        Self { words: words.map(|path| path.to_string_lossy().into_owned()), group: format!("keelson-{id}") }
    }

    fn are_in(&self, command: &str, groups: &str) -> bool {
        let is_named =
            command.split('\0').any(|word| self.words.iter().any(|mark| word.contains(mark.as_str())));
        let below = format!("/{}/", self.group);
        is_named || groups.lines().any(|line| line.contains(&below))
    }
}

fn is_of(pid: u32, marks: &Marks) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (command, groups, stat) = (read("cmdline"), read("cgroup"), read("stat"));
    let lives = containers::started(&String::from_utf8_lossy(&stat)).is_some();
    lives && marks.are_in(&String::from_utf8_lossy(&command), &String::from_utf8_lossy(&groups))
}

/// Kills everything that belongs to a runtime until nothing is left: who is about to start something may have done so meanwhile.
fn end_processes(marks: &Marks) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let entries = std::fs::read_dir("/proc").context("cannot read /proc")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let left: Vec<u32> = pids.filter(|pid| is_of(*pid, marks)).collect();
        if left.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < END_TIMEOUT, "processes {left:?} of a runtime do not end");
        for pid in left {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL);
        }
        std::thread::sleep(END_POLL);
    }
}

/// Returns the sockets of a runtime's shims: each has written its own into the folder of its sandbox.
fn shim_sockets(run: &Path) -> Vec<PathBuf> {
    let tasks = run.join("state/io.containerd.runtime.v2.task/k8s.io");
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let address = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("address")).ok();
    let sockets: BTreeSet<String> = tasks.filter_map(address).collect();
    sockets
        .iter()
        .filter_map(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?)))
        .collect()
}

/// Takes away mounts at or below folders, deepest first, also those that lie on one another.
fn unmount_below(folders: &[&Path]) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut points: Vec<PathBuf> =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect();
    points.retain(|point| folders.iter().any(|folder| point.starts_with(folder)));
    points.sort();
    for point in points.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

/// Removes a control group with all below it from every hierarchy, version 1 and 2.
fn remove_groups(group: &str) -> anyhow::Result<()> {
    let hierarchies =
        std::fs::read_dir(CONTROL_GROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from(CONTROL_GROUPS)]) {
        let began = Instant::now();
        // A process that is ending may take a moment to leave.
        while let Err(error) = remove_tree(&hierarchy.join(group)) {
            anyhow::ensure!(began.elapsed() < END_TIMEOUT, "the control group {group} stays: {error}");
            std::thread::sleep(END_POLL);
        }
    }
    Ok(())
}

/// Removes a control group, deepest first; its files are the kernel's and go with it.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_folder_is_read_from_its_configuration() {
        let text = "version = 2\nroot = \"/d/containerd\"\nstate = \"/run/keelson/0f/state\"\n";
        assert_eq!(state_folder(text), Some("/run/keelson/0f/state".into()));
        assert_eq!(state_folder("version = 2\n"), None);
        assert_eq!(run_folder(Path::new("/no/such/folder")), None);
    }

    #[test]
    fn processes_of_a_runtime_are_told_from_those_of_another() {
        let marks = Marks::of(Path::new("/runs/1/data/a1"), Path::new("/run/keelson/0f"));
        let shim = "containerd-shim-runc-v2\0-address\0/run/keelson/0f/containerd.sock\0";
        assert!(marks.are_in("containerd\0--config\0/runs/1/data/a1/containerd.toml\0", ""));
        assert!(marks.are_in(shim, "") && marks.are_in("sh\0", "4:pids:/keelson-0f/pod1/c2\n"));
        assert!(!marks.are_in("containerd\0--config\0/etc/containerd.toml\0", "4:pids:/keelson-0f0/pod1\n"));
        assert!(!marks.are_in("sh\0/run/keelson/0fa/x\0", ""));
    }

    #[test]
    fn what_was_never_started_leaves_nothing_to_clear() {
        let folder = tempfile::tempdir().unwrap();
        clear(folder.path()).unwrap();
        let node = RealNode::new(folder.path().to_owned());
        assert_eq!(node.runtime_pid(), None);
        assert!(!node.serves());
    }
}
