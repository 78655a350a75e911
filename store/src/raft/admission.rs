//! How many proposals a member takes at a time. Beyond that clients are told at once to come again: what waits for a slow disk or an absent
//! quorum takes memory and helps nobody.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Proposals of clients that a member has under way.
pub(super) struct Admission {
    limits: Load,
    under_way: Mutex<Load>,
}

/// Some proposals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) proposals: usize,
    pub(crate) bytes: usize,
}

/// Room for one proposal, which is given back on drop.
pub(super) struct Admitted<'a> {
    admission: &'a Admission,
    bytes: usize,
}

impl Default for Admission {
    /// A thousand clients with ten requests each, and what a hundred of the largest usual requests take.
    fn default() -> Self {
        Self::new(Load { proposals: 10_000, bytes: 256 << 20 })
    }
}

impl Admission {
    pub(super) fn new(limits: Load) -> Self {
        Self { limits, under_way: Mutex::default() }
    }

    /// Makes room for a proposal, or says that there is none. One that is larger than all room there is gets in alone.
    pub(super) fn admit(&self, bytes: usize) -> Option<Admitted<'_>> {
        let mut under_way = self.lock();
        let has_room = under_way.proposals < self.limits.proposals
            && (under_way.bytes + bytes <= self.limits.bytes || under_way.proposals == 0);
        if !has_room {
            return None;
        }
        under_way.proposals += 1;
        under_way.bytes += bytes;
        drop(under_way);
        Some(Admitted { admission: self, bytes })
    }

    /// Returns what is under way.
    pub(super) fn load(&self) -> Load {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut under_way = self.admission.lock();
        under_way.proposals -= 1;
        under_way.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_there_until_it_is_taken_and_again_when_it_is_given_back() {
        let admission = Admission::new(Load { proposals: 2, bytes: 100 });
        let first = admission.admit(60).unwrap();
        assert!(admission.admit(41).is_none(), "too many bytes");
        let second = admission.admit(40).unwrap();
        assert!(admission.admit(0).is_none(), "too many proposals");
        drop(first);
        let third = admission.admit(60).unwrap();
        drop((second, third));
        assert_eq!(*admission.lock(), Load::default());
        assert!(admission.admit(500).is_some(), "alone, anything goes");
    }
}
