//! A cluster under test: the release binary in a temporary directory, driven as a user would, gone afterwards.

#![allow(dead_code, reason = "each test uses its own part of it")]

pub mod containers;
mod scrape;
mod signals;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const KEELSON: &str = env!("CARGO_BIN_EXE_keelson");

/// Containers stop with their grace period, so a clean stop may take this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Time until a cluster of any size is Ready on two shared cores.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Lines of each log that a failed test prints.
const LOG_LINES: usize = 40;

/// A running `keelson up`.
pub struct Cluster {
    pub data_dir: PathBuf,
    process: Option<Child>,
    // Removed when the test ends, after the cluster.
    _folder: tempfile::TempDir,
    args: Vec<String>,
    kubectl: PathBuf,
}

impl Cluster {
    /// Starts `keelson up` with `args` on a fresh data directory, with the example images, and waits until it is Ready.
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("keelson-test-").tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let packed =
            Command::new(KEELSON).args(["image", "pack", "--output"]).arg(data_dir.join("images")).status();
        assert!(packed.unwrap().success(), "the example images cannot be packed");
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut cluster = Self { data_dir, process: None, _folder: folder, args, kubectl: kubectl() };
        cluster.start_again();
        cluster
    }

    /// Uses another kubectl from now on, and prints which client it really is.
    pub fn use_kubectl(&mut self, kubectl: PathBuf) {
        self.kubectl = kubectl;
        let version = self.kubectl_ok(&["version", "--client"]);
        let version = version.lines().next().unwrap_or_default();
        println!("{}: {version}", self.kubectl.display());
    }

    /// Starts the same cluster on the same data directory.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the cluster is running");
        let log = fs::File::create(self.data_dir.with_extension("up.log")).unwrap();
        let mut command = Command::new(KEELSON);
        command.arg("up").arg("--data-dir").arg(&self.data_dir).args(["--api-port", "0"]).args(&self.args);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        self.wait("keelson up says Ready", READY_TIMEOUT, |cluster| {
            cluster.up_log().contains("keelson: Ready")
        });
    }

    /// What `keelson up` printed so far.
    pub fn up_log(&self) -> String {
        fs::read_to_string(self.data_dir.with_extension("up.log")).unwrap_or_default()
    }

    /// What a process of the cluster logged so far.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.data_dir.join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Prints the end of every log: the directory goes with the test.
    fn print_logs(&self) {
        for entry in fs::read_dir(self.data_dir.join("logs")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let first = text.lines().count().saturating_sub(LOG_LINES);
            let end: Vec<&str> = text.lines().skip(first).collect();
            eprintln!("-- end of {}:\n{}", entry.path().display(), end.join("\n"));
        }
    }

    /// Stops the cluster as Ctrl-C does and waits until it is gone.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let status = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
        assert!(status.success(), "keelson up ended before it was stopped:\n{}", self.up_log());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while process.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                process.kill().unwrap();
                process.wait().unwrap();
                panic!("keelson up did not stop within {STOP_TIMEOUT:?}:\n{}", self.up_log());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until `condition` holds; the deadline bounds a failure, it is not a pause.
    pub fn wait(&mut self, what: &str, timeout: Duration, condition: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !condition(self) {
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait().unwrap()
            {
                self.process = None;
                panic!("keelson up ended ({status}) while waiting: {what}\n{}", self.up_log());
            }
            assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}\n{}", self.up_log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        start.elapsed()
    }

    /// Returns the command of a kubectl call as the administrator.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .env("KUBECONFIG", self.data_dir.join("admin.kubeconfig"))
            .env("HOME", self.data_dir.parent().unwrap_or(Path::new("/")));
        command
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_command(args).output().unwrap()
    }

    /// Runs kubectl, expects success and returns what it printed.
    pub fn kubectl_ok(&self, args: &[&str]) -> String {
        let output = self.kubectl(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?} failed: {stderr}\n{}", self.up_log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns the process id in a pid file, such as `server-1`.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let text = fs::read_to_string(self.data_dir.join("run").join(format!("{name}.pid"))).ok()?;
        text.trim().parse().ok()
    }

    /// Kills a process of the cluster without warning.
    pub fn kill(&self, name: &str) {
        let pid = self.pid(name).unwrap_or_else(|| panic!("{name} is not running"));
        let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        assert!(status.success(), "cannot kill {name}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the cluster said:\n{}", self.up_log());
            self.print_logs();
        }
        let Some(mut process) = self.process.take() else { return };
        let _ended_already = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let _ended_already = process.kill();
        let _status = process.wait();
    }
}

/// Returns the kubectl to use: `$KUBECTL`, or the one on the PATH.
pub fn kubectl() -> PathBuf {
    std::env::var_os("KUBECTL").map_or_else(on_path, PathBuf::from)
}

/// Returns every kubectl to try: the one to use, and then each `kubectl.*` that lies beside it.
pub fn kubectls() -> Vec<PathBuf> {
    let first = kubectl();
    let beside = first.canonicalize().ok().and_then(|file| fs::read_dir(file.parent()?).ok());
    let mut others: Vec<PathBuf> = beside.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    others.retain(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl.")) && path.is_file()
    });
    others.sort();
    if others.is_empty() {
        println!("no other kubectl.* lies beside {}", first.display());
    }
    std::iter::once(first).chain(others).collect()
}

/// Returns the kubectl that a shell would start.
fn on_path() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join("kubectl"));
    candidates.find(|file| file.is_file()).unwrap_or_else(|| PathBuf::from("kubectl"))
}

/// Why containers cannot run here, if so.
pub fn containers_missing() -> Option<String> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        return Some("not root".to_owned());
    }
    let missing = ["containerd", "runc", "nft"].into_iter().find(|program| {
        !["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists())
    });
    missing.map(|program| format!("{program} is not installed; `cargo xtask setup` as root installs it"))
}

/// Says that a test has nothing to show on this machine. Written past the capture of output, because the test runner counts these
/// lines: a test that was skipped is no test that passed.
pub fn skip(reason: &str) {
    let _a_closed_stream_counts_as_passed = writeln!(std::io::stderr(), "skipped: {reason}");
}
