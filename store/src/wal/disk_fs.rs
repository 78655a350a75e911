//! The log's directory on a real file system.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::disk::{Disk, FreeSpace, free_bytes, is_full};
use crate::metrics::Counters;

/// Zeros written at once when a file is created.
const ZERO_CHUNK_BYTES: usize = 1024 * 1024;

/// A directory of real files.
#[derive(Debug)]
pub struct FsDisk {
    directory: PathBuf,
    /// Open files by name; the log touches a handful.
    open: Mutex<BTreeMap<String, Arc<File>>>,
    /// File that takes room to be given up in need; outside the directory.
    ballast: Option<PathBuf>,
    counters: Counters,
}

impl FsDisk {
    /// Uses a directory; the first file that is created creates it.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let open = Mutex::new(BTreeMap::new());
        Self { directory: directory.to_owned(), open, ballast: None, counters: Counters::default() }
    }

    /// Says which file may take room that is given up in need.
    pub(crate) fn with_ballast(self, file: PathBuf) -> Self {
        Self { ballast: Some(file), ..self }
    }

    /// Counts with what the rest of the member counts with.
    pub(crate) fn with_counters(self, counters: Counters) -> Self {
        Self { counters, ..self }
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(self.directory.join(name))?);
        open.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn forget(&self, name: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Refuses what cannot fit before it takes the last room from everything else on the disk.
    fn refuse_too_large(&self, size: u64) -> io::Result<()> {
        if free_bytes(&self.directory)? < size { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Makes a file of zeros; no such file is left when that fails.
    fn fill_new(&self, path: &Path, size: u64) -> io::Result<()> {
        self.refuse_too_large(size)?;
        let filled = self.fill(path, size);
        if filled.is_err() {
            // The first error counts; a file that cannot be removed is found and removed at the next start.
            let _ = fs::remove_file(path);
        }
        filled
    }

    fn fill(&self, path: &Path, size: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; ZERO_CHUNK_BYTES];
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(ZERO_CHUNK_BYTES).min(ZERO_CHUNK_BYTES);
            let chunk = zeros.get(..length).unwrap_or(&zeros);
            file.write_all_at(chunk, offset)?;
            offset += u64::try_from(chunk.len()).expect("usize fits in u64");
        }
        file.sync_all()
    }
}

/// Creates a directory where it is missing; its name is durable on return.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    directory.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

impl Disk for FsDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(error),
        };
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, file: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(file)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset + u64::try_from(filled).expect("usize fits in u64");
            match file.read_at(rest, position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        Ok(self.file(file)?.metadata()?.len())
    }

    fn create(&self, file: &str, size: u64) -> io::Result<()> {
        create_directory(&self.directory)?;
        let path = self.directory.join(file);
        let filled = match self.fill_new(&path, size) {
            // Nothing was written that counts, so this may be tried again.
            Err(error) if is_full(&error) && self.give_up_ballast() => self.fill_new(&path, size),
            other => other,
        };
        filled?;
        self.sync_directory()
    }

    fn write(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(file)?.write_all_at(bytes, offset)?;
        self.counters.wal_bytes.inc_by(u64::try_from(bytes.len()).expect("usize fits in u64"));
        Ok(())
    }

    fn sync(&self, file: &str) -> io::Result<()> {
        let began = Instant::now();
        self.file(file)?.sync_data()?;
        self.counters.wal_sync_seconds.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.directory.join(from), self.directory.join(to))?;
        self.sync_directory()
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        self.forget(file);
        fs::remove_file(self.directory.join(file))?;
        self.sync_directory()
    }

    fn free_space(&self) -> FreeSpace {
        FreeSpace::of(&self.directory)
    }

    fn take_ballast(&self, size: u64) -> io::Result<()> {
        let Some(path) = self.ballast.as_ref().filter(|path| !path.exists()) else { return Ok(()) };
        let length = nix::libc::off_t::try_from(size).map_err(io::Error::other)?;
        let taken = File::create(path).and_then(|file| Ok(nix::fcntl::posix_fallocate(&file, 0, length)?));
        if taken.is_err() {
            // It would not hold what it promises.
            let _ = fs::remove_file(path);
        }
        taken
    }

    fn give_up_ballast(&self) -> bool {
        let given_up = self.ballast.as_ref().is_some_and(|path| fs::remove_file(path).is_ok());
        if given_up {
            tracing::warn!(directory = %self.directory.display(), "the disk is nearly full: the ballast was given up");
        }
        given_up
    }
}
