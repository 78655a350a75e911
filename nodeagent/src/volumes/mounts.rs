//! Which directories a container sees where.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use crate::pod::env::expand;
use crate::runtime::{EnvVar, MountSpec, Propagation};

/// Why a mount cannot be made; the reason of the waiting state is `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The pod has no such volume.
    #[error("volume {name:?} of the mount at {path} does not exist")]
    NoVolume {
        /// The volume.
        name: String,
        /// The mount.
        path: String,
    },
    /// The sub-path leaves the volume.
    #[error("subPath {path:?} leaves its volume")]
    SubPath {
        /// The sub-path.
        path: String,
    },
    /// The sub-path cannot be made.
    #[error("cannot make subPath {path}: {source}")]
    Make {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// Returns a container's mounts; `volumes` are the prepared directories by volume name.
///
/// # Errors
/// When a volume is not there or a sub-path is not safe.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    env: &[EnvVar],
    hosts_file: Option<&Path>,
) -> Result<Vec<MountSpec>, MountError> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&mount.name).ok_or_else(|| MountError::NoVolume {
            name: mount.name.clone(),
            path: mount.mount_path.clone(),
        })?;
        let value = |name: &str| env.iter().find(|item| item.name == name).map(|item| item.value.as_str());
        let sub_path =
            mount.sub_path.clone().or_else(|| mount.sub_path_expr.as_ref().map(|text| expand(text, value)));
        let host_path = match sub_path.filter(|path| !path.is_empty()) {
            Some(path) => below(volume, &path)?,
            None => volume.clone(),
        };
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        };
        let writable = mount.read_only != Some(true);
        mounts.push(MountSpec { container_path: mount.mount_path.clone(), host_path, writable, propagation });
    }
    let hosts_path = "/etc/hosts";
    if let Some(file) = hosts_file
        && mounts.iter().all(|mount| mount.container_path != hosts_path)
    {
        let (container_path, host_path) = (hosts_path.to_owned(), file.to_owned());
        mounts.push(MountSpec {
            container_path,
            host_path,
            writable: true,
            propagation: Propagation::Private,
        });
    }
    Ok(mounts)
}

/// Returns a sub-path of a volume, made as a directory when it is missing. A link that leads outside is refused; a container
/// that swaps a directory for a link between this check and the mount is not yet guarded against.
fn below(volume: &Path, path: &str) -> Result<PathBuf, MountError> {
    let outside = || MountError::SubPath { path: path.to_owned() };
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let target = volume.join(path);
    let make = |source| MountError::Make { path: target.clone(), source };
    if !target.exists() {
        std::fs::create_dir_all(&target).map_err(make)?;
    }
    let real = target.canonicalize().map_err(make)?;
    let root = volume.canonicalize().map_err(make)?;
    if real.starts_with(root) { Ok(real) } else { Err(outside()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        assert!(below(dir.path(), "a/b").unwrap().ends_with("a/b"));
        for path in ["../x", "/etc", "out"] {
            assert!(below(dir.path(), path).is_err(), "{path}");
        }
    }
}
