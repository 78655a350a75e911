//! What benchmarks and the differential test compare with: Debian's etcd and the newest etcd that Debian packages; and the tool that
//! counts syncs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cache, on_path, output};

/// Debian's name of etcd's server, and of its newest collection of packages.
const PACKAGE: &str = "etcd-server";
const NEWEST: &str = "unstable";
/// Where the package puts its program.
const PROGRAM: &str = "usr/bin/etcd";

/// Returns the etcd programs that can be had: the installed one, and the newest, which is unpacked but not installed. What
/// cannot be had is said in one line.
pub fn all() -> Result<Vec<PathBuf>> {
    let mut programs = vec![Path::new("/").join(PROGRAM)];
    match newest(&cache()?.join("peers/etcd-newest")) {
        Ok(program) => programs.push(program),
        Err(error) => eprintln!("peers: the newest etcd cannot be had here, the installed one is: {error:#}"),
    }
    Ok(programs)
}

/// Installs the tool that counts syncs; without it the benchmark does not show them.
pub fn sync_counter() {
    if on_path("perf") {
        return;
    }
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["-q", "install", "-y", "--no-install-recommends", "linux-perf"]);
    if let Err(error) = process::run(&mut install) {
        eprintln!("peers: syncs will not be counted: {error:#}");
    }
}

/// Downloads and unpacks the newest package once per machine.
fn newest(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("unpacked");
    let program = unpacked.join(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    eprintln!("peers: fetching the newest etcd that Debian packages, once for this machine");
    let apt = Apt::prepare(folder)?;
    process::run(apt.get().arg("update"))?;
    process::run(apt.get().args(["download", &format!("{PACKAGE}/{NEWEST}")]))?;
    let archives: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    let [archive] = archives.as_slice() else { bail!("{} archives were downloaded", archives.len()) };
    // Unpacked beside its place, so that a broken download is not taken for a program.
    let partial = folder.join("partial");
    process::run(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&partial))?;
    // Another libc than this machine's would show here.
    output(Command::new(partial.join(PROGRAM)).arg("--version"))?;
    fs::rename(&partial, &unpacked)?;
    Ok(program)
}

/// The package manager with lists of its own, so that this machine's stay as they are.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn prepare(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("lists/partial"))?;
        let policy = output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", PACKAGE]))?;
        let source = source(&policy).context("apt does not know where its packages come from")?;
        fs::write(folder.join("sources.list"), format!("deb {source} {NEWEST} main\n"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        let at = |name: &str| self.folder.join(name).display().to_string();
        command.current_dir(&self.folder).arg("-q");
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // Only root may give the download to another user.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Finds the address that this machine's own packages come from: ` 500 ADDRESS SUITE/main ARCHITECTURE Packages`.
fn source(policy: &str) -> Option<&str> {
    let lines = policy.lines().filter(|line| line.trim_end().ends_with(" Packages"));
    lines.filter_map(|line| line.split_whitespace().nth(1)).find(|address| address.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::source;

    #[test]
    fn the_source_is_the_one_that_this_machine_uses() {
        let policy = "etcd-server:\n  Installed: 3.4.23\n  Version table:\n *** 3.4.23 500\n        \
                      500 http://mirror.test/debian bookworm/main amd64 Packages\n        \
                      100 /var/lib/dpkg/status\n";
        assert_eq!(source(policy), Some("http://mirror.test/debian"));
        assert_eq!(source("N: Unable to locate package\n"), None);
    }
}
