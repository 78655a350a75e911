//! Where everything of a cluster lies below its data directory, and whose directory it is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::ports::{self, ServerPorts};
use crate::files::write_atomically;
use crate::outcome::Usage;

/// Version of the marker file; a directory of a newer one is refused.
const MARKER_VERSION: u32 = 1;

/// Folder of image archives that every agent imports when it starts.
const IMAGES: &str = "images";

/// Written first into an empty data directory: says that it is ours and which cluster it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub version: u32,
    /// Eight hex digits that every kernel name of this cluster carries.
    pub id: String,
    /// Ports of each server, kept for the life of the cluster.
    pub servers: Vec<ServerPorts>,
}

/// The files and folders of one cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Returns the layout below `root`, without touching the disk.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Whether the directory holds a cluster already.
    pub fn is_claimed(&self) -> bool {
        self.marker().exists()
    }

    /// Claims the directory: reads its marker, or writes one into an empty directory.
    ///
    /// # Errors
    /// [`Usage`] when the directory holds something else, was made by a newer version, or has another server count.
    pub fn claim(&self, servers: u32) -> Result<Marker> {
        let path = self.marker();
        match fs::read(&path) {
            Ok(bytes) => self.check(&bytes, servers),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.create_marker(servers),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn check(&self, bytes: &[u8], servers: u32) -> Result<Marker> {
        let root = self.root.display();
        let marker: Marker = serde_json::from_slice(bytes).map_err(|error| {
            Usage(format!("{root}/keelson.json is damaged ({error}); restore it or use another --data-dir"))
        })?;
        if marker.version > MARKER_VERSION {
            let version = marker.version;
            return Err(Usage(format!(
                "{root} was made by a newer Keelson (layout {version}); upgrade the binary"
            ))
            .into());
        }
        let made_with = u32::try_from(marker.servers.len()).unwrap_or(u32::MAX);
        if made_with != servers {
            return Err(Usage(format!(
                "{root} holds a cluster of {made_with} servers, not {servers}; start it with --servers {made_with} or use another --data-dir"
            ))
            .into());
        }
        Ok(marker)
    }

    fn create_marker(&self, servers: u32) -> Result<Marker> {
        let root = self.root.display();
        let is_foreign = match fs::read_dir(&self.root) {
            // Archives may wait there for the first start.
            Ok(entries) => entries.flatten().any(|entry| entry.file_name() != IMAGES),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => {
                return Err(Usage(format!("{root} cannot be used as data directory: {error}")).into());
            }
        };
        if is_foreign {
            return Err(Usage(format!(
                "{root} is not empty and holds no Keelson cluster; choose another --data-dir"
            ))
            .into());
        }
        let id = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
        let marker = Marker { version: MARKER_VERSION, id, servers: ports::choose(servers)? };
        fs::create_dir_all(self.root.join("run")).with_context(|| format!("cannot create {root}"))?;
        fs::create_dir_all(self.root.join("logs"))?;
        write_atomically(&self.marker(), &serde_json::to_vec_pretty(&marker)?)?;
        Ok(marker)
    }

    /// Takes the lock of a process name; a second cluster on the same directory is refused.
    ///
    /// # Errors
    /// [`Usage`] when a live process holds it.
    pub fn lock(&self, name: &str) -> Result<ProcessLock> {
        let path = self.pid_file(name);
        let file = fs::File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
        if file.try_lock().is_err() {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let root = self.root.display();
            return Err(Usage(format!(
                "{root} is in use by process {}; stop it with `keelson down --data-dir {root}`",
                holder.trim()
            ))
            .into());
        }
        file.set_len(0)?;
        writeln!(&file, "{}", std::process::id())?;
        Ok(ProcessLock { path, _file: file })
    }

    fn marker(&self) -> PathBuf {
        self.root.join("keelson.json")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    /// Data of one process, for example `server-1`.
    pub fn process(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn pid_file(&self, name: &str) -> PathBuf {
        self.root.join("run").join(format!("{name}.pid"))
    }

    pub fn log_file(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// Names of the agents that have data here.
    pub fn agents(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in
            fs::read_dir(&self.root).with_context(|| format!("cannot read {}", self.root.display()))?
        {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("agent-") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Says which process runs the cluster; given back when dropped, and by the kernel when the process dies.
pub struct ProcessLock {
    path: PathBuf,
    _file: fs::File,
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // A file left behind is harmless: the lock, not the file, says who runs.
        let _left_behind = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::{Layout, Usage};

    fn usage(result: anyhow::Result<super::Marker>) -> String {
        result.unwrap_err().downcast::<Usage>().unwrap().0
    }

    #[test]
    fn an_empty_directory_is_claimed_once_and_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("data"));
        let first = layout.claim(3).unwrap();
        assert_eq!(first.id.len(), 8);
        assert_eq!(layout.claim(3).unwrap(), first);
    }

    #[test]
    fn a_foreign_directory_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
        assert!(usage(Layout::new(folder.path()).claim(1)).contains("holds no Keelson cluster"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_server_count_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("data"));
        layout.claim(3).unwrap();
        assert!(usage(layout.claim(1)).contains("--servers 3"));
    }
}
