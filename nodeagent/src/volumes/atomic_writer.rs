//! Replaces the files of a directory at once: readers see all old or all new ones.
//!
//! Layout, as programs in containers know it: `NAME -> ..data/NAME`, `..data -> ..<generation>`, and the files in the directory
//! of their generation. One rename of `..data` is the change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// Files by relative path.
pub(super) type Files = BTreeMap<String, File>;

/// Makes `directory` hold exactly `files`; does nothing when it already does.
pub(super) fn write(directory: &Path, files: &Files) -> io::Result<()> {
    if let Some(path) = files.keys().find(|path| !is_inside(path)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path {path:?} leaves its volume")));
    }
    fs::create_dir_all(directory)?;
    if holds(&directory.join(DATA), files)? {
        return Ok(());
    }
    let generation = format!("..{}", uuid::Uuid::new_v4().simple());
    let new = directory.join(&generation);
    fs::create_dir(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let target = new.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.bytes)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
    }
    let old = fs::read_link(directory.join(DATA)).ok();
    let link = directory.join(DATA_NEW);
    remove_if_there(&link)?;
    symlink(&generation, &link)?;
    fs::rename(&link, directory.join(DATA))?;
    link_names(directory, files)?;
    match old {
        Some(old) => fs::remove_dir_all(directory.join(old)),
        None => Ok(()),
    }
}

/// Reports whether a path stays below its directory and does not clash with the writer's own names.
fn is_inside(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    plain && !path.is_empty() && !path.starts_with("..")
}

fn holds(data: &Path, files: &Files) -> io::Result<bool> {
    if !data.exists() {
        return Ok(false);
    }
    let mut found = BTreeSet::new();
    list(data, Path::new(""), &mut found)?;
    let wanted: BTreeSet<PathBuf> = files.keys().map(PathBuf::from).collect();
    if found != wanted {
        return Ok(false);
    }
    for (path, file) in files {
        let at = data.join(path);
        let mode = fs::metadata(&at)?.permissions().mode() & 0o7777;
        if mode != file.mode || fs::read(&at)? != file.bytes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// Links each first path component, and removes links to what is gone.
fn link_names(directory: &Path, files: &Files) -> io::Result<()> {
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(name.as_ref()) {
            fs::remove_file(directory.join(name.as_ref()))?;
        }
    }
    for name in names {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o644 };
        pairs.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn changes_appear_through_one_link() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1"), ("d/b", "2")])).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        let before = fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &files(&[("a", "1"), ("d/b", "2")])).unwrap();
        assert_eq!(
            fs::read_link(dir.path().join(DATA)).unwrap(),
            before,
            "nothing changed, nothing is written"
        );
        write(dir.path(), &files(&[("a", "3")])).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists());
        assert!(!dir.path().join(before).exists(), "the old generation is removed");
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/x", "..data", "a/../../b", ""] {
            assert!(write(dir.path(), &files(&[(path, "1")])).is_err(), "{path}");
        }
    }
}
