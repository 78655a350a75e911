//! Items in key order, of which a search looks at few: eight bytes of each key stand side by side, and the keys themselves, each
//! somewhere in memory, are read only where those are equal.
//!
//! ```text
//! keys     /registry/pods/default/web-7f9c   /registry/pods/default/web-81aa
//!          └───── shared by all ────┘└─ head ─┘
//! ```
//!
//! Keys of one node share most of their front, so the head begins behind it.

use std::cmp::Ordering;
use std::slice;

/// Bytes of a key that are kept beside the items.
const HEAD_BYTES: usize = size_of::<u64>();

/// Something with a key.
pub(super) trait Keyed {
    fn key(&self) -> &[u8];
}

/// Items in key order, each key once.
#[derive(Clone)]
pub(super) struct Sorted<T> {
    /// Bytes at the front that all keys have in common, perhaps not all of them.
    shared: usize,
    heads: Vec<u64>,
    items: Vec<T>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { shared: 0, heads: Vec::new(), items: Vec::new() }
    }
}

impl<T> Sorted<T> {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.items.get(at)
    }

    /// Returns an item to change; its key must stay.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.items.get_mut(at)
    }

    pub(super) fn iter(&self) -> slice::Iter<'_, T> {
        self.items.iter()
    }

    /// Returns the items from a place on.
    pub(super) fn from(&self, at: usize) -> slice::Iter<'_, T> {
        self.items.get(at..).unwrap_or_default().iter()
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        self.heads.remove(at);
        self.items.remove(at)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.heads.pop();
        self.items.pop()
    }
}

impl<T: Keyed> Sorted<T> {
    pub(super) fn of(items: Vec<T>) -> Self {
        let mut sorted = Self { shared: 0, heads: Vec::with_capacity(items.len()), items };
        sorted.find_heads();
        sorted
    }

    /// Returns where a key is, or where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(first) = self.items.first() else { return Err(0) };
        match order_of_front(key, first.key(), self.shared) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.items.len()),
            Ordering::Equal => {}
        }
        let head = head_of(key, self.shared);
        let from = self.heads.partition_point(|here| *here < head);
        let mut at = from;
        while self.heads.get(at) == Some(&head) {
            match self.items.get(at).map(|item| item.key().cmp(key)) {
                Some(Ordering::Less) => at += 1,
                Some(Ordering::Equal) => return Ok(at),
                Some(Ordering::Greater) | None => break,
            }
        }
        Err(at)
    }

    /// Adds an item at the place where [`Sorted::search`] said that its key would be.
    pub(super) fn insert(&mut self, at: usize, item: T) {
        let shares =
            self.items.first().is_some_and(|first| shared_by(first.key(), item.key()) >= self.shared);
        let head = head_of(item.key(), self.shared);
        self.items.insert(at, item);
        if shares {
            self.heads.insert(at, head);
        } else {
            self.find_heads();
        }
    }

    /// Adds items whose keys are all greater.
    pub(super) fn append(&mut self, more: Self) {
        self.items.extend(more.items);
        self.find_heads();
    }

    /// Takes the items from a place on away.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let right = Self::of(self.items.split_off(at));
        self.find_heads();
        right
    }

    /// Changes the first item, whose key may become smaller.
    pub(super) fn lower_first(&mut self, change: impl FnOnce(&mut T)) {
        if let Some(first) = self.items.first_mut() {
            change(first);
            self.find_heads();
        }
    }

    fn find_heads(&mut self) {
        self.shared = match (self.items.first(), self.items.last()) {
            (Some(first), Some(last)) => shared_by(first.key(), last.key()),
            _ => 0,
        };
        self.heads.clear();
        self.heads.extend(self.items.iter().map(|item| head_of(item.key(), self.shared)));
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.heads.len(), self.items.len());
        assert!(self.items.is_sorted_by(|left, right| left.key() < right.key()));
        let first = self.items.first().map_or(&b""[..], Keyed::key);
        for (head, item) in self.heads.iter().zip(&self.items) {
            assert!(shared_by(first, item.key()) >= self.shared);
            assert_eq!(*head, head_of(item.key(), self.shared));
        }
    }
}

/// Compares the front of a key with that of one that is longer than the front.
fn order_of_front(key: &[u8], with: &[u8], shared: usize) -> Ordering {
    let front = with.get(..shared).unwrap_or(with);
    let own = key.get(..shared).unwrap_or(key);
    own.cmp(front)
}

fn shared_by(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// Returns the bytes behind `shared`, so that smaller heads mean smaller keys. Of keys with equal heads nothing is known: what is
/// missing counts as zero.
fn head_of(key: &[u8], shared: usize) -> u64 {
    let rest = key.get(shared..).unwrap_or_default();
    match rest.first_chunk::<HEAD_BYTES>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; HEAD_BYTES];
            head.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(head)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    impl Keyed for Bytes {
        fn key(&self) -> &[u8] {
            self
        }
    }

    /// Short, long, with zeros at the end, prefixes of each other.
    fn key(rng: &mut SmallRng) -> Bytes {
        let front: &[u8] = [&b""[..], b"/registry/pods/", b"/registry/pods/default/"][rng.random_range(0..3)];
        let rest = (0..rng.random_range(0..12)).map(|_| [0, 1, b'/', 255][rng.random_range(0..4)]);
        front.iter().copied().chain(rest).collect()
    }

    #[test]
    fn searches_find_what_a_set_finds() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut sorted, mut model) = (Sorted::default(), BTreeSet::new());
            for _ in 0..200 {
                let key = key(&mut rng);
                let place = model.range(..key.clone()).count();
                let found = sorted.search(&key);
                assert_eq!(found, if model.contains(&key) { Ok(place) } else { Err(place) });
                match found {
                    Ok(at) if rng.random_ratio(1, 2) => {
                        sorted.remove(at);
                        model.remove(&key);
                    }
                    Ok(_) => {
                        let right = sorted.split_off(place);
                        sorted.append(right);
                    }
                    Err(at) => {
                        sorted.insert(at, key.clone());
                        model.insert(key);
                    }
                }
                sorted.check();
                assert!(sorted.iter().eq(&model));
            }
        }
    }
}
