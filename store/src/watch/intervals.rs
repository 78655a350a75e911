//! Ranges of keys with an owner each, and which of them hold a key: a treap over the starts whose nodes know the highest end below them
//! (Cormen et al., Introduction to Algorithms, §14.3; Seidel and Aragon, Randomized Search Trees). A query costs the logarithm of the
//! ranges for each one found.

use std::cmp::Ordering;

use bytes::Bytes;

use super::core::WatcherId;

/// Where a range ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Before this key.
    Before(Bytes),
    Unbounded,
}

impl End {
    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Unbounded => true,
        }
    }
}

/// A range with its place in the order of the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) start: Bytes,
    pub(super) end: End,
    pub(super) id: WatcherId,
}

type Tree = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    interval: Interval,
    /// No child has a higher one, which keeps the tree about balanced.
    priority: u64,
    /// Highest end of the whole subtree.
    reaches: End,
    left: Tree,
    right: Tree,
}

/// All ranges.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    root: Tree,
}

impl Intervals {
    /// Adds a range that is not there yet.
    pub(super) fn insert(&mut self, interval: Interval) {
        let (left, right) = split(self.root.take(), &interval);
        let node = Node {
            priority: scatter(interval.id),
            reaches: interval.end.clone(),
            interval,
            left: None,
            right: None,
        };
        self.root = merge(merge(left, Some(Box::new(node))), right);
    }

    /// Removes a range if it is there.
    pub(super) fn remove(&mut self, interval: &Interval) {
        remove(&mut self.root, interval);
    }

    /// Calls `found` for every range that holds `key`.
    pub(super) fn each_holding(&self, key: &[u8], found: &mut impl FnMut(WatcherId)) {
        each_near(&self.root, key, &mut |interval| {
            if interval.end.is_behind(key) {
                found(interval.id);
            }
        });
    }
}

/// Ids count up, so they make no priorities; this finaliser of SplitMix64 does.
fn scatter(WatcherId(id): WatcherId) -> u64 {
    let id = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

impl Node {
    fn note_children(&mut self) {
        let children = [&self.left, &self.right].into_iter().flatten().map(|child| &child.reaches);
        self.reaches = children.chain([&self.interval.end]).max().unwrap_or(&self.interval.end).clone();
    }
}

/// Returns what lies before `at`, and the rest.
fn split(tree: Tree, at: &Interval) -> (Tree, Tree) {
    let Some(mut node) = tree else { return (None, None) };
    if node.interval < *at {
        let (before, behind) = split(node.right.take(), at);
        node.right = before;
        node.note_children();
        (Some(node), behind)
    } else {
        let (before, behind) = split(node.left.take(), at);
        node.left = behind;
        node.note_children();
        (before, Some(node))
    }
}

/// Joins two trees, the first of which lies before the second.
fn merge(left: Tree, right: Tree) -> Tree {
    match (left, right) {
        (Some(mut left), Some(right)) if left.priority >= right.priority => {
            left.right = merge(left.right.take(), Some(right));
            left.note_children();
            Some(left)
        }
        (Some(left), Some(mut right)) => {
            right.left = merge(Some(left), right.left.take());
            right.note_children();
            Some(right)
        }
        (tree, None) | (None, tree) => tree,
    }
}

fn remove(tree: &mut Tree, interval: &Interval) {
    let Some(node) = tree else { return };
    match interval.cmp(&node.interval) {
        Ordering::Less => remove(&mut node.left, interval),
        Ordering::Greater => remove(&mut node.right, interval),
        Ordering::Equal => {
            *tree = merge(node.left.take(), node.right.take());
            return;
        }
    }
    node.note_children();
}

/// Shows every range that begins at or before `key` and lies in a subtree that reaches beyond it.
fn each_near(tree: &Tree, key: &[u8], look: &mut impl FnMut(&Interval)) {
    let Some(node) = tree.as_ref().filter(|node| node.reaches.is_behind(key)) else { return };
    each_near(&node.left, key, look);
    if node.interval.start <= *key {
        look(&node.interval);
        each_near(&node.right, key, look);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn prefix(number: u64) -> Interval {
        let (start, end) = (format!("/tenant{number:06}/"), format!("/tenant{number:06}0"));
        Interval { start: start.into(), end: End::Before(end.into()), id: WatcherId(number) }
    }

    #[test]
    fn a_key_of_one_in_many_ranges_is_found_without_looking_at_the_others() {
        let mut intervals = Intervals::default();
        // In order, as a client that lists and then watches opens them.
        (0..50_000).for_each(|number| intervals.insert(prefix(number)));
        for number in (0..50_000).step_by(997) {
            let key = format!("/tenant{number:06}/pod");
            let mut found = Vec::new();
            intervals.each_holding(key.as_bytes(), &mut |id| found.push(id.0));
            assert_eq!(found, [number]);
            let mut looked = 0;
            each_near(&intervals.root, key.as_bytes(), &mut |_| looked += 1);
            assert!(looked < 100, "{looked} ranges were looked at for key {key}");
        }
    }

    fn interval() -> impl Strategy<Value = (u8, Option<u8>)> {
        (0..20_u8, proptest::option::of(0..20_u8))
    }

    proptest! {
        #[test]
        fn ranges_that_come_and_go_are_found_as_by_a_walk(
            steps in proptest::collection::vec((interval(), any::<bool>()), 1..60),
        ) {
            let mut intervals = Intervals::default();
            let mut there: BTreeSet<Interval> = BTreeSet::new();
            for (number, ((start, end), removes)) in (1..).zip(steps) {
                if removes && let Some(gone) = there.iter().nth(usize::from(start) % there.len().max(1)).cloned() {
                    intervals.remove(&gone);
                    there.remove(&gone);
                } else {
                    let end = end.map_or(End::Unbounded, |end| End::Before(Bytes::from(vec![end])));
                    let added = Interval { start: vec![start].into(), end, id: WatcherId(number) };
                    intervals.insert(added.clone());
                    there.insert(added);
                }
                for key in 0..21_u8 {
                    let mut found = BTreeSet::new();
                    intervals.each_holding(&[key], &mut |id| assert!(found.insert(id), "found twice"));
                    let holds = |held: &&Interval| held.start <= [key][..] && held.end.is_behind(&[key]);
                    let expected = there.iter().filter(holds).map(|held| held.id).collect();
                    prop_assert_eq!(&found, &expected);
                }
            }
        }
    }
}
