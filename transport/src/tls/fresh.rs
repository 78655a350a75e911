//! What was made of files, made anew once these have changed: certificates are renewed while connections are open.
//!
//! Whoever asks looks at the files, at most once a second, so there is no task to own. A kubelet swaps a link and cert-manager
//! renames a file: times, lengths and inodes tell both.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::pem::{Pem, TlsError};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Inode, length, seconds and nanoseconds of the last change; `None` of a file that is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Something that is made of PEM text.
pub(super) struct Fresh<T, S> {
    source: S,
    make: fn(&S) -> Result<T, TlsError>,
    files: Vec<PathBuf>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

struct Seen {
    looked_at: Instant,
    stamps: Vec<Stamp>,
}

impl<T, S> Fresh<T, S> {
    /// Makes it for the first time; `pems` are what `make` reads.
    pub(super) fn new(
        source: S,
        pems: fn(&S) -> Vec<Option<&Pem>>,
        make: fn(&S) -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let files: Vec<PathBuf> = pems(&source).into_iter().flatten().filter_map(Pem::file).collect();
        // Before they are read: what changes meanwhile is seen as a change.
        let seen = Seen { looked_at: Instant::now(), stamps: stamps(&files) };
        let current = ArcSwap::from_pointee(make(&source)?);
        Ok(Self { source, make, files, current, seen: Mutex::new(seen) })
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// Returns it as the files say now. While they cannot be used, it is what it was.
    pub(super) fn get(&self) -> Arc<T> {
        if !self.files.is_empty() {
            self.look(Instant::now());
        }
        self.current.load_full()
    }

    fn look(&self, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(seen.looked_at) < LOOK_INTERVAL {
            return;
        }
        seen.looked_at = now;
        let stamps = stamps(&self.files);
        if stamps == seen.stamps {
            return;
        }
        // A key may come a moment after its certificate: the next change is another try.
        seen.stamps = stamps;
        match (self.make)(&self.source) {
            Ok(made) => {
                self.current.store(Arc::new(made));
                info!(files = ?self.files, "certificates were read anew");
            }
            Err(error) => warn!(%error, files = ?self.files, "changed certificates cannot be used"),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_are_read_again_and_broken_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let read = |pem: &Pem| match String::from_utf8(pem.load()?) {
            Ok(text) if text != "broken" => Ok(text),
            Ok(reason) => Err(TlsError::Pem { what: "it", reason }),
            Err(error) => Err(TlsError::Pem { what: "it", reason: error.to_string() }),
        };
        write("one");
        let fresh = Fresh::new(Pem::File(file.clone()), |pem| vec![Some(pem)], read).unwrap();
        let start = Instant::now();
        let mut looks = (1..).map(|number| fresh.look(start + LOOK_INTERVAL * 2 * number));
        for (content, expected) in
            [("two", "two"), ("broken", "two"), ("three", "three"), ("broken", "three"), ("four", "four")]
        {
            write(content);
            looks.next();
            assert_eq!(*fresh.current.load_full(), expected, "{content}");
        }
        std::fs::remove_file(&file).unwrap();
        looks.next();
        assert_eq!(*fresh.current.load_full(), "four", "the file is not there");
        write("five");
        fresh.look(start);
        assert_eq!(*fresh.current.load_full(), "four", "it is too soon to look");
        looks.next();
        assert_eq!(*fresh.current.load_full(), "five");
    }
}
