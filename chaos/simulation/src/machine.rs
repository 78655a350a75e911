//! What outlives a member's process: disk, engine, health, and the rate of its clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use store::Member;
use store::env::engines::SimEngines;
use store::wal::disk_sim::SimDisk;

/// One machine.
pub(crate) struct Machine {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) disk: SimDisk,
    pub(crate) engines: SimEngines,
    pub(crate) health: Mutex<Health>,
    /// How often its process has started.
    pub(crate) starts: AtomicU64,
    /// The member of the process that runs now.
    pub(crate) member: Mutex<Weak<Member>>,
    /// Rate of its clock, in thousandths of the fastest one's that matters; 1000 keeps the network's time.
    pub(crate) clock_permille: AtomicU32,
    /// What the process is told to do.
    pub(crate) orders: Mutex<VecDeque<Order>>,
}

/// What a member's administrator asks it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To the member with this id.
    MoveLeader(u64),
}

/// What becomes of a machine whose disk is about to fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Well,
    /// Its disk will fail. With `everywhere`, the power of all machines goes at that moment.
    Sick { everywhere: bool },
    /// It failed and the process has ended.
    Ended { everywhere: bool },
    /// The process has ended for this reason, which no fault explains.
    Fatal(String),
}

impl Health {
    /// The process cannot go on.
    pub(crate) fn end(&mut self, why: &str) {
        *self = match std::mem::take(self) {
            Self::Sick { everywhere } | Self::Ended { everywhere } => Self::Ended { everywhere },
            Self::Well => Self::Fatal(why.to_owned()),
            Self::Fatal(first) => Self::Fatal(first),
        };
    }
}

impl Machine {
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        let salt = u64::try_from(number).unwrap_or(0);
        Self {
            number,
            name: name(number),
            seed: seed.wrapping_mul(1000).wrapping_add(salt),
            disk: SimDisk::new(seed.wrapping_mul(77).wrapping_add(salt)),
            engines: SimEngines::default(),
            health: Mutex::default(),
            starts: AtomicU64::new(0),
            member: Mutex::new(Weak::new()),
            clock_permille: AtomicU32::new(1000),
            orders: Mutex::default(),
        }
    }

    /// Whether its process is at an end, although the simulator has not taken it away yet.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(*lock(&self.health), Health::Ended { .. } | Health::Fatal(_))
    }

    pub(crate) fn member(&self) -> Option<Arc<Member>> {
        lock(&self.member).upgrade()
    }

    pub(crate) fn clock_permille(&self) -> u32 {
        self.clock_permille.load(Ordering::Relaxed)
    }
}

/// Returns the name of a machine.
pub(crate) fn name(number: usize) -> String {
    format!("n{}", number + 1)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
