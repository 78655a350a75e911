//! A real etcd of one member, as tests of both sides start it.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// Returns the command of an etcd that serves clients and peers at these URLs, and ends with the test.
pub fn etcd_command(program: &Path, data_dir: &Path, client: &str, peer: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--name", "m", "--data-dir"])
        .arg(data_dir)
        .args(["--listen-client-urls", client, "--advertise-client-urls", client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("m={peer}"), "--bcrypt-cost", "4"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}
