//! Files that a crash leaves whole: the old one or the new one, never half of it; secrets are never readable by others, not for a moment.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces a file that everybody may read.
///
/// # Errors
/// When the file cannot be written, synced or put in place; the old one is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, 0o644)
}

/// Replaces a file that only its owner may read: a key, a token, a kubeconfig.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        // One that a crash left behind keeps its mode when it is opened again, so it goes first.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_its_owners_even_over_what_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(path.with_extension("partial"), "half").unwrap();
        super::write_secret(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("partial").exists());
    }
}
