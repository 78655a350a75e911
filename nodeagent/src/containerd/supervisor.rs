//! Starts, adopts, watches and ends the agent's containerd.

use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Paths, config};
use crate::cni;
use crate::images::{self, pack};
use crate::runtime::cri::CriRuntime;
use crate::runtime::{Runtime, RuntimeError};

/// containerd answers about a second after its start on an idle machine; on a loaded one it took up to ten.
const READY_LIMIT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(50);
/// How often the supervisor looks whether containerd still lives.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time for containerd to end by itself before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Directories that containerd's shims make for their sockets and never remove, innermost first.
const SHIM_DIRECTORIES: [&str; 2] = ["/run/containerd/s", "/run/containerd"];

/// Why containerd is not there.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A file or directory cannot be prepared.
    #[error("cannot prepare {path}: {source}")]
    Prepare {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The program cannot be started.
    #[error("cannot start containerd (package containerd): {0}")]
    Start(io::Error),
    /// It does not answer in time.
    #[error("containerd does not answer after {limit:?}; its log is {log}", log = .log.display())]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// Where its words are.
        log: PathBuf,
    },
    /// The sandbox image cannot be packed.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    /// The sandbox image cannot be imported.
    #[error(transparent)]
    Import(#[from] images::ImportError),
    /// A call failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// A process that is recognised again: pids are reused, a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    start_time: u64,
}

impl Process {
    /// Returns the process behind a pid, unless it is gone or only waits to be reaped.
    fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold anything; fields are counted after the last one.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        // Field 22 of the whole line is the start time; the state just read was field 3.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, start_time })
    }

    fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let (pid, start_time) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
    }

    fn write(self, path: &Path) -> io::Result<()> {
        std::fs::write(path, format!("{} {}\n", self.pid, self.start_time))
    }

    fn signal(self, signal: Signal) {
        if self.is_alive() {
            // A process that ended between the two lines is what the signal wanted.
            let _ended = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// The agent's containerd.
#[derive(Debug)]
pub struct Containerd {
    paths: Paths,
    process: Mutex<Process>,
}

impl Containerd {
    /// Adopts the containerd of this data directory when it runs, starts it otherwise, and waits until it can run sandboxes.
    ///
    /// `plugin` is the program that acts as network plugin (the agent's own binary).
    ///
    /// # Errors
    /// When a file cannot be written, the program is missing, or it does not answer in time.
    pub async fn start(paths: Paths, plugin: &Path) -> Result<Self, ContainerdError> {
        prepare(&paths, plugin)?;
        let process = match Process::read(&paths.pid_file()).filter(|process| process.is_alive()) {
            Some(process) => {
                tracing::info!(pid = process.pid, "containerd adopted");
                process
            }
            None => spawn(&paths)?,
        };
        let containerd = Self { paths, process: Mutex::new(process) };
        containerd.wait_ready().await?;
        containerd.ensure_pause_image().await?;
        Ok(containerd)
    }

    /// Returns where it lives.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process().pid
    }

    /// Starts containerd again whenever it ends, until the token is cancelled. Containers live on meanwhile in their shims.
    pub async fn watch(&self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if !self.process().is_alive() {
                self.restart();
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
        }
    }

    /// Ends containerd and removes its run directory. Sandboxes must be gone before: their shims would live on.
    pub async fn stop(self) {
        let process = self.process();
        process.signal(Signal::SIGTERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while process.is_alive() {
            if Instant::now() >= deadline {
                tracing::warn!(pid = process.pid, "containerd does not end, killing it");
                process.signal(Signal::SIGKILL);
            }
            tokio::time::sleep(READY_POLL).await;
        }
        super::remove_cgroups(&self.paths.cgroup_prefix());
        if let Err(error) = std::fs::remove_dir_all(self.paths.run()) {
            tracing::warn!(path = %self.paths.run().display(), %error, "run directory stays");
        }
        // Shared parents go with their last user.
        let parent = self.paths.run().parent().map(Path::to_owned);
        for directory in parent.into_iter().chain(SHIM_DIRECTORIES.map(PathBuf::from)) {
            let _others_live = std::fs::remove_dir(directory);
        }
    }

    fn process(&self) -> Process {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restart(&self) {
        tracing::warn!(log = %self.paths.log_file().display(), "containerd ended, starting it again");
        match spawn(&self.paths) {
            Ok(process) => *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process,
            Err(error) => tracing::error!(%error, "containerd does not start"),
        }
    }

    async fn wait_ready(&self) -> Result<(), ContainerdError> {
        let deadline = Instant::now() + READY_LIMIT;
        let runtime = CriRuntime::new(&self.paths.socket());
        loop {
            let alive = self.process().is_alive();
            if alive && runtime.version().await.is_ok() {
                return Ok(());
            }
            if !alive || Instant::now() >= deadline {
                return Err(ContainerdError::NotReady { limit: READY_LIMIT, log: self.paths.log_file() });
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    async fn ensure_pause_image(&self) -> Result<(), ContainerdError> {
        let runtime = CriRuntime::new(&self.paths.socket());
        if runtime.image(pack::PAUSE_IMAGE).await?.is_some() {
            return Ok(());
        }
        let archive = self.paths.data().join("pause.tar");
        let bytes = pack::pause_image()?.to_archive(pack::Format::Docker)?;
        std::fs::write(&archive, bytes)
            .map_err(|source| ContainerdError::Prepare { path: archive.clone(), source })?;
        let imported = images::import(&self.paths.socket(), &archive).await;
        std::fs::remove_file(&archive)
            .map_err(|source| ContainerdError::Prepare { path: archive, source })?;
        imported?;
        Ok(())
    }
}

/// Writes configuration and links. Repeated at every start, so that a new binary or setting takes effect.
fn prepare(paths: &Paths, plugin: &Path) -> Result<(), ContainerdError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ContainerdError::Prepare { path, source }
    };
    for directory in [paths.run(), paths.root(), paths.cni_bin(), paths.cni_conf()] {
        std::fs::create_dir_all(&directory).map_err(at(&directory))?;
    }
    let conflist = paths.cni_conf().join("10-keelson.conflist");
    let files =
        [(paths.config_file(), config::containerd_toml(paths)), (conflist, config::cni_conflist(paths))];
    for (path, text) in files {
        std::fs::write(&path, text).map_err(at(&path))?;
    }
    for name in [cni::PLUGIN_NAME, cni::LOOPBACK_NAME] {
        let link = paths.cni_bin().join(name);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&link)(error)),
            _ => symlink(plugin, &link).map_err(at(&link))?,
        }
    }
    Ok(())
}

/// Starts containerd in a session of its own, with its words in a file: it must outlive a killed agent and its terminal.
fn spawn(paths: &Paths) -> Result<Process, ContainerdError> {
    let at = |path: PathBuf| move |source| ContainerdError::Prepare { path, source };
    let log =
        File::options().create(true).append(true).open(paths.log_file()).map_err(at(paths.log_file()))?;
    let errors = log.try_clone().map_err(at(paths.log_file()))?;
    // `setsid` becomes the session's leader and then containerd itself, under the same pid.
    let child = Command::new("setsid")
        .args(["containerd", "--config"])
        .arg(paths.config_file())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(ContainerdError::Start)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let process = pid
        .and_then(Process::of)
        .ok_or_else(|| ContainerdError::Start(io::Error::other("it ended at once")))?;
    process.write(&paths.pid_file()).map_err(at(paths.pid_file()))?;
    // A dropped child goes on running, and tokio reaps it when it ends before this agent.
    drop(child);
    tracing::info!(pid = process.pid, "containerd started");
    Ok(process)
}
