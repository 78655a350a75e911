//! Which watchers want a key. A change costs the logarithm of the watchers, and as much again for each one that matches.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::core::WatcherId;
use super::intervals::{End, Interval, Intervals};
use crate::mvcc::{KeyRange, RangeEnd};

/// What all watchers watch.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    /// Watchers of one key, in order: ids grow.
    keys: BTreeMap<Bytes, Vec<WatcherId>>,
    ranges: Intervals,
}

impl Matcher {
    pub(super) fn insert(&mut self, range: &KeyRange, id: WatcherId) {
        match interval(range, id) {
            Some(interval) => self.ranges.insert(interval),
            None => self.keys.entry(range.start.clone()).or_default().push(id),
        }
    }

    pub(super) fn remove(&mut self, range: &KeyRange, id: WatcherId) {
        if let Some(interval) = interval(range, id) {
            self.ranges.remove(&interval);
            return;
        }
        let Some(ids) = self.keys.get_mut(&range.start) else { return };
        if let Ok(place) = ids.binary_search(&id) {
            ids.remove(place);
        }
        if ids.is_empty() {
            self.keys.remove(&range.start);
        }
    }

    /// Calls `found` for every watcher whose range holds `key`.
    pub(super) fn each_match(&self, key: &Bytes, mut found: impl FnMut(WatcherId)) {
        self.keys.get(key).into_iter().flatten().copied().for_each(&mut found);
        self.ranges.each_holding(key, &mut found);
    }
}

/// Returns the range of a watcher that watches more than one key.
fn interval(range: &KeyRange, id: WatcherId) -> Option<Interval> {
    let end = match &range.end {
        RangeEnd::Single => return None,
        RangeEnd::Before(end) => End::Before(end.clone()),
        RangeEnd::Unbounded => End::Unbounded,
    };
    Some(Interval { start: range.start.clone(), end, id })
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
