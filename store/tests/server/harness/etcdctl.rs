//! Debian's `etcdctl`: what a person types, what they see.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{PATIENCE, skip};

/// etcdctl with the flags of every call.
pub struct Etcdctl {
    flags: Vec<String>,
}

impl Etcdctl {
    /// Whether it can be run; says so if it cannot.
    pub fn is_installed() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|folder: PathBuf| folder.join("etcdctl").is_file());
        if !found {
            skip("no etcdctl on PATH (`cargo xtask setup` installs it)");
        }
        found
    }

    pub fn at(endpoint: &str) -> Self {
        Self { flags: vec![format!("--endpoints={endpoint}")] }
    }

    /// Adds flags to those of every call.
    pub fn with(&self, flags: &[String]) -> Self {
        Self { flags: [self.flags.as_slice(), flags].concat() }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        // Whoever runs the tests in the background lets them ignore Ctrl-C, and what they start as well.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "etcdctl"])
            .env("ETCDCTL_API", "3")
            .args(&self.flags)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it and returns what it printed, errors included.
    pub async fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        text.concat().trim_end().to_owned()
    }

    pub async fn run_with_input(&self, args: &[&str], input: &str) -> String {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

/// Reads one line that must come soon.
pub async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    line.expect("etcdctl printed nothing").unwrap().expect("etcdctl ended")
}

/// A running etcdctl with the lines that it prints.
pub struct Running {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn start(etcdctl: &Etcdctl, args: &[&str]) -> Self {
        let mut child = etcdctl.command(args).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub async fn next(&mut self) -> String {
        next_line(&mut self.lines).await
    }

    /// Presses Ctrl-C and waits for the end.
    pub async fn interrupt(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("etcdctl went on").unwrap();
    }
}
