//! A B+ tree that knows how many of its entries count: below any node, and so between any two keys, in O(log n). It also knows when
//! something below a node last changed, so a count of the past walks only what has changed since.
//!
//! ```text
//! inner:  [first ≤ keys below | counted below | changed ≥ last change below | node] …
//! leaf:   [key | value] …            all leaves at the same depth; both kinds search as [`Sorted`] does
//! ```
//!
//! A child's `first` separates it from the child before; a smaller key goes to the leftmost child, and lowers it. Nodes split when they are
//! full and are joined with a neighbour when they are nearly empty; an empty leaf exists only as the root of an empty tree.

use std::fmt::{self, Debug, Formatter};
use std::ops::Bound;
use std::slice;

use bytes::Bytes;

use super::sorted::{Keyed, Sorted};

/// Most entries of a leaf and children of an inner node: little to move at an insert, four levels for 10 million keys.
const NODE_MAX: usize = 64;
/// A node below this looks for a neighbour to join.
const NODE_MIN: usize = NODE_MAX / 4;
/// Nodes that have no more than this together are joined, so that the next insert does not split them again.
const JOINED_MAX: usize = NODE_MAX * 3 / 4;

/// What an entry takes in its leaf: its head and where it is.
pub(super) const PLACE_BYTES: usize = size_of::<u64>() + size_of::<usize>();

/// A value that counts or does not.
pub(crate) trait Counted {
    fn counts(&self) -> bool;

    /// Returns the number of its last change; later changes of any value have higher ones.
    fn changed(&self) -> i64;
}

/// Values by key, in key order.
#[derive(Clone)]
pub(crate) struct Tree<V> {
    root: Node<V>,
}

#[derive(Clone)]
enum Node<V> {
    Leaf(Sorted<Box<Entry<V>>>),
    Inner(Sorted<Child<V>>),
}

/// In a box of its own, so that leaves with free places are small and an insert moves pointers.
#[derive(Clone)]
struct Entry<V> {
    key: Bytes,
    value: V,
}

#[derive(Clone)]
struct Child<V> {
    first: Bytes,
    counted: usize,
    /// No value below changed later. Removals leave it as it is.
    changed: i64,
    node: Box<Node<V>>,
}

impl<V> Keyed for Box<Entry<V>> {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

impl<V> Keyed for Child<V> {
    fn key(&self) -> &[u8] {
        &self.first
    }
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self::Leaf(Sorted::default())
    }
}

impl<V: Counted> Tree<V> {
    /// Returns the value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.search(key).ok()?;
                    return entries.get(at).map(|entry| &entry.value);
                }
                Node::Inner(children) => node = &children.get(child_of(children, key))?.node,
            }
        }
    }

    /// Adds a key that is not there yet.
    ///
    /// # Panics
    /// When it is there.
    pub(super) fn insert(&mut self, key: Bytes, value: V) {
        if let Some(right) = self.root.insert(key, value) {
            let left = Child::of(std::mem::take(&mut self.root));
            self.root = Node::Inner(Sorted::of(vec![left, right]));
        }
    }

    /// Changes the value of a key; `None` when it is not there.
    pub(super) fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.root.update(key, change).map(|(result, _)| result)
    }

    /// Removes a key and returns its value.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let removed = self.root.remove(key)?;
        while let Node::Inner(children) = &mut self.root {
            match children.pop() {
                Some(only) if children.is_empty() => self.root = *only.node,
                Some(last) => {
                    children.insert(children.len(), last);
                    break;
                }
                None => self.root = Node::default(),
            }
        }
        Some(removed)
    }

    /// Returns the entries from `start` on, up to `end`, in key order.
    pub(super) fn range<'a>(&'a self, start: Bound<&'a [u8]>, end: Bound<&'a [u8]>) -> Entries<'a, V> {
        let mut entries = Entries { above: Vec::new(), leaf: [].iter(), end };
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    entries.leaf = leaf.from(first_within(leaf, start));
                    return entries;
                }
                Node::Inner(children) => {
                    let at = match start {
                        Bound::Unbounded => 0,
                        Bound::Included(key) | Bound::Excluded(key) => child_of(children, key),
                    };
                    let mut rest = children.from(at);
                    let Some(child) = rest.next() else { return entries };
                    entries.above.push(rest);
                    node = &child.node;
                }
            }
        }
    }

    /// Returns how many entries count.
    pub(super) fn counted(&self) -> usize {
        self.root.counted()
    }

    /// Returns how many entries with smaller keys count.
    pub(super) fn counted_before(&self, key: &[u8]) -> usize {
        let mut counted = 0;
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let (Ok(at) | Err(at)) = entries.search(key);
                    let before = entries.iter().take(at);
                    return counted + before.filter(|entry| entry.value.counts()).count();
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    counted += children.iter().take(at).map(|child| child.counted).sum::<usize>();
                    let Some(child) = children.get(at) else { return counted };
                    node = &child.node;
                }
            }
        }
    }

    /// Returns how many entries from `start` on, up to `end`, counted at change number `at`, where `counted` tells it for one value.
    /// What has not changed since is not walked.
    pub(super) fn counted_at(
        &self,
        start: &[u8],
        end: Bound<&[u8]>,
        at: i64,
        counted: &impl Fn(&V) -> bool,
    ) -> usize {
        self.root.counted_at((Some(start), end), at, counted)
    }

    /// Returns all entries in key order.
    pub(crate) fn iter(&self) -> Entries<'_, V> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }
}

impl<V: Counted> Node<V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.len(),
        }
    }

    fn counted(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.iter().filter(|entry| entry.value.counts()).count(),
            Self::Inner(children) => children.iter().map(|child| child.counted).sum(),
        }
    }

    fn changed(&self) -> i64 {
        let changed = match self {
            Self::Leaf(entries) => entries.iter().map(|entry| entry.value.changed()).max(),
            Self::Inner(children) => children.iter().map(|child| child.changed).max(),
        };
        changed.unwrap_or(i64::MIN)
    }

    /// A missing start is before all keys of this node.
    fn counted_at(
        &self,
        (start, end): (Option<&[u8]>, Bound<&[u8]>),
        at: i64,
        counted: &impl Fn(&V) -> bool,
    ) -> usize {
        match self {
            Self::Leaf(entries) => entries
                .iter()
                .filter(|entry| start.is_none_or(|start| entry.key() >= start) && is_inside(&entry.key, end))
                .filter(|entry| counted(&entry.value))
                .count(),
            Self::Inner(children) => {
                let from = start.map_or(0, |start| child_of(children, start));
                let last = match end {
                    Bound::Unbounded => children.len() - 1,
                    Bound::Included(end) | Bound::Excluded(end) => child_of(children, end),
                };
                let inside = children.iter().enumerate().take(last + 1).skip(from);
                inside
                    .map(|(place, child)| {
                        let start = start.filter(|start| *start > child.first.as_ref());
                        let end = if place == last { end } else { Bound::Unbounded };
                        let is_whole = start.is_none() && end == Bound::Unbounded;
                        if is_whole && child.changed <= at {
                            child.counted
                        } else {
                            child.node.counted_at((start, end), at, counted)
                        }
                    })
                    .sum()
            }
        }
    }

    fn first(&self) -> Bytes {
        let first = match self {
            Self::Leaf(entries) => entries.get(0).map(|entry| &entry.key),
            Self::Inner(children) => children.get(0).map(|child| &child.first),
        };
        first.cloned().unwrap_or_default()
    }

    /// Returns the right half when the node was full.
    fn insert(&mut self, key: Bytes, value: V) -> Option<Child<V>> {
        match self {
            Self::Leaf(entries) => {
                let at = entries.search(&key).expect_err("a key is added once");
                entries.insert(at, Box::new(Entry { key, value }));
                split(entries, at).map(|right| Child::of(Self::Leaf(right)))
            }
            Self::Inner(children) => {
                let at = child_of(children, &key);
                let counts = usize::from(value.counts());
                // Only in the leftmost child: what splits off to its right must not seem smaller.
                if children.get(0).is_some_and(|child| key < child.first) {
                    children.lower_first(|child| child.first = key.clone());
                }
                let child = children.get_mut(at).expect("an inner node has children");
                child.counted += counts;
                child.changed = child.changed.max(value.changed());
                let right = child.node.insert(key, value)?;
                child.counted -= right.counted;
                children.insert(at + 1, right);
                split(children, at + 1).map(|right| Child::of(Self::Inner(right)))
            }
        }
    }

    /// Returns by how much more counts now.
    fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> R) -> Option<(R, Change)> {
        match self {
            Self::Leaf(entries) => {
                let at = entries.search(key).ok()?;
                let value = &mut entries.get_mut(at)?.value;
                let before = value.counts();
                let result = change(value);
                Some((result, Change { before, after: value.counts(), number: value.changed() }))
            }
            Self::Inner(children) => {
                let at = child_of(children, key);
                let child = children.get_mut(at)?;
                let (result, changed) = child.node.update(key, change)?;
                child.counted = child.counted + usize::from(changed.after) - usize::from(changed.before);
                child.changed = child.changed.max(changed.number);
                Some((result, changed))
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<V> {
        match self {
            Self::Leaf(entries) => {
                let at = entries.search(key).ok()?;
                Some(entries.remove(at).value)
            }
            Self::Inner(children) => {
                let at = child_of(children, key);
                let child = children.get_mut(at)?;
                let removed = child.node.remove(key)?;
                child.counted -= usize::from(removed.counts());
                match child.node.len() {
                    0 => {
                        children.remove(at);
                    }
                    len if len < NODE_MIN => join_around(children, at),
                    _ => {}
                }
                Some(removed)
            }
        }
    }
}

/// Whether an entry counted before it was changed, and after; and the number of the change.
struct Change {
    before: bool,
    after: bool,
    number: i64,
}

impl<V: Counted> Child<V> {
    fn of(node: Node<V>) -> Self {
        Self { first: node.first(), counted: node.counted(), changed: node.changed(), node: Box::new(node) }
    }
}

/// Returns the place of the child below which a key belongs.
fn child_of<V>(children: &Sorted<Child<V>>, key: &[u8]) -> usize {
    children.search(key).unwrap_or_else(|after| after.saturating_sub(1))
}

/// Returns the right part of a full node. Keys that come in order leave full nodes behind.
fn split<T: Keyed>(items: &mut Sorted<T>, added: usize) -> Option<Sorted<T>> {
    if items.len() <= NODE_MAX {
        return None;
    }
    let is_last = added + 1 == items.len();
    Some(items.split_off(if is_last { added } else { items.len() / 2 }))
}

/// Joins a small child with the smaller of its neighbours, where both fit.
fn join_around<V: Counted>(children: &mut Sorted<Child<V>>, small: usize) {
    let len_of = |at: Option<usize>| at.and_then(|at| children.get(at)).map(|child| child.node.len());
    let (before, after) = (small.checked_sub(1), small + 1);
    let left = match (len_of(before), len_of(Some(after))) {
        (Some(before), Some(after)) if after < before => small,
        (Some(_), _) => small - 1,
        (None, Some(_)) => small,
        (None, None) => return,
    };
    let together = len_of(Some(left)).unwrap_or(0) + len_of(Some(left + 1)).unwrap_or(0);
    if together > JOINED_MAX {
        return;
    }
    let right = children.remove(left + 1);
    let Some(child) = children.get_mut(left) else { return };
    match (&mut *child.node, *right.node) {
        (Node::Leaf(entries), Node::Leaf(more)) => entries.append(more),
        (Node::Inner(children), Node::Inner(more)) => children.append(more),
        (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
            unreachable!("all leaves have the same depth")
        }
    }
    child.counted += right.counted;
    child.changed = child.changed.max(right.changed);
}

/// Returns the place of the first entry of a leaf from `start` on.
fn first_within<V>(leaf: &Sorted<Box<Entry<V>>>, start: Bound<&[u8]>) -> usize {
    let (Bound::Included(key) | Bound::Excluded(key)) = start else { return 0 };
    match leaf.search(key) {
        Ok(at) if matches!(start, Bound::Excluded(_)) => at + 1,
        Ok(at) | Err(at) => at,
    }
}

fn is_inside(key: &Bytes, end: Bound<&[u8]>) -> bool {
    match end {
        Bound::Unbounded => true,
        Bound::Included(end) => key.as_ref() <= end,
        Bound::Excluded(end) => key.as_ref() < end,
    }
}

/// Entries in key order.
pub(crate) struct Entries<'a, V> {
    /// What comes after the leaf, the nearest last.
    above: Vec<slice::Iter<'a, Child<V>>>,
    leaf: slice::Iter<'a, Box<Entry<V>>>,
    end: Bound<&'a [u8]>,
}

impl<'a, V> Entries<'a, V> {
    /// Goes on to the next leaf; `None` at the end of the tree.
    fn next_leaf(&mut self) -> Option<()> {
        let mut node = loop {
            match self.above.last_mut()?.next() {
                Some(child) => break &child.node,
                None => {
                    self.above.pop();
                }
            }
        };
        loop {
            match &**node {
                Node::Leaf(entries) => {
                    self.leaf = entries.iter();
                    return Some(());
                }
                Node::Inner(children) => {
                    let mut rest = children.iter();
                    node = &rest.next()?.node;
                    self.above.push(rest);
                }
            }
        }
    }
}

impl<'a, V> Iterator for Entries<'a, V> {
    type Item = (&'a Bytes, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return is_inside(&entry.key, self.end).then_some((&entry.key, &entry.value));
            }
            self.next_leaf()?;
        }
    }
}

impl<V: Counted + PartialEq> PartialEq for Tree<V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<V: Counted + Debug> Debug for Tree<V> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    impl Counted for bool {
        fn counts(&self) -> bool {
            *self
        }

        fn changed(&self) -> i64 {
            0
        }
    }

    /// Whether a value counted, with the number of the change since when.
    type Past = Vec<(i64, bool)>;

    impl Counted for Past {
        fn counts(&self) -> bool {
            self.last().unwrap().1
        }

        fn changed(&self) -> i64 {
            self.last().unwrap().0
        }
    }

    fn counted_at(past: &Past, at: i64) -> bool {
        past.iter().rev().find(|(number, _)| *number <= at).is_some_and(|(_, counted)| *counted)
    }

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// Returns the depth, and checks every rule of the nodes.
    fn check_node<V: Counted>(node: &Node<V>, from: Option<&Bytes>, is_root: bool) -> usize {
        assert!(node.len() <= NODE_MAX);
        assert!(is_root || node.len() > 0);
        match node {
            Node::Leaf(entries) => {
                entries.check();
                assert!(from.is_none_or(|from| entries.iter().all(|entry| entry.key >= from)));
                1
            }
            Node::Inner(children) => {
                children.check();
                let mut depths = children.iter().map(|child| {
                    assert_eq!(child.counted, child.node.counted());
                    assert!(child.changed >= child.node.changed());
                    check_node(&child.node, Some(&child.first), false)
                });
                let depth = depths.next().unwrap();
                assert!(depths.all(|other| other == depth), "all leaves have the same depth");
                depth + 1
            }
        }
    }

    fn check(tree: &Tree<bool>, model: &BTreeMap<Bytes, bool>, rng: &mut SmallRng, keys: u32) {
        check_node(&tree.root, None, true);
        assert!(tree.iter().eq(model.iter()));
        assert_eq!(tree.counted(), model.values().filter(|counts| **counts).count());
        for _ in 0..20 {
            let (low, high) = (key(rng.random_range(0..keys)), key(rng.random_range(0..keys + 2)));
            assert_eq!(tree.get(&low), model.get(&low));
            let before = model.range(..low.clone()).filter(|(_, counts)| **counts).count();
            assert_eq!(tree.counted_before(&low), before);
            if low < high {
                let bounds = (Bound::Excluded(low.as_ref()), Bound::Included(high.as_ref()));
                assert!(tree.range(bounds.0, bounds.1).eq(model.range::<[u8], _>(bounds)));
                let bounds = (Bound::Included(low.as_ref()), Bound::Excluded(high.as_ref()));
                assert!(tree.range(bounds.0, bounds.1).eq(model.range::<[u8], _>(bounds)));
            }
        }
    }

    /// Grows and shrinks a tree at random beside a map.
    fn run(seed: u64, keys: u32, steps: u32) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
        for step in 0..steps {
            // First mostly inserts, then mostly removals.
            let grows = rng.random_range(0..steps) > step;
            let (at, counts) = (key(rng.random_range(0..keys)), rng.random_ratio(2, 3));
            if !grows {
                assert_eq!(tree.remove(&at), model.remove(&at));
            } else if model.insert(at.clone(), counts).is_some() {
                assert!(tree.update(&at, |value| *value = counts).is_some());
            } else {
                assert!(tree.update(&at, |_| ()).is_none());
                tree.insert(at, counts);
            }
            if step % (steps / 16) == 0 {
                check(&tree, &model, &mut rng, keys);
            }
        }
        for at in 0..keys {
            assert_eq!(tree.remove(&key(at)), model.remove(&key(at)));
        }
        check(&tree, &model, &mut rng, keys);
        assert!(matches!(tree.root, Node::Leaf(_)), "an empty tree is one leaf");
    }

    #[test]
    fn a_tree_behaves_like_a_map_that_is_counted_by_walking() {
        for seed in 0..20 {
            run(seed, 50, 1000);
        }
        run(20, 20_000, 100_000);
    }

    #[test]
    fn a_count_of_the_past_is_that_of_a_walk() {
        let keys = 3000;
        for seed in 0..4 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut tree: Tree<Past> = Tree::default();
            for number in 1..=10_000 {
                let (at, counts) = (key(rng.random_range(0..keys)), rng.random_ratio(2, 3));
                if rng.random_ratio(1, 5) {
                    // Only what never counted since may go, as a compaction does with tombstones.
                    if tree.get(&at).is_some_and(|past| past.iter().all(|(_, counted)| !counted)) {
                        tree.remove(&at).unwrap();
                    }
                } else if tree.update(&at, |past| past.push((number, counts))).is_none() {
                    tree.insert(at, vec![(number, counts)]);
                }
            }
            check_node(&tree.root, None, true);
            for _ in 0..200 {
                let (start, end) = (key(rng.random_range(0..keys)), key(rng.random_range(0..keys + 2)));
                let at = rng.random_range(0..11_000);
                for end in [Bound::Excluded(end.as_ref()), Bound::Unbounded] {
                    let walked = tree.iter().filter(|(key, past)| {
                        key.as_ref() >= start.as_ref() && is_inside(key, end) && counted_at(past, at)
                    });
                    let counted = tree.counted_at(&start, end, at, &|past| counted_at(past, at));
                    assert_eq!(counted, walked.count(), "seed {seed}, {start:?} to {end:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_count_of_the_past_walks_only_what_has_changed_since() {
        let mut tree: Tree<Past> = Tree::default();
        let keys = u32::try_from(NODE_MAX * NODE_MAX * 4).unwrap();
        (0..keys).for_each(|number| tree.insert(key(number), vec![(1, true)]));
        for changed in [0, keys / 2, keys - 1] {
            tree.update(&key(changed), |past| past.push((2, false))).unwrap();
        }
        let asked = std::cell::Cell::new(0);
        let counted = tree.counted_at(&key(1), Bound::Unbounded, 1, &|past| {
            asked.set(asked.get() + 1);
            counted_at(past, 1)
        });
        assert_eq!(counted, NODE_MAX * NODE_MAX * 4 - 1);
        assert!(asked.get() <= 3 * NODE_MAX, "{} entries were looked at", asked.get());
    }

    #[test]
    fn keys_in_order_fill_the_leaves() {
        let mut tree = Tree::default();
        let count = u32::try_from(NODE_MAX * NODE_MAX).unwrap();
        (0..count).for_each(|number| tree.insert(key(number), true));
        assert_eq!(check_node(&tree.root, None, true), 2, "no leaf is half empty");
        assert_eq!(tree.counted_before(&key(count / 2)), NODE_MAX * NODE_MAX / 2);
    }
}
