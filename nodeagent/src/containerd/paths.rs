//! Where everything of one agent's containerd lives, derived from its data directory alone.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Sockets and mounts live here: socket paths are limited to 107 bytes, which a long data directory would pass.
const RUN_ROOT: &str = "/run/keelson";

/// The places of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    data: PathBuf,
    id: String,
}

impl Paths {
    /// Returns the places for a data directory (which need not exist yet).
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let data = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        let data = data.canonicalize().unwrap_or(data);
        let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
        let id = hex::encode(digest).chars().take(8).collect();
        Self { data, id }
    }

    /// Returns the 8-hex id of the data directory, which every kernel name carries.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the agent's data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the directory of sockets, pid file and mounts; it is empty after a reboot.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        Path::new(RUN_ROOT).join(&self.id)
    }

    /// Returns containerd's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("containerd.sock")
    }

    /// Returns the socket on which the agent answers its network plugin.
    #[must_use]
    pub fn cni_socket(&self) -> PathBuf {
        self.run().join("cni.sock")
    }

    /// Returns containerd's state directory: bundles and mounts of what runs now.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.run().join("state")
    }

    /// Returns containerd's root: images and snapshots.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.data.join("containerd")
    }

    /// Returns the file with containerd's pid and start time.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.run().join("containerd.pid")
    }

    /// Returns containerd's configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.data.join("containerd.toml")
    }

    /// Returns containerd's own log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.data.join("containerd.log")
    }

    /// Returns the directory with the network plugin's links.
    #[must_use]
    pub fn cni_bin(&self) -> PathBuf {
        self.data.join("cni").join("bin")
    }

    /// Returns the directory with the network configuration.
    #[must_use]
    pub fn cni_conf(&self) -> PathBuf {
        self.data.join("cni").join("conf")
    }

    /// Returns the cgroup below which all pods of this agent live, relative to each hierarchy's root.
    #[must_use]
    pub fn cgroup_prefix(&self) -> String {
        format!("/keelson-{}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_stay_short_however_deep_the_data_directory_is() {
        let paths = Paths::new(Path::new(&format!("/{}", "deep/".repeat(100))));
        assert!(paths.socket().as_os_str().len() < 100);
        assert_eq!(paths.id().len(), 8);
    }

    #[test]
    fn two_directories_share_no_name() {
        assert_ne!(Paths::new(Path::new("/a")).id(), Paths::new(Path::new("/b")).id());
    }
}
