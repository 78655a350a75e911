//! Which watchers want a key: an interval tree over their ranges, so a change costs the logarithm of the watchers plus those
//! that match.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use interavl::IntervalTree;

use super::core::WatcherId;
use crate::mvcc::{KeyRange, RangeEnd};

/// A cut between keys. Each key has one just before and one just after it, so a single key is a half-open range too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Before(Bytes),
    End,
}

/// The ranges of all watchers.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    ranges: IntervalTree<Cut, BTreeSet<WatcherId>>,
}

impl Matcher {
    pub(super) fn insert(&mut self, range: &KeyRange, id: WatcherId) {
        let cuts = cuts(range);
        // An empty range matches nothing.
        if cuts.start >= cuts.end {
            return;
        }
        match self.ranges.get_mut(&cuts) {
            Some(ids) => drop(ids.insert(id)),
            None => drop(self.ranges.insert(cuts, BTreeSet::from([id]))),
        }
    }

    pub(super) fn remove(&mut self, range: &KeyRange, id: WatcherId) {
        let cuts = cuts(range);
        let Some(ids) = self.ranges.get_mut(&cuts) else { return };
        ids.remove(&id);
        if ids.is_empty() {
            self.ranges.remove(&cuts);
        }
    }

    /// Calls `found` for every watcher whose range holds `key`.
    pub(super) fn each_match(&self, key: &Bytes, mut found: impl FnMut(WatcherId)) {
        let point = cuts(&KeyRange::single(key.clone()));
        for (_, ids) in self.ranges.iter_overlaps(&point) {
            ids.iter().copied().for_each(&mut found);
        }
    }
}

fn cuts(range: &KeyRange) -> Range<Cut> {
    let end = match &range.end {
        RangeEnd::Single => {
            // The key's successor: nothing lies between a key and the key with a zero byte behind it.
            let mut successor = Vec::with_capacity(range.start.len() + 1);
            successor.extend_from_slice(&range.start);
            successor.push(0);
            Cut::Before(successor.into())
        }
        RangeEnd::Before(end) => Cut::Before(end.clone()),
        RangeEnd::Unbounded => Cut::End,
    };
    Cut::Before(range.start.clone())..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exactly_the_watchers_whose_range_holds_the_key() {
        let ranges = [
            KeyRange::single("a"),
            KeyRange::prefix("a"),
            KeyRange { start: "b".into(), end: RangeEnd::Before("d".into()) },
            KeyRange { start: "d".into(), end: RangeEnd::Before("b".into()) },
            KeyRange { start: "c".into(), end: RangeEnd::Unbounded },
            KeyRange::prefix("a"),
        ];
        let mut matcher = Matcher::default();
        for (number, range) in (0..).zip(&ranges) {
            matcher.insert(range, WatcherId(number));
        }
        let check = |matcher: &Matcher, key: &'static str, expected: &[u64]| {
            let mut found = Vec::new();
            matcher.each_match(&Bytes::from(key), |id| found.push(id.0));
            found.sort_unstable();
            assert_eq!(found, expected, "{key}");
        };
        check(&matcher, "a", &[0, 1, 5]);
        check(&matcher, "a\0", &[1, 5]);
        check(&matcher, "b", &[2]);
        check(&matcher, "c", &[2, 4]);
        check(&matcher, "d", &[4]);
        matcher.remove(&ranges[1], WatcherId(1));
        check(&matcher, "ab", &[5]);
        matcher.remove(&ranges[5], WatcherId(5));
        check(&matcher, "ab", &[]);
    }
}
