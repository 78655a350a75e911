//! The engines of a data directory: RocksDB directories behind a pointer file, and memory for the simulator.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::spare_room::{SpareRoom, Sparing};
use super::{Engines, WriteIndex};
use crate::backup::SPOOL_PREFIX;
use crate::directory::{Directory, StoredDivergence};
use crate::engine::{Engine, EngineError, MemoryEngine, RocksEngine, RocksOptions};
use crate::wal::disk_fs::create_directory;

/// Names the current engine's directory; replaced by rename, so it names a whole engine at any time.
const CURRENT: &str = "CURRENT";
/// How the file that holds a saved index is called, behind the number of its engine.
const INDEX: &str = "index";
const INDEX_BUFFER_BYTES: usize = 1 << 20;
/// Number of a member's first engine.
const FIRST: u64 = 1;

/// An engine that may become the current one. Its files go when it is dropped before that.
pub struct Staged {
    number: u64,
    /// `None` once it is being dropped.
    engine: Option<Arc<dyn Engine>>,
    files: Option<PathBuf>,
}

impl Staged {
    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        self.engine.as_ref().expect("it is there until the drop")
    }

    /// From here on its files stay.
    fn keep(mut self) -> u64 {
        self.files = None;
        self.number
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(files) = self.files.take() else { return };
        // Closed before its files go.
        self.engine = None;
        // What cannot be removed now goes at the next start.
        if let Err(error) = fs::remove_dir_all(&files) {
            tracing::warn!(%error, path = %files.display(), "what is left of a snapshot stays until the next start");
        }
    }
}

/// RocksDB engines below one directory.
pub struct FsEngines {
    directory: PathBuf,
    /// The highest number that was given to a staged engine.
    staged: Mutex<u64>,
    /// Every engine that may write holds it, too.
    owner: Option<Arc<Directory>>,
}

impl FsEngines {
    /// Uses `directory`; the first engine that is opened creates it.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), staged: Mutex::new(0), owner: None }
    }

    /// Keeps the data directory locked as long as somebody may write to it.
    pub(crate) fn owning(self, owner: Directory) -> Self {
        Self { owner: Some(Arc::new(owner)), ..self }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}"))
    }

    fn index_path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}.{INDEX}"))
    }

    fn unfinished_index(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}.{INDEX}.tmp"))
    }

    fn failed(&self, error: io::Error) -> EngineError {
        EngineError::io(&self.directory, error)
    }

    fn current(&self) -> Result<Option<u64>, EngineError> {
        match fs::read_to_string(self.directory.join(CURRENT)) {
            Ok(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self
                    .failed(io::Error::new(io::ErrorKind::InvalidData, "its file CURRENT names no engine"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Makes a new empty engine where a cut-short attempt may have left files.
    fn create(&self, number: u64) -> Result<RocksEngine, EngineError> {
        let path = self.path(number);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| self.failed(error))?;
        }
        Ok(RocksEngine::create(&path, RocksOptions::default())?.holding(self.lock()))
    }

    fn lock(&self) -> Option<Arc<dyn Send + Sync>> {
        self.owner.clone().map(|owner| -> Arc<dyn Send + Sync> { owner })
    }

    fn point_to(&self, number: u64) -> io::Result<()> {
        let unfinished = self.directory.join("CURRENT.tmp");
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{number:06}")?;
        file.sync_all()?;
        fs::rename(&unfinished, self.directory.join(CURRENT))?;
        File::open(&self.directory)?.sync_all()
    }

    fn write_index_sparing(&self, room: SpareRoom, write: &mut WriteIndex<'_>) -> io::Result<u64> {
        let current = self.current().map_err(io::Error::other)?.ok_or_else(nothing_current)?;
        let path = self.unfinished_index(current);
        let written = File::create(&path).and_then(|file| {
            let mut out = BufWriter::with_capacity(INDEX_BUFFER_BYTES, Sparing::new(file, room));
            write(&mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.into_inner().sync_all()
        });
        if written.is_err() {
            // Where there is little room it matters more than the file. The first error is the one to tell.
            let _removed = fs::remove_file(&path);
        }
        written.map(|()| current)
    }

    /// Removes engines that are not current: left over from an unfinished snapshot or replaced by one. Their indexes go too, those
    /// that were not finished, and files that were to have no name.
    fn remove_others(&self, current: u64) -> io::Result<()> {
        let index = self.index_path(current);
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(SPOOL_PREFIX) {
                fs::remove_file(entry.path())?;
                continue;
            }
            let number = name.parse::<u64>().ok();
            if entry.file_type()?.is_dir() && number.is_some_and(|number| number != current) {
                fs::remove_dir_all(entry.path())?;
            }
            let is_index = name.split('.').nth(1) == Some(INDEX);
            if entry.file_type()?.is_file() && is_index && entry.path() != index {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Engines for FsEngines {
    fn directory(&self) -> String {
        self.directory.display().to_string()
    }

    fn inspect(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        let Some(current) = self.current()? else { return Ok(None) };
        Ok(Some(Arc::new(RocksEngine::open_read_only(&self.path(current), RocksOptions::default())?)))
    }

    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        create_directory(&self.directory).map_err(|error| self.failed(error))?;
        let Some(current) = self.current()? else {
            // Named last: what it names is a whole database at any time.
            let engine = self.create(FIRST)?;
            self.point_to(FIRST).map_err(|error| self.failed(error))?;
            return Ok(Arc::new(engine));
        };
        self.remove_others(current).map_err(|error| self.failed(error))?;
        let engine = RocksEngine::open(&self.path(current), RocksOptions::default())?;
        Ok(Arc::new(engine.holding(self.lock())))
    }

    fn stage(&self) -> Result<Staged, EngineError> {
        let current = self.current()?.unwrap_or(0);
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may be under way, from a leader that is no more; and the engine before the current one may still have readers.
        let number = current.max(*staged) + 1;
        let engine: Arc<dyn Engine> = Arc::new(self.create(number)?);
        *staged = number;
        Ok(Staged { number, engine: Some(engine), files: Some(self.path(number)) })
    }

    fn scratch(&self) -> Option<PathBuf> {
        Some(self.directory.clone())
    }

    fn abandon(&self, divergence: &StoredDivergence) -> io::Result<()> {
        self.owner.as_ref().map_or(Ok(()), |directory| directory.note_divergence(divergence))
    }

    fn write_index(&self, write: &mut WriteIndex<'_>) -> io::Result<u64> {
        self.write_index_sparing(SpareRoom::of(&self.directory), write)
    }

    fn publish_index(&self, engine: u64) -> io::Result<()> {
        fs::rename(self.unfinished_index(engine), self.index_path(engine))?;
        File::open(&self.directory)?.sync_all()
    }

    fn saved_index(&self) -> io::Result<Option<Box<dyn Read>>> {
        let Some(current) = self.current().map_err(io::Error::other)? else { return Ok(None) };
        match File::open(self.index_path(current)) {
            Ok(file) => Ok(Some(Box::new(BufReader::with_capacity(INDEX_BUFFER_BYTES, file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn promote(&self, staged: Staged) -> Result<(), EngineError> {
        // Also when it fails: the name may be on the disk already.
        self.point_to(staged.keep()).map_err(|error| self.failed(error))
    }
}

fn nothing_current() -> io::Error {
    io::Error::other("there is no engine yet")
}

/// Engines in memory. Clones share them, so they outlive the simulated member that crashes.
#[derive(Clone, Default)]
pub struct SimEngines {
    inner: Arc<Mutex<SimInner>>,
}

/// Called at each point at which saving an index may be cut short, with the point's number, from 1 on. Its error is the disk's.
pub type AtIndexPoint = dyn Fn(u64) -> io::Result<()> + Send + Sync;

#[derive(Default)]
struct SimInner {
    current: MemoryEngine,
    /// Number of the current one.
    number: u64,
    /// Whether it was ever opened; only then there is something to find.
    is_made: bool,
    /// By number, from 1 on; a crash forgets them all.
    staged: BTreeMap<u64, MemoryEngine>,
    staged_last: u64,
    unfinished_index: Vec<u8>,
    /// By number of the engine.
    indexes: BTreeMap<u64, Vec<u8>>,
    index_points: u64,
    at_index_point: Option<Arc<AtIndexPoint>>,
}

impl SimEngines {
    /// Returns engines of another machine that hold the same.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.lock();
        let forked = SimInner {
            current: inner.current.fork(),
            is_made: inner.is_made,
            number: inner.number,
            indexes: inner.indexes.clone(),
            ..SimInner::default()
        };
        Self { inner: Arc::new(Mutex::new(forked)) }
    }

    /// Loses what was not flushed, as a power cut does.
    pub fn crash(&self) {
        self.crash_behind(0);
    }

    /// Loses what was not flushed, but for the first batches: an engine may flush before it is asked to.
    pub fn crash_behind(&self, batches: usize) {
        let mut inner = self.lock();
        inner.current.crash_behind(batches);
        inner.staged.clear();
    }

    /// Returns how many batches were written since the last flush.
    #[must_use]
    pub fn unflushed_batches(&self) -> usize {
        self.lock().current.unflushed_batches()
    }

    /// Has a fault happen while an index is saved.
    pub fn at_index_points(&self, at: Arc<AtIndexPoint>) {
        self.lock().at_index_point = Some(at);
    }

    /// Returns how many points of saving have been passed.
    #[must_use]
    pub fn index_points(&self) -> u64 {
        self.lock().index_points
    }

    /// Changes the saved index of the current engine, as a disk that rots does.
    pub fn damage_index(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        let inner = &mut *self.lock();
        if let Some(index) = inner.indexes.get_mut(&inner.number) {
            damage(index);
        }
    }

    fn lock(&self) -> MutexGuard<'_, SimInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_point(&self) -> io::Result<()> {
        let (number, at) = {
            let mut inner = self.lock();
            inner.index_points += 1;
            (inner.index_points, inner.at_index_point.clone())
        };
        at.map_or(Ok(()), |at| at(number))
    }
}

impl Engines for SimEngines {
    fn directory(&self) -> String {
        "memory".to_owned()
    }

    fn inspect(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        let inner = self.lock();
        let current: Arc<dyn Engine> = Arc::new(inner.current.clone());
        Ok(inner.is_made.then_some(current))
    }

    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let mut inner = self.lock();
        inner.is_made = true;
        Ok(Arc::new(inner.current.clone()))
    }

    fn stage(&self) -> Result<Staged, EngineError> {
        let engine = MemoryEngine::new();
        let mut inner = self.lock();
        inner.staged_last += 1;
        let number = inner.staged_last;
        inner.staged.insert(number, engine.clone());
        Ok(Staged { number, engine: Some(Arc::new(engine)), files: None })
    }

    fn scratch(&self) -> Option<PathBuf> {
        None
    }

    fn write_index(&self, write: &mut WriteIndex<'_>) -> io::Result<u64> {
        let engine = self.lock().number;
        let mut written = Vec::new();
        write(&mut written)?;
        let half = written.iter().take(written.len() / 2).copied().collect();
        self.lock().unfinished_index = half;
        self.index_point()?;
        self.lock().unfinished_index = written;
        self.index_point()?;
        Ok(engine)
    }

    fn publish_index(&self, engine: u64) -> io::Result<()> {
        self.index_point()?;
        {
            let inner = &mut *self.lock();
            inner.indexes.insert(engine, std::mem::take(&mut inner.unfinished_index));
        }
        self.index_point()
    }

    fn saved_index(&self) -> io::Result<Option<Box<dyn Read>>> {
        let inner = self.lock();
        let saved = inner.indexes.get(&inner.number).cloned();
        Ok(saved.map(|saved| -> Box<dyn Read> { Box::new(io::Cursor::new(saved)) }))
    }

    fn promote(&self, staged: Staged) -> Result<(), EngineError> {
        let mut inner = self.lock();
        let crashed = || EngineError::io(Path::new("memory"), io::Error::other("the engine was lost"));
        inner.current = inner.staged.remove(&staged.keep()).ok_or_else(crashed)?;
        inner.number += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{DirectoryError, StoredIdentity};
    use crate::engine::Batch;

    fn engines(directory: &Path) -> FsEngines {
        FsEngines::new(&directory.join("db"))
    }

    #[test]
    fn the_data_directory_is_locked_until_its_last_engine_is_closed() {
        let temporary = tempfile::tempdir().unwrap();
        let identity = StoredIdentity { cluster_id: 9, member_id: 1, incarnation: 77, name: "a".to_owned() };
        let open = || Directory::open(temporary.path(), identity.clone());
        let engines = FsEngines::new(&temporary.path().join("db")).owning(open().unwrap());
        let engine = engines.open().unwrap();
        let staged = engines.stage().unwrap();
        drop(engines);
        drop(engine);
        assert!(matches!(open(), Err(DirectoryError::InUse { .. })));
        drop(staged);
        open().unwrap();
    }

    fn with_row(engine: &Arc<dyn Engine>, value: &'static str) {
        let mut batch = Batch::default();
        batch.put("k", value);
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
    }

    /// A leader that is cut off in the middle of its snapshot, and the next one with another.
    fn two_states_at_once(engines: &dyn Engines) {
        drop(engines.open().unwrap());
        let first = engines.stage().unwrap();
        with_row(first.engine(), "first");
        let second = engines.stage().unwrap();
        with_row(second.engine(), "second");
        assert_eq!(first.engine().get(b"k").unwrap().as_deref(), Some(&b"first"[..]));
        engines.promote(first).unwrap();
        assert_eq!(engines.open().unwrap().get(b"k").unwrap().as_deref(), Some(&b"first"[..]));
        drop(second);
        let third = engines.stage().unwrap();
        with_row(third.engine(), "third");
        engines.promote(third).unwrap();
        assert_eq!(engines.open().unwrap().get(b"k").unwrap().as_deref(), Some(&b"third"[..]));
    }

    #[test]
    fn two_states_that_arrive_at_once_do_not_touch_each_other() {
        let directory = tempfile::tempdir().unwrap();
        two_states_at_once(&engines(directory.path()));
        two_states_at_once(&SimEngines::default());
    }

    #[test]
    fn a_state_that_did_not_arrive_whole_leaves_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let engines = engines(directory.path());
        drop(engines.open().unwrap());
        drop(engines.stage().unwrap());
        let names: Vec<_> = fs::read_dir(directory.path().join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn a_first_engine_that_was_cut_short_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("db/000001")).unwrap();
        fs::write(directory.path().join("db/000001/CURRENT"), "half").unwrap();
        assert!(engines(directory.path()).inspect().unwrap().is_none());
        engines(directory.path()).open().unwrap();
        assert!(engines(directory.path()).inspect().unwrap().is_some());
    }

    #[test]
    fn what_a_crash_left_of_a_snapshot_goes_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        drop(engines(directory.path()).open().unwrap());
        let left = directory.path().join(format!("db/{SPOOL_PREFIX}0123456789abcdef"));
        fs::write(&left, "half").unwrap();
        drop(engines(directory.path()).open().unwrap());
        assert!(!left.exists());
    }

    #[test]
    fn an_engine_that_was_lost_is_never_replaced_by_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        drop(engines(directory.path()).open().unwrap());
        fs::remove_dir_all(directory.path().join("db/000001")).unwrap();
        assert!(engines(directory.path()).inspect().is_err());
        assert!(engines(directory.path()).open().is_err());
    }

    #[test]
    fn a_saved_index_counts_once_it_is_published_and_for_its_engine_alone() {
        let directory = tempfile::tempdir().unwrap();
        let engines = engines(directory.path());
        assert!(engines.saved_index().unwrap().is_none());
        drop(engines.open().unwrap());
        let text = |engines: &FsEngines| {
            let mut text = String::new();
            engines.saved_index().unwrap().map(|mut saved| saved.read_to_string(&mut text).unwrap())?;
            Some(text)
        };
        let write = |text: &str| engines.write_index(&mut |out| out.write_all(text.as_bytes()));
        let first = write("first").unwrap();
        assert_eq!(text(&engines), None, "a crash here leaves none");
        engines.publish_index(first).unwrap();
        write("second").unwrap();
        assert_eq!(text(&engines).unwrap(), "first", "a crash here leaves the old one");
        assert!(engines.write_index(&mut |_| Err(io::ErrorKind::StorageFull.into())).is_err());
        let unfinished = directory.path().join("db/000001.index.tmp");
        assert!(!unfinished.exists(), "a full disk is not filled further");
        let room = SpareRoom::unattainable(directory.path());
        assert!(engines.write_index_sparing(room, &mut |out| out.write_all(b"index")).is_err());
        assert!(!unfinished.exists(), "nor is one that is nearly full");
        let third = write("third").unwrap();
        engines.promote(engines.stage().unwrap()).unwrap();
        assert_eq!(text(&engines), None, "it belongs to the engine that was replaced");
        engines.publish_index(third).unwrap();
        assert_eq!(text(&engines), None, "nor does the next one belong to this engine");
        drop(engines.open().unwrap());
        let left: Vec<_> = fs::read_dir(directory.path().join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "the engine and what names it, not {left:?}");
    }

    #[test]
    fn what_is_inspected_is_what_was_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let engine = engines(directory.path()).open().unwrap();
        let mut batch = Batch::default();
        batch.put(&b"key"[..], &b"value"[..]);
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
        let found = engines(directory.path()).inspect().unwrap().unwrap();
        assert_eq!(found.get(b"key").unwrap().unwrap(), "value");
        assert!(found.write(&batch).is_err(), "it is there for reading");
    }
}
