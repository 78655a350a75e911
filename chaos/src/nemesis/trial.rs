//! What this machine can inject: each mechanism tried on something small, with its witness.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use super::{failing_sync, full_disk, slow_cpu, slow_disk, stalled_disk};
use crate::cluster::{
    Backing, Clock, CpuQuota, Delay, DelayLine, Disk, Disturbance, Host, Network, Throttle, Way, own_mounts,
    run_command,
};
use crate::history::FaultKind;

/// Where root's tools are, whatever the search path says.
const TOOL_FOLDERS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What real containers need, and Debian's packages that have it. Images are packed from a busybox that needs no library.
const CONTAINER_TOOLS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("nft", "nftables"),
];
/// Longest that a packet may take to what counts it: its neighbour's address is asked for before.
const PACKET_TIMEOUT: Duration = Duration::from_secs(5);

/// How a kind of fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Process,
    Quota,
    Cut,
    Reset,
    Link,
    Bandwidth,
    Loss,
    Duplication,
    Power,
    Freeze,
    Throttle,
    Ballast,
    Starvation,
    Delay,
    Clock,
}

impl Mechanism {
    /// The tools that it needs, and Debian's packages that have them.
    fn tools(self) -> Vec<(&'static str, &'static str)> {
        let mut tools = vec![
            ("ip", "iproute2"),
            ("nft", "nftables"),
            ("nsenter", "util-linux"),
            ("setpriv", "util-linux"),
        ];
        match self {
            Self::Process
            | Self::Quota
            | Self::Cut
            | Self::Reset
            | Self::Link
            | Self::Bandwidth
            | Self::Loss
            | Self::Duplication
            | Self::Delay
            | Self::Clock => {}
            Self::Power | Self::Freeze | Self::Throttle | Self::Ballast | Self::Starvation => tools.extend([
                ("mkfs.ext4", "e2fsprogs"),
                ("e2fsck", "e2fsprogs"),
                ("mount", "mount"),
                ("fsfreeze", "util-linux"),
                ("dd", "coreutils"),
            ]),
        }
        tools
    }

    /// Tries it; returns what it has shown.
    ///
    /// # Errors
    /// One line saying what is missing.
    pub fn try_out(self) -> Result<String, String> {
        if !Uid::effective().is_root() {
            return Err("it needs root (namespaces, packet filter, mounts)".to_owned());
        }
        if let Some((tool, package)) = self.tools().into_iter().find(|(tool, _)| !is_there(tool)) {
            return Err(format!("{tool} is not installed (package {package})"));
        }
        let missing = match self {
            Self::Quota => CpuQuota::missing(),
            Self::Throttle => Throttle::missing(),
            Self::Delay => DelayLine::missing(),
            Self::Clock => Clock::library().err(),
            Self::Process
            | Self::Cut
            | Self::Reset
            | Self::Link
            | Self::Bandwidth
            | Self::Loss
            | Self::Duplication
            | Self::Power
            | Self::Freeze
            | Self::Ballast
            | Self::Starvation => None,
        };
        if let Some(missing) = missing {
            return Err(missing);
        }
        self.try_here().map_err(|error| format!("{error:#}").replace('\n', " "))
    }

    fn try_here(self) -> anyhow::Result<String> {
        let network = Network::create(2)?;
        // A thread of its own: it moves into the hub's namespace, and has mounts of its own.
        std::thread::scope(|scope| {
            let trying = scope.spawn(|| {
                network.enter()?;
                match self {
                    Self::Process => try_process(),
                    Self::Quota => slow_cpu::try_out(&format!("{}-n1", network.run_id())),
                    Self::Cut => {
                        network.cut(Way::Silent, &[(Host::Member(0), Host::Member(1))])?;
                        counted(&network, "udp", "dropped", || network.packets_cut(Way::Silent))
                    }
                    Self::Reset => {
                        network.cut(Way::Reset, &[(Host::Member(0), Host::Member(1))])?;
                        counted(&network, "tcp", "refused", || network.packets_cut(Way::Reset))
                    }
                    Self::Link => {
                        network.unplug(&[0])?;
                        anyhow::ensure!(network.is_unplugged(0)?, "a link that is down has a carrier");
                        network.plug(&[0])?;
                        anyhow::ensure!(!network.is_unplugged(0)?, "a link has no carrier after it was down");
                        Ok("a link lost its carrier and has it again".to_owned())
                    }
                    Self::Bandwidth => {
                        network.narrow(0)?;
                        counted(&network, "udp", "held back", || network.packets_held(0))
                    }
                    Self::Loss => {
                        network.disturb(Disturbance::Loss, &[0])?;
                        counted(&network, "udp", "lost", || network.packets_disturbed(Disturbance::Loss))
                    }
                    Self::Duplication => {
                        network.disturb(Disturbance::Duplication, &[0])?;
                        let count = || network.packets_disturbed(Disturbance::Duplication);
                        counted(&network, "udp", "doubled", count)
                    }
                    Self::Delay => try_delay(&network),
                    Self::Clock => try_clock(),
                    Self::Power | Self::Freeze | Self::Throttle | Self::Ballast | Self::Starvation => {
                        self.try_on_disk(&network)
                    }
                }
            });
            trying.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the trial panicked")))
        })
    }

    fn try_on_disk(self, network: &Network) -> anyhow::Result<String> {
        own_mounts()?;
        let folder = Folder(std::env::temp_dir().join(network.run_id()));
        let backing = if self == Self::Starvation { Backing::Memory } else { Backing::File };
        let disk = Disk::create(backing, &folder.0.join("disk"), &folder.0.join("data"))?;
        let device = disk.device()?;
        let shown = match self {
            Self::Power => {
                try_power(&disk)?;
                "what was not synced is gone".to_owned()
            }
            Self::Freeze => {
                run_command("sh", &["-c", stalled_disk::GUARD, &disk.mount_point().to_string_lossy()], "")?;
                "frozen and thawed".to_owned()
            }
            Self::Throttle => {
                let probe = disk.mount_point().join("probe");
                let before = Throttle::time_free_write(&probe)?.as_millis();
                let throttle = Throttle::create(&format!("{}-n1", network.run_id()), &device)?;
                let slowed = throttle.time_write(&probe)?.as_millis();
                anyhow::ensure!(slow_disk::witness(before, slowed).is_some(), "a throttled disk is not slow");
                format!("64 KiB take {slowed} ms instead of {before} ms")
            }
            Self::Ballast => {
                full_disk::fill(&File::create(disk.mount_point().join("ballast"))?, disk.free_bytes()?)?;
                format!("{} bytes free", disk.free_bytes()?)
            }
            Self::Starvation => {
                disk.starve()?;
                let error = failing_sync::probe(&disk.mount_point().join("probe"));
                error.ok_or_else(|| anyhow::anyhow!("a sync without room succeeded"))?
            }
            Self::Process
            | Self::Quota
            | Self::Cut
            | Self::Reset
            | Self::Link
            | Self::Bandwidth
            | Self::Loss
            | Self::Duplication
            | Self::Delay
            | Self::Clock => {
                anyhow::bail!("this needs no disk")
            }
        };
        run_command("umount", &[&disk.mount_point().to_string_lossy()], "")?;
        if self == Self::Starvation {
            run_command("umount", &[&folder.0.join("disk").to_string_lossy()], "")?;
        }
        Ok(shown)
    }
}

/// Removed when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Tries what a kind of fault is made with.
///
/// # Errors
/// One line saying what is missing.
pub fn try_kind(kind: FaultKind) -> Result<String, String> {
    kind.mechanism().try_out()
}

/// Says what a node with real containers lacks on this machine.
#[must_use]
pub fn missing_for_containers() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("it needs root (containers)".to_owned());
    }
    let lacking: Vec<String> = CONTAINER_TOOLS
        .iter()
        .filter(|(tool, _)| !is_there(tool))
        .map(|(tool, package)| format!("{tool} is not installed (package {package})"))
        .collect();
    if !lacking.is_empty() {
        return Some(lacking.join(", "));
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_overlay = known.split_whitespace().any(|name| name == "overlay");
    (!has_overlay).then(|| "the kernel has no overlay file system".to_owned())
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(TOOL_FOLDERS.split(':')).any(|folder| Path::new(folder).join(tool).exists())
}

/// Cuts the power while something syncs all the time, as a member does.
fn try_power(disk: &Disk) -> anyhow::Result<()> {
    let busy = disk.mount_point().join("busy");
    let is_over = AtomicBool::new(false);
    let sync = || std::fs::write(&busy, [0; 5000]).and_then(|()| File::open(&busy)?.sync_data());
    std::thread::scope(|scope| {
        scope.spawn(|| while sync().is_ok() && !is_over.load(Ordering::Relaxed) {});
        let cut = disk.cut_power();
        is_over.store(true, Ordering::Relaxed);
        cut
    })?;
    anyhow::ensure!(disk.restore_power()?, "what was not synced survived a power loss");
    Ok(())
}

fn try_process() -> anyhow::Result<String> {
    let mut child = Command::new("sleep").arg("60").spawn()?;
    child.kill()?;
    Ok(format!("a process ended ({})", child.wait()?))
}

fn try_delay(network: &Network) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let inside = runtime.enter();
    let delay = Delay { base: Duration::from_millis(5), jitter: Duration::from_millis(5) };
    let line = DelayLine::start("n1", delay, 1)?;
    let shown = counted(network, "udp", "delayed", || Ok(line.counts().0))?;
    runtime.block_on(line.end())?;
    drop(inside);
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(shown)
}

/// Asks a program for the date, a day ahead.
fn try_clock() -> anyhow::Result<String> {
    let library = Clock::library().map_err(anyhow::Error::msg)?;
    let preload = format!("LD_PRELOAD={}", library.display());
    let ask = |more: &[&str]| -> anyhow::Result<i64> {
        Ok(run_command("env", &[more, &["date", "+%s"]].concat(), "")?.trim().parse()?)
    };
    let jump = ask(&[&preload, "FAKETIME=+86400"])? - ask(&[])?;
    anyhow::ensure!((86_300..86_500).contains(&jump), "libfaketime does not move a program's clock");
    Ok("a program's clock went a day ahead; Go programs such as etcd do not obey".to_owned())
}

/// Sends packets from the first to the second host until the counter has moved.
fn counted(
    network: &Network,
    protocol: &str,
    done: &str,
    count: impl Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<String> {
    let from = format!("--net=/run/netns/{}", network.namespace(0));
    let to = network.address(1);
    let send = format!(
        "for i in $(seq 20); do timeout 1 bash -c 'head -c 1000 /dev/zero > /dev/{protocol}/{to}/9' || true; \
         done 2> /dev/null"
    );
    let deadline = Instant::now() + PACKET_TIMEOUT;
    loop {
        run_command("nsenter", &[&from, "bash", "-c", &send], "")?;
        let counted = count()?;
        if counted > 0 {
            return Ok(format!("{counted} packets {done}"));
        }
        anyhow::ensure!(Instant::now() < deadline, "no packet was {done}");
    }
}
