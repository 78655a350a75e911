//! The memory that answers to clients' reads take: one budget of a member for all of them, and a queue in which each has its turn.
//!
//! ```text
//! read small enough ───────────────────────────────► answer
//! larger: admit(bytes) ─► queue (bounded, in order) ─► read ─► answer ─► sent to its last byte ─► room for the next
//! ```
//!
//! A read says from the index what its answer takes, before any value is fetched. One that takes more than there is at all, or that
//! finds the queue full or too slow, is refused; nothing is ever read without room for it. Callers in the same process are trusted
//! with their own limits.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::kv::KvError;

/// An answer up to this size needs no place: a request and what the server keeps for its stream take about as much.
pub(crate) const FREE_BYTES: u64 = 16 << 10;
/// Share of the memory that reads may take where nothing else is said: the index, caches and the log need the rest.
const MEMORY_SHARE: u64 = 4;
/// Least default budget, and the one where the size of the memory is not known.
const BUDGET_BYTES_MIN: u64 = 64 << 20;
/// Unit of the budget: the semaphore counts in 32 bits.
const UNIT_BYTES: u64 = 1 << 10;
/// Reads that may wait; each holds little more than its request.
const WAITING_MAX: usize = 1000;
/// A read that has not had its turn by then is better tried elsewhere.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Where the kernel says what memory there is, in which control group this process is, and what a group may use.
const MEMORY_INFO: &str = "/proc/meminfo";
const GROUP: &str = "/proc/self/cgroup";
const GROUPS: &str = "/sys/fs/cgroup";
const GROUP_LIMIT: &str = "memory.max";

/// The memory that reads may take together.
#[derive(Debug)]
pub struct ReadBudget {
    units: u32,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused: AtomicU64,
}

/// What a budget's metrics show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadNumbers {
    pub(crate) budget_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) waiting: u64,
    pub(crate) refused: u64,
}

/// Memory set aside for one answer, until it is dropped.
#[derive(Debug)]
pub(crate) struct ReadPermit {
    permit: OwnedSemaphorePermit,
}

impl Default for ReadBudget {
    /// A quarter of the memory that the process may use.
    fn default() -> Self {
        Self::new((memory_bytes().unwrap_or(0) / MEMORY_SHARE).max(BUDGET_BYTES_MIN))
    }
}

impl ReadBudget {
    /// Returns a budget of about `bytes`, at least one unit of a kilobyte.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(most).clamp(1, most);
        let free = Arc::new(Semaphore::new(usize::try_from(units).expect("the semaphore counts as many")));
        Self { units, free, waiting: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// Sets memory aside, in the order of the calls. Dropping the call gives the place in the queue up.
    ///
    /// # Errors
    /// [`KvError::ReadTooLarge`] when there is never as much, [`KvError::ReadsBusy`] when there is none in time.
    pub(crate) async fn admit(&self, bytes: u64) -> Result<ReadPermit, KvError> {
        let admitted = self.wait(bytes).await;
        if admitted.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    async fn wait(&self, bytes: u64) -> Result<ReadPermit, KvError> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        if units > self.units {
            return Err(KvError::ReadTooLarge { needed: bytes, budget: self.budget_bytes() });
        }
        // The semaphore gives what comes back to those who wait first, so this overtakes nobody.
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(units) {
            return Ok(ReadPermit { permit });
        }
        let _place = Place::take(&self.waiting).ok_or(KvError::ReadsBusy)?;
        let turn = Arc::clone(&self.free).acquire_many_owned(units);
        match tokio::time::timeout(WAIT_MAX, turn).await {
            Ok(Ok(permit)) => Ok(ReadPermit { permit }),
            Ok(Err(_)) | Err(_) => Err(KvError::ReadsBusy),
        }
    }

    /// Returns the size of the whole budget.
    pub(crate) fn budget_bytes(&self) -> u64 {
        u64::from(self.units) * UNIT_BYTES
    }

    pub(crate) fn numbers(&self) -> ReadNumbers {
        let free =
            u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX).saturating_mul(UNIT_BYTES);
        ReadNumbers {
            budget_bytes: self.budget_bytes(),
            used_bytes: self.budget_bytes().saturating_sub(free),
            waiting: u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(u64::MAX),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

impl ReadPermit {
    /// Returns how much was set aside.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.permit.num_permits()).unwrap_or(u64::MAX).saturating_mul(UNIT_BYTES)
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leaves the permit with the answer that it is for; [`hold`] finds it there.
pub(crate) fn attach(extensions: &mut http::Extensions, permit: Option<Arc<ReadPermit>>) {
    if let Some(permit) = permit {
        extensions.insert(permit);
    }
}

/// Keeps what a read set aside until the connection has let go of the last byte of its answer: a client that does not read holds it.
pub(crate) async fn hold(mut response: Response) -> Response {
    let Some(permit) = response.extensions_mut().remove::<Arc<ReadPermit>>() else { return response };
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            frame.map_data(|data| Bytes::from_owner(Held { data, _permit: Arc::clone(&permit) }))
        }))
    })
}

/// Bytes of an answer with the permit that they were read under.
struct Held {
    data: Bytes,
    _permit: Arc<ReadPermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Returns the memory that this process may use, as the kernel tells it.
fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string(MEMORY_INFO).ok().and_then(|text| machine_bytes(&text));
    let limit = fs::read_to_string(GROUP).ok().and_then(|text| group_bytes(Path::new(GROUPS), &text));
    machine.into_iter().chain(limit).min()
}

/// Returns the least that a control group or one of those around it may use.
fn group_bytes(groups: &Path, text: &str) -> Option<u64> {
    let group = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = groups.join(group);
    let around = path.ancestors().take_while(|path| path.starts_with(groups));
    // "max" where there is no limit; none at all for the group of all groups.
    around.filter_map(|path| fs::read_to_string(path.join(GROUP_LIMIT)).ok()?.trim().parse().ok()).min()
}

fn machine_bytes(text: &str) -> Option<u64> {
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kilobytes.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;

    use super::*;

    const BUDGET: u64 = 64 << 10;

    #[tokio::test]
    async fn reads_get_their_turn_in_order_and_small_ones_do_not_overtake() {
        let budget = ReadBudget::new(BUDGET);
        let first = budget.admit(40 << 10).await.unwrap();
        let mut large = Box::pin(budget.admit(60 << 10));
        let mut small = Box::pin(budget.admit(1 << 10));
        assert!(poll!(&mut large).is_pending());
        assert!(poll!(&mut small).is_pending(), "there is room, but another came first");
        assert_eq!(budget.numbers().waiting, 2);
        drop(first);
        let Poll::Ready(Ok(large)) = poll!(&mut large) else { panic!("it has its turn") };
        assert!(poll!(&mut small).is_ready());
        assert_eq!(large.bytes(), 60 << 10);
        assert_eq!(budget.numbers().waiting, 0);
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_the_queue() {
        let budget = ReadBudget::new(BUDGET);
        let first = budget.admit(BUDGET).await.unwrap();
        let mut gone = Box::pin(budget.admit(BUDGET));
        let mut next = Box::pin(budget.admit(BUDGET));
        assert!(poll!(&mut gone).is_pending() && poll!(&mut next).is_pending());
        drop(gone);
        drop(first);
        assert!(poll!(&mut next).is_ready());
        drop(next);
        let numbers = ReadNumbers { budget_bytes: BUDGET, ..ReadNumbers::default() };
        assert_eq!(budget.numbers(), numbers, "all has come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_too_large_or_waits_too_long_is_refused() {
        let budget = ReadBudget::new(BUDGET);
        let refused = budget.admit(BUDGET + 1).await.map(|_| ());
        assert_eq!(refused, Err(KvError::ReadTooLarge { needed: BUDGET + 1, budget: BUDGET }));
        let _all = budget.admit(BUDGET).await.unwrap();
        assert_eq!(budget.admit(1).await.map(|_| ()), Err(KvError::ReadsBusy));
        assert_eq!(budget.numbers().refused, 2);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let budget = ReadBudget::new(BUDGET);
        let _all = budget.admit(BUDGET).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(budget.admit(1))).collect();
        for turn in &mut waiting {
            assert!(poll!(turn).is_pending());
        }
        assert_eq!(budget.admit(1).await.map(|_| ()), Err(KvError::ReadsBusy));
        drop(waiting);
        assert_eq!(budget.numbers().waiting, 0);
    }

    #[tokio::test]
    async fn an_answer_holds_its_memory_until_its_last_byte_is_let_go() {
        let budget = ReadBudget::new(BUDGET);
        let permit = Arc::new(budget.admit(BUDGET).await.unwrap());
        let mut response = Response::new(Body::from("answer"));
        attach(response.extensions_mut(), Some(permit));
        let body = hold(response).await.into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert_eq!(bytes, "answer");
        assert_eq!(budget.numbers().used_bytes, BUDGET, "the connection still has it");
        drop(bytes);
        assert_eq!(budget.numbers().used_bytes, 0);
    }

    #[test]
    fn a_control_group_may_use_what_the_ones_around_it_may() {
        let groups = tempfile::tempdir().unwrap();
        let inner = groups.path().join("system.slice/store.service");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join(GROUP_LIMIT), "max\n").unwrap();
        let text = "0::/system.slice/store.service\n";
        assert_eq!(group_bytes(groups.path(), text), None);
        fs::write(groups.path().join("system.slice").join(GROUP_LIMIT), "1073741824\n").unwrap();
        assert_eq!(group_bytes(groups.path(), text), Some(1 << 30));
        fs::write(inner.join(GROUP_LIMIT), "536870912\n").unwrap();
        assert_eq!(group_bytes(groups.path(), text), Some(1 << 29));
        assert_eq!(group_bytes(groups.path(), "0::/\n"), None);
        assert_eq!(
            group_bytes(groups.path(), "1:memory:/old\n"),
            None,
            "groups of the first kind are not asked"
        );
    }

    #[test]
    fn the_kernel_tells_the_memory_in_kilobytes() {
        assert_eq!(machine_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(machine_bytes("MemTotal: much\n"), None);
        assert!(ReadBudget::default().budget_bytes() >= BUDGET_BYTES_MIN);
        assert_eq!(ReadBudget::new(0).budget_bytes(), UNIT_BYTES);
        assert_eq!(ReadBudget::new(u64::MAX).budget_bytes(), u64::from(u32::MAX) * UNIT_BYTES);
    }
}
