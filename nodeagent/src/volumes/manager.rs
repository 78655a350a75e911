//! Makes and removes the directories of a pod's volumes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::{ApiError, Client, Token, TokenRequest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, Pod, ProjectedVolumeSource,
    Secret, SecretVolumeSource, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::atomic_writer::{self, File, Files};
use super::payload::{self, DEFAULT_MODE, mode};
use super::references::get;
use crate::pod::env::{EnvError, Facts};

/// Lifetime of a token where the volume names none (the API's default).
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// A token is replaced when less than this share of its life is left (upstream: 20 %).
const TOKEN_REFRESH_SHARE: u32 = 5;
/// A token older than this is replaced whatever its lifetime (upstream: 24 h).
const TOKEN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a volume is not there; the pod waits and it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A ConfigMap or Secret does not exist.
    #[error("MountVolume.SetUp failed for volume {volume:?}: {kind} {name:?} not found")]
    NoObject {
        /// The volume.
        volume: String,
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object.
        name: String,
    },
    /// It lacks a key.
    #[error(
        "MountVolume.SetUp failed for volume {volume:?}: references non-existent key {key:?} of {name:?}"
    )]
    NoKey {
        /// The volume.
        volume: String,
        /// The object.
        name: String,
        /// The key.
        key: String,
    },
    /// A host path is not what the volume asks for.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    HostPath {
        /// The path.
        path: String,
        /// The type.
        wanted: String,
    },
    /// The volume's kind is not known here.
    #[error("volume {volume:?} has a type that this agent does not support yet")]
    Unsupported {
        /// The volume.
        volume: String,
    },
    /// A downward API field is not known.
    #[error(transparent)]
    Field(#[from] EnvError),
    /// The API did not answer.
    #[error("volume {volume:?}: {source}")]
    Api {
        /// The volume.
        volume: String,
        /// The API's error.
        source: ApiError,
    },
    /// A file or mount could not be made.
    #[error("volume {volume:?} at {path}: {source}")]
    Io {
        /// The volume.
        volume: String,
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TokenKey {
    pod_uid: String,
    volume: String,
    path: String,
}

#[derive(Clone)]
struct HeldToken {
    token: Token,
    taken_at: Timestamp,
}

/// The volumes of one node.
pub struct Volumes {
    root: PathBuf,
    client: Client,
    tokens: Mutex<BTreeMap<TokenKey, HeldToken>>,
}

impl std::fmt::Debug for Volumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volumes").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Volumes {
    /// Returns the volumes below a directory.
    #[must_use]
    pub fn new(root: PathBuf, client: Client) -> Self {
        Self { root, client, tokens: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the directory of a pod's files.
    #[must_use]
    pub fn pod_directory(&self, uid: &str) -> PathBuf {
        self.root.join(uid)
    }

    /// Makes every volume of the pod equal to what the API says, and returns the directories by volume name.
    ///
    /// # Errors
    /// The first volume that cannot be made.
    pub async fn prepare(
        &self,
        pod: &Pod,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
        let mut directories = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let directory = self.volume(pod, volume, facts, now).await?;
            directories.insert(volume.name.clone(), directory);
        }
        Ok(directories)
    }

    /// Writes the pod's hosts file and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_hosts(&self, uid: &str, text: &str) -> Result<PathBuf, VolumeError> {
        let directory = self.pod_directory(uid);
        let path = directory.join("etc-hosts");
        let written = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text));
        written.map_err(|source| VolumeError::Io {
            volume: "hosts file".to_owned(),
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Removes everything of a pod; its containers must be gone.
    ///
    /// # Errors
    /// When a mount is busy or a file cannot be removed; repeats are fine.
    pub fn remove(&self, uid: &str) -> Result<(), VolumeError> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| key.pod_uid != uid);
        let directory = self.pod_directory(uid);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| VolumeError::Io { volume: uid.to_owned(), path, source }
        };
        for path in mounts_below(&directory) {
            umount2(&path, MntFlags::MNT_DETACH).map_err(io::Error::from).map_err(failed(&path))?;
        }
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&directory)(error)),
            _ => Ok(()),
        }
    }

    /// Unmounts what lies in memory, before the node stops; the directories stay for the next start.
    pub fn unmount_all(&self) {
        for path in mounts_below(&self.root) {
            if let Err(error) = umount2(&path, MntFlags::MNT_DETACH) {
                tracing::warn!(%error, path = %path.display(), "mount stays");
            }
        }
    }

    /// Returns the uids of all pods that have files here.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    async fn volume(
        &self,
        pod: &Pod,
        volume: &Volume,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<PathBuf, VolumeError> {
        if let Some(host_path) = &volume.host_path {
            return make_host_path(volume, host_path);
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let directory = self.pod_directory(uid).join("volumes").join(&volume.name);
        if let Some(empty) = &volume.empty_dir {
            make_empty(volume, &directory, empty, fs_group(pod))?;
            return Ok(directory);
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut files = Files::new();
        if let Some(source) = &volume.config_map {
            self.config_map(&mut files, namespace, volume, source).await?;
        } else if let Some(source) = &volume.secret {
            self.secret(&mut files, namespace, volume, source).await?;
        } else if let Some(source) = &volume.downward_api {
            let default_mode = mode(source.default_mode, DEFAULT_MODE);
            let items = source.items.as_deref().unwrap_or_default();
            payload::add_downward(&mut files, pod, items, default_mode, facts)?;
        } else if let Some(source) = &volume.projected {
            self.projected(&mut files, pod, volume, source, facts, now).await?;
        } else {
            return Err(VolumeError::Unsupported { volume: volume.name.clone() });
        }
        let written = atomic_writer::write(&directory, &files);
        written.map_err(|source| io_error(volume, &directory, source))?;
        Ok(directory)
    }

    async fn config_map(
        &self,
        files: &mut Files,
        namespace: &str,
        volume: &Volume,
        source: &ConfigMapVolumeSource,
    ) -> Result<(), VolumeError> {
        let optional = source.optional == Some(true);
        let object =
            get::<ConfigMap>(&self.client, namespace, &source.name).await.map_err(api_error(volume))?;
        let data = object.as_ref().map(payload::config_map);
        let request = Request { volume, kind: "configmap", name: &source.name, optional };
        request.add(files, data, source.items.as_deref(), mode(source.default_mode, DEFAULT_MODE))
    }

    async fn secret(
        &self,
        files: &mut Files,
        namespace: &str,
        volume: &Volume,
        source: &SecretVolumeSource,
    ) -> Result<(), VolumeError> {
        let optional = source.optional == Some(true);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let object = get::<Secret>(&self.client, namespace, name).await.map_err(api_error(volume))?;
        let data = object.as_ref().map(payload::secret);
        let request = Request { volume, kind: "secret", name, optional };
        request.add(files, data, source.items.as_deref(), mode(source.default_mode, DEFAULT_MODE))
    }

    async fn projected(
        &self,
        files: &mut Files,
        pod: &Pod,
        volume: &Volume,
        source: &ProjectedVolumeSource,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        let default_mode = mode(source.default_mode, DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            if let Some(token) = &projection.service_account_token {
                let text = self.token(pod, volume, token, now).await?;
                files.insert(token.path.clone(), File { bytes: text.into_bytes(), mode: default_mode });
            } else if let Some(downward) = &projection.downward_api {
                let items = downward.items.as_deref().unwrap_or_default();
                payload::add_downward(files, pod, items, default_mode, facts)?;
            } else {
                self.projected_object(files, pod, volume, projection, default_mode).await?;
            }
        }
        Ok(())
    }

    async fn projected_object(
        &self,
        files: &mut Files,
        pod: &Pod,
        volume: &Volume,
        projection: &VolumeProjection,
        default_mode: u32,
    ) -> Result<(), VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(source) = &projection.config_map {
            let object =
                get::<ConfigMap>(&self.client, namespace, &source.name).await.map_err(api_error(volume))?;
            let data = object.as_ref().map(payload::config_map);
            let optional = source.optional == Some(true);
            let request = Request { volume, kind: "configmap", name: &source.name, optional };
            return request.add(files, data, source.items.as_deref(), default_mode);
        }
        if let Some(source) = &projection.secret {
            let object =
                get::<Secret>(&self.client, namespace, &source.name).await.map_err(api_error(volume))?;
            let data = object.as_ref().map(payload::secret);
            let optional = source.optional == Some(true);
            let request = Request { volume, kind: "secret", name: &source.name, optional };
            return request.add(files, data, source.items.as_deref(), default_mode);
        }
        Err(VolumeError::Unsupported { volume: volume.name.clone() })
    }

    /// Returns a valid token bound to the pod, asking for a new one when the held one grows old.
    async fn token(
        &self,
        pod: &Pod,
        volume: &Volume,
        source: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<String, VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = TokenKey { pod_uid: uid.clone(), volume: volume.name.clone(), path: source.path.clone() };
        let held = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(held) = held.filter(|held| !is_old(held, now)) {
            return Ok(held.token.token);
        }
        let seconds = source.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let service_account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let request = TokenRequest {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            service_account: service_account.unwrap_or_else(|| "default".to_owned()),
            audiences: source.audience.clone().into_iter().collect(),
            expiration: seconds.map_or(TOKEN_LIFETIME, Duration::from_secs),
            bound_kind: "Pod".to_owned(),
            bound_name: pod.metadata.name.clone().unwrap_or_default(),
            bound_uid: uid,
        };
        let token = self.client.create_token(request).await.map_err(api_error(volume))?;
        let text = token.token.clone();
        let held = HeldToken { token, taken_at: now };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, held);
        Ok(text)
    }
}

fn is_old(held: &HeldToken, now: Timestamp) -> bool {
    let life = Duration::try_from(held.token.expires_at.duration_since(held.taken_at)).unwrap_or_default();
    let age = Duration::try_from(now.duration_since(held.taken_at)).unwrap_or_default();
    age > TOKEN_AGE_MAX || age > life.saturating_sub(life / TOKEN_REFRESH_SHARE)
}

/// One object that a volume asks for.
struct Request<'a> {
    volume: &'a Volume,
    kind: &'static str,
    name: &'a str,
    optional: bool,
}

impl Request<'_> {
    fn add(
        &self,
        files: &mut Files,
        data: Option<payload::Data>,
        items: Option<&[k8s_openapi::api::core::v1::KeyToPath]>,
        default_mode: u32,
    ) -> Result<(), VolumeError> {
        let volume = self.volume.name.clone();
        let name = self.name.to_owned();
        match data {
            Some(data) => match payload::add(files, &data, items, default_mode, self.optional) {
                Some(key) => Err(VolumeError::NoKey { volume, name, key }),
                None => Ok(()),
            },
            None if self.optional => Ok(()),
            None => Err(VolumeError::NoObject { volume, kind: self.kind, name }),
        }
    }
}

fn api_error(volume: &Volume) -> impl FnOnce(ApiError) -> VolumeError {
    let volume = volume.name.clone();
    move |source| VolumeError::Api { volume, source }
}

fn io_error(volume: &Volume, path: &Path, source: io::Error) -> VolumeError {
    VolumeError::Io { volume: volume.name.clone(), path: path.to_owned(), source }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

fn make_empty(
    volume: &Volume,
    directory: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
) -> Result<(), VolumeError> {
    let failed = |source| io_error(volume, directory, source);
    fs::create_dir_all(directory).map_err(failed)?;
    if source.medium.as_deref() == Some("Memory") && mounts_below(directory).is_empty() {
        let limit: Option<proto::api::quantity::Quantity> =
            source.size_limit.as_ref().and_then(|limit| limit.0.parse().ok());
        let options =
            limit.map_or_else(|| "mode=0777".to_owned(), |limit| format!("mode=0777,size={}", limit.units()));
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(io::Error::from)
            .map_err(failed)?;
    }
    // Any user of the pod may write; with a group its files also belong to the group.
    let permissions = if group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = group {
        chown(directory, None, Some(group)).map_err(failed)?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(permissions)).map_err(failed)
}

fn make_host_path(volume: &Volume, source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = Path::new(&source.path);
    let failed = |source| io_error(volume, path, source);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => fs::create_dir_all(path).map_err(failed)?,
        "FileOrCreate" if !path.exists() => drop(fs::File::create(path).map_err(failed)?),
        _ => {}
    }
    let fits = match kind {
        "Directory" | "DirectoryOrCreate" => path.is_dir(),
        "File" | "FileOrCreate" => path.is_file(),
        _ => true,
    };
    if fits {
        return Ok(path.to_owned());
    }
    Err(VolumeError::HostPath { path: source.path.clone(), wanted: kind.to_owned() })
}

/// Returns the mount points at or below a directory, deepest first.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let targets = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = targets.filter(|target| target.starts_with(directory)).collect();
    below.sort();
    below.reverse();
    below
}
