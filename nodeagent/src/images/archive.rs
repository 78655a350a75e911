//! Reads the index of an image archive: which format it has and which image names it brings.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Largest index document that is read: real ones have a few kilobytes, so anything near this is not an index.
const INDEX_BYTES_MAX: u64 = 4 << 20;
/// Image names in an OCI layout, most specific annotation first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Why a file is not an image archive that can be imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The archive.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file is not a tar file, or has neither index.
    #[error("{path} is neither a docker-archive (no manifest.json) nor an OCI layout (no index.json)")]
    Unknown {
        /// The archive.
        path: PathBuf,
    },
    /// The index is not what its format says.
    #[error("{path}: {entry} is not valid: {source}")]
    Index {
        /// The archive.
        path: PathBuf,
        /// Which document.
        entry: &'static str,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// No image in the archive has a name, so no pod could ever use it.
    #[error("{path} names no image; save it with a name, for example `docker save -o FILE NAME:TAG`")]
    Nameless {
        /// The archive.
        path: PathBuf,
    },
}

/// Formats of image archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// What `docker save` writes.
    Docker,
    /// An OCI image layout in a tar file.
    Oci,
}

/// What an archive brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// Its format.
    pub kind: ArchiveKind,
    /// Image names with tags, as the archive spells them.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct DockerEntry {
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct OciIndex {
    #[serde(default)]
    manifests: Vec<OciDescriptor>,
}

#[derive(Deserialize)]
struct OciDescriptor {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl OciDescriptor {
    fn name(&self) -> Option<String> {
        NAME_ANNOTATIONS.iter().find_map(|key| self.annotations.get(*key)).cloned()
    }
}

/// Returns format and names of an archive.
///
/// # Errors
/// When the file cannot be read, is no image archive, or names no image.
pub fn inspect(path: &Path) -> Result<ArchiveInfo, ArchiveError> {
    let read = |source| ArchiveError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    if file.metadata().map_err(read)?.is_dir() {
        return Err(read(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let Some((kind, document)) = find_index(file) else {
        return Err(ArchiveError::Unknown { path: path.to_owned() });
    };
    let names = names(kind, &document).map_err(|source| {
        let entry = match kind {
            ArchiveKind::Docker => "manifest.json",
            ArchiveKind::Oci => "index.json",
        };
        ArchiveError::Index { path: path.to_owned(), entry, source }
    })?;
    if names.is_empty() {
        return Err(ArchiveError::Nameless { path: path.to_owned() });
    }
    Ok(ArchiveInfo { kind, names })
}

/// Finds the index document. docker's newer archives hold both; its own manifest is the one with full names.
fn find_index(file: File) -> Option<(ArchiveKind, Vec<u8>)> {
    let mut archive = tar::Archive::new(file);
    let mut found = None;
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        let name = entry.path().ok()?.to_string_lossy().trim_start_matches("./").to_owned();
        let kind = match name.as_str() {
            "manifest.json" => ArchiveKind::Docker,
            "index.json" => ArchiveKind::Oci,
            _ => continue,
        };
        let mut document = Vec::new();
        entry.take(INDEX_BYTES_MAX).read_to_end(&mut document).ok()?;
        if kind == ArchiveKind::Docker {
            return Some((kind, document));
        }
        found = Some((kind, document));
    }
    found
}

fn names(kind: ArchiveKind, document: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    match kind {
        ArchiveKind::Docker => {
            let entries: Vec<DockerEntry> = serde_json::from_slice(document)?;
            Ok(entries.into_iter().flat_map(|entry| entry.repo_tags.unwrap_or_default()).collect())
        }
        ArchiveKind::Oci => {
            let index: OciIndex = serde_json::from_slice(document)?;
            Ok(index.manifests.iter().filter_map(OciDescriptor::name).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::pack;

    #[test]
    fn both_formats_are_recognised_with_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for (format, kind) in
            [(pack::Format::Docker, ArchiveKind::Docker), (pack::Format::Oci, ArchiveKind::Oci)]
        {
            let path = dir.path().join("image.tar");
            let image = pack::Image::empty("localhost/nothing:1");
            std::fs::write(&path, image.to_archive(format).unwrap()).unwrap();
            let expected = ArchiveInfo { kind, names: vec!["localhost/nothing:1".to_owned()] };
            assert_eq!(inspect(&path).unwrap(), expected);
        }
    }

    #[test]
    fn other_files_get_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        std::fs::write(&path, "not a tar file").unwrap();
        let message = inspect(&path).unwrap_err().to_string();
        assert!(message.contains("neither a docker-archive"), "{message}");
        assert!(inspect(dir.path()).unwrap_err().to_string().contains("cannot read"));
    }
}
