//! The programs that talk to the kernel: `ip` for links, addresses and routes, `nft` for packet rules.
//!
//! Blocking on purpose: callers stand on a thread inside the right namespace ([`crate::network::Netns::run`]).

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::network::NetworkError;

/// Longest part of a program's complaint that an error carries.
const MESSAGE_BYTES_MAX: usize = 500;

/// Runs `ip` commands in order; the first that fails ends the batch.
pub(super) fn ip_batch(lines: &[String]) -> Result<(), NetworkError> {
    if lines.is_empty() {
        return Ok(());
    }
    run("ip", &["-4", "-batch", "-"], &lines.join("\n")).map(drop)
}

/// Runs one `ip` command and returns what it printed.
pub(super) fn ip(args: &[&str]) -> Result<String, NetworkError> {
    run("ip", args, "")
}

/// Runs one `ip` query and returns its JSON answer.
pub(super) fn ip_json(args: &[&str]) -> Result<Vec<serde_json::Value>, NetworkError> {
    let text = ip(args)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|_| NetworkError::Answer { program: "ip", answer: shorten(&text) })
}

/// Applies one `nft` script as one transaction: all of it or nothing.
pub(crate) fn run_nft(script: &str) -> Result<(), NetworkError> {
    run("nft", &["-f", "-"], script).map(drop)
}

/// Returns the names of the packet filter's IPv4 tables.
pub(super) fn nft_tables() -> Result<Vec<String>, NetworkError> {
    let listing = run("nft", &["list", "tables", "ip"], "")?;
    Ok(listing.lines().filter_map(|line| line.strip_prefix("table ip ")).map(str::to_owned).collect())
}

/// Says what keeps this machine from carrying a pod network, each in a few words; nothing when it can.
#[must_use]
pub fn missing() -> Vec<String> {
    let programs =
        [("ip", "-V", "iproute2"), ("nft", "--version", "nftables"), ("nsenter", "--version", "util-linux")];
    let absent = programs.into_iter().filter(|(program, flag, _)| run(program, &[flag], "").is_err());
    let absent = absent.map(|(program, _, package)| format!("the program `{program}` (package {package})"));
    let root = (!nix::unistd::geteuid().is_root()).then(|| "root rights".to_owned());
    root.into_iter().chain(absent).collect()
}

/// Writes a kernel setting of the calling thread's namespace, such as `net/ipv4/ip_forward`.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value).map_err(|source| NetworkError::Sysctl { path, source })
}

fn run(program: &'static str, args: &[&str], input: &str) -> Result<String, NetworkError> {
    let output =
        communicate(program, args, input).map_err(|source| NetworkError::Start { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = shorten(&String::from_utf8_lossy(&output.stderr));
    Err(NetworkError::Refused { program, message })
}

fn communicate(program: &str, args: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // A program that complains early stops reading: writing and reading must not wait for each other.
        let writer =
            scope.spawn(move || stdin.as_mut().map_or(Ok(()), |pipe| pipe.write_all(input.as_bytes())));
        let output = child.wait_with_output()?;
        match writer.join() {
            Ok(Err(error)) if output.status.success() => Err(error),
            _ => Ok(output),
        }
    })
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    let end =
        text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MESSAGE_BYTES_MAX).last().unwrap_or(0);
    if end < MESSAGE_BYTES_MAX { text.to_owned() } else { text.get(..end).unwrap_or(text).to_owned() }
}
