//! A disk in memory that forgets what was not synced, tears sectors, fails and fills up, all from one seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Disk, FreeSpace};

/// Unit that a power cut keeps or loses as a whole, except for the one that it tears.
const SECTOR_BYTES: usize = 512;

/// The simulated disk. Clones share it, so it outlives the member that crashes on it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Debug)]
struct Inner {
    files: BTreeMap<String, SimFile>,
    rng: SmallRng,
    /// Changing operations so far.
    operations: u64,
    syncs: u64,
    power_cut_at: Option<u64>,
    sync_fails_at: Option<u64>,
    capacity_bytes: Option<u64>,
    is_powered: bool,
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors that differ from the durable bytes.
    dirty: std::collections::BTreeSet<usize>,
}

impl SimDisk {
    /// Returns an empty disk whose faults follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                files: BTreeMap::new(),
                rng: SmallRng::seed_from_u64(seed),
                operations: 0,
                syncs: 0,
                power_cut_at: None,
                sync_fails_at: None,
                capacity_bytes: None,
                is_powered: true,
            })),
        }
    }

    /// Cuts the power in the middle of the given changing operation, counted from now.
    pub fn cut_power_in(&self, operations: u64) {
        let mut inner = self.lock();
        inner.power_cut_at = Some(inner.operations + operations);
    }

    /// Lets the given sync fail, counted from now; its bytes may or may not reach the disk.
    pub fn fail_sync_in(&self, syncs: u64) {
        let mut inner = self.lock();
        inner.sync_fails_at = Some(inner.syncs + syncs);
    }

    /// Limits the sum of all file sizes; `None` lifts the limit.
    pub fn limit_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Returns the number of changing operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Returns another disk that holds the same.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { inner: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Returns the sum of all file sizes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Returns the number of syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Loses un-synced bytes as a power cut does: any sector may have reached the disk, one of them torn. The disk
    /// works again afterwards.
    pub fn crash(&self) {
        let inner = &mut *self.lock();
        for file in inner.files.values_mut() {
            file.lose_power(&mut inner.rng);
        }
        inner.is_powered = true;
        inner.power_cut_at = None;
        inner.sync_fails_at = None;
    }

    /// Ends the process but not the machine: the page cache keeps what was written.
    pub fn restart_process(&self) {
        let mut inner = self.lock();
        inner.power_cut_at = None;
        inner.sync_fails_at = None;
    }

    /// Flips one bit of a file, in the cache and on the disk.
    pub fn flip_bit(&self, file: &str, offset: usize) {
        if let Some(file) = self.lock().files.get_mut(file) {
            for bytes in [&mut file.durable, &mut file.current] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= 1;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimFile {
    fn lose_power(&mut self, rng: &mut SmallRng) {
        self.durable.resize(self.current.len(), 0);
        let torn = rng.random_range(0..=self.dirty.len());
        for (nth, sector) in std::mem::take(&mut self.dirty).into_iter().enumerate() {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.current.len());
            let kept = if nth == torn {
                rng.random_range(0..=end - start)
            } else if rng.random_bool(0.5) {
                end - start
            } else {
                0
            };
            if let (Some(to), Some(from)) =
                (self.durable.get_mut(start..start + kept), self.current.get(start..start + kept))
            {
                to.copy_from_slice(from);
            }
        }
        self.current.clone_from(&self.durable);
    }

    fn make_durable(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.current.len());
            if let (Some(to), Some(from)) = (self.durable.get_mut(start..end), self.current.get(start..end)) {
                to.copy_from_slice(from);
            }
        }
    }
}

impl Inner {
    /// Counts a changing operation; `Err` when the power goes in the middle of it or is gone already.
    fn change(&mut self) -> Result<(), PowerCut> {
        self.operations += 1;
        let during = self.is_powered;
        if self.power_cut_at.is_some_and(|at| self.operations >= at) {
            self.is_powered = false;
        }
        if self.is_powered { Ok(()) } else { Err(PowerCut { reached: during && self.rng.random_bool(0.5) }) }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut SimFile> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        let used: usize = self.files.values().map(|file| file.current.len()).sum();
        u64::try_from(used).expect("usize fits in u64")
    }

    fn reserve(&self, extra: u64) -> io::Result<()> {
        let fits = self.capacity_bytes.is_none_or(|capacity| self.used_bytes() + extra <= capacity);
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

/// The power went during an operation.
struct PowerCut {
    /// Whether the operation still took effect.
    reached: bool,
}

impl From<PowerCut> for io::Error {
    fn from(_: PowerCut) -> Self {
        Self::other("power cut")
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn read(&self, file: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut inner = self.lock();
        let bytes = &inner.file(file)?.current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes.get(start..end).unwrap_or_default().to_vec())
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        let mut inner = self.lock();
        Ok(u64::try_from(inner.file(file)?.current.len()).expect("usize fits in u64"))
    }

    fn create(&self, file: &str, size: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let cut = inner.change();
        inner.reserve(size)?;
        if cut.as_ref().map_or_else(|cut| cut.reached, |()| true) {
            let zeros = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            inner.files.insert(
                file.to_owned(),
                SimFile { durable: zeros.clone(), current: zeros, dirty: std::collections::BTreeSet::new() },
            );
        }
        Ok(cut?)
    }

    fn write(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let cut = inner.change();
        if let Err(cut) = &cut
            && !cut.reached
        {
            return Err(io::Error::other("power cut"));
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes.len());
        let grown = end.saturating_sub(inner.file(file)?.current.len());
        inner.reserve(u64::try_from(grown).expect("usize fits in u64"))?;
        let target = inner.file(file)?;
        if grown > 0 {
            target.current.resize(end, 0);
        }
        if let Some(to) = target.current.get_mut(start..end) {
            to.copy_from_slice(bytes);
        }
        target.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(cut?)
    }

    fn sync(&self, file: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        inner.syncs += 1;
        if inner.sync_fails_at.is_some_and(|at| inner.syncs >= at) {
            return Err(io::Error::other("injected sync failure"));
        }
        inner.file(file)?.make_durable();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let cut = inner.change();
        if cut.as_ref().map_or_else(|cut| cut.reached, |()| true) {
            let file = inner.files.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            inner.files.insert(to.to_owned(), file);
        }
        Ok(cut?)
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let cut = inner.change();
        if cut.as_ref().map_or_else(|cut| cut.reached, |()| true) {
            inner.files.remove(file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        }
        Ok(cut?)
    }

    fn free_space(&self) -> FreeSpace {
        let inner = self.lock();
        let capacity = inner.capacity_bytes.unwrap_or(u64::MAX);
        let free_bytes = capacity.saturating_sub(inner.used_bytes());
        FreeSpace { path: "simulated".to_owned(), free_bytes, total_bytes: capacity }
    }
}
